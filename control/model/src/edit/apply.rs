//! What each edit does.

use std::net::IpAddr;

use super::{Edit, EditError};
use crate::state::{
    ClientAddress, LocalAddress, Neighbour, Server, ServerKey, Service, ServiceKey, State, Timeouts,
};
use crate::validate;

impl State {
    pub(super) fn apply_one(&mut self, edit: &Edit) -> Result<(), EditError> {
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
            Edit::SetServicePool(key, pool) => self.change_service(*key, |s| s.local_pool.clone_from(pool)),
            Edit::SetServiceInterface(key, interface) => {
                self.change_service(*key, |s| s.interface.clone_from(interface))
            }
            Edit::SetServiceMss(key, mss) => self.change_service(*key, |s| s.mss = *mss),
            Edit::SetServiceClientAddress(key, way) => self.change_service(*key, |s| s.client_address = *way),
            Edit::SetStateTimeout(Some(key), state, seconds) => {
                self.change_service(*key, |s| match seconds {
                    Some(seconds) => drop(s.timeouts.insert(*state, *seconds)),
                    None => drop(s.timeouts.remove(state)),
                })
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
                    return Err(EditError::Missing(format!("mark rule number {}", at.saturating_add(1))));
                }
                self.marks.insert(at, rule.clone());
                Ok(())
            }
            Edit::DeleteMark(rule, at) => {
                let at = at.or_else(|| self.marks.iter().position(|known| known == rule));
                match at.filter(|at| self.marks.get(*at) == Some(rule)) {
                    Some(at) => drop(self.marks.remove(at)),
                    None => return Err(EditError::Missing(format!("mark rule `{rule}` in this place"))),
                }
                Ok(())
            }
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
        known_names(service)?;
        let service = Service { servers: Vec::new(), ..service.clone() };
        valid(validate::service(self, &service))?;
        self.services.push(service);
        Ok(())
    }

    fn update_service(&mut self, new: &Service) -> Result<(), EditError> {
        let at = self.service_index(new.key)?;
        known_names(new)?;
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

    fn change_service(
        &mut self,
        key: ServiceKey,
        change: impl FnOnce(&mut Service),
    ) -> Result<(), EditError> {
        let at = self.service_index(key)?;
        let mut changed = self.services[at].clone();
        change(&mut changed);
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

/// IPVS looks for scheduler and engine before it judges anything else.
fn known_names(service: &Service) -> Result<(), EditError> {
    if !validate::SCHEDULERS.contains(&service.scheduler.as_str()) {
        return Err(EditError::UnknownScheduler(service.scheduler.clone()));
    }
    match &service.persistence_engine {
        Some(engine) if !validate::PERSISTENCE_ENGINES.contains(&engine.as_str()) => {
            Err(EditError::UnknownEngine(engine.clone()))
        }
        _ => Ok(()),
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
