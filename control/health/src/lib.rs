//! Health checks of servers, without what follows from them.
//!
//! Lives here: what is probed and what came of it (`target`), what a row of answers means (`state`), when which probe
//! is due (`schedule`), the task that makes them (`prober`), the ways to servers (`path`), the kinds of probes
//! (`probe`). Does not live here: checks as they are written (fulcrum-model), what becomes of a server (fulcrum-manager).

mod limits;
mod path;
mod probe;
mod prober;
mod schedule;
mod state;
mod target;

pub use limits::Limits;
pub use path::{Direct, Flavour, NoWay, Path, Through, Way};
pub use probe::{Tools, probe};
pub use prober::Prober;
pub use schedule::{Id, Schedule};
pub use state::{Moment, Rules, State};
pub use target::{Outcome, Report, Target, Verdict};
