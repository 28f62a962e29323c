//! What follows from checks of servers: the way from the desired state to the one that the data plane is given.
//!
//! Lives here: which probes a state asks for (`plan`), what is known of servers (`memory`) and kept over a restart
//! (`remember`), what the data plane gets of it (`effective`), what is told of it (`event`, `listing`), and the task
//! that keeps all that going (`keeper`). Does not live here: probing (fulcrum-health).

pub mod effective;
pub mod event;
pub mod keeper;
pub mod listing;
pub mod memory;
pub mod plan;
pub mod remember;
#[cfg(test)]
mod tests;

pub use fulcrum_health::{Report, Target, Verdict};
