//! The network around the director: its addresses, services and servers, and its clients.
//!
//! One port, one interface; clients behind a gateway, servers beside the director, all with known MAC addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fulcrum_model::{
    AddressRange, Family, Forward, Interface, LocalPool, Mac, Neighbour, Port, PortRange, Protocol, Route,
    RouteTarget, Server, ServerKey, Service, ServiceKey, State,
};

use crate::frames::{DIRECTOR, Tuple};

/// Port of all services.
const VPORT: u16 = 80;
/// Port of all servers.
const RPORT: u16 = 8080;
/// Connections of one client.
const PER_CLIENT: usize = 8;
/// FULLNAT's local addresses.
const LOCALS: u32 = 256;

/// What the director is programmed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) family: Family,
    pub(crate) forward: Forward,
    pub(crate) services: usize,
    /// Of each service; services share no server.
    pub(crate) servers: usize,
}

/// Networks: the director's own, servers, VIPs, local addresses.
#[derive(Clone, Copy)]
enum Net {
    Director,
    Server,
    Vip,
    Local,
}

fn address(family: Family, net: Net, number: usize) -> IpAddr {
    let host = number as u32 + 1;
    match family {
        Family::V4 => Ipv4Addr::from_bits((10 << 24) | ((net as u32) << 20) | host).into(),
        Family::V6 => Ipv6Addr::from_bits((0xfd00 << 112) | ((net as u128) << 96) | u128::from(host)).into(),
    }
}

/// Where clients are behind.
pub(crate) fn gateway(family: Family) -> IpAddr {
    address(family, Net::Director, 1)
}

impl World {
    /// The tuple of a client's `number`th connection: connections go round the services.
    pub(crate) fn request(&self, number: usize) -> Tuple {
        let client = (number / PER_CLIENT) as u32;
        let src = match self.family {
            Family::V4 => Ipv4Addr::from_bits((32 << 24) + client).into(),
            Family::V6 => Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(client)).into(),
        };
        // Ports as clients take them: apart, above 32 767.
        let sport = 32_768 + ((number % PER_CLIENT) * 4001 + (number / PER_CLIENT) * 7 % 4000) as u16;
        Tuple { src, sport, dst: address(self.family, Net::Vip, number % self.services), dport: VPORT }
    }

    /// Whether servers' answers come back through the director.
    pub(crate) fn answers_return(&self) -> bool {
        matches!(self.forward, Forward::Nat | Forward::FullNat)
    }

    pub(crate) fn state(&self) -> State {
        let interface = || "net".to_owned();
        let family = self.family;
        let all = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
        let bits = if family == Family::V4 { 8 } else { 16 };
        let own = format!("{}/{bits}", address(family, Net::Director, 0));
        let neighbour = |address, number: usize| {
            let [.., high, middle, low] = number.to_be_bytes();
            Neighbour { address, mac: Mac([2, 0, 1, high, middle, low]), interface: interface() }
        };
        let servers = (0..self.services * self.servers)
            .map(|number| neighbour(address(family, Net::Server, number), number));
        State {
            ports: vec![Port {
                name: "port".to_owned(),
                device: "memory".to_owned(),
                bond: None,
                mac: Some(Mac(DIRECTOR)),
                steering: Default::default(),
            }],
            interfaces: vec![Interface {
                name: interface(),
                port: "port".to_owned(),
                vlan: 0,
                // Tunnels' outer headers beside full-size frames.
                mtu: 1600,
                addresses: own.parse().into_iter().collect(),
                mss: None,
                exception: None,
            }],
            routes: all
                .parse()
                .map(|to| Route { to, target: RouteTarget::via(gateway(family)), mtu: None })
                .into_iter()
                .collect(),
            neighbours: servers.chain([neighbour(gateway(family), 0xff_ffff)]).collect(),
            local_pools: vec![LocalPool {
                name: "locals".to_owned(),
                interface: interface(),
                addresses: vec![AddressRange {
                    first: address(family, Net::Local, 0),
                    last: address(family, Net::Local, LOCALS as usize - 1),
                }],
                ports: PortRange { first: 1024, last: 65535 },
            }],
            services: (0..self.services).map(|number| self.service(number)).collect(),
            ..State::default()
        }
    }

    fn service(&self, number: usize) -> Service {
        let key = ServiceKey::new(Protocol::Tcp, address(self.family, Net::Vip, number), VPORT);
        let port = if self.answers_return() { RPORT } else { VPORT };
        let server = |server| {
            let address = address(self.family, Net::Server, number * self.servers + server);
            Server::new(ServerKey { address, port }, self.forward)
        };
        Service {
            local_pool: (self.forward == Forward::FullNat).then(|| "locals".to_owned()),
            servers: (0..self.servers).map(server).collect(),
            ..Service::new(key, "rr")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_connections_are_alike() {
        let world = World { family: Family::V4, forward: Forward::Nat, services: 3, servers: 2 };
        let all: HashSet<_> = (0..200_000).map(|n| world.request(n)).map(|t| (t.src, t.sport)).collect();
        assert_eq!(all.len(), 200_000);
    }

    #[test]
    fn worlds_are_valid_and_used_whole() {
        for family in [Family::V4, Family::V6] {
            for forward in [Forward::Nat, Forward::FullNat, Forward::Dr, Forward::Tun] {
                let world = World { family, forward, services: 3, servers: 20 };
                let (snapshot, warnings) = crate::table::program().compile(&world.state(), 1);
                assert_eq!(warnings, Vec::<String>::new());
                assert_eq!((snapshot.services.len(), snapshot.destinations.len()), (3, 60));
            }
        }
    }
}
