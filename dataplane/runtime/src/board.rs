//! What a worker shows of itself while it works: signs of life, and how far it is with new configurations.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use fulcrum_director::counters::Counter;

/// What a worker is at. Named in the report about one that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    Starting,
    Receiving,
    Deciding,
    Sending,
    Answering,
    Idle,
    Stopped,
}

impl Stage {
    const ALL: [Stage; 7] = [
        Stage::Starting,
        Stage::Receiving,
        Stage::Deciding,
        Stage::Sending,
        Stage::Answering,
        Stage::Idle,
        Stage::Stopped,
    ];

    /// In words that end the sentence "it hung while …".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Stage::Starting => "starting",
            Stage::Receiving => "receiving from a port or a ring",
            Stage::Deciding => "deciding on packets (engine step)",
            Stage::Sending => "sending to a port or a ring",
            Stage::Answering => "answering the control thread",
            Stage::Idle => "idle",
            Stage::Stopped => "stopped",
        }
    }
}

/// One worker's board: written by the worker alone, read by the control thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Board {
    /// Turns of the loop.
    pub(crate) turns: Counter,
    /// Cycles of the turns that found work.
    pub(crate) busy: Counter,
    /// Cycles of naps.
    pub(crate) asleep: Counter,
    /// The cycle counter at the end of the last turn.
    pub(crate) clock: Counter,
    /// Polls of queues that had frames.
    pub(crate) bursts: Counter,
    /// Frames that they had.
    pub(crate) frames: Counter,
    /// Messages of other workers, most of which carry a packet.
    pub(crate) messages: Counter,
    /// Messages without a packet that found their ring and its backlog full.
    pub(crate) lost_messages: Counter,
    serial: AtomicU64,
    stage: AtomicU8,
    thread: AtomicU32,
}

impl Board {
    #[inline]
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    pub(crate) fn stage(&self) -> Stage {
        let stage = usize::from(self.stage.load(Relaxed));
        Stage::ALL.get(stage).copied().unwrap_or(Stage::Starting)
    }

    /// Tells the kernel's number of the worker's thread.
    pub(crate) fn name_thread(&self, thread: u32) {
        self.thread.store(thread, Relaxed);
    }

    /// The kernel's number of the worker's thread, 0 before it has started.
    pub(crate) fn thread(&self) -> u32 {
        self.thread.load(Relaxed)
    }

    /// Tells which snapshot the worker runs from now on.
    pub(crate) fn acknowledge(&self, serial: u64) {
        // Release: what the worker counted under the old snapshot is visible to whoever reads the new number.
        self.serial.store(serial, std::sync::atomic::Ordering::Release);
    }

    /// The snapshot that the worker runs.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.serial.load(std::sync::atomic::Ordering::Acquire)
    }
}
