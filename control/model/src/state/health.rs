//! What follows from checks of servers, and what the operator wants of a server at the moment.
//!
//! Three things say together what a server gets: its weight, its health and its admin state. None changes another.

use std::fmt;
use std::net::IpAddr;

use super::{Check, Server};

/// What becomes of a server that is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// It is taken out of the service; its sessions end as those of a deleted server.
    #[default]
    Remove,
    /// It stays with weight 0: no new connections, those that are go on.
    Quiesce,
}

impl OnFailure {
    /// All of them with their words.
    pub const WORDS: [(&'static str, OnFailure); 2] =
        [("remove", OnFailure::Remove), ("quiesce", OnFailure::Quiesce)];

    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        OnFailure::WORDS[self as usize].0
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What follows from the checks of a service's servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHealth {
    /// Names of the checks that each server has to pass, all of them.
    pub checks: Vec<String>,
    /// Further ones that are this service's own and have no name.
    pub own_checks: Vec<Check>,
    /// What becomes of a server that is down.
    pub on_failure: OnFailure,
    /// Weight of healthy servers that the service needs, at least 1.
    pub quorum: u32,
    /// How far below the quorum it is lost, and above it regained; less than the quorum.
    pub hysteresis: u32,
    /// Who answers while the quorum is lost.
    pub sorry_server: Option<Box<Server>>,
    /// Seconds in which the weight of a server that came back grows, 0 = at once.
    pub slow_start: u32,
}

impl Default for ServiceHealth {
    fn default() -> ServiceHealth {
        ServiceHealth {
            checks: Vec::new(),
            own_checks: Vec::new(),
            on_failure: OnFailure::Remove,
            quorum: 1,
            hysteresis: 0,
            sorry_server: None,
            slow_start: 0,
        }
    }
}

/// What a server has of its own there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHealth {
    /// Names of checks instead of all of the service's; an empty list: none.
    pub checks: Option<Vec<String>>,
    /// Instead of the service's.
    pub on_failure: Option<OnFailure>,
    /// Where its checks go instead of its address.
    pub address: Option<IpAddr>,
    /// Where its checks go instead of its port; a check's own port goes before.
    pub port: Option<u16>,
}

/// What the operator wants of a server, whatever its weight and its health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admin {
    /// That it works.
    #[default]
    Enabled,
    /// No new connections; those that are go on.
    Drain {
        /// Seconds since 1970 from which on it is as if disabled, `None` = never.
        until: Option<u64>,
    },
    /// That it is out of the service.
    Disabled,
}

impl Admin {
    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Admin::Enabled => "enabled",
            Admin::Drain { .. } => "drain",
            Admin::Disabled => "disabled",
        }
    }
}
