//! What an import names because it has no equivalent.

use std::fmt;
use std::sync::Arc;

/// Lines of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file's name as it was given or included.
    pub file: Arc<str>,
    /// Its line, the first is 1.
    pub line: usize,
    /// The last line of what begins there, the same one for a single line.
    pub last: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line == self.last {
            true => write!(f, "{}:{}", self.file, self.line),
            false => write!(f, "{}:{}-{}", self.file, self.line, self.last),
        }
    }
}

/// Something that was not taken over, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Where it stands.
    pub place: Place,
    /// Its words.
    pub what: String,
    /// Why, and what to use instead.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`: {}", self.place, self.what, self.why)
    }
}
