//! Which part of the client's end decides which worker owns a flow.
//!
//! A NAT server's answer does not say which service it belongs to. Services that share a NAT server therefore
//! steer alike, and so do those that share one with them in turn; the widest persistence among them counts.

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::snapshot::{FastMap, FastSet, Steering};
use fulcrum_model::ServiceKey;

use crate::services::{InState, KnownService, Place, Registry};
use crate::terms;

/// One end of NAT: protocol number, server address, port (0: any).
pub(crate) type NatServer = (u8, IpAddr, u16);

/// How answers of NAT servers are steered, and where they come from; the same objects while that is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct NatServers {
    pub(crate) steering: Arc<FastMap<NatServer, Steering>>,
    pub(crate) addresses: Arc<FastSet<IpAddr>>,
}

impl Registry {
    /// Decides every service's steering, deleted ones with sessions included, where it may be another now.
    pub(crate) fn steer(&mut self, in_state: &InState) {
        let by_sessions =
            |known: &KnownService| matches!(known.steering, Steering::Address(_)) || !known.former.is_empty();
        if !self.steer_anew && !self.services.values().any(by_sessions) {
            return;
        }
        self.steer_anew = false;
        let destinations = &self.destinations;
        let used = |place: &Place| destinations.get(place).is_some_and(|known| known.references() > 0);
        let gone_in_use: FastSet<ServiceKey> =
            self.gone.iter().filter(|place| used(place)).map(|(service, _)| *service).collect();
        let in_use = |key: &ServiceKey| {
            let servers = in_state.get(key).map_or(&[][..], |service| &service.servers);
            gone_in_use.contains(key) || servers.iter().any(|server| used(&(*key, server.key)))
        };
        let keys: Vec<ServiceKey> = self.services.keys().copied().collect();
        let prefixes: Vec<Option<u8>> = keys
            .iter()
            .map(|key| {
                let configured = in_state.get(key).and_then(|service| terms::steered_by(service));
                match self.services[key].steering {
                    // Sessions stay with the workers that have them: steering goes back to narrow when they are gone.
                    Steering::Address(before) if in_use(key) => {
                        Some(before.min(configured.unwrap_or(u8::MAX)))
                    }
                    _ => configured,
                }
            })
            .collect();
        let index: FastMap<ServiceKey, usize> = keys.iter().copied().zip(0..).collect();
        let nat = destinations.iter().filter(|(_, known)| known.nat);
        let servers: Vec<(usize, NatServer)> = nat
            .flat_map(|((service, _), known)| {
                let index = index[service];
                terms::nat_servers(service, &known.destination).map(move |server| (index, server))
            })
            .collect();
        let (services, servers) = steer(&prefixes, &servers, self.by_flow);
        for (key, steering) in keys.iter().zip(services) {
            let Some(known) = self.services.get_mut(key) else { continue };
            let before = std::mem::replace(&mut known.steering, steering);
            let remembered = before != steering
                && (before != Steering::AddressPort || steering == Steering::Flow)
                && !known.former.contains(&before);
            if !remembered && known.former.is_empty() {
                continue;
            }
            if !in_use(key) {
                known.former.clear();
            } else if remembered {
                known.former.push(before);
            }
        }
        if servers != *self.nat.steering {
            let addresses = servers.keys().map(|(_, address, _)| *address).collect();
            self.nat = NatServers { steering: Arc::new(servers), addresses: Arc::new(addresses) };
        }
    }
}

