//! The director's engine: everything that decides on or rewrites a packet.
//!
//! One [`Engine`] a worker. Bytes and a time go in, frames and verdicts come out ([`Engine::step`]); what
//! workers have to tell each other travels as [`Message`]s that somebody else carries. Configuration arrives
//! as an immutable [`Snapshot`]. No sockets, no clocks, no locks, no DPDK; after warm-up no allocation.

#![forbid(unsafe_code)]

pub mod buffer;
pub mod cells;
mod connect;
pub mod counters;
mod defence;
pub mod dropped;
pub mod engine;
pub mod exception;
pub mod explain;
pub mod export;
mod fastpath;
mod forward;
pub mod fragments;
mod ftp;
mod gateway;
mod hash;
mod host;
mod icmp;
pub mod journal;
mod local_port;
mod marks;
pub mod message;
mod neighbour;
mod next_hop;
mod output;
mod packet;
mod path_mtu;
pub mod reason;
mod receive;
pub mod remedy;
pub mod rss;
pub mod schedule;
pub mod session;
mod sip;
pub mod snapshot;
mod splice;
mod steer;
mod stream;
pub mod threshold;
mod transit;

pub use buffer::{Buf, Pool};
pub use cells::Cells;
pub use counters::{PerWorker, WorkerCounters};
pub use dropped::{Dropped, Drops};
pub use engine::{Engine, EngineConfig, Framed, Output, Received, Transmit};
pub use exception::Up;
pub use export::{NeighbourView, SessionView};
pub use journal::{Journal, Translation};
pub use message::{Envelope, First, Message, Stage};
pub use reason::{Event, Reason, Verdict, VerdictKind};
pub use remedy::{Concern, Remedy};
pub use snapshot::Snapshot;
pub use stream::InitialNumbers;

/// Nanoseconds on a monotonic clock of the caller's choice.
pub type Nanos = u64;

/// One second in [`Nanos`].
pub const SECOND: Nanos = 1_000_000_000;
