//! What ends the process in good order: signals, and whoever may program it; and a signal that does not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Who asks for the end has the answer within this time.
const ANSWERED: Duration = Duration::from_millis(100);

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Signal(&'static str),
    Asked,
}

impl Ending {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ending::Signal(name) => name,
            Ending::Asked => "asked to end",
        }
    }

    /// Waits until whoever has asked for it knows.
    pub(crate) async fn answered(self) {
        if self == Ending::Asked {
            sleep(ANSWERED).await;
        }
    }
}

/// All that ends it.
#[derive(Debug)]
pub(crate) struct Endings {
    asked: Arc<Notify>,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Endings {
    pub(crate) fn new() -> io::Result<Endings> {
        Ok(Endings {
            asked: Arc::default(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// To be told by who asks.
    pub(crate) fn asked(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }

    /// The next one; may be dropped and called again.
    pub(crate) async fn next(&mut self) -> Ending {
        loop {
            tokio::select! {
                () = self.asked.notified() => return Ending::Asked,
                _ = self.terminate.recv() => return Ending::Signal("SIGTERM"),
                _ = self.interrupt.recv() => return Ending::Signal("SIGINT"),
                // A terminal that goes away, or somebody who is used to it: no reason to let traffic down.
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: nothing to read again; ports are opened at start");
                }
            }
        }
    }
}