/// The steering of every service, and of answers from every NAT server.
///
/// `prefixes` has how much of a client's address counts for a service by itself; `servers` the NAT servers, each with
/// the index of its service. With `by_flow`, devices spread by both ends of flows.
fn steer(
    prefixes: &[Option<u8>],
    servers: &[(usize, NatServer)],
    by_flow: bool,
) -> (Vec<Steering>, FastMap<NatServer, Steering>) {
    let mut groups = Groups((0..prefixes.len()).collect());
    let mut first_of: FastMap<NatServer, usize> = FastMap::default();
    for (service, server) in servers {
        let first = *first_of.entry(*server).or_insert(*service);
        groups.join(first, *service);
    }
    // A server that takes every port shares its address with those that take one.
    for ((protocol, address, _), service) in &first_of {
        if let Some(every) = first_of.get(&(*protocol, *address, 0)) {
            groups.join(*every, *service);
        }
    }
    let mut widest: FastMap<usize, u8> = FastMap::default();
    for (service, prefix) in prefixes.iter().enumerate() {
        if let Some(prefix) = *prefix {
            let widest = widest.entry(groups.of(service)).or_insert(u8::MAX);
            *widest = prefix.min(*widest);
        }
    }
    let with_nat: FastSet<usize> = servers.iter().map(|(service, _)| *service).collect();
    let mut steering = |service| match widest.get(&groups.of(service)) {
        Some(prefix) => Steering::Address(*prefix),
        // Answers of a NAT server do not name the VIP.
        None if by_flow && !with_nat.contains(&service) => Steering::Flow,
        None => Steering::AddressPort,
    };
    let services = (0..prefixes.len()).map(&mut steering).collect();
    (services, first_of.into_iter().map(|(server, service)| (server, steering(service))).collect())
}

/// Disjoint sets of services: each points towards its set's representative.
struct Groups(Vec<usize>);

impl Groups {
    fn of(&mut self, mut service: usize) -> usize {
        while self.0[service] != service {
            self.0[service] = self.0[self.0[service]];
            service = self.0[service];
        }
        service
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.of(a), self.of(b));
        self.0[a] = b;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 11));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 12));
    const SLASH_24: u8 = 24;
    const SLASH_16: u8 = 16;

    #[test]
    fn a_service_alone_follows_its_own_persistence() {
        let (services, servers) =
            steer(&[None, Some(SLASH_24)], &[(0, (6, A, 80)), (1, (6, A, 81)), (1, (17, A, 80))], false);
        assert_eq!(services, [Steering::AddressPort, Steering::Address(SLASH_24)]);
        assert_eq!(servers[&(6, A, 80)], Steering::AddressPort);
        assert_eq!(servers[&(6, A, 81)], Steering::Address(SLASH_24));
        assert_eq!(servers[&(17, A, 80)], Steering::Address(SLASH_24));
        assert_eq!(servers.len(), 3);
    }

    #[test]
    fn services_without_nat_share_nothing() {
        assert_eq!(
            steer(&[None, Some(SLASH_24)], &[], false),
            (vec![Steering::AddressPort, Steering::Address(SLASH_24)], FastMap::default())
        );
    }

    #[test]
    fn both_ends_count_where_devices_go_by_them_and_answers_do_not_need_less() {
        let (services, servers) = steer(&[None, None, Some(32)], &[(1, (6, A, 80))], true);
        assert_eq!(services, [Steering::Flow, Steering::AddressPort, Steering::Address(32)]);
        assert_eq!(servers[&(6, A, 80)], Steering::AddressPort);
    }

    #[test]
    fn the_widest_mask_reaches_over_a_chain_of_shared_servers() {
        let prefixes = [None, Some(SLASH_24), Some(SLASH_16), Some(32)];
        let shared = [(0, (6, A, 80)), (1, (6, A, 80)), (1, (6, B, 80)), (2, (6, B, 80)), (3, (6, B, 81))];
        let (services, servers) = steer(&prefixes, &shared, false);
        assert_eq!(services[..3], [Steering::Address(SLASH_16); 3]);
        assert_eq!(services[3], Steering::Address(32));
        assert_eq!(servers[&(6, A, 80)], Steering::Address(SLASH_16));
        assert_eq!(servers[&(6, B, 81)], Steering::Address(32));
    }

    #[test]
    fn a_server_of_every_port_shares_with_each_port() {
        let (services, servers) = steer(
            &[Some(SLASH_24), None, None],
            &[(0, (6, A, 0)), (1, (6, A, 8000)), (2, (17, A, 8000))],
            true,
        );
        let wide = Steering::Address(SLASH_24);
        assert_eq!(services, [wide, wide, Steering::AddressPort]);
        assert_eq!(servers[&(6, A, 8000)], wide);
    }
}
