//! keepalived's text as lines of words: comments, quotes, conditions, definitions, included files.
//!
//! What the words mean is not known here; `tree` finds the blocks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ImportError;
use crate::files::Files;
use crate::left_out::{LeftOut, Place};

/// How deep files may include one another.
const DEPTH: usize = 16;
/// Lines of all files together, so that files that include one another many times come to an end.
const LINES: usize = 1 << 20;
/// The longest line, definitions put in.
const LENGTH: usize = 1 << 16;

/// A word, or the begin or end of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Open,
    Close,
}

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) tokens: Vec<Token>,
}

/// Reads text and what it includes.
#[derive(Debug)]
pub(super) struct Reader<'a, F> {
    files: &'a F,
    /// What lines with a condition ask for (keepalived -i).
    id: Option<&'a str>,
    definitions: HashMap<String, String>,
    pub(super) lines: Vec<Line>,
    pub(super) left_out: Vec<LeftOut>,
    read: usize,
}

impl<'a, F: Files> Reader<'a, F> {
    pub(super) fn new(files: &'a F, id: Option<&'a str>) -> Reader<'a, F> {
        let (definitions, lines, left_out) = Default::default();
        Reader { files, id, definitions, lines, left_out, read: 0 }
    }

    /// Reads the file of that name with this text; `depth` files include it.
    pub(super) fn read(&mut self, path: &Path, text: &str, depth: usize) -> Result<(), ImportError> {
        let file: Arc<str> = path.display().to_string().into();
        let mut lines = text.lines().enumerate();
        while let Some((at, first)) = lines.next() {
            let mut place = Place { file: file.clone(), line: at + 1, last: at + 1 };
            let mut whole = first.to_owned();
            // A definition may go on in the next line.
            while whole.ends_with('\\') && is_definition(&whole) {
                let Some((at, next)) = lines.next() else { break };
                place.last = at + 1;
                whole.pop();
                whole.push_str(next.trim_start());
            }
            self.read += 1;
            if self.read > LINES || whole.len() > LENGTH {
                return Err(ImportError {
                    place,
                    why: format!("more than {LINES} lines, or one of over {LENGTH} bytes"),
                });
            }
            self.line(path, place, &whole, depth)?;
        }
        Ok(())
    }

    fn line(&mut self, path: &Path, place: Place, text: &str, depth: usize) -> Result<(), ImportError> {
        let Some(text) = self.condition(text.trim()) else { return Ok(()) };
        if text.starts_with('~') {
            let why = "sequences are not unrolled: write the lines out".to_owned();
            self.left_out.push(LeftOut { place, what: text.to_owned(), why });
            return Ok(());
        }
        if let Some((name, value)) = definition(text) {
            let value = self.expand(&place, value.trim())?;
            self.definitions.insert(name.to_owned(), value);
            return Ok(());
        }
        let text = self.expand(&place, text)?;
        let tokens = tokens(&text);
        match tokens.as_slice() {
            [] => Ok(()),
            [Token::Word(word), Token::Word(pattern), ..] if word.starts_with("include") => {
                self.include(path, place, pattern, depth)
            }
            _ => {
                self.lines.push(Line { place, tokens });
                Ok(())
            }
        }
    }

    /// The rest of a line whose condition holds: `@id`, `@^id` for all others.
    fn condition<'t>(&self, text: &'t str) -> Option<&'t str> {
        let Some(rest) = text.strip_prefix('@') else { return Some(text) };
        let (asked, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let holds = match asked.strip_prefix(['^', '!']) {
            Some(not) => self.id != Some(not),
            None => self.id == Some(asked),
        };
        holds.then(|| rest.trim_start())
    }

    /// Puts definitions in.
    fn expand(&mut self, place: &Place, text: &str) -> Result<String, ImportError> {
        let mut whole = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            whole.push_str(before);
            let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            let (name, next) = braced.unwrap_or(after.split_at(end));
            match self.definitions.get(name) {
                Some(value) => whole.push_str(value),
                None => {
                    whole.push('$');
                    whole.push_str(&after[..after.len() - next.len()]);
                }
            }
            if whole.len() > LENGTH {
                return Err(ImportError {
                    place: place.clone(),
                    why: format!("over {LENGTH} bytes with what `${name}` stands for"),
                });
            }
            rest = next;
        }
        whole.push_str(rest);
        Ok(whole)
    }

    fn include(&mut self, path: &Path, place: Place, pattern: &str, depth: usize) -> Result<(), ImportError> {
        let fail = |why: String| ImportError { place: place.clone(), why };
        if depth == DEPTH {
            return Err(fail(format!("files include one another more than {DEPTH} deep")));
        }
        let beside: PathBuf = path.parent().unwrap_or(Path::new("")).join(pattern);
        let found =
            self.files.find(&beside).map_err(|error| fail(format!("{}: {error}", beside.display())))?;
        for path in found {
            let text = self
                .files
                .read(&path)
                .map_err(|error| fail(format!("cannot read {}: {error}", path.display())))?;
            self.read(&path, &text, depth + 1)?;
        }
        Ok(())
    }
}

fn is_definition(text: &str) -> bool {
    definition(text.trim_start()).is_some()
}

/// `$NAME = value`
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    let name = name.trim_end();
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    good.then_some((name, value))
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&next) = chars.peek() {
        match next {
            c if c.is_whitespace() => {
                chars.next();
            }
            '#' | '!' => break,
            '{' | '}' => {
                chars.next();
                tokens.push(if next == '{' { Token::Open } else { Token::Close });
            }
            _ => tokens.push(Token::Word(word(&mut chars))),
        }
    }
    tokens
}

fn word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut word = String::new();
    let mut quoted = false;
    while let Some(&next) = chars.peek() {
        match next {
            '"' => quoted = !quoted,
            '\\' if quoted => {
                chars.next();
                match chars.peek() {
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some(other) => word.push(*other),
                    None => break,
                }
            }
            c if !quoted && (c.is_whitespace() || c == '{' || c == '}') => break,
            c => word.push(c),
        }
        chars.next();
    }
    word
}
