//! `fulcrum-dataplane`: the engine on DPDK's lcores.
//!
//! Lives here, in the order in which a process comes to life: arguments (`args`), the machine (`advice`), devices
//! (`device`, `host`, `plan`, `frames`, `ports`, `steering`, `rules`), the process as a whole (`process`, `crew`); then
//! a packet's way outside the engine (`worker`, `ends`, `gauge`, `transmit`, `mesh`, `deal`, `idle`), and
//! to the host (`exception`); then the control
//! thread (`control`, `orders`, `board`, `pace`, `rates`, `watch`) and its gRPC face (`service`); for benchmarks, the
//! worker's loop by itself (`harness`). Does not live here: any decision on a packet (fulcrum-director), DPDK itself
//! (fulcrum-dpdk).

#![forbid(unsafe_code)]

mod advice;
mod args;
mod board;
mod bond;
mod control;
mod crew;
mod deal;
mod device;
mod endings;
mod ends;
mod exception;
mod frames;
mod gauge;
pub mod harness;
mod host;
mod idle;
mod mesh;
mod numbers;
mod orders;
mod pace;
mod plan;
mod ports;
mod process;
mod rates;
mod recent;
mod rules;
mod service;
mod steering;
mod tap;
mod translations;
mod transmit;
mod watch;
mod worker;

pub use args::Args;
pub use ends::{Decide, Egress, Ingress};
pub use idle::{Idle, Policy, Rest};
pub use process::{Failure, run};
