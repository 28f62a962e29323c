//! The engine of one worker: a packet's way through the director, burst by burst.

use std::sync::Arc;

use crate::buffer::Pool;
use crate::counters::WorkerCounters;
use crate::message::Envelope;
use crate::reason::Verdict;
use crate::snapshot::Snapshot;
use crate::{Message, Nanos};

/// What an engine is made with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// This worker's number, 0-based. Worker 0 is the resolver: ARP and parked packets are its own.
    pub worker: u16,
    /// How many workers there are.
    pub workers: u16,
    /// How many sessions and templates this worker keeps at most.
    pub sessions: usize,
    /// Seed of every choice by chance (hashes, IP ids); the same for all workers, who must agree on owners.
    pub seed: u64,
    /// Whether addresses that come up are announced by gratuitous ARP (replay says no: nobody listens).
    pub announce: bool,
    /// Test setting: every received packet goes to the wrong worker first.
    pub misdirect: bool,
}

/// A received frame.
#[derive(Debug)]
pub struct Received<B> {
    /// Port number.
    pub port: u16,
    /// The frame.
    pub buf: B,
}

/// A frame to send.
#[derive(Debug)]
pub struct Transmit<B> {
    /// Port number.
    pub port: u16,
    /// The frame.
    pub buf: B,
}

/// What a step gives back; the caller empties it and uses it again, so that it does not allocate.
#[derive(Debug)]
pub struct Output<B> {
    /// Frames to send, in order.
    pub tx: Vec<Transmit<B>>,
    /// Messages for other workers, in order.
    pub outbox: Vec<Envelope<B>>,
    /// When present: one verdict per packet that this step finished with.
    pub verdicts: Option<Vec<Verdict>>,
}

impl<B> Default for Output<B> {
    fn default() -> Output<B> {
        Output { tx: Vec::new(), outbox: Vec::new(), verdicts: None }
    }
}
