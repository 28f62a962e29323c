//! Which interface a frame is for, by the port that it came by and its tag.

use super::InterfaceId;

/// Numbers that a VLAN can have, 0 (no tag) among them.
const VLANS: usize = 1 << 12;
const NONE: InterfaceId = InterfaceId::MAX;

/// Interfaces by port and VLAN: a table for each port that has some, since every tagged frame is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlans(Vec<Vec<InterfaceId>>);

impl Vlans {
    /// The interface of frames that come by a port with the tag of a VLAN, 0 without one.
    #[inline(always)]
    pub fn get(&self, port: u16, vlan: u16) -> Option<InterfaceId> {
        let interface = *self.0.get(usize::from(port))?.get(usize::from(vlan))?;
        (interface != NONE).then_some(interface)
    }
}

impl FromIterator<((u16, u16), InterfaceId)> for Vlans {
    /// From interfaces with their port and VLAN; one that no tag can name is left out.
    fn from_iter<T: IntoIterator<Item = ((u16, u16), InterfaceId)>>(interfaces: T) -> Vlans {
        let mut ports = Vec::new();
        for ((port, vlan), interface) in interfaces {
            let port = usize::from(port);
            if ports.len() <= port {
                ports.resize(port + 1, Vec::new());
            }
            ports[port].resize(VLANS, NONE);
            if let Some(place) = ports[port].get_mut(usize::from(vlan)) {
                *place = interface;
            }
        }
        Vlans(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_port_and_tag() {
        let vlans: Vlans = [((0, 0), 7), ((2, 20), 1), ((2, 4094), 0)].into_iter().collect();
        assert_eq!([(0, 0), (2, 20), (2, 4094)].map(|(p, v)| vlans.get(p, v)), [Some(7), Some(1), Some(0)]);
        for (port, vlan) in [(0, 20), (1, 0), (2, 0), (3, 0), (2, 4095), (2, 4096), (u16::MAX, u16::MAX)] {
            assert_eq!(vlans.get(port, vlan), None, "{port} {vlan}");
        }
        assert_eq!(Vlans::default().get(0, 0), None);
    }
}
