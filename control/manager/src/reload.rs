//! What is read again while the process runs: its configuration file and the certificates that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fulcrum_model::file::Config;
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::desired::{Desired, FileError, read_file};
use crate::remote::Papers;

/// Between two looks at the certificates.
const LOOK: Duration = Duration::from_secs(1);

/// Somebody asks for it, and is told what was wrong.
pub type Asked = oneshot::Sender<Result<(), String>>;

/// The one who reads.
#[derive(Debug)]
pub struct Reloader {
    /// Path of the configuration file.
    pub config: PathBuf,
    /// What it is taken into.
    pub desired: Arc<Mutex<Desired>>,
    /// Why the file is not in effect, empty when it is.
    pub error: watch::Sender<String>,
    /// Certificates, where other machines are served.
    pub papers: Option<Papers>,
    /// Those who ask.
    pub asked: mpsc::Receiver<Asked>,
}

impl Reloader {
    /// Works until it is dropped.
    pub async fn run(mut self, mut hang_up: Signal) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(()) = hang_up.recv() => drop(self.read().await),
                // Who has gone away wants no answer.
                Some(asked) = self.asked.recv() => drop(asked.send(self.read().await)),
                _ = looks.tick() => {
                    if let Some(papers) = &mut self.papers {
                        papers.look();
                    }
                }
            }
        }
    }

    /// Reads everything; what is wrong leaves in effect what was read before.
    async fn read(&mut self) -> Result<(), String> {
        let mut desired = self.desired.lock().await;
        let taken = read_file(&self.config).and_then(|file| take(&self.config, &mut desired, file));
        let mut wrong: Vec<String> = Vec::from_iter(taken.as_ref().err().map(ToString::to_string));
        self.error.send_replace(said(taken));
        let remote = desired.file().control.remote.clone();
        drop(desired);
        match (&mut self.papers, remote) {
            (Some(papers), remote) => {
                wrong.extend(papers.take(remote.as_ref()).err().map(|error| error.to_string()));
            }
            (None, Some(_)) => warn!("[control.remote] is new; it takes a restart of fulcrum-control"),
            (None, None) => {}
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// Takes in what the file says now; a file that is not there says nothing new.
pub fn take(path: &Path, desired: &mut Desired, file: Option<Config>) -> Result<(), FileError> {
    let Some(file) = file else {
        warn!(config = %path.display(), "no configuration file; the desired state stays as it is");
        return Ok(());
    };
    let before = desired.current().number;
    let number = desired.take_file(path, file)?;
    let services = desired.current().state.services.len();
    info!(config = %path.display(), services, changed = number != before, "configuration file taken in");
    Ok(())
}

/// Logs an error of the configuration file; its text, empty for none.
pub fn said(result: Result<(), FileError>) -> String {
    match result {
        Ok(()) => String::new(),
        Err(error) => {
            error!(%error, "the configuration file is not in effect; the desired state stays as it is");
            error.to_string()
        }
    }
}
