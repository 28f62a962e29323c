//! The log of translations: who was behind a local address and port, told to a collector by IPFIX (RFC 7011).
//!
//! Lives here: the way from workers to the one who sends, rings of fixed size in which a worker waits for nobody. What
//! is sent is in `ipfix`, sending in `export`. What a translation is, the engine knows.

mod export;
mod ipfix;

use std::sync::Arc;

use fulcrum_director::counters::Counter;
use fulcrum_director::{Journal, Translation};
use rtrb::{Consumer, Producer, RingBuffer};

pub(crate) use export::{Collector, Exporter};

/// Begins and ends that a worker may be ahead of the one who sends: a tenth of a second at some 600 000 a second.
const RING: usize = 1 << 16;
/// What a worker keeps in one step.
pub(crate) const STEP: usize = 4096;

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Outlet {
    ring: Producer<Translation>,
    lost: Arc<Counter>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Inlet {
    ring: Consumer<Translation>,
    lost: Arc<Counter>,
}

/// Both ends for so many workers.
pub(crate) fn rings(workers: usize) -> (Vec<Outlet>, Vec<Inlet>) {
    let pair = |_| {
        let (producer, consumer) = RingBuffer::new(RING);
        let lost = Arc::new(Counter::default());
        (Outlet { ring: producer, lost: Arc::clone(&lost) }, Inlet { ring: consumer, lost })
    };
    (0..workers).map(pair).unzip()
}

impl Outlet {
    /// Takes what a step has kept.
    #[inline]
    pub(crate) fn take(&mut self, journal: &mut Journal) {
        if journal.kept.is_empty() {
            return;
        }
        let mut lost = std::mem::take(&mut journal.lost);
        for translation in journal.kept.drain(..) {
            lost += u64::from(self.ring.push(translation).is_err());
        }
        self.lost.add(lost);
    }
}
