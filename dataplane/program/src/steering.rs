//! Which part of the client's end decides which worker owns a flow.
//!
//! A NAT server's answer does not say which service it belongs to. Services that share a NAT server therefore
//! steer alike, and so do those that share one with them in turn; the widest persistence among them counts.

use std::net::IpAddr;

use fulcrum_director::snapshot::{FastMap, FastSet, Steering};

/// One end of NAT: protocol number, server address, port (0: any).
pub(crate) type NatServer = (u8, IpAddr, u16);

/// The steering of every service, and of answers from every NAT server.
///
/// `prefixes` has how much of a client's address counts for a service by itself; `servers` the NAT servers, each with
/// the index of its service. With `by_flow`, devices spread by both ends of flows.
pub(crate) fn steer(
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
