//! Which part of the client's end decides which worker owns a flow.
//!
//! A NAT server's answer does not say which service it belongs to. Services that share a NAT server therefore
//! steer alike, and so do those that share one with them in turn; the widest persistence mask among them counts.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use fulcrum_director::snapshot::{FastMap, Steering};

/// One end of NAT: protocol number, server address, port (0: any).
pub(crate) type NatServer = (u8, Ipv4Addr, u16);

/// The steering of every service, and of answers from every NAT server.
///
/// `masks` has a service's own persistence mask; `servers` the NAT servers, each with the index of its service.
pub(crate) fn steer(
    masks: &[Option<u32>],
    servers: &[(usize, NatServer)],
) -> (Vec<Steering>, FastMap<NatServer, Steering>) {
    let mut groups = Groups((0..masks.len()).collect());
    let mut first_of: HashMap<NatServer, usize> = HashMap::new();
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
    let mut widest: HashMap<usize, u32> = HashMap::new();
    for (service, mask) in masks.iter().enumerate() {
        if let Some(mask) = mask {
            *widest.entry(groups.of(service)).or_insert(u32::MAX) &= mask;
        }
    }
    let mut steering = |service| match widest.get(&groups.of(service)) {
        Some(mask) => Steering::Address(*mask),
        None => Steering::AddressPort,
    };
    let services = (0..masks.len()).map(&mut steering).collect();
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
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
    const B: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 12);
    const SLASH_24: u32 = 0xffff_ff00;
    const SLASH_16: u32 = 0xffff_0000;

    #[test]
    fn a_service_alone_follows_its_own_persistence() {
        let (services, servers) =
            steer(&[None, Some(SLASH_24)], &[(0, (6, A, 80)), (1, (6, A, 81)), (1, (17, A, 80))]);
        assert_eq!(services, [Steering::AddressPort, Steering::Address(SLASH_24)]);
        assert_eq!(servers[&(6, A, 80)], Steering::AddressPort);
        assert_eq!(servers[&(6, A, 81)], Steering::Address(SLASH_24));
        assert_eq!(servers[&(17, A, 80)], Steering::Address(SLASH_24));
        assert_eq!(servers.len(), 3);
    }

    #[test]
    fn services_without_nat_share_nothing() {
        assert_eq!(
            steer(&[None, Some(SLASH_24)], &[]),
            (vec![Steering::AddressPort, Steering::Address(SLASH_24)], FastMap::default())
        );
    }

    #[test]
    fn the_widest_mask_reaches_over_a_chain_of_shared_servers() {
        let masks = [None, Some(SLASH_24), Some(SLASH_16), Some(u32::MAX)];
        let shared = [(0, (6, A, 80)), (1, (6, A, 80)), (1, (6, B, 80)), (2, (6, B, 80)), (3, (6, B, 81))];
        let (services, servers) = steer(&masks, &shared);
        assert_eq!(services[..3], [Steering::Address(SLASH_16); 3]);
        assert_eq!(services[3], Steering::Address(u32::MAX));
        assert_eq!(servers[&(6, A, 80)], Steering::Address(SLASH_16));
        assert_eq!(servers[&(6, B, 81)], Steering::Address(u32::MAX));
    }

    #[test]
    fn a_server_of_every_port_shares_with_each_port() {
        let (services, servers) =
            steer(&[Some(SLASH_24), None, None], &[(0, (6, A, 0)), (1, (6, A, 8000)), (2, (17, A, 8000))]);
        let wide = Steering::Address(SLASH_24);
        assert_eq!(services, [wide, wide, Steering::AddressPort]);
        assert_eq!(servers[&(6, A, 8000)], wide);
    }
}
