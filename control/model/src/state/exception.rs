//! How much of what is not the director's goes up to the host.

/// Frames a second, for each worker, of each kind of traffic that go up by exception interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// BGP, BFD, VRRP, OSPF.
    pub routing: u32,
    /// ARP, neighbour discovery, group membership, LLDP, LACP and whatever is not IP.
    pub link: u32,
    /// TCP to `management_ports`.
    pub management: u32,
    /// TCP segments that open nothing: answers to connections of the host's.
    pub answers: u32,
    /// Everything else.
    pub rest: u32,
    /// TCP ports by which the host is managed.
    pub management_ports: Vec<u16>,
}

impl Default for Exception {
    fn default() -> Exception {
        Exception {
            routing: 20_000,
            link: 2_000,
            management: 10_000,
            answers: 20_000,
            rest: 5_000,
            management_ports: vec![22],
        }
    }
}

impl Exception {
    /// The rates with their names.
    pub fn rates(&self) -> [(&'static str, u32); 5] {
        [
            ("routing", self.routing),
            ("link", self.link),
            ("management", self.management),
            ("answers", self.answers),
            ("rest", self.rest),
        ]
    }
}
