//! Which services' VIPs may be announced now, and why others may not. A pure function of what is known.

use std::collections::HashSet;
use std::net::IpAddr;

use fulcrum_api::convert;
use fulcrum_api::dataplane::{DataplaneStatus, NeighbourStatus};
use fulcrum_model::{Announce, Family, Interface, Service, ServiceKey, State};

/// All that decides.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// What the data plane is given.
    pub state: &'a State,
    /// The data plane, while it answers and was programmed.
    pub dataplane: Option<&'a DataplaneStatus>,
    /// Neighbours that it knows.
    pub neighbours: &'a [NeighbourStatus],
    /// Services that have lost their quorum.
    pub lost: &'a HashSet<ServiceKey>,
}

impl Sight<'_> {
    /// Why the VIP of a service is not to be announced, `None` when it is.
    pub fn objection(&self, service: &Service) -> Option<String> {
        let vip = service.key.address()?;
        if service.withheld {
            return Some("released".to_owned());
        }
        let Some(dataplane) = self.dataplane else { return Some("no data plane".to_owned()) };
        let without = service.servers.iter().all(|server| server.weight == 0);
        let poor = without || self.lost.contains(&service.key);
        if service.announcement.when == Announce::Healthy && poor {
            return Some("too few healthy servers".to_owned());
        }
        self.link_down(service, vip, dataplane).or_else(|| self.no_next_hop(vip))
    }

    /// The port by which packets to the VIP come is down; all ports, where any may be it.
    fn link_down(&self, service: &Service, vip: IpAddr, dataplane: &DataplaneStatus) -> Option<String> {
        let named = |name: &String| self.state.interfaces.iter().find(|interface| interface.name == *name);
        let near = |interface: &&Interface| interface.addresses.iter().any(|net| net.contains(&vip));
        let of_vip =
            self.state.interfaces.iter().find(near).or_else(|| service.interface.as_ref().and_then(named));
        let up = |name: &str| dataplane.ports.iter().any(|port| port.name == name && port.link);
        match of_vip {
            Some(interface) if up(&interface.port) => None,
            Some(interface) => Some(format!("port {} is down", interface.port)),
            None if dataplane.ports.is_empty() || dataplane.ports.iter().any(|port| port.link) => None,
            None => Some("all ports are down".to_owned()),
        }
    }

    /// No gateway of a default route of the VIP's family answers. One that nothing was sent to lately is not known, and
    /// no objection.
    fn no_next_hop(&self, vip: IpAddr) -> Option<String> {
        let default = |family: Family, length: u8| length == 0 && family == Family::of(vip);
        let routes = self
            .state
            .routes
            .iter()
            .filter(|route| default(Family::of(route.to.addr()), route.to.prefix_len()));
        let gateways: Vec<IpAddr> =
            routes.flat_map(|route| route.target.next_hops()).map(|hop| hop.via).collect();
        let dead = |gateway: &IpAddr| {
            self.neighbours.iter().any(|neighbour| {
                matches!(neighbour.state.as_str(), "failed" | "incomplete")
                    && convert::address("address", &neighbour.address).is_ok_and(|known| known == *gateway)
            })
        };
        match &gateways[..] {
            [] => None,
            _ if !gateways.iter().all(dead) => None,
            [gateway] => Some(format!("gateway {gateway} does not answer")),
            [gateway, others @ ..] => {
                Some(format!("none of {} gateways answers, such as {gateway}", others.len() + 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_api::dataplane::PortStatus;
    use fulcrum_model::file::Config;

    use super::*;

    const STATE: &str = r#"
[[port]]
name = "p0"
device = "eth0"
[[port]]
name = "p1"
device = "eth1"
[[interface]]
name = "wan"
port = "p0"
addresses = ["10.0.0.1/24"]
[[interface]]
name = "lan"
port = "p1"
[[route]]
to = "0.0.0.0/0"
via = "10.0.0.254"
[[service]]
address = "10.0.0.9:80"
protocol = "tcp"
announce = "healthy"
[[service.server]]
address = "10.1.0.7:80"
forward = "nat"
[[service]]
address = "10.77.0.9:80"
protocol = "tcp"
announce = "always"
[[service]]
address = "10.88.0.9:80"
protocol = "tcp"
announce = "always"
interface = "lan"
"#;

    fn dataplane(up: [bool; 2]) -> DataplaneStatus {
        let ports = ["p0", "p1"].iter().zip(up);
        let ports = ports.map(|(name, link)| PortStatus { name: (*name).into(), link, ..Default::default() });
        DataplaneStatus { generation: 1, ports: ports.collect(), ..Default::default() }
    }

    fn neighbour(state: &str) -> NeighbourStatus {
        NeighbourStatus { address: vec![10, 0, 0, 254], state: state.to_owned(), ..Default::default() }
    }

    fn objections(sight: Sight<'_>) -> Vec<String> {
        sight.state.services.iter().map(|service| sight.objection(service).unwrap_or_default()).collect()
    }

    #[test]
    fn what_is_missing_is_said_of_those_whom_it_concerns() {
        let mut state = Config::parse("test", STATE).unwrap().state;
        let (up, none) = (dataplane([true, true]), HashSet::new());
        let lost = HashSet::from([state.services[0].key, state.services[1].key]);
        let all = Sight { state: &state, dataplane: Some(&up), neighbours: &[], lost: &none };
        assert_eq!(objections(all), ["", "", ""]);
        assert_eq!(objections(Sight { dataplane: None, ..all }), ["no data plane"; 3]);
        assert_eq!(objections(Sight { lost: &lost, ..all }), ["too few healthy servers", "", ""]);
        let links = |up| objections(Sight { dataplane: Some(&dataplane(up)), ..all });
        assert_eq!(links([false, true]), ["port p0 is down", "", ""]);
        assert_eq!(links([true, false]), ["", "", "port p1 is down"]);
        assert_eq!(links([false, false]), ["port p0 is down", "all ports are down", "port p1 is down"]);
        for (known, objection) in
            [("failed", "gateway 10.0.0.254 does not answer"), ("reachable", ""), ("static", "")]
        {
            assert_eq!(
                objections(Sight { neighbours: &[neighbour(known)], ..all }),
                [objection; 3],
                "{known}"
            );
        }

        // Of several gateways one is enough.
        let several = STATE.replace("\"10.0.0.254\"", "[\"10.0.0.254\", \"10.0.0.253\"]");
        let several = Config::parse("test", &several).unwrap().state;
        let all_of_several = Sight { state: &several, ..all };
        let next = |host, state: &str| NeighbourStatus {
            address: vec![10, 0, 0, host],
            state: state.to_owned(),
            ..Default::default()
        };
        let one = [next(254, "failed"), next(253, "reachable")];
        assert_eq!(objections(Sight { neighbours: &one, ..all_of_several }), [""; 3]);
        let dead = [next(254, "failed"), next(253, "incomplete")];
        let said = "none of 2 gateways answers, such as 10.0.0.254";
        assert_eq!(objections(Sight { neighbours: &dead, ..all_of_several }), [said; 3]);

        state.services[1].withheld = true;
        state.services[0].servers[0].weight = 0;
        let all = Sight { state: &state, dataplane: Some(&up), neighbours: &[], lost: &none };
        assert_eq!(objections(all), ["too few healthy servers", "released", ""]);
    }
}
