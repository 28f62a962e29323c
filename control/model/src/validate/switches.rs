//! Rules for time-outs and settings.

use super::{MAX_TIMEOUT, Problem, add, one};
use crate::state::{Settings, StateTimeouts, Timeouts};

/// Rules for the time-outs.
pub fn timeouts(timeouts: &Timeouts) -> Vec<Problem> {
    let mut found = Vec::new();
    for (key, value) in [("tcp", timeouts.tcp), ("tcp-fin", timeouts.tcp_fin), ("udp", timeouts.udp)] {
        seconds(&mut found, key, key, value);
    }
    states(&mut found, &timeouts.states, None);
    for state in Timeouts::NAMED.iter().filter(|state| timeouts.states.contains_key(state)) {
        let message = format!("time-out {state} is listed twice; `tcp`, `tcp-fin` and `udp` have it");
        add(&mut found, state.name(), message);
    }
    found
}

/// Rules for the time-outs of states; `key` is that of all, where each has none of its own.
pub(super) fn states(found: &mut Vec<Problem>, timeouts: &StateTimeouts, key: Option<&'static str>) {
    for (state, value) in timeouts {
        seconds(found, key.unwrap_or(state.name()), state.name(), *value);
    }
}

fn seconds(found: &mut Vec<Problem>, key: &'static str, name: &str, value: u32) {
    if !(1..=MAX_TIMEOUT).contains(&value) {
        add(found, key, format!("time-out {name} of {value} s is out of range; 1 to {MAX_TIMEOUT}"));
    }
}

/// Rules for the behaviour switches.
pub fn settings(settings: &Settings) -> Vec<Problem> {
    settings.check().into_iter().flat_map(|bad| one(bad.name(), bad.to_string())).collect()
}
