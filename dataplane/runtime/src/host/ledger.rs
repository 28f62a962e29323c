//! A file beside the socket that says which interfaces were taken and what they were like, so that a process that
//! was killed leaves nothing behind for longer than until the next start.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::taken::{self, Before};

/// The file and what it says.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    taken: Vec<Before>,
}

impl Ledger {
    /// The ledger of the data plane that serves `socket`. What a predecessor left behind is put right first; the
    /// caller has made sure that it is dead. Gives the interfaces that were put right.
    pub(crate) fn open(socket: &Path) -> (Ledger, Vec<String>) {
        let mut path = socket.as_os_str().to_owned();
        path.push(".taken");
        let ledger = Ledger { path: path.into(), taken: Vec::new() };
        let left = ledger.read();
        for before in left.iter().rev() {
            taken::restore(before);
        }
        ledger.remove();
        (ledger, left.into_iter().map(|before| before.name).collect())
    }

    /// Writes an interface down, before it is changed.
    pub(crate) fn record(&mut self, before: &Before) -> io::Result<()> {
        self.taken.push(before.clone());
        self.write()
    }

    /// Writes down what an interface was like otherwise than it says now, before it is changed.
    pub(crate) fn replace(&mut self, old: &Before, new: &Before) -> io::Result<()> {
        self.taken.iter_mut().filter(|before| *before == old).for_each(|before| *before = new.clone());
        self.write()
    }

    /// Strikes an interface out, after it was put back.
    pub(crate) fn forget(&mut self, before: &Before) {
        self.taken.retain(|other| other != before);
        if self.taken.is_empty() {
            self.remove();
        } else if let Err(error) = self.write() {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }

    fn read(&self) -> Vec<Before> {
        let Ok(text) = fs::read_to_string(&self.path) else { return Vec::new() };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!("{} is not readable, so nothing is put right by it: {error}", self.path.display());
            Vec::new()
        })
    }

    fn write(&self) -> io::Result<()> {
        let text = serde_json::to_string(&self.taken).map_err(io::Error::other)?;
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }
}
