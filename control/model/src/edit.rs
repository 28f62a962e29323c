//! Changes to a desired state: what a command or a request asks for, applied whole or not at all.
//!
//! Lives here: the edits, what each keeps, and why one is refused (with the error number that IPVS would
//! answer). Does not live here: what makes a state valid (`validate`), how edits are spelled (`ipvsadm`, `fulcrum`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::state::{
    ClientAddress, LocalAddress, LocalPool, MarkRule, Neighbour, Route, Server, ServerKey, Service,
    ServiceKey, Settings, State, TimeoutState, Timeouts,
};
use crate::validate;

/// One change of a [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Adds a service at the end. Its `servers` are not looked at: they follow as [`Edit::AddServer`].
    AddService(Service),
    /// Sets what `ipvsadm -E` sets of a service: scheduler and its flags, persistence with prefix and engine,
    /// one-packet scheduling. Servers are kept; pool, interface and MSS are kept when `None`, local addresses and
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
    /// Sets the seconds that sessions stay in a state, of one service or (`None`) of all; without seconds the
    /// service has the director's time-out again, the director IPVS's.
    SetStateTimeout(Option<ServiceKey>, TimeoutState, Option<u32>),
    /// Adds a server at the end of a service's list.
    AddServer(ServiceKey, Server),
    /// Replaces forwarding method, tunnel, weight and thresholds of a server.
    UpdateServer(ServiceKey, Server),
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
    /// Removes the first rule that equals this one.
    DeleteMark(MarkRule),
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
    /// Removes a pool that no service uses.
    DeleteLocalPool(String),
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
            EditError::NoServer(..) | EditError::UnknownScheduler(_) | EditError::Missing(_) => 2,  // ENOENT
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
        let mut next = self.clone();
        for (at, edit) in edits.iter().enumerate() {
            next.apply_one(edit).map_err(|error| (at, error))?;
        }
        let mut judged = std::collections::HashSet::new();
        for (at, edit) in edits.iter().enumerate().rev() {
            let Some(key) = edit.settles() else { continue };
            if judged.insert(key)
                && let Some(service) = next.service(key)
            {
                validate::fullnat_has_addresses(service).map_err(|why| (at, EditError::Invalid(why)))?;
            }
        }
        *self = next;
        Ok(())
    }

    fn apply_one(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::AddService(service) => self.add_service(service),
            Edit::UpdateService(service) => self.update_service(service),
            Edit::DeleteService(key) => {
                let at = self.service_index(*key)?;
                self.services.remove(at);
                Ok(())
            }
            Edit::ClearServices => {
                self.services.clear();
                Ok(())
            }
            Edit::SetServicePool(key, pool) => {
                let at = self.service_index(*key)?;
                let changed = Service { local_pool: pool.clone(), ..self.services[at].clone() };
                self.put_service(at, changed)
            }
            Edit::SetServiceInterface(key, interface) => {
                let at = self.service_index(*key)?;
                let changed = Service { interface: interface.clone(), ..self.services[at].clone() };
                self.put_service(at, changed)
            }
            Edit::SetServiceMss(key, mss) => {
                let at = self.service_index(*key)?;
                let changed = Service { mss: *mss, ..self.services[at].clone() };
                self.put_service(at, changed)
            }
            Edit::SetServiceClientAddress(key, client_address) => {
                let at = self.service_index(*key)?;
                let changed = Service { client_address: *client_address, ..self.services[at].clone() };
                self.put_service(at, changed)
            }
            Edit::SetStateTimeout(Some(key), state, seconds) => {
                let at = self.service_index(*key)?;
                let mut changed = self.services[at].clone();
                match seconds {
                    Some(seconds) => drop(changed.timeouts.insert(*state, *seconds)),
                    None => drop(changed.timeouts.remove(state)),
                }
                self.put_service(at, changed)
            }
            Edit::SetStateTimeout(None, state, seconds) => {
                let mut changed = self.timeouts.clone();
                changed.set(*state, *seconds);
                valid(validate::timeouts(&changed))?;
                self.timeouts = changed;
                Ok(())
            }
            Edit::AddServer(key, server) => {
                let at = self.service_index(*key)?;
                let service = &mut self.services[at];
                known_thresholds(server)?;
                if service.servers.iter().any(|s| s.key == server.key) {
                    return Err(EditError::ServerExists(*key, server.key));
                }
                valid(validate::server(service.key, server))?;
                service.servers.push(server.clone());
                Ok(())
            }
            Edit::UpdateServer(key, server) => {
                let at = self.service_index(*key)?;
                let service = &mut self.services[at];
                known_thresholds(server)?;
                let at = server_index(service, server.key)?;
                valid(validate::server(service.key, server))?;
                service.servers[at] = server.clone();
                Ok(())
            }
            Edit::DeleteServer(key, server) => {
                let at = self.service_index(*key)?;
                let service = &mut self.services[at];
                let at = server_index(service, *server)?;
                service.servers.remove(at);
                Ok(())
            }
            Edit::AddLocalAddress(key, address) => {
                let at = self.service_index(*key)?;
                if self.services[at].local_addresses.iter().any(|a| a.0 == *address) {
                    return Err(EditError::Exists(format!("local address {address} of service {key}")));
                }
                valid(validate::local_address(self, *address))?;
                self.services[at].local_addresses.push(LocalAddress(*address));
                Ok(())
            }
            Edit::DeleteLocalAddress(key, address) => {
                let at = self.service_index(*key)?;
                remove_where(&mut self.services[at].local_addresses, |a| a.0 == *address)
                    .ok_or_else(|| EditError::Missing(format!("local address {address} of service {key}")))
            }
            Edit::SetTimeouts(timeouts) => {
                let keep = |new: u32, old: u32| if new == 0 { old } else { new };
                let mut merged = Timeouts {
                    tcp: keep(timeouts.tcp, self.timeouts.tcp),
                    tcp_fin: keep(timeouts.tcp_fin, self.timeouts.tcp_fin),
                    udp: keep(timeouts.udp, self.timeouts.udp),
                    states: self.timeouts.states.clone(),
                };
                for (state, seconds) in &timeouts.states {
                    merged.set(*state, Some(*seconds));
                }
                valid(validate::timeouts(&merged))?;
                self.timeouts = merged;
                Ok(())
            }
            Edit::SetSettings(settings) => {
                valid(validate::settings(settings))?;
                self.settings = settings.clone();
                Ok(())
            }
            Edit::SetSetting { name, value } => {
                self.settings.set(name, value).map_err(|bad| EditError::Invalid(bad.to_string()))
            }
            Edit::AddMark(rule, at) => {
                valid(validate::mark(self, rule))?;
                let at = at.unwrap_or(self.marks.len());
                if at > self.marks.len() {
                    return Err(EditError::Missing(format!("mark rule number {at}")));
                }
                self.marks.insert(at, rule.clone());
                Ok(())
            }
            Edit::DeleteMark(rule) => remove_where(&mut self.marks, |r| r == rule)
                .ok_or_else(|| EditError::Missing("mark rule like this".to_owned())),
            Edit::ClearMarks => {
                self.marks.clear();
                Ok(())
            }
            Edit::AddRoute(route) => {
                if self.routes.iter().any(|r| r.to == route.to) {
                    return Err(EditError::Exists(format!("route to {}", route.to)));
                }
                valid(validate::route(self, route))?;
                self.routes.push(route.clone());
                Ok(())
            }
            Edit::DeleteRoute(to) => remove_where(&mut self.routes, |r| r.to == *to)
                .ok_or_else(|| EditError::Missing(format!("route to {to}"))),
            Edit::AddNeighbour(neighbour) => {
                if self.neighbours.iter().any(|n| same_neighbour(n, &neighbour.interface, neighbour.address))
                {
                    let text = format!("neighbour {} on {}", neighbour.address, neighbour.interface);
                    return Err(EditError::Exists(text));
                }
                valid(validate::neighbour(self, neighbour))?;
                self.neighbours.push(neighbour.clone());
                Ok(())
            }
            Edit::DeleteNeighbour { interface, address } => {
                remove_where(&mut self.neighbours, |n| same_neighbour(n, interface, *address))
                    .ok_or_else(|| EditError::Missing(format!("neighbour {address} on {interface}")))
            }
            Edit::AddLocalPool(pool) => {
                if self.local_pools.iter().any(|p| p.name == pool.name) {
                    return Err(EditError::Exists(format!("local pool `{}`", pool.name)));
                }
                valid(validate::local_pool(self, pool))?;
                self.local_pools.push(pool.clone());
                Ok(())
            }
            Edit::DeleteLocalPool(name) => {
                if let Some(user) = self.services.iter().find(|s| s.local_pool.as_ref() == Some(name)) {
                    let text = format!(
                        "local pool `{name}` is used by service {}; take it away there first",
                        user.key
                    );
                    return Err(EditError::Invalid(text));
                }
                remove_where(&mut self.local_pools, |p| p.name == *name)
                    .ok_or_else(|| EditError::Missing(format!("local pool `{name}`")))
            }
        }
    }

    fn add_service(&mut self, service: &Service) -> Result<(), EditError> {
        if self.service(service.key).is_some() {
            return Err(EditError::ServiceExists(service.key));
        }
        known_scheduler(&service.scheduler)?;
        let service = Service { servers: Vec::new(), ..service.clone() };
        valid(validate::service(self, &service))?;
        self.services.push(service);
        Ok(())
    }

    fn update_service(&mut self, new: &Service) -> Result<(), EditError> {
        let at = self.service_index(new.key)?;
        known_scheduler(&new.scheduler)?;
        let old = &self.services[at];
        let changed = Service {
            servers: old.servers.clone(),
            local_pool: new.local_pool.clone().or_else(|| old.local_pool.clone()),
            interface: new.interface.clone().or_else(|| old.interface.clone()),
            mss: new.mss.or(old.mss),
            timeouts: match new.timeouts.is_empty() {
                true => old.timeouts.clone(),
                false => new.timeouts.clone(),
            },
            client_address: match new.client_address {
                ClientAddress::None => old.client_address,
                given => given,
            },
            local_addresses: match new.local_addresses.is_empty() {
                true => old.local_addresses.clone(),
                false => new.local_addresses.clone(),
            },
            ..new.clone()
        };
        self.put_service(at, changed)
    }

    fn put_service(&mut self, at: usize, service: Service) -> Result<(), EditError> {
        valid(validate::service(self, &service))?;
        self.services[at] = service;
        Ok(())
    }

    fn service_index(&self, key: ServiceKey) -> Result<usize, EditError> {
        // From the end: most edits are about the service that was added last.
        self.services.iter().rposition(|s| s.key == key).ok_or(EditError::NoService(key))
    }
}

