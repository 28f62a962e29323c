//! The lines of `ipvsadm -R`, and single lines of the grammar as edits.

use super::values::{Names, Numeric};
use super::{Command, EXIT_REFUSED, Usage, parse_with};
use crate::edit::Edit;

/// The edits of one line of ipvsadm's grammar.
///
/// The line is cut at blanks; the word `ipvsadm` is passed over; from a word that begins with `#` on it is
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
    match one_line(line, &Numeric) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(Command::Edit(edits))) => Ok(edits),
        Ok(Some(_)) => Err(format!("`{}' changes nothing; only changes can stand here", line.trim())),
        Err((message, _)) => Err(message),
    }
}

/// What a line of restore input asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, the first is 1.
    pub number: usize,
    /// The command: mostly [`Command::Edit`], never [`Command::Restore`].
    pub command: Command,
}

impl Line {
    /// Its edits, when it is about such.
    pub fn into_edits(self) -> Vec<Edit> {
        match self.command {
            Command::Edit(edits) => edits,
            _ => Vec::new(),
        }
    }
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

/// Reads the whole input of `-R`. Comments and blank lines are passed over. All edits in it belong together;
/// what else is asked for (a list, say) has its turn after them.
pub fn restore(input: &str, names: &dyn Names) -> Result<Vec<Line>, RestoreError> {
    let mut lines = Vec::new();
    for (at, text) in input.lines().enumerate() {
        let number = at + 1;
        match one_line(text, names) {
            Ok(command) => lines.extend(command.map(|command| Line { number, command })),
            Err((message, code)) => return Err(RestoreError { line: number, message, code }),
        }
    }
    Ok(lines)
}

/// The command of a line, if it holds one. The word `ipvsadm` means nothing, wherever it stands.
fn one_line(line: &str, names: &dyn Names) -> Result<Option<Command>, (String, u8)> {
    let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    let words: Vec<String> = words.filter(|word| *word != "ipvsadm").map(str::to_owned).collect();
    if words.is_empty() {
        return Ok(None);
    }
    match parse_with(&words, names) {
        Ok(Command::Restore) => Err(("`-R' cannot stand in what -R reads".to_owned(), EXIT_REFUSED)),
        Ok(command) => Ok(Some(command)),
        Err(usage) if usage == Usage::try_help() => Err((
            format!("`{}' is no command; a line begins with one, such as -A or -a", words[0]),
            usage.code,
        )),
        Err(usage) => Err((usage.message.trim_end().to_owned(), usage.code)),
    }
}
