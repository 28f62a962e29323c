//! A TOML table with its positions: typed access to keys, and every mistake remembered with its place.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A mistake: byte offset into the text, and the message.
pub(super) type Found = (usize, String);

/// What readers find out: mistakes, and for the reference what they asked for.
#[derive(Debug, Default)]
pub(super) struct Sink {
    mistakes: RefCell<Vec<Found>>,
    asked: Option<RefCell<Vec<Asked>>>,
}

/// A key that a reader asked a table for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) title: &'static str,
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    /// Of a key that has to be there: what it may look like.
    pub(super) example: Option<String>,
}

/// What a key's value has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// One of these.
    Words(Vec<String>),
    /// A text that stands for something, in words.
    Parsed(String),
    List,
    /// One text, or a list of texts, that stand for something, in words.
    OneOrList(String),
    Number(i64, i64),
    /// A list of numbers in this range.
    Numbers(u16, u16),
    Flag,
    Scalar,
    Duration,
    /// Tables under this title.
    Tables(&'static str),
    Table(&'static str),
}

impl Sink {
    /// One that also keeps what is asked for.
    pub(super) fn recording() -> Sink {
        Sink { asked: Some(RefCell::default()), ..Sink::default() }
    }

    pub(super) fn put(&self, offset: usize, message: impl Into<String>) {
        self.mistakes.borrow_mut().push((offset, message.into()));
    }

    pub(super) fn take(&self) -> Vec<Found> {
        self.mistakes.take()
    }

    pub(super) fn asked(self) -> Vec<Asked> {
        self.asked.unwrap_or_default().into_inner()
    }
}

/// Where the keys of an object stand in the text.
#[derive(Debug, Default)]
pub(super) struct Places {
    start: usize,
    keys: HashMap<&'static str, (usize, Vec<usize>)>,
}

impl Places {
    /// The offset of a key's value, of one of its items, or else of the table.
    pub(super) fn offset(&self, key: &str, item: Option<usize>) -> usize {
        match self.keys.get(key) {
            Some((whole, items)) => item.and_then(|i| items.get(i)).copied().unwrap_or(*whole),
            None => self.start,
        }
    }
}

/// A table that is being read: each key is taken once, what is left at the end is unknown.
#[derive(Debug)]
pub(super) struct Table<'a> {
    title: &'static str,
    sink: &'a Sink,
    entries: BTreeMap<&'a str, (usize, &'a Spanned<DeValue<'a>>)>,
    asked: Vec<&'static str>,
    places: Places,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        title: &'static str,
        start: usize,
        table: &'a DeTable<'a>,
        sink: &'a Sink,
    ) -> Table<'a> {
        let entries = table.iter().map(|(k, v)| (k.get_ref().as_ref(), (k.span().start, v))).collect();
        Table { title, sink, entries, asked: Vec::new(), places: Places { start, keys: HashMap::new() } }
    }

    /// The offset of the table itself.
    pub(super) fn start(&self) -> usize {
        self.places.start
    }

    /// Keeps for the reference that a key was asked for; of a value that is read in steps, the first knows best.
    fn ask(&self, key: &'static str, kind: impl FnOnce() -> Kind) {
        let Some(asked) = &self.sink.asked else { return };
        let mut asked = asked.borrow_mut();
        if !asked.iter().any(|before| before.title == self.title && before.key == key) {
            asked.push(Asked { title: self.title, key, kind: kind(), example: None });
        }
    }

    /// Complains about keys that nobody asked for.
    pub(super) fn finish(self) -> Places {
        for (key, (offset, _)) in &self.entries {
            let known = self.asked.join(", ");
            self.sink.put(*offset, format!("unknown key `{key}` in {}; known: {known}", self.title));
        }
        self.places
    }

    pub(super) fn complain(&self, key: &str, message: impl Into<String>) {
        self.sink.put(self.places.offset(key, None), message);
    }

    pub(super) fn required<T>(&self, key: &'static str, example: &str, value: Option<T>) -> Option<T> {
        if let Some(asked) = &self.sink.asked
            && let Some(asked) =
                asked.borrow_mut().iter_mut().find(|asked| asked.title == self.title && asked.key == key)
        {
            asked.example = Some(example.to_owned());
        }
        // A key that is there but wrong was complained about when it was read.
        if value.is_none() && !self.places.keys.contains_key(key) {
            self.sink.put(self.start(), format!("{} needs `{key}`, such as {key} = {example}", self.title));
        }
        value
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.ask(key, || Kind::Text);
        let value = self.take(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.wrong_kind(key, "a text in quotes", value.get_ref()),
        }
    }

    /// A text that is one of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.ask(key, || Kind::Words(words.iter().map(|(word, _)| (*word).to_owned()).collect()));
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.complain(key, format!("{key} `{text}` does not exist; one of {}", known.join(", ")));
        }
        found
    }

    /// A text that stands for a value.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &'static str, what: &str) -> Option<T> {
        self.ask(key, || Kind::Parsed(what.to_owned()));
        let text = self.text(key)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.complain(key, format!("{key} `{text}` is not {what}"));
        }
        value
    }

    /// A text that stands for a value, or why it does not.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        read(&text).map_err(|why| self.complain(key, why)).ok()
    }

    /// A number, a flag or a text, as text.
    pub(super) fn scalar(&mut self, key: &'static str) -> Option<String> {
        self.ask(key, || Kind::Scalar);
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref().to_owned()),
            DeValue::Boolean(flag) => Some(flag.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Some(number.to_string()),
                Err(_) => Some(number.as_str().to_owned()),
            },
            other => self.wrong_kind(key, "a number, a text, true or false", other),
        }
    }

    /// Whether the file has a key that was asked for.
    pub(super) fn has(&self, key: &str) -> bool {
        self.places.keys.contains_key(key)
    }

    /// Whether the file has a key that nobody has asked for yet.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// A list of texts that stand for values; what cannot be read is complained about and left out.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.ask(key, || Kind::List);
        let value = self.take(key)?;
        let Some(array) = value.get_ref().as_array() else {
            return self.wrong_kind(key, "a list of texts, such as [\"…\"]", value.get_ref());
        };
        let mut values = Vec::new();
        for item in array {
            match item.get_ref().as_str().map(&read) {
                Some(Ok(value)) => values.push(value),
                Some(Err(why)) => self.sink.put(item.span().start, why),
                None => {
                    let kind = item.get_ref().type_str();
                    self.sink.put(
                        item.span().start,
                        format!("{key} holds {} {kind}; it lists texts in quotes", article(kind)),
                    );
                }
            }
        }
        Some(values)
    }

    /// A text that stands for a value, or a list of such; what cannot be read is complained about and left out. `what`
    /// says what the texts are.
    pub(super) fn one_or_list<T>(
        &mut self,
        key: &'static str,
        what: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.ask(key, || Kind::OneOrList(what.to_owned()));
        match self.entries.get(key).map(|(_, value)| value.get_ref()) {
            Some(DeValue::Array(_)) => self.list(key, read),
            _ => self.read(key, read).map(|value| vec![value]),
        }
    }

    /// A list of numbers; what is none, or out of range, is complained about.
    pub(super) fn numbers(&mut self, key: &'static str, range: RangeInclusive<u16>) -> Option<Vec<u16>> {
        self.ask(key, || Kind::Numbers(*range.start(), *range.end()));
        let value = self.take(key)?;
        let Some(array) = value.get_ref().as_array() else {
            return self.wrong_kind(key, "a list of numbers, such as [22]", value.get_ref());
        };
        let mut numbers = Vec::new();
        for item in array {
            let integer = item.get_ref().as_integer();
            let number = integer.and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
            match number.and_then(|n| u16::try_from(n).ok()).filter(|n| range.contains(n)) {
                Some(number) => numbers.push(number),
                None => {
                    let (start, end) = (range.start(), range.end());
                    self.sink.put(item.span().start, format!("{key} lists numbers, {start} to {end}"));
                }
            }
        }
        Some(numbers)
    }

    pub(super) fn number<T: TryFrom<i64> + Copy + Display + Into<i64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        self.ask(key, || Kind::Number((*range.start()).into(), (*range.end()).into()));
        let value = self.take(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            return self.wrong_kind(key, "a number", value.get_ref());
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let inside = number.filter(|n| ((*range.start()).into()..=(*range.end()).into()).contains(n));
        if inside.is_none() {
            let (start, end) = (range.start(), range.end());
            self.complain(key, format!("{key} of {integer} is out of range; {start} to {end}"));
        }
        inside.and_then(|n| T::try_from(n).ok())
    }

    /// `true` or `false`, or 1 or 0 as in sysctl files.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.ask(key, || Kind::Flag);
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            DeValue::Integer(number) if matches!(number.as_str(), "0" | "1") => Some(number.as_str() == "1"),
            other => self.wrong_kind(key, "true or false", other),
        }
    }

    /// A number of seconds, or a text with its unit, such as "500ms".
    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.ask(key, || Kind::Duration);
        let value = self.take(key)?;
        let read = match value.get_ref() {
            DeValue::Integer(number) => {
                u64::from_str_radix(number.as_str(), number.radix()).ok().map(Duration::from_secs)
            }
            DeValue::String(text) => duration(text),
            _ => None,
        };
        if read.is_none() {
            let text = match value.get_ref() {
                DeValue::String(text) => text.as_ref(),
                DeValue::Integer(number) => number.as_str(),
                DeValue::Float(number) => number.as_str(),
                other => return self.wrong_kind(key, "a number of seconds, or such as \"500ms\"", other),
            };
            let right = "a number of seconds, or a text such as \"500ms\", \"2s\", \"1m\", \"1h\"";
            self.complain(key, format!("{key} `{text}` is no time; {right}"));
        }
        read
    }

    /// Lets what nobody asks for pass.
    pub(super) fn ignore_rest(&mut self) {
        self.entries.clear();
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str, title: &'static str) -> Vec<Table<'a>> {
        self.ask(key, || Kind::Tables(title));
        let Some(value) = self.take(key) else { return Vec::new() };
        let sink = self.sink;
        let items = value.get_ref().as_array().map(|array| array.as_ref());
        let whole = std::slice::from_ref(value);
        let mut tables = Vec::new();
        for item in items.unwrap_or(whole) {
            match item.get_ref().as_table() {
                Some(table) if items.is_some() => {
                    tables.push(Table::new(title, first_offset(item.span(), table), table, sink));
                }
                _ => {
                    sink.put(item.span().start, format!("`{key}` must be written as {title}, once for each"))
                }
            }
        }
        tables
    }

    /// The table of `[key]`.
    pub(super) fn table(&mut self, key: &'static str, title: &'static str) -> Option<Table<'a>> {
        self.ask(key, || Kind::Table(title));
        let value = self.take(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Table::new(title, first_offset(value.span(), table), table, self.sink)),
            None => {
                self.complain(key, format!("`{key}` must be written as {title}"));
                None
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        let (_, value) = self.entries.remove(key)?;
        let items = value.get_ref().as_array().map(|a| a.iter().map(|i| i.span().start).collect());
        self.places.keys.insert(key, (value.span().start, items.unwrap_or_default()));
        Some(value)
    }

    fn wrong_kind<T>(&self, key: &str, right: &str, value: &DeValue<'_>) -> Option<T> {
        let kind = value.type_str();
        self.complain(key, format!("{key} is {} {kind}; it must be {right}", article(kind)));
        None
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_millis)
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Where a table begins: its header, or its first key when it was made by a dotted key.
fn first_offset(span: Range<usize>, table: &DeTable<'_>) -> usize {
    match span.is_empty() {
        true => table.keys().map(|k| k.span().start).min().unwrap_or(span.start),
        false => span.start,
    }
}