impl Edit {
    /// The service whose local addresses must still do after this edit.
    const fn settles(&self) -> Option<ServiceKey> {
        match self {
            Edit::SetServicePool(key, _)
            | Edit::AddServer(key, _)
            | Edit::UpdateServer(key, _)
            | Edit::DeleteLocalAddress(key, _) => Some(*key),
            _ => None,
        }
    }
}

fn server_index(service: &Service, key: ServerKey) -> Result<usize, EditError> {
    service.servers.iter().position(|s| s.key == key).ok_or(EditError::NoServer(service.key, key))
}

fn same_neighbour(neighbour: &Neighbour, interface: &str, address: IpAddr) -> bool {
    neighbour.interface == interface && neighbour.address == address
}

fn remove_where<T>(list: &mut Vec<T>, matches: impl Fn(&T) -> bool) -> Option<()> {
    let at = list.iter().position(matches)?;
    list.remove(at);
    Some(())
}

fn known_scheduler(name: &str) -> Result<(), EditError> {
    match validate::SCHEDULERS.contains(&name) {
        true => Ok(()),
        false => Err(EditError::UnknownScheduler(name.to_owned())),
    }
}

/// IPVS judges the thresholds before it looks whether the server is there.
fn known_thresholds(server: &Server) -> Result<(), EditError> {
    match server.lower_threshold > server.upper_threshold {
        true => Err(EditError::Thresholds { lower: server.lower_threshold, upper: server.upper_threshold }),
        false => Ok(()),
    }
}

