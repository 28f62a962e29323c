//! Who was behind which local address and port, and when: begins and ends of sessions that hide their client.
//!
//! Kept only where somebody asks for it, in a list of fixed size that the caller of the engine empties after each step;
//! what has no room there is counted. Where records go is the runtime's.

use std::net::IpAddr;

use crate::Nanos;
use crate::session::Ends;

/// A session whose server sees another client than there is began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// When, by the engine's clock.
    pub at: Nanos,
    /// Whether it began.
    pub begins: bool,
    /// IP protocol number.
    pub protocol: u8,
    /// Client's address and port.
    pub client: (IpAddr, u16),
    /// What it asked for.
    pub asked: (IpAddr, u16),
    /// What the server sees as its client.
    pub local: (IpAddr, u16),
    /// Server's address and port.
    pub server: (IpAddr, u16),
}

/// Translations of a step.
#[derive(Debug)]
pub struct Journal {
    /// The time of the step.
    pub(crate) now: Nanos,
    /// In order, at most as many as there was room for at first.
    pub kept: Vec<Translation>,
    /// How many had no room; the caller sets it back.
    pub lost: u64,
}

impl Journal {
    pub(crate) fn new(room: usize) -> Journal {
        Journal { now: 0, kept: Vec::with_capacity(room), lost: 0 }
    }

    pub(crate) fn note(&mut self, begins: bool, protocol: u8, ends: &Ends) {
        if self.kept.len() == self.kept.capacity() {
            self.lost += 1;
            return;
        }
        let Ends { client, vip, local, server } = *ends;
        self.kept.push(Translation { at: self.now, begins, protocol, client, asked: vip, local, server });
    }
}
