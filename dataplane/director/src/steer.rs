//! Which worker owns a flow: a pure function of the client's end, computable from packets of either direction.
//!
//! Requests name the client as their source, answers of NAT servers as their destination; how much of it counts
//! is the service's affair ([`Steering`]: persistence wants all sessions of a template on one worker). Answers to
//! a FULLNAT local address show no client: there the owner is in the port, because every worker only takes local
//! ports of its own residue.

use std::net::Ipv4Addr;

use fulcrum_packet::ipv4;

use crate::buffer::Buf;
use crate::hash::folded_multiply;
use crate::packet::Packet;
use crate::session::Key;
use crate::snapshot::{Snapshot, Steering};

/// Decides owners; the same in all workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steer {
    workers: u16,
    seed: u64,
}

impl Steer {
    pub(crate) fn new(workers: u16, seed: u64) -> Steer {
        Steer { workers: workers.max(1), seed }
    }

    pub(crate) fn workers(self) -> u16 {
        self.workers
    }

    /// The owner of a packet, `None` when any worker may do.
    pub(crate) fn owner<B: Buf>(self, snap: &Snapshot, packet: &Packet<B>) -> Option<u16> {
        if self.workers == 1 {
            return None;
        }
        match packet.protocol {
            ipv4::TCP | ipv4::UDP => self.owner_of(snap, packet.key()),
            // An error goes where the packet went that it quotes the opposite of.
            ipv4::ICMP => {
                crate::icmp::quoted_key(packet.payload()).and_then(|key| self.owner_of(snap, key.inverted()))
            }
            _ => None,
        }
    }

    fn owner_of(self, snap: &Snapshot, key: Key) -> Option<u16> {
        match snap.locals.get(&key.dst) {
            Some(local) if local.pool.is_some() => Some(self.owner_of_local_port(key.dport)),
            Some(_) => Some(self.owner_of_client(self.steering_of_service(snap, key), key.src, key.sport)),
            None => Some(self.owner_of_client(self.steering_of_server(snap, key)?, key.dst, key.dport)),
        }
    }

    /// The worker that would own a packet if its service were not persistent, when that is another than `owner`:
    /// sessions older than the persistence are there.
    pub(crate) fn former_owner<B: Buf>(self, snap: &Snapshot, packet: &Packet<B>, owner: u16) -> Option<u16> {
        let key = packet.key();
        let request = snap.locals.contains_key(&key.dst);
        let (steering, client) = if request {
            (self.steering_of_service(snap, key), (key.src, key.sport))
        } else {
            (self.steering_of_server(snap, key)?, (key.dst, key.dport))
        };
        let former = self.owner_of_client(Steering::AddressPort, client.0, client.1);
        (steering != Steering::AddressPort && former != owner).then_some(former)
    }

    fn steering_of_service(self, snap: &Snapshot, key: Key) -> Steering {
        let protocol = key.protocol as u8;
        let of = |port| snap.services.get(&(protocol, key.dst, port));
        if let Some(service) = of(key.dport).or_else(|| of(0)) {
            return service.steering;
        }
        let of = |port| snap.deleted_services.get(&(protocol, key.dst, port));
        of(key.dport).or_else(|| of(0)).copied().unwrap_or(Steering::AddressPort)
    }

    fn steering_of_server(self, snap: &Snapshot, key: Key) -> Option<Steering> {
        let of = |port| snap.servers.get(&(key.protocol as u8, key.src, port));
        of(key.sport).or_else(|| of(0)).copied()
    }

    /// The worker that uses a local port.
    pub(crate) fn owner_of_local_port(self, port: u16) -> u16 {
        port % self.workers
    }

    fn owner_of_client(self, steering: Steering, address: Ipv4Addr, port: u16) -> u16 {
        let end = match steering {
            Steering::AddressPort => (u64::from(address.to_bits()) << 16) | u64::from(port),
            Steering::Address(mask) => u64::from(address.to_bits() & mask) << 16,
        };
        let hash = folded_multiply(
            folded_multiply(end ^ self.seed, 0x9e37_79b9_7f4a_7c15) ^ end,
            0xf39c_c060_5ced_c835,
        );
        // The high half times the number of workers: evenly spread without a division.
        (((hash >> 32) * u64::from(self.workers)) >> 32) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_spread_evenly() {
        let steer = Steer::new(3, 42);
        let mut counts = [0u32; 3];
        for host in 0..100u8 {
            for port in 40_000..40_100 {
                let client = Ipv4Addr::new(10, 0, 0, host);
                counts[usize::from(steer.owner_of_client(Steering::AddressPort, client, port))] += 1;
            }
        }
        assert!(counts.iter().all(|&count| (3000..3700).contains(&count)), "{counts:?}");
    }

    #[test]
    fn under_a_mask_only_the_network_counts() {
        let steer = Steer::new(8, 42);
        let owner = |last, port| {
            steer.owner_of_client(Steering::Address(0xffff_ff00), Ipv4Addr::new(10, 0, 0, last), port)
        };
        assert!((0..=255).all(|last| owner(last, 1000 + u16::from(last)) == owner(0, 0)));
    }
}
