//! The thread that stands between workers and TAP interfaces.
//!
//! What goes up is taken class by class: as long as there is something of a class, those below wait. When nothing comes
//! it waits for the TAPs, and looks at the workers' lanes every millisecond; while frames flow, much more often.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fulcrum_director::snapshot::InterfaceId;
use fulcrum_director::{Reason, WorkerCounters};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Lines;
use super::lane::{Receiver, Sender};
use super::twin::Twin;

/// Frames of one lane before those above it are looked at again.
const BURST: usize = 16;
/// Frames of one TAP before the others have their turn.
const READS: usize = 64;
/// While frames flow: how long it sleeps, and for how long after the last one.
const NAP: Duration = Duration::from_micros(50);
const AWAKE: Duration = Duration::from_millis(20);
/// When none do: how long it waits for the TAPs before it looks at the lanes, in milliseconds.
const WAIT: u8 = 1;

/// A pump that has not begun.
#[derive(Debug)]
pub(crate) struct Pump {
    taps: Vec<Tap>,
    lines: Lines,
    counters: Arc<WorkerCounters>,
}

/// A pump at work; it stops when this is dropped, and the twins are gone then.
#[derive(Debug)]
pub(crate) struct Pumping {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A TAP, and whose twin it is.
#[derive(Debug)]
struct Tap {
    interface: InterfaceId,
    file: File,
    /// Number of the interface's port, to count drops.
    port: u16,
}

impl Pump {
    /// For these twins; counts what Linux does not take in `counters`, which nobody else may write.
    pub(crate) fn new(twins: Vec<Twin>, lines: Lines, counters: Arc<WorkerCounters>) -> Pump {
        let tap = |Twin { interface, file, port, .. }| Tap { interface, file, port };
        Pump { taps: twins.into_iter().map(tap).collect(), lines, counters }
    }

    /// Begins on a thread of its own.
    pub(crate) fn begin(mut self) -> std::io::Result<Pumping> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("fulcrum-host".to_owned()).spawn(move || {
            // By default the kernel may add 50 µs to each nap.
            let _ = nix::sys::prctl::set_timerslack(1);
            let mut last = Instant::now();
            while !told.load(Relaxed) {
                if self.up() | self.down() {
                    last = Instant::now();
                } else if last.elapsed() < AWAKE {
                    std::thread::sleep(NAP);
                } else {
                    self.wait();
                }
            }
        })?;
        Ok(Pumping { stop, thread: Some(thread) })
    }

    /// Gives Linux what workers have for it; whether there was anything.
    fn up(&mut self) -> bool {
        let Pump { taps, lines, counters } = self;
        let mut any = false;
        let classes = lines.up.first().map_or(0, Vec::len);
        let mut class = 0;
        while class < classes {
            let mut found = false;
            for lanes in &mut lines.up {
                found |= give(taps, &mut lanes[class], counters);
            }
            any |= found;
            // What is of a higher class and has come meanwhile goes first.
            class = match found {
                true if class > 0 => 0,
                true => class,
                false => class + 1,
            };
        }
        any
    }

    /// Gives worker 0 what Linux sends; whether there was anything.
    fn down(&mut self) -> bool {
        let Pump { taps, lines, .. } = self;
        let mut any = false;
        for tap in taps {
            any |= (0..READS).take_while(|_| read(tap, &mut lines.down)).count() > 0;
        }
        any
    }

    fn wait(&self) {
        // As long as worker 0 has no room, the TAPs are not what is waited for.
        let wanted = if self.lines.down.is_full() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut files: Vec<_> = self.taps.iter().map(|tap| PollFd::new(tap.file.as_fd(), wanted)).collect();
        let woken = poll(&mut files, PollTimeout::from(WAIT));
        let broken = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let odd = files.iter().any(|file| file.revents().is_some_and(|events| events.intersects(broken)));
        if woken.is_err() || odd {
            // A twin that is down or was deleted is always ready, and gives nothing.
            std::thread::sleep(Duration::from_millis(WAIT.into()));
        }
    }
}

/// Gives Linux a burst of one lane; whether there was anything.
fn give(taps: &mut [Tap], lane: &mut Receiver, counters: &WorkerCounters) -> bool {
    let mut any = false;
    for _ in 0..BURST {
        let taken = lane.take(|interface, frame| {
            let Some(tap) = taps.iter_mut().find(|tap| tap.interface == interface) else {
                return counters.count_drop(0, Reason::ExceptionDown);
            };
            if tap.file.write(frame).is_err() {
                counters.count_drop(tap.port, Reason::ExceptionDown);
            }
        });
        if !taken {
            break;
        }
        any = true;
    }
    any
}

/// Gives worker 0 one frame of a TAP; whether there was one.
fn read(tap: &mut Tap, down: &mut Sender) -> bool {
    let Tap { interface, file, .. } = tap;
    down.send(*interface, |room| {
        loop {
            match file.read(room) {
                Ok(length) if length > 0 => return Some(length),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
    })
}

impl Drop for Pumping {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the exception interfaces panicked");
        }
    }
}
