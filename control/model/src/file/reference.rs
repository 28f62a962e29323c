//! Every table and key of the configuration file, as the readers themselves know them.
//!
//! Which keys there are, what they may be and which have to be there is found out by having the readers read, and
//! writing down what they ask for; a key that is only asked for beside others is found by trying these. What a key
//! means, and what it is when left away, is in `meanings`.

mod meanings;

use std::collections::HashMap;

use toml::de::DeTable;

use super::read;
use super::table::{Asked, Kind, Sink};
use crate::state::{BadSetting, Settings, TimeoutState};

/// A table of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReference {
    /// As it is written, such as `[[service.server]]`.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its keys, in the order in which they are read.
    pub keys: Vec<KeyReference>,
}

/// A key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    /// Its name.
    pub name: &'static str,
    /// What it may be, in words.
    pub value: String,
    /// What it is when left away, as it would be written or in words; empty for nothing.
    pub default: String,
    /// Whether it has to be there.
    pub required: bool,
    /// Beside which other keys it may stand, empty where it always may.
    pub with: String,
    /// What it means.
    pub meaning: String,
}

/// All tables, in the order in which they are read, each behind the one that it is part of.
pub fn tables() -> Vec<TableReference> {
    let mut titles = Vec::new();
    inner(ROOT, &mut titles);
    titles.iter().map(|title| table(title, &titles)).collect()
}

const ROOT: &str = "the file";

/// The tables below a table, and theirs.
fn inner(title: &'static str, titles: &mut Vec<&'static str>) {
    for asked in ask(title, titles, &[]) {
        if let Kind::Table(inside) | Kind::Tables(inside) = asked.kind {
            titles.push(inside);
            inner(inside, titles);
        }
    }
}

fn table(title: &'static str, titles: &[&'static str]) -> TableReference {
    let mut found = Vec::new();
    let always = ask(title, titles, &[]);
    found.extend(always.iter().map(|asked| (asked.clone(), Vec::new())));
    beside(title, titles, &always, &[], &mut found);
    // Tables have their own place.
    let keys = found.into_iter().filter(|(asked, _)| !matches!(asked.kind, Kind::Table(_) | Kind::Tables(_)));
    TableReference {
        title,
        about: meanings::of_table(title),
        keys: keys.map(|(asked, with)| key(&asked, &with)).collect(),
    }
}

