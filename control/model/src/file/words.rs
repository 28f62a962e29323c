//! A check as words of a command line, `KEY=VALUE`, with the keys of the file.

use super::{Config, check_entries};
use crate::state::{Check, CheckKind};

/// Keys that are lists: each word adds to them.
const LISTS: [&str; 2] = ["answer", "arguments"];

/// Keys whose values stand without quotes where they look like it.
const PLAIN: [&str; 10] =
    ["interval", "timeout", "warm-up", "rise", "fall", "port", "reply", "starttls", "tls", "verify"];

impl Check {
    /// A check of that name and type (see [`CheckKind::NAMES`]), with values for some keys.
    pub fn of_words(name: &str, kind: &str, words: &[(String, String)]) -> Result<Check, String> {
        let check = Check::new(name, CheckKind::Ping);
        let keys = check_entries(&check).into_iter().filter(|(key, _)| *key == "name");
        let kind = ("type".to_owned(), quoted(kind));
        read(keys.map(|(key, value)| (key.to_owned(), value)).chain([kind]).collect(), words)
    }

    /// The check with other values for some keys; an empty one stands for the default.
    pub fn with_words(&self, words: &[(String, String)]) -> Result<Check, String> {
        let kept = check_entries(self).into_iter().map(|(key, value)| (key.to_owned(), value));
        read(kept.filter(|(key, _)| !words.iter().any(|(word, _)| word == key)).collect(), words)
    }
}

/// Reads keys with TOML's values, and words.
fn read(mut keys: Vec<(String, String)>, words: &[(String, String)]) -> Result<Check, String> {
    for (key, value) in words.iter().filter(|(_, value)| !value.is_empty()) {
        if !key.chars().all(|c| c.is_ascii_lowercase() || c == '-') || key.is_empty() {
            return Err(format!("`{key}` is no key of a check"));
        }
        let list = LISTS.contains(&key.as_str());
        match keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, items)) if list => items.insert_str(items.len() - 1, &format!(", {}", quoted(value))),
            Some(_) => return Err(format!("{key} is given twice")),
            None if list => keys.push((key.clone(), format!("[{}]", quoted(value)))),
            None if PLAIN.contains(&key.as_str()) && bare(value) => keys.push((key.clone(), value.clone())),
            None => keys.push((key.clone(), quoted(value))),
        }
    }
    let lines: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let read = Config::parse("check", &format!("[[check]]\n{}", lines.concat()));
    let why = |errors: super::FileErrors| {
        errors.errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; ")
    };
    read.map_err(why)?.state.checks.pop().ok_or_else(|| "there is no check".to_owned())
}

fn bare(value: &str) -> bool {
    matches!(value, "true" | "false") || value.bytes().all(|byte| byte.is_ascii_digit())
}

fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn words(text: &[&str]) -> Vec<(String, String)> {
        let pair = |word: &&str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        text.iter().filter_map(pair).collect()
    }

    #[test]
    fn words_make_the_check_that_a_file_makes() {
        let given = words(&["path=/a\"b", "interval=500ms", "timeout=0", "timeout=300ms"]);
        assert_eq!(Check::of_words("web", "http", &given).unwrap_err(), "timeout is given twice");
        let check =
            Check::of_words("web", "http", &words(&["path=/health", "interval=500ms", "rise=1"])).unwrap();
        assert_eq!((check.interval, check.rise), (Duration::from_millis(500), 1));
        let changed = check.with_words(&words(&["interval=", "path=", "fall=9", "host=true"])).unwrap();
        let plain =
            Check::of_words("web", "http", &words(&["rise=1", "fall=9", "timeout=500ms", "host=true"]));
        assert_eq!(changed, plain.unwrap());
        let given = words(&["program=/bin/check", "arguments=-H", "arguments={address}"]);
        let exec = Check::of_words("own", "exec", &given).unwrap();
        let arguments = vec!["-H".to_owned(), "{address}".to_owned()];
        assert_eq!(exec.kind, CheckKind::Exec { program: "/bin/check".to_owned(), arguments });
        assert_eq!(exec.with_words(&[]).unwrap(), exec);
    }

    #[test]
    fn what_is_wrong_with_words_is_named() {
        let refused = |kind, text: &[&str]| Check::of_words("web", kind, &words(text)).unwrap_err();
        assert!(refused("telnet", &[]).starts_with("type `telnet` does not exist; one of \"tcp\""));
        assert!(
            refused("tcp", &["path=/"]).starts_with("unknown key `path` in [[check]]; known: name, type")
        );
        assert_eq!(refused("tcp", &["a b=1"]), "`a b` is no key of a check");
        assert_eq!(refused("tcp", &["rise=0"]), "rise of 0 is out of range; 1 to 1000");
        assert_eq!(refused("tcp", &["rise=x"]), "rise is a string; it must be a number");
        assert_eq!(
            Check::of_words("a b", "tcp", &[]).unwrap_err(),
            "`a b` cannot name a check; use letters, digits and - _ . : @"
        );
    }
}
