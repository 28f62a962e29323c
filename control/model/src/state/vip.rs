//! What is special about the VIP of a service: how the host announces it, and who has it.

use std::fmt;

/// Seconds for which a service serves before its VIP is announced, unless told otherwise.
pub const DEFAULT_ANNOUNCE_AFTER: u32 = 5;

/// When a VIP is on an interface of the host, where routing daemons find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Announce {
    /// Never: whoever has configured the host sees to that.
    #[default]
    Never,
    /// While the data plane serves and the service has its quorum.
    Healthy,
    /// While the data plane serves.
    Always,
}

impl Announce {
    /// All of them.
    pub const ALL: [Announce; 3] = [Announce::Never, Announce::Healthy, Announce::Always];

    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Announce::Never => "never",
            Announce::Healthy => "healthy",
            Announce::Always => "always",
        }
    }
}

impl fmt::Display for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the VIP of a service is announced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Announcement {
    /// When.
    pub when: Announce,
    /// On which interface of the host, `None` = the one that `[control]` names.
    pub on: Option<String>,
    /// For how many seconds the service has to serve before.
    pub after: u32,
}

impl Default for Announcement {
    fn default() -> Announcement {
        Announcement { when: Announce::Never, on: None, after: DEFAULT_ANNOUNCE_AFTER }
    }
}

/// Who says which VIPs the director has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VipOwner {
    /// The director has all VIPs of its services, until somebody releases one.
    #[default]
    Always,
    /// It has those that somebody took, such as keepalived.
    Manual,
}

impl VipOwner {
    /// All of them.
    pub const ALL: [VipOwner; 2] = [VipOwner::Always, VipOwner::Manual];

    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            VipOwner::Always => "always",
            VipOwner::Manual => "manual",
        }
    }
}
