//! What each edit does.

use std::net::IpAddr;

use super::draft::Draft;
use super::{Edit, EditError};
use crate::state::{
    Admin, ClientAddress, LocalAddress, Neighbour, Server, ServerKey, Service, ServiceKey, Timeouts,
};
use crate::validate;

impl Draft {
    pub(super) fn apply_one(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::AddService(service) => self.add_service(service),
            Edit::UpdateService(service) => self.update_service(service),
            Edit::DeleteService(key) => self.delete_service(*key),
            Edit::ClearServices => {
                self.clear_services();
                Ok(())
            }
            Edit::SetServicePool(key, pool) => self.change_service(*key, |s| s.local_pool.clone_from(pool)),
            Edit::SetServiceInterface(key, interface) => {
                self.change_service(*key, |s| s.interface.clone_from(interface))
            }
            Edit::SetServiceMss(key, mss) => self.change_service(*key, |s| s.mss = *mss),
            Edit::SetServiceClientAddress(key, way) => self.change_service(*key, |s| s.client_address = *way),
            Edit::SetServiceAnnouncement(key, announcement) => {
                self.change_service(*key, |s| s.announcement.clone_from(announcement))
            }
            Edit::SetServiceHealth(key, health) => {
                let changed = Service { health: health.clone(), ..self.known(*key)?.clone() };
                valid(validate::service_health(&changed))?;
                self.put_service(changed)
            }
            Edit::SetStateTimeout(Some(key), state, seconds) => {
                self.change_service(*key, |s| match seconds {
                    Some(seconds) => drop(s.timeouts.insert(*state, *seconds)),
                    None => drop(s.timeouts.remove(state)),
                })
            }
            Edit::SetStateTimeout(None, state, seconds) => {
                let mut changed = self.state.timeouts.clone();
                changed.set(*state, *seconds);
                valid(validate::timeouts(&changed))?;
                self.state.timeouts = changed;
                Ok(())
            }
            Edit::AddServer(key, server) => {
                let service = self.service_mut(*key)?;
                known_thresholds(server)?;
                if service.servers.iter().any(|s| s.key == server.key) {
                    return Err(EditError::ServerExists(*key, server.key));
                }
                valid(validate::server(service.key, server))?;
                service.servers.push(server.clone());
                valid(validate::sorry_server(service))?;
                Ok(())
            }
            Edit::UpdateServer(key, server) => {
                let service = self.service_mut(*key)?;
                known_thresholds(server)?;
                let at = server_index(service, server.key)?;
                let known = &service.servers[at];
                let changed = Server { admin: known.admin, health: known.health.clone(), ..server.clone() };
                valid(validate::server(service.key, &changed))?;
                service.servers[at] = changed;
                Ok(())
            }
            Edit::SetServerHealth(key, server, health) => {
                let service = self.service_mut(*key)?;
                let at = server_index(service, *server)?;
                let changed = Server { health: health.clone(), ..service.servers[at].clone() };
                valid(validate::server(service.key, &changed))?;
                service.servers[at] = changed;
                Ok(())
            }
            Edit::SetServerAdmin { service: Some(key), address, port, admin } => {
                let set = set_admin(self.service_mut(*key)?, *address, *port, *admin)?;
                let named = match port {
                    Some(port) => EditError::NoServer(*key, ServerKey { address: *address, port: *port }),
                    None => EditError::Missing(format!("server {address} of service {key}")),
                };
                if set { Ok(()) } else { Err(named) }
            }
            Edit::SetServerAdmin { service: None, address, port, admin } => {
                let mut found = false;
                for service in self.services_mut() {
                    found |= set_admin(service, *address, *port, *admin)?;
                }
                let named = port
                    .map_or(address.to_string(), |port| ServerKey { address: *address, port }.to_string());
                if found { Ok(()) } else { Err(EditError::Missing(format!("server {named} in any service"))) }
            }
            Edit::DeleteServer(key, server) => {
                let service = self.service_mut(*key)?;
                let at = server_index(service, *server)?;
                service.servers.remove(at);
                Ok(())
            }
            Edit::AddLocalAddress(key, address) => {
                if self.known(*key)?.local_addresses.iter().any(|a| a.0 == *address) {
                    return Err(EditError::Exists(format!("local address {address} of service {key}")));
                }
                valid(self.judge_local_address(*address))?;
                self.change(*key, |service| service.local_addresses.push(LocalAddress(*address)))
            }
            Edit::DeleteLocalAddress(key, address) => {
                let found = self.known(*key)?.local_addresses.iter().position(|a| a.0 == *address);
                let missing = || EditError::Missing(format!("local address {address} of service {key}"));
                let at = found.ok_or_else(missing)?;
                self.change(*key, |service| _ = service.local_addresses.remove(at))
            }
            Edit::SetTimeouts(timeouts) => {
                let keep = |new: u32, old: u32| if new == 0 { old } else { new };
                let mut merged = Timeouts {
                    tcp: keep(timeouts.tcp, self.state.timeouts.tcp),
                    tcp_fin: keep(timeouts.tcp_fin, self.state.timeouts.tcp_fin),
                    udp: keep(timeouts.udp, self.state.timeouts.udp),
                    states: self.state.timeouts.states.clone(),
                };
                for (state, seconds) in &timeouts.states {
                    merged.set(*state, Some(*seconds));
                }
                valid(validate::timeouts(&merged))?;
                self.state.timeouts = merged;
                Ok(())
            }
            Edit::SetSettings(settings) => {
                valid(validate::settings(settings))?;
                self.state.settings = settings.clone();
                Ok(())
            }
            Edit::SetSetting { name, value } => {
                self.state.settings.set(name, value).map_err(|bad| EditError::Invalid(bad.to_string()))
            }
            Edit::AddMark(rule, at) => {
                valid(validate::mark(&self.state, rule))?;
                let at = at.unwrap_or(self.state.marks.len());
                if at > self.state.marks.len() {
                    return Err(EditError::Missing(format!("mark rule number {}", at.saturating_add(1))));
                }
                self.state.marks.insert(at, rule.clone());
                Ok(())
            }
            Edit::DeleteMark(rule, at) => {
                let at = at.or_else(|| self.state.marks.iter().position(|known| known == rule));
                match at.filter(|at| self.state.marks.get(*at) == Some(rule)) {
                    Some(at) => drop(self.state.marks.remove(at)),
                    None => return Err(EditError::Missing(format!("mark rule `{rule}` in this place"))),
                }
                Ok(())
            }
            Edit::ClearMarks => {
                self.state.marks.clear();
                Ok(())
            }
            Edit::AddRoute(route) => {
                if self.state.routes.iter().any(|r| r.to == route.to) {
                    return Err(EditError::Exists(format!("route to {}", route.to)));
                }
                valid(validate::route(&self.state, route))?;
                self.state.routes.push(route.clone());
                Ok(())
            }
            Edit::DeleteRoute(to) => remove_where(&mut self.state.routes, |r| r.to == *to)
                .ok_or_else(|| EditError::Missing(format!("route to {to}"))),
            Edit::AddNeighbour(neighbour) => {
                if self
                    .state
                    .neighbours
                    .iter()
                    .any(|n| same_neighbour(n, &neighbour.interface, neighbour.address))
                {
                    let text = format!("neighbour {} on {}", neighbour.address, neighbour.interface);
                    return Err(EditError::Exists(text));
                }
                valid(validate::neighbour(&self.state, neighbour))?;
                self.state.neighbours.push(neighbour.clone());
                Ok(())
            }
            Edit::DeleteNeighbour { interface, address } => {
                remove_where(&mut self.state.neighbours, |n| same_neighbour(n, interface, *address))
                    .ok_or_else(|| EditError::Missing(format!("neighbour {address} on {interface}")))
            }
            Edit::AddLocalPool(pool) => {
                if self.state.local_pools.iter().any(|p| p.name == pool.name) {
                    return Err(EditError::Exists(format!("local pool `{}`", pool.name)));
                }
                valid(validate::local_pool(self.whole(), pool))?;
                self.state.local_pools.push(pool.clone());
                Ok(())
            }
            Edit::DeleteLocalPool(name) => {
                if let Some(user) = self.whole().services.iter().find(|s| s.local_pool.as_ref() == Some(name))
                {
                    let text = format!(
                        "local pool `{name}` is used by service {}; take it away there first",
                        user.key
                    );
                    return Err(EditError::Invalid(text));
                }
                let mut overrides = self.state.overrides.iter();
                if let Some(user) = overrides.find(|over| over.local_pool.as_ref() == Some(name)) {
                    let text = format!(
                        "local pool `{name}` is used by the override of service {}; take it away there first",
                        user.service
                    );
                    return Err(EditError::Invalid(text));
                }
                if let Some(rule) = self.state.snat.iter().find(|rule| rule.pool.as_ref() == Some(name)) {
                    let text = format!(
                        "local pool `{name}` is used by snat rule `{}`; take it away there first",
                        rule.name
                    );
                    return Err(EditError::Invalid(text));
                }
                remove_where(&mut self.state.local_pools, |p| p.name == *name)
                    .ok_or_else(|| EditError::Missing(format!("local pool `{name}`")))
            }
            Edit::AddSnat(rule, at) => {
                if self.state.snat.iter().any(|known| known.name == rule.name) {
                    return Err(EditError::Exists(format!("snat rule `{}`", rule.name)));
                }
                valid(validate::snat(&self.state, rule))?;
                let at = at.unwrap_or(self.state.snat.len());
                if at > self.state.snat.len() {
                    return Err(EditError::Missing(format!("snat rule number {}", at.saturating_add(1))));
                }
                self.state.snat.insert(at, rule.clone());
                Ok(())
            }
            Edit::DeleteSnat(name) => remove_where(&mut self.state.snat, |rule| rule.name == *name)
                .ok_or_else(|| EditError::Missing(format!("snat rule `{name}`"))),
            Edit::SetOverride(over) => {
                valid(validate::over(self.whole(), over))?;
                match self.state.overrides.iter_mut().find(|known| known.service == over.service) {
                    Some(known) => known.clone_from(over),
                    None => self.state.overrides.push(over.clone()),
                }
                Ok(())
            }
            Edit::DeleteOverride(key) => remove_where(&mut self.state.overrides, |o| o.service == *key)
                .ok_or_else(|| EditError::Missing(format!("override of service {key}"))),
            Edit::AddCheck(check) => {
                if self.state.checks.iter().any(|known| known.name == check.name) {
                    return Err(EditError::Exists(format!("check `{}`", check.name)));
                }
                valid(validate::check(check))?;
                self.state.checks.push(check.clone());
                Ok(())
            }
            Edit::UpdateCheck(check) => {
                valid(validate::check(check))?;
                let known = self.state.checks.iter_mut().find(|known| known.name == check.name);
                let known = known.ok_or_else(|| EditError::Missing(format!("check `{}`", check.name)))?;
                known.clone_from(check);
                self.check_users(&check.name)
            }
            Edit::DeleteCheck(name) => {
                remove_where(&mut self.state.checks, |check| check.name == *name)
                    .ok_or_else(|| EditError::Missing(format!("check `{name}`")))?;
                self.check_users(name)
            }
        }
    }

    /// Judges those who name a check that was changed or taken away.
    fn check_users(&mut self, name: &String) -> Result<(), EditError> {
        let state = self.whole();
        let deleted = !state.checks.iter().any(|check| check.name == *name);
        let names =
            |server: &Server| server.health.checks.as_ref().is_some_and(|checks| checks.contains(name));
        let users = state.services.iter();
        for user in users.filter(|s| s.health.checks.contains(name) || s.servers.iter().any(names)) {
            if deleted {
                let text =
                    format!("check `{name}` is used by service {}; take it away there first", user.key);
                return Err(EditError::Invalid(text));
            }
            validate::can_be_checked(state, &state.overridden(user))
                .map_err(|(_, problem)| EditError::Invalid(problem.message))?;
        }
        Ok(())
    }

    fn add_service(&mut self, service: &Service) -> Result<(), EditError> {
        if self.service(service.key).is_some() {
            return Err(EditError::ServiceExists(service.key));
        }
        known_names(service)?;
        let service = Service { servers: Vec::new(), ..service.clone() };
        valid(self.judge(&service))?;
        valid(validate::service_health(&service))?;
        self.push(service);
        Ok(())
    }

    fn update_service(&mut self, new: &Service) -> Result<(), EditError> {
        let old = self.known(new.key)?;
        known_names(new)?;
        let changed = Service {
            servers: old.servers.clone(),
            health: old.health.clone(),
            announcement: old.announcement.clone(),
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
        self.put_service(changed)
    }

    fn change_service(
        &mut self,
        key: ServiceKey,
        change: impl FnOnce(&mut Service),
    ) -> Result<(), EditError> {
        let mut changed = self.known(key)?.clone();
        change(&mut changed);
        self.put_service(changed)
    }

    fn put_service(&mut self, service: Service) -> Result<(), EditError> {
        valid(self.judge(&service))?;
        self.change(service.key, |known| *known = service)
    }
}

fn server_index(service: &Service, key: ServerKey) -> Result<usize, EditError> {
    service.servers.iter().position(|s| s.key == key).ok_or(EditError::NoServer(service.key, key))
}

/// Sets the admin state of a service's servers with this address and port; false when there is none.
fn set_admin(
    service: &mut Service,
    address: IpAddr,
    port: Option<u16>,
    admin: Admin,
) -> Result<bool, EditError> {
    let mut found = false;
    for server in &mut service.servers {
        if server.key.address == address && port.is_none_or(|port| server.key.port == port) {
            server.admin = admin;
            valid(validate::server(service.key, server))?;
            found = true;
        }
    }
    Ok(found)
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
