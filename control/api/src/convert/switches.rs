//! Time-outs and settings as messages.

use fulcrum_model as model;

use super::{BadMessage, Checked};
use crate::state as wire;

/// Time-outs of states as messages, in order.
pub(super) fn state_timeouts(timeouts: &model::StateTimeouts) -> Vec<wire::StateTimeout> {
    let message = |(state, seconds): (&model::TimeoutState, &u32)| wire::StateTimeout {
        state: state.name().to_owned(),
        seconds: *seconds,
    };
    timeouts.iter().map(message).collect()
}

/// The time-outs of states that the field called `field` holds.
pub(super) fn read_state_timeouts(
    field: &str,
    list: Vec<wire::StateTimeout>,
) -> Checked<model::StateTimeouts> {
    let mut timeouts = model::StateTimeouts::new();
    for (at, each) in list.into_iter().enumerate() {
        timeouts.insert(state(&format!("{field}[{at}].state"), &each.state)?, each.seconds);
    }
    Ok(timeouts)
}

/// The state whose name the field called `field` holds.
pub(crate) fn state(field: &str, name: &str) -> Checked<model::TimeoutState> {
    name.parse().map_err(|bad: model::UnknownState| BadMessage::new(field, bad.to_string()))
}

impl From<&model::Timeouts> for wire::Timeouts {
    fn from(timeouts: &model::Timeouts) -> wire::Timeouts {
        wire::Timeouts {
            tcp: timeouts.tcp,
            tcp_fin: timeouts.tcp_fin,
            udp: timeouts.udp,
            states: state_timeouts(&timeouts.states),
        }
    }
}

impl TryFrom<wire::Timeouts> for model::Timeouts {
    type Error = BadMessage;

    fn try_from(timeouts: wire::Timeouts) -> Checked<model::Timeouts> {
        Ok(model::Timeouts {
            tcp: timeouts.tcp,
            tcp_fin: timeouts.tcp_fin,
            udp: timeouts.udp,
            states: read_state_timeouts("states", timeouts.states)?,
        })
    }
}

impl From<&model::Settings> for wire::Settings {
    fn from(settings: &model::Settings) -> wire::Settings {
        let message = |name: &&str| {
            let value = settings.get(name)?;
            Some(wire::Setting { name: (*name).to_owned(), value })
        };
        wire::Settings { settings: model::Settings::NAMES.iter().filter_map(message).collect() }
    }
}

impl TryFrom<wire::Settings> for model::Settings {
    type Error = BadMessage;

    fn try_from(message: wire::Settings) -> Checked<model::Settings> {
        let mut settings = model::Settings::default();
        for (at, wire::Setting { name, value }) in message.settings.iter().enumerate() {
            let bad = |bad: model::BadSetting| BadMessage::new(format!("settings[{at}]"), bad.to_string());
            settings.set(name, value).map_err(bad)?;
        }
        Ok(settings)
    }
}
