//! Changes to a desired state: what a command or a request asks for, applied whole or not at all.
//!
//! Lives here: the edits, what each keeps, and why one is refused (with the error number that IPVS would
//! answer). What each does is in `apply`. Does not live here: what makes a state valid (`validate`), how edits are spelled (`ipvsadm`, `fulcrum`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::state::{
    Admin, Announcement, Check, ClientAddress, LocalPool, MarkRule, Neighbour, Override, Route, Server,
    ServerHealth, ServerKey, Service, ServiceHealth, ServiceKey, Settings, Snat, State, TimeoutState,
    Timeouts,
};
use crate::validate;

mod apply;
mod draft;
#[cfg(test)]
mod tests;
mod words;

/// One change of a [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Adds a service at the end. Its `servers` are not looked at: they follow as [`Edit::AddServer`].
    AddService(Service),
    /// Sets what `ipvsadm -E` sets of a service: scheduler and its flags, persistence with prefix and engine,
    /// one-packet scheduling. Servers and what follows from their health are kept; pool, interface and MSS are kept when `None`, local addresses and
    /// time-outs when empty, the client address's way when `none`, so that `ipvsadm -E`, which knows none of
    /// them, disturbs nothing.
    UpdateService(Service),
    /// Removes a service with its servers.
    DeleteService(ServiceKey),
    /// Removes every service.
    ClearServices,
    /// Sets or, with `None`, takes away the named pool of a service.
    SetServicePool(ServiceKey, Option<String>),
    /// Sets or, with `None`, takes away the interface on which a VIP answers ARP.
    SetServiceInterface(ServiceKey, Option<String>),
    /// Sets or, with `None`, takes away the bound on TCP segments that clients and servers announce.
    SetServiceMss(ServiceKey, Option<u16>),
    /// Sets how FULLNAT servers of a service learn the client's address.
    SetServiceClientAddress(ServiceKey, ClientAddress),
    /// Sets how the VIP of a service is announced.
    SetServiceAnnouncement(ServiceKey, Announcement),
    /// Sets what follows from checks of a service's servers.
    SetServiceHealth(ServiceKey, ServiceHealth),
    /// Sets the seconds that sessions stay in a state, of one service or (`None`) of all; without seconds the
    /// service has the director's time-out again, the director IPVS's.
    SetStateTimeout(Option<ServiceKey>, TimeoutState, Option<u32>),
    /// Adds a server at the end of a service's list.
    AddServer(ServiceKey, Server),
    /// Replaces forwarding method, tunnel, weight and thresholds of a server. Its checks and its admin state stay:
    /// `ipvsadm -e` knows of neither.
    UpdateServer(ServiceKey, Server),
    /// Sets what is special about the checks of a server.
    SetServerHealth(ServiceKey, ServerKey, ServerHealth),
    /// Sets what the operator wants of a server, in one service or (`None`) in all that have it.
    SetServerAdmin {
        /// The service.
        service: Option<ServiceKey>,
        /// The server's address.
        address: IpAddr,
        /// Its port; `None`: whatever its port is.
        port: Option<u16>,
        /// What is wanted.
        admin: Admin,
    },
    /// Removes a server.
    DeleteServer(ServiceKey, ServerKey),
    /// Adds a local address of a service's own.
    AddLocalAddress(ServiceKey, IpAddr),
    /// Removes a local address of a service's own.
    DeleteLocalAddress(ServiceKey, IpAddr),
    /// Sets the time-outs of `--set`; those that are 0 keep their value, and so do states that are not named.
    SetTimeouts(Timeouts),
    /// Replaces all behaviour switches.
    SetSettings(Settings),
    /// Sets one behaviour switch by its name; see [`Settings::set`].
    SetSetting {
        /// The setting.
        name: String,
        /// Its value as text.
        value: String,
    },
    /// Adds a rule before the one at this index, or at the end.
    AddMark(MarkRule, Option<usize>),
    /// Removes the rule at this index, which must be this rule, or else the first one that equals it.
    DeleteMark(MarkRule, Option<usize>),
    /// Removes all rules that mark packets.
    ClearMarks,
    /// Adds a static route.
    AddRoute(Route),
    /// Removes the static route to exactly this prefix.
    DeleteRoute(IpNet),
    /// Adds a static neighbour.
    AddNeighbour(Neighbour),
    /// Removes a static neighbour.
    DeleteNeighbour {
        /// Name of the interface.
        interface: String,
        /// Its address.
        address: IpAddr,
    },
    /// Adds a pool of local addresses.
    AddLocalPool(LocalPool),
    /// Removes a pool that no service and no rule uses.
    DeleteLocalPool(String),
    /// Adds a rule that masquerades before the one at this index, or at the end.
    AddSnat(Snat, Option<usize>),
    /// Removes the rule of that name.
    DeleteSnat(String),
    /// Sets what a service has beside what tools of IPVS can say, in place of what was set before.
    SetOverride(Override),
    /// Takes that away.
    DeleteOverride(ServiceKey),
    /// Adds a check that services may name.
    AddCheck(Check),
    /// Replaces the check of that name.
    UpdateCheck(Check),
    /// Removes the check of that name.
    DeleteCheck(String),
}

