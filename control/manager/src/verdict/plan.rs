//! Which probes a state asks for, and which of them each server has to pass.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use fulcrum_model::{Check, Server, Service, ServiceKey, State};

use super::Target;

/// The probes of a state. Equal targets are one, however many services and servers ask for it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Each once.
    pub targets: Vec<Target>,
    /// Where each is in the list.
    places: HashMap<Target, usize>,
    /// For each service, for each server.
    servers: Vec<Vec<Vec<Ask>>>,
}

/// A check of a server.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where its target is in the list.
    pub place: usize,
    /// The check's name, or, where it has none, its kind's.
    pub check: Arc<str>,
}

impl Plan {
    /// The probes that `state` asks for.
    pub fn new(state: &State) -> Plan {
        let named: HashMap<&str, (&Check, Arc<str>)> = state
            .checks
            .iter()
            .map(|check| (check.name.as_str(), (check, check.name.as_str().into())))
            .collect();
        let mut plan = Plan::default();
        for service in &state.services {
            let find = |names: &[String]| -> Vec<(&Check, Arc<str>)> {
                names.iter().filter_map(|name| named.get(name.as_str()).cloned()).collect()
            };
            let mut usual = find(&service.health.checks);
            usual.extend(service.health.own_checks.iter().map(|own| (own, own.kind.name().into())));
            let mut of_service = Vec::with_capacity(service.servers.len());
            for server in &service.servers {
                let own = server.health.checks.as_ref().map(|names| find(names));
                let checks = own.as_ref().unwrap_or(&usual).iter();
                let asks = checks.map(|(check, name)| Ask {
                    place: plan.place(target(check, service, server)),
                    check: name.clone(),
                });
                of_service.push(asks.collect());
            }
            plan.servers.push(of_service);
        }
        plan
    }

    /// Where a target is in the list.
    pub fn find(&self, target: &Target) -> Option<usize> {
        self.places.get(target).copied()
    }

    /// The checks of a server, by the places of its service and of itself.
    pub fn of(&self, service: usize, server: usize) -> &[Ask] {
        self.servers.get(service).and_then(|servers| servers.get(server)).map_or(&[], Vec::as_slice)
    }

    fn place(&mut self, target: Target) -> usize {
        let next = self.targets.len();
        *self.places.entry(target).or_insert_with_key(|target| {
            self.targets.push(target.clone());
            next
        })
    }
}

/// What a check asks of a server.
fn target(check: &Check, service: &Service, server: &Server) -> Target {
    let address = server.health.address.unwrap_or(server.key.address);
    let port = server.health.port.unwrap_or(server.key.port);
    let vip = match service.key {
        ServiceKey::Address { address, port, .. } => Some(SocketAddr::new(address, port)),
        ServiceKey::Mark { .. } => None,
    };
    Target::new(check, address, port, vip)
}

#[cfg(test)]
mod tests {
    use fulcrum_model::file::Config;

    use super::*;

    #[test]
    fn a_server_in_many_services_is_one_probe() {
        let service = |vip: &str, more: &str| {
            format!(
                "[[service]]\naddress = \"{vip}\"\nprotocol = \"tcp\"\n{more}\n\
                 [[service.server]]\naddress = \"10.1.0.1:80\"\nforward = \"nat\"\n\
                 [[service.server]]\naddress = \"10.1.0.2:80\"\nforward = \"nat\"\nchecks = [\"b\"]\n\
                 [[service.server]]\naddress = \"10.1.0.3:80\"\nforward = \"nat\"\nchecks = []\n\
                 check-port = 81\ncheck-address = \"10.9.0.3\"\n"
            )
        };
        let text =
            "[[check]]\nname = \"a\"\ntype = \"tcp\"\n[[check]]\nname = \"b\"\ntype = \"tcp\"\nport = 99\n\
            [[check]]\nname = \"c\"\ntype = \"ping\"\n"
                .to_owned()
                + &service("10.0.0.1:80", "checks = [\"a\", \"c\"]")
                + &service("10.0.0.2:80", "checks = [\"a\"]\n[[service.check]]\ntype = \"ping\"");
        let mut state = Config::parse("test", &text).unwrap().state;
        let plan = Plan::new(&state);
        let named = |plan: &Plan, service, server| -> Vec<String> {
            let asks = plan.of(service, server).iter();
            asks.map(|ask| format!("{} {}", ask.check, plan.targets[ask.place])).collect()
        };
        assert_eq!(named(&plan, 0, 0), ["a tcp 10.1.0.1:80", "c ping 10.1.0.1"]);
        assert_eq!(named(&plan, 1, 0), ["a tcp 10.1.0.1:80", "ping ping 10.1.0.1"]);
        assert_eq!(named(&plan, 1, 1), ["b tcp 10.1.0.2:99"]);
        assert!(named(&plan, 1, 2).is_empty());
        assert_eq!(plan.targets.len(), 3, "{:?}", plan.targets);
        state.services[0].servers[2].health.checks = Some(vec!["a".into(), "b".into()]);
        let plan = Plan::new(&state);
        assert_eq!(named(&plan, 0, 2), ["a tcp 10.9.0.3:81", "b tcp 10.9.0.3:99"]);
    }
}