/// What has to stand beside a key: one of these sets of keys with their values.
type With = Vec<Vec<(&'static str, String)>>;

/// Tries what `known` keys may be, beside `set` ones: some values bring more keys.
fn beside(
    title: &'static str,
    titles: &[&'static str],
    known: &[Asked],
    set: &[(&'static str, String)],
    found: &mut Vec<(Asked, With)>,
) {
    let before = ask(title, titles, set);
    for switch in known {
        let values = match &switch.kind {
            Kind::Words(words) => words.iter().map(|word| format!("\"{word}\"")).collect(),
            Kind::Flag => vec!["true".to_owned()],
            _ => continue,
        };
        for value in values {
            let mut set = set.to_vec();
            set.push((switch.key, value));
            let mut more = ask(title, titles, &set);
            more.retain(|asked| !before.iter().any(|before| before.key == asked.key));
            for asked in &more {
                match found.iter_mut().find(|(other, _)| other.key == asked.key) {
                    Some((_, with)) => with.push(set.clone()),
                    None => found.push((asked.clone(), vec![set.clone()])),
                }
            }
            if !more.is_empty() {
                beside(title, titles, &more, &set, found);
            }
        }
    }
}

/// What the readers ask a table for that has these keys set.
fn ask(title: &'static str, titles: &[&'static str], set: &[(&'static str, String)]) -> Vec<Asked> {
    let mut text = header(title, titles);
    set.iter().for_each(|(key, value)| text.push_str(&format!("{key} = {value}\n")));
    let sink = Sink::recording();
    // What is written here is TOML; if it were not, nothing would be asked for, which the tests would notice.
    if let Ok(document) = DeTable::parse(&text) {
        read::shape(document.get_ref(), &sink, &mut HashMap::new());
    }
    let mut asked = sink.asked();
    asked.retain(|asked| asked.title == title);
    asked
}

/// The lines that begin a table, with those of the tables that it is part of.
fn header(title: &str, titles: &[&str]) -> String {
    let path = |title: &str| title.trim_matches(['[', ']']).to_owned();
    let mine = path(title);
    let above = titles.iter().filter(|above| mine.starts_with(&format!("{}.", path(above))));
    let lines = above.copied().chain((title != ROOT).then_some(title));
    lines.map(|line| format!("{line}\n")).collect()
}

fn key(asked: &Asked, with: &With) -> KeyReference {
    let (default, meaning) = meanings::of_key(asked.title, asked.key);
    let mut reference = KeyReference {
        name: asked.key,
        value: value(asked),
        default: default.to_owned(),
        required: asked.example.is_some(),
        with: words(with),
        meaning: meaning.to_owned(),
    };
    match asked.title {
        "[ipvs]" => setting(&mut reference),
        "[timeouts]" | "[service.timeouts]" => timeout(&mut reference, asked.title),
        _ => {}
    }
    reference
}

fn value(asked: &Asked) -> String {
    let such_as = asked.example.as_ref().map(|example| format!(", such as {example}")).unwrap_or_default();
    match &asked.kind {
        Kind::Text => format!("text{such_as}"),
        Kind::Words(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "),
        Kind::Parsed(what) => what.clone(),
        Kind::OneOrList(what) => format!("{what}, or a list of them"),
        Kind::List => format!("list of texts{such_as}"),
        Kind::Number(first, last) => format!("{first} to {last}"),
        Kind::Numbers(first, last) => format!("list of numbers, {first} to {last}"),
        Kind::Flag => "true or false".to_owned(),
        Kind::Scalar => "number or text".to_owned(),
        Kind::Duration => "seconds, or such as \"500ms\", \"2s\", \"1m\", \"1h\"".to_owned(),
        Kind::Table(title) | Kind::Tables(title) => (*title).to_owned(),
    }
}

/// Such as: type "http" or "https"; type "smtp" with starttls true.
fn words(with: &With) -> String {
    let mut parts: Vec<(Vec<&str>, String)> = Vec::new();
    for set in with {
        let Some(((last, value), first)) = set.split_last() else { continue };
        let first = first.iter().map(|(key, value)| format!("`{key}` {value} and ")).collect::<String>();
        let begin = format!("{first}`{last}`");
        match parts.iter_mut().find(|(_, other)| *other == begin) {
            Some((values, _)) => values.push(value),
            None => parts.push((vec![value], begin)),
        }
    }
    let parts = parts.into_iter().map(|(values, begin)| format!("{begin} {}", values.join(" or ")));
    parts.collect::<Vec<_>>().join("; ")
}

fn setting(reference: &mut KeyReference) {
    let mut settings = Settings::default();
    reference.default = settings.get(reference.name).unwrap_or_default();
    reference.meaning = Settings::meaning(reference.name).unwrap_or_default();
    // Larger than any range.
    reference.value = match settings.set(reference.name, "4294967295") {
        Err(BadSetting::Range { range, .. }) => range,
        Err(BadSetting::Fixed { default: "", .. }) => "nothing".to_owned(),
        Err(BadSetting::Fixed { default, .. }) => format!("{default} only"),
        Err(BadSetting::Unknown(_)) | Ok(()) => reference.value.clone(),
    };
}

fn timeout(reference: &mut KeyReference, title: &str) {
    let long = match reference.name {
        "tcp" => TimeoutState::TcpEstablished,
        "tcp-fin" => TimeoutState::TcpFinWait,
        name => match name.parse() {
            Ok(state) => state,
            Err(_) => return,
        },
    };
    reference.meaning = match long.name() == reference.name {
        true => format!("Seconds that a session of {} lives in this state.", long.protocol()),
        false => format!("Another name of `{long}`, from `ipvsadm --set`."),
    };
    reference.default = match title {
        "[timeouts]" => long.default_seconds().to_string(),
        _ => "that of [timeouts]".to_owned(),
    };
}

/// The page `docs/reference.md`.
pub fn markdown() -> String {
    let mut page = meanings::PAGE.to_owned();
    for table in tables() {
        page.push_str(&format!("\n## `{}`\n\n{}\n\n", table.title, table.about));
        page.push_str("| key | value | by default | meaning |\n|---|---|---|---|\n");
        for key in &table.keys {
            let default = match (key.required, key.default.as_str()) {
                (true, _) => "has to be given".to_owned(),
                (false, default) => default.to_owned(),
            };
            let with = match key.with.as_str() {
                "" => String::new(),
                with => format!(" Only with {with}."),
            };
            let cells = [format!("`{}`", key.name), key.value.clone(), default, key.meaning.clone() + &with];
            page.push_str(&format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::DEFAULT_DATAPLANE_SOCKET;

    /// A table that has what it needs, and one key more.
    fn minimal(table: &TableReference, titles: &[&'static str], more: &str) -> String {
        let required = |of: &TableReference, beside: &str| {
            let asked = ask(of.title, titles, &[]).into_iter();
            let lines = asked.filter(|asked| !beside.contains(&format!("\n{} = ", asked.key)));
            lines
                .filter_map(|asked| Some(format!("{} = {}\n", asked.key, asked.example?)))
                .collect::<String>()
        };
        header(table.title, titles) + &required(table, more) + more
    }

    /// The configuration, and mistakes.
    fn read(text: &str) -> (crate::Config, Vec<String>) {
        let document = DeTable::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let sink = Sink::default();
        let mut config = read::shape(document.get_ref(), &sink, &mut HashMap::new());
        config.dataplane.socket.get_or_insert_with(|| DEFAULT_DATAPLANE_SOCKET.into());
        (config, sink.take().into_iter().map(|(_, message)| message).collect())
    }

    #[test]
    fn everything_has_a_meaning() {
        let tables = tables();
        let missing: Vec<_> = tables
            .iter()
            .filter(|table| table.about.is_empty())
            .map(|table| table.title.to_owned())
            .chain(tables.iter().flat_map(|table| {
                let keys = table.keys.iter().filter(|key| key.meaning.is_empty());
                keys.map(|key| format!("{} in {}", key.name, table.title))
            }))
            .collect();
        assert!(
            missing.is_empty(),
            "write into reference/meanings.rs what these mean: {}",
            missing.join(", ")
        );
        for title in ["[dataplane]", "[[service.server]]", "[service.timeouts]", "[ipvs]"] {
            assert!(tables.iter().any(|table| table.title == title && table.keys.len() > 6), "{title}");
        }
    }

    #[test]
    fn what_is_said_of_what_is_not_there_is_noticed() {
        let tables = tables();
        for (title, key) in meanings::all() {
            let table = tables.iter().find(|table| table.title == title);
            let known = table.is_some_and(|table| table.keys.iter().any(|known| known.name == key));
            assert!(known, "reference/meanings.rs: there is no {key} in {title}");
        }
    }

    /// Written as the reference says it is when left away, a key changes nothing.
    #[test]
    fn defaults_are_those_of_the_readers() {
        let tables = tables();
        let titles: Vec<_> = tables.iter().map(|table| table.title).collect();
        let mut compared = 0;
        for table in &tables {
            // These are made from the defaults themselves.
            if table.title == "[timeouts]" {
                continue;
            }
            for key in table.keys.iter().filter(|key| !key.default.is_empty() && key.with.is_empty()) {
                let written = format!("{} = {}", key.name, key.default);
                // A default in words, and those of IPVS that are no numbers.
                if DeTable::parse(&written).is_err() {
                    continue;
                }
                let (with, complaints) = read(&minimal(table, &titles, &written));
                let (without, _) = read(&minimal(table, &titles, ""));
                // It may not stand there by itself; then it is no default of this.
                if complaints.is_empty() {
                    assert_eq!(with, without, "{written} in {}", table.title);
                    compared += 1;
                }
            }
        }
        assert!(compared > 50, "{compared}");
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
        if std::env::var_os("WRITE_REFERENCE").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == markdown(), "run: WRITE_REFERENCE=1 cargo test -p fulcrum-model --lib reference");
    }
}