/// Why an edit was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Two services would be alike.
    #[error("service {0} exists already")]
    ServiceExists(ServiceKey),
    /// The service is not there.
    #[error("there is no service {0}")]
    NoService(ServiceKey),
    /// Two servers of a service would be alike.
    #[error("server {1} of service {0} exists already")]
    ServerExists(ServiceKey, ServerKey),
    /// The server is not there.
    #[error("service {0} has no server {1}")]
    NoServer(ServiceKey, ServerKey),
    /// No scheduler of this name.
    #[error("there is no scheduler `{0}`; known: {known}", known = validate::SCHEDULERS.join(", "))]
    UnknownScheduler(String),
    /// No persistence engine of this name.
    #[error("there is no persistence engine `{0}`; known: {known}", known = validate::PERSISTENCE_ENGINES.join(", "))]
    UnknownEngine(String),
    /// The lower threshold is above the upper one.
    #[error("lower threshold {lower} is above the upper one, {upper}")]
    Thresholds {
        /// Lower threshold.
        lower: u32,
        /// Upper threshold.
        upper: u32,
    },
    /// A pool, route, neighbour or local address is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// A pool, route, neighbour or local address is not there.
    #[error("there is no {0}")]
    Missing(String),
    /// The state would break a rule of `validate`.
    #[error("{0}")]
    Invalid(String),
}

impl EditError {
    /// The Linux error number with which IPVS answers the same mistake.
    pub const fn errno(&self) -> i32 {
        match self {
            EditError::ServiceExists(_) | EditError::ServerExists(..) | EditError::Exists(_) => 17, // EEXIST
            EditError::NoService(_) => 3,                                                           // ESRCH
            EditError::NoServer(..)
            | EditError::UnknownScheduler(_)
            | EditError::UnknownEngine(_)
            | EditError::Missing(_) => 2, // ENOENT
            EditError::Thresholds { .. } => 34,                                                     // ERANGE
            EditError::Invalid(_) => 22,                                                            // EINVAL
        }
    }
}

impl State {
    /// The service of that key.
    pub fn service(&self, key: ServiceKey) -> Option<&Service> {
        self.services.iter().rfind(|s| s.key == key)
    }

    /// Applies one edit. On error the state is as it was.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), EditError> {
        self.apply_all(std::slice::from_ref(edit)).map_err(|(_, error)| error)
    }

    /// Applies edits as one transaction. On error the state is as it was, and the number is the index of the
    /// edit that was refused.
    ///
    /// What needs several edits to become right, such as a FULLNAT server and the local address that it
    /// needs, is judged at the end: inside a transaction their order is free.
    pub fn apply_all(&mut self, edits: &[Edit]) -> Result<(), (usize, EditError)> {
        let mut next = draft::Draft::new(self.clone());
        for (at, edit) in edits.iter().enumerate() {
            next.apply_one(edit).map_err(|error| (at, error))?;
        }
        let mut judged = std::collections::HashSet::new();
        for (at, edit) in edits.iter().enumerate().rev() {
            let Some(key) = edit.settles() else { continue };
            if judged.insert(key)
                && let Some(service) = next.service(key)
            {
                let service = &*next.rest().overridden(service);
                validate::has_local_addresses(next.rest(), service)
                    .and_then(|()| validate::can_be_checked(next.rest(), service))
                    .map_err(|(_, problem)| (at, EditError::Invalid(problem.message)))?;
            }
        }
        *self = next.into_state();
        Ok(())
    }
}

impl Edit {
    /// The service whose local addresses and checks must still do after this edit.
    const fn settles(&self) -> Option<ServiceKey> {
        match self {
            Edit::AddService(service) => Some(service.key),
            Edit::SetOverride(over) => Some(over.service),
            Edit::SetServicePool(key, _)
            | Edit::DeleteOverride(key)
            | Edit::SetServiceHealth(key, _)
            | Edit::AddServer(key, _)
            | Edit::UpdateServer(key, _)
            | Edit::SetServerHealth(key, ..)
            | Edit::DeleteLocalAddress(key, _) => Some(*key),
            _ => None,
        }
    }
}
