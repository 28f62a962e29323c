//! ldirectord's text: directives of the whole, and virtual services with theirs, which are indented.

use std::sync::Arc;

use crate::ImportError;
use crate::left_out::Place;

/// `name = value`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) place: Place,
    pub(super) name: String,
    /// As it is written, quotes included.
    pub(super) value: String,
}

impl Directive {
    /// The value without quotes around it.
    pub(super) fn unquoted(&self) -> &str {
        let inner = self.value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        inner.unwrap_or(&self.value)
    }

    /// As it is written.
    pub(super) fn text(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

/// A file's directives in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) global: Vec<Directive>,
    /// `virtual` or `virtual6` with what is indented below it.
    pub(super) services: Vec<(Directive, Vec<Directive>)>,
}

pub(super) fn directives(name: &str, text: &str) -> Result<Directives, ImportError> {
    let file: Arc<str> = name.into();
    let mut read = Directives::default();
    // Whether an indented line belongs to the last service: an empty or unindented one ends it.
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        let place = Place { file: file.clone(), line: at + 1, last: at + 1 };
        if line.trim_start().starts_with('#') {
            continue;
        }
        let indented = line.starts_with("    ") || line.starts_with('\t');
        let Some((name, value)) = name_and_value(line) else {
            inside = inside && indented && !line.trim().is_empty();
            match line.trim() {
                "" => continue,
                // An old form of `supervised = yes`.
                "supervised" => continue,
                other => {
                    let why = format!("`{other}` is not a directive, such as checkinterval=10");
                    return Err(ImportError { place, why });
                }
            }
        };
        let directive = Directive { place, name: name.to_owned(), value };
        match (indented, read.services.last_mut()) {
            (true, Some((_, body))) if inside => body.push(directive),
            (true, _) => {
                let why = "this line is indented, but belongs to no virtual service".to_owned();
                return Err(ImportError { place: directive.place, why });
            }
            (false, _) => {
                inside = matches!(name, "virtual" | "virtual6");
                match inside {
                    true => read.services.push((directive, Vec::new())),
                    false => read.global.push(directive),
                }
            }
        }
    }
    Ok(read)
}

/// The halves of a line, without a comment behind them; a `#` in quotes is none.
fn name_and_value(line: &str) -> Option<(&str, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut quoted = false;
    let end = value.find(|c| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    good.then(|| (name, value[..end.unwrap_or(value.len())].trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_lines_belong_to_the_service_above() {
        let text = "# c\nquiescent = no # d\n\nvirtual=10.0.0.1:80\n\treal=10.0.1.1:80 gate\n    # e\n    request=\"a#b\"\nfork=no\n";
        let read = directives("l.cf", text).unwrap();
        let names: Vec<String> = read.global.iter().map(Directive::text).collect();
        assert_eq!(names, ["quiescent=no", "fork=no"]);
        let [(head, body)] = read.services.as_slice() else { panic!("{:?}", read.services) };
        assert_eq!((head.place.line, head.value.as_str()), (4, "10.0.0.1:80"));
        assert_eq!(body.iter().map(Directive::unquoted).collect::<Vec<_>>(), ["10.0.1.1:80 gate", "a#b"]);
    }

    #[test]
    fn what_is_no_directive_is_named() {
        for (text, line, what) in [
            ("fork=no\nhello\n", 2, "`hello` is not a directive"),
            ("\treal=10.0.1.1 gate\n", 1, "belongs to no virtual service"),
            ("virtual=1\n\n\treal=10.0.1.1 gate\n", 3, "belongs to no virtual service"),
        ] {
            let error = directives("l.cf", text).unwrap_err();
            assert_eq!(error.place.line, line);
            assert!(error.why.contains(what), "{error}");
        }
    }
}
