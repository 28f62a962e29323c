//! Rules for overrides.

use super::{Problem, service};
use crate::state::{Override, Service, State};

/// Rules for an override in a state, whether its service is there or not.
pub fn over(state: &State, over: &Override) -> Vec<Problem> {
    let shaped = over.on(&Service::new(over.service, "rr"));
    let said = ["mark", "local-pool", "interface", "mss", "client-address"];
    service(state, &shaped).into_iter().filter(|problem| said.contains(&problem.key)).collect()
}
