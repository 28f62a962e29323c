//! `[timeouts]` and `[ipvs]`.

use super::super::table::Table;
use crate::state::{Settings, StateTimeouts, TimeoutState, Timeouts};
use crate::validate::MAX_TIMEOUT;

pub(super) fn timeouts(table: &mut Table<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for (state, seconds) in states(table) {
        timeouts.set(state, Some(seconds));
    }
    timeouts
}

/// Time-outs by their states; two of them have a second name, from `ipvsadm --set`.
pub(super) fn states(table: &mut Table<'_>) -> StateTimeouts {
    let short = [("tcp", TimeoutState::TcpEstablished), ("tcp-fin", TimeoutState::TcpFinWait)];
    let mut timeouts = StateTimeouts::new();
    for (key, state) in short.into_iter().chain(TimeoutState::ALL.map(|state| (state.name(), state))) {
        let Some(seconds) = table.number(key, 1..=MAX_TIMEOUT) else { continue };
        if timeouts.insert(state, seconds).is_some() {
            table.complain(key, format!("{key} and its other name are both given; leave one away"));
        }
    }
    timeouts
}

pub(super) fn settings(table: &mut Table<'_>) -> Settings {
    let mut settings = Settings::default();
    for name in Settings::names() {
        let Some(value) = table.scalar(name) else { continue };
        if let Err(bad) = settings.set(name, &value) {
            table.complain(name, bad.to_string());
        }
    }
    settings
}