fn valid(problems: Vec<validate::Problem>) -> Result<(), EditError> {
    match problems.into_iter().next() {
        None => Ok(()),
        Some(problem) => Err(EditError::Invalid(problem.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Config;
    use crate::ipvsadm::edits;

    const POOL: &str = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n\
        [[interface]]\nname = \"i\"\nport = \"p\"\naddresses = [\"10.0.0.1/24\"]\n\
        [[local-pool]]\nname = \"l\"\ninterface = \"i\"\naddresses = [\"10.0.0.200\"]\n";

    fn state(lines: &[&str]) -> State {
        let mut state = Config::parse("f", POOL).unwrap().state;
        state.apply_all(&all(lines)).unwrap();
        state
    }

    fn all(lines: &[&str]) -> Vec<Edit> {
        lines.iter().flat_map(|line| edits(line).unwrap()).collect()
    }

    #[test]
    fn an_update_keeps_what_ipvsadm_does_not_know() {
        let mut state = state(&[
            "-A -t 10.9.0.1:80 -s rr -p 60 --local-pool l --vip-interface i",
            "-P -t 10.9.0.1:80 -z 10.0.0.201",
            "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -b",
        ]);
        let before = state.services[0].clone();
        state.apply_all(&all(&["-E -t 10.9.0.1:80 -s wrr"])).unwrap();
        let after = Service { scheduler: "wrr".into(), persistent: None, ..before };
        assert_eq!(state.services, [after]);
    }

    #[test]
    fn within_a_transaction_the_local_address_may_come_last() {
        let mut state = state(&["-A -t 10.9.0.1:80"]);
        let before = state.clone();
        let server = "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -b";
        let (at, error) = state.apply_all(&all(&["-A -t 10.9.0.2:80", server])).unwrap_err();
        assert_eq!((at, error.errno()), (1, 22));
        assert_eq!(state, before);
        state.apply_all(&all(&[server, "-P -t 10.9.0.1:80 -z 10.0.0.201"])).unwrap();
        let last = all(&["-Q -t 10.9.0.1:80 -z 10.0.0.201"]);
        assert!(state.apply(&last[0]).is_err());
    }

    #[test]
    fn addresses_have_one_meaning() {
        let mut state = state(&["-A -t 10.9.0.1:80", "-P -t 10.9.0.1:80 -z 10.0.0.201"]);
        for line in [
            "-A -t 10.0.0.200:80",                    // a pool's
            "-A -t 10.0.0.201:80",                    // a service's own
            "-P -t 10.9.0.1:80 -z 10.0.0.1",          // an interface's
            "-P -t 10.9.0.1:80 -z 10.9.0.1",          // a VIP
            "-A -t 10.9.0.3:80 --local-pool missing", // nobody's
        ] {
            assert!(matches!(state.apply_all(&all(&[line])), Err((0, EditError::Invalid(_)))), "{line}");
        }
        // Pools, and services' own addresses, may share.
        state.apply_all(&all(&["-P -t 10.9.0.1:80 -z 10.0.0.200"])).unwrap();
    }

    #[test]
    fn a_pool_in_use_stays() {
        let mut state = state(&["-A -t 10.9.0.1:80 --local-pool l"]);
        let delete = Edit::DeleteLocalPool("l".into());
        assert!(state.apply(&delete).is_err());
        state.apply_all(&[Edit::SetServicePool(state.services[0].key, None), delete]).unwrap();
        assert!(state.local_pools.is_empty());
    }
}
