//! `fulcrum-control`: keeps the desired state and the data plane in it.
//!
//! Lives here: where the state comes from and survives (`store`, `merge`, `desired`), how the data plane is
//! brought to it (`reconcile`), what clients may ask (`service`), and tools of IPVS (`door`), who they are and what they may (`access`, `remote`), what monitoring
//! systems are told (`metrics`), and the process around (`process`).
//! Does not live here: what is valid (fulcrum-model), how it travels (fulcrum-api).
//!
//! The configuration file and changes made at run time go together like this. The desired state is stored
//! whole, together with the file that it is based on. At a start, and at SIGHUP, the file is read again. When
//! it still says the same, the stored state is the desired state. When it changed, each object (port,
//! interface, route, neighbour, pool, service, server, time-outs, settings) that it changed, added or took
//! away is as the file says; every other one stays as it was at run time. When the two do not go together, or
//! the file is wrong, the desired state stays as it was and the status says why.

pub mod access;
pub mod desired;
pub mod differences;
pub mod door;
pub mod merge;
pub mod metrics;
pub mod probes;
pub mod process;
pub mod reconcile;
pub mod reload;
pub mod remote;
pub mod service;
pub mod store;
pub mod verdict;
pub mod vip;
