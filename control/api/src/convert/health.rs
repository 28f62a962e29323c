//! What follows from checks of servers, and admin states, as messages.

use fulcrum_model as model;

use super::{BadMessage, Checked, address, address_bytes, each, port};
use crate::state as wire;

impl From<model::OnFailure> for wire::OnFailure {
    fn from(way: model::OnFailure) -> wire::OnFailure {
        match way {
            model::OnFailure::Remove => wire::OnFailure::Remove,
            model::OnFailure::Quiesce => wire::OnFailure::Quiesce,
        }
    }
}

fn on_failure(number: i32) -> Checked<model::OnFailure> {
    match wire::OnFailure::try_from(number) {
        Ok(wire::OnFailure::Remove) => Ok(model::OnFailure::Remove),
        Ok(wire::OnFailure::Quiesce) => Ok(model::OnFailure::Quiesce),
        Err(_) => Err(BadMessage::new("on_failure", format!("{number} is none of REMOVE 0, QUIESCE 1"))),
    }
}

impl From<&model::ServiceHealth> for wire::ServiceHealth {
    fn from(health: &model::ServiceHealth) -> wire::ServiceHealth {
        wire::ServiceHealth {
            checks: health.checks.clone(),
            own_checks: health.own_checks.iter().map(Into::into).collect(),
            on_failure: wire::OnFailure::from(health.on_failure).into(),
            quorum: health.quorum,
            hysteresis: health.hysteresis,
            sorry_server: health.sorry_server.as_deref().map(Into::into),
            slow_start: health.slow_start,
        }
    }
}

impl TryFrom<wire::ServiceHealth> for model::ServiceHealth {
    type Error = BadMessage;

    fn try_from(health: wire::ServiceHealth) -> Checked<model::ServiceHealth> {
        let sorry = health.sorry_server.map(|sorry| model::Server::try_from(sorry).map(Box::new));
        Ok(model::ServiceHealth {
            checks: health.checks,
            own_checks: each("own_checks", health.own_checks)?,
            on_failure: on_failure(health.on_failure)?,
            quorum: health.quorum,
            hysteresis: health.hysteresis,
            sorry_server: sorry.transpose().map_err(|bad| bad.within("sorry_server"))?,
            slow_start: health.slow_start,
        })
    }
}

impl From<&model::ServerHealth> for wire::ServerHealth {
    fn from(health: &model::ServerHealth) -> wire::ServerHealth {
        wire::ServerHealth {
            checks: health.checks.clone().map(|names| wire::CheckNames { names }),
            on_failure: health.on_failure.map(|way| wire::OnFailure::from(way).into()),
            address: health.address.map(address_bytes),
            port: health.port.map(Into::into),
        }
    }
}

impl TryFrom<wire::ServerHealth> for model::ServerHealth {
    type Error = BadMessage;

    fn try_from(health: wire::ServerHealth) -> Checked<model::ServerHealth> {
        Ok(model::ServerHealth {
            checks: health.checks.map(|checks| checks.names),
            on_failure: health.on_failure.map(on_failure).transpose()?,
            address: health.address.map(|bytes| address("address", &bytes)).transpose()?,
            port: health.port.map(|number| port("port", number)).transpose()?,
        })
    }
}

impl From<model::Admin> for wire::Admin {
    fn from(admin: model::Admin) -> wire::Admin {
        use wire::admin::Admin;
        wire::Admin {
            admin: match admin {
                model::Admin::Enabled => None,
                model::Admin::Drain { until } => Some(Admin::Drain(wire::Drain { until })),
                model::Admin::Disabled => Some(Admin::Disabled(true)),
            },
        }
    }
}

impl From<wire::Admin> for model::Admin {
    fn from(admin: wire::Admin) -> model::Admin {
        use wire::admin::Admin;
        match admin.admin {
            Some(Admin::Drain(drain)) => model::Admin::Drain { until: drain.until },
            Some(Admin::Disabled(true)) => model::Admin::Disabled,
            Some(Admin::Disabled(false)) | None => model::Admin::Enabled,
        }
    }
}
