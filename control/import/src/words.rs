//! Small things that both grammars have.

use std::time::Duration;

/// A command line's words; what is in single or double quotes is one.
pub(crate) fn words_of(command: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut quote, mut inside) = (None, false);
    for c in command.chars() {
        if quote == Some(c) {
            quote = None;
            continue;
        }
        if quote.is_none() && c.is_whitespace() {
            inside = false;
            continue;
        }
        if !inside {
            words.push(String::new());
            inside = true;
        }
        match words.last_mut() {
            _ if quote.is_none() && matches!(c, '"' | '\'') => quote = Some(c),
            Some(word) => word.push(c),
            None => {}
        }
    }
    words
}

/// Whether a regular expression stands for itself only.
pub(crate) fn is_plain(pattern: &str) -> bool {
    let special = ['\\', '^', '$', '.', '|', '?', '*', '+', '(', ')', '[', ']', '{', '}'];
    !pattern.is_empty() && !pattern.contains(special)
}

/// A number of seconds, with a fraction if need be; more than none.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words_of(" a 'b c'd  \"e 'f'\" '' "), ["a", "b cd", "e 'f'", ""]);
        assert_eq!(words_of("'open end"), ["open end"]);
        assert!(words_of("  ").is_empty());
    }

    #[test]
    fn seconds_have_fractions() {
        assert_eq!(seconds("1.5"), Some(Duration::from_millis(1500)));
        for text in ["0", "-1", "x", "", "1e300", "NaN", "inf"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
