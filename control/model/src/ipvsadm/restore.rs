//! The lines of `ipvsadm -R`, and single lines of the grammar as edits.

use super::values::{Names, Numeric};
use super::{Command, EXIT_USAGE, Usage, parse_with};
use crate::edit::Edit;

/// The edits of one line of ipvsadm's grammar.
///
/// The line is cut at blanks; a leading word `ipvsadm` is allowed; from a word that begins with `#` on it is
/// comment. Hosts and ports are numbers. A blank line has no edits; a command that changes nothing (`-L`,
/// `-S`, `-Z`, …) is an error.
///
/// ```
/// use fulcrum_model::{Edit, ipvsadm};
///
/// let edits = ipvsadm::edits("ipvsadm -A -t 172.16.100.9:80 -s rr  # web").unwrap();
/// assert!(matches!(&edits[..], [Edit::AddService(service)] if service.scheduler == "rr"));
/// assert_eq!(ipvsadm::edits("-a -t 172.16.100.9:80").unwrap_err(),
///            "You need to supply the 'real-server' option for the 'add-server' command");
/// ```
pub fn edits(line: &str) -> Result<Vec<Edit>, String> {
    one_line(line, &Numeric).map_err(|(message, _)| message)
}

/// The edits of a line of restore input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, the first is 1.
    pub number: usize,
    /// What it asks for.
    pub edits: Vec<Edit>,
}

/// Why restore input is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message} (nothing was changed)")]
pub struct RestoreError {
    /// The line's number, the first is 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

/// Reads the whole input of `-R`. Comments and blank lines are passed over.
pub fn restore(input: &str, names: &dyn Names) -> Result<Vec<Line>, RestoreError> {
    let mut lines = Vec::new();
    for (at, text) in input.lines().enumerate() {
        let number = at + 1;
        let edits =
            one_line(text, names).map_err(|(message, code)| RestoreError { line: number, message, code })?;
        if !edits.is_empty() {
            lines.push(Line { number, edits });
        }
    }
    Ok(lines)
}

fn one_line(line: &str, names: &dyn Names) -> Result<Vec<Edit>, (String, u8)> {
    let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    if words.first().is_some_and(|word| word == "ipvsadm") {
        words.remove(0);
        if words.is_empty() {
            return Err(("`ipvsadm' alone changes nothing".to_owned(), EXIT_USAGE));
        }
    }
    if words.is_empty() {
        return Ok(Vec::new());
    }
    match parse_with(&words, names) {
        Ok(Command::Edit(edits)) => Ok(edits),
        Ok(_) => Err((format!("`{}' changes nothing; only changes can stand here", words[0]), EXIT_USAGE)),
        Err(usage) if usage == Usage::try_help() => Err((
            format!("`{}' is no command; a line begins with one, such as -A or -a", words[0]),
            usage.code,
        )),
        Err(usage) => Err((usage.message.trim_end().to_owned(), usage.code)),
    }
}
