//! Which worker owns a flow: a pure function of the client's end, computable from packets of either direction.
//!
//! Requests name the client as their source, answers of NAT servers as their destination; how much of it counts
//! is the service's affair ([`Steering`]: persistence wants all sessions of a template on one worker). Answers to
//! a FULLNAT local address show no client: there the owner is in the port, because every worker only takes local
//! ports of its own residue. Where ports of the director spread by RSS, owners are those of the hash (`rss`), for the
//! packets that devices hash; which packets these are does not change while the director runs.

use std::net::IpAddr;
use std::sync::Arc;

use crate::buffer::Buf;
use crate::fragments;
use crate::hash::folded_multiply;
use crate::marks::{mark, network};
use crate::packet::{Packet, follows_session};
use crate::rss::Rss;
use crate::session::Key;
use crate::snapshot::{Snapshot, Steering};

/// Decides owners; the same in all workers.
#[derive(Clone, Debug)]
pub(crate) struct Steer {
    workers: u16,
    seed: u64,
    rss: Option<Arc<Rss>>,
}

impl Steer {
    pub(crate) fn new(workers: u16, seed: u64) -> Steer {
        Steer { workers: workers.max(1), seed, rss: None }
    }

    /// The same by hash, where devices hash.
    pub(crate) fn by(self, rss: Arc<Rss>) -> Steer {
        Steer { rss: Some(rss), ..self }
    }

    pub(crate) fn rss(&self) -> Option<&Rss> {
        self.rss.as_deref()
    }

    pub(crate) fn workers(&self) -> u16 {
        self.workers
    }

    /// The owner of a packet, `None` when any worker may do.
    pub(crate) fn owner<B: Buf>(&self, snap: &Snapshot, packet: &Packet<B>) -> Option<u16> {
        if self.workers == 1 {
            return None;
        }
        if follows_session(packet.protocol) {
            return self.owner_of(snap, packet.key(), packet.mark);
        }
        if let Some(quoted) = crate::icmp::tunnel::quoted(snap, packet) {
            let flow = quoted.key?;
            return self.owner_of(snap, flow, mark(snap, flow, None));
        }
        if !packet.is_icmp() {
            return None;
        }
        if !snap.snat.is_empty()
            && let Some(flow) = crate::gateway::echo_key(packet)
        {
            return self.owner_of_echo(snap, flow);
        }
        // An error goes where the packet went that it quotes the opposite of.
        let quoted = crate::icmp::quoted_key(packet).or_else(|| crate::icmp::quoted_echo(snap, packet))?;
        let flow = quoted.inverted();
        self.owner_of(snap, flow, mark(snap, flow, Some(packet.interface)))
    }

    pub(crate) fn owner_of(&self, snap: &Snapshot, key: Key, mark: u32) -> Option<u16> {
        let ours = match snap.locals.get(&key.dst) {
            Some(local) if local.pool.is_some() => return Some(self.owner_of_answer(key)),
            local => local.is_some() && !is_answer_to_host(snap, key),
        };
        // What a mark's service takes need not be to one of our addresses.
        if ours || steering_of_mark(snap, key, mark).is_some() {
            return Some(self.owner_of_request(steering_of_service(snap, key, mark), key));
        }
        if let Some(steering) = steering_of_server(snap, key) {
            return Some(self.owner_of_client(steering, key.protocol, (key.dst, key.dport)));
        }
        snap.masquerades(key).then(|| self.owner_of_request(Steering::Flow, key))
    }

    /// The owner of a masqueraded echo; `None` of one that is for the director itself, or routed.
    fn owner_of_echo(&self, snap: &Snapshot, key: Key) -> Option<u16> {
        let asks = key.dport == 0;
        let ours = snap.locals.contains_key(&key.dst);
        if ours == asks { None } else { self.owner_of(snap, key, 0) }
    }

    /// The next worker that may have owned a packet when its service was steered otherwise, and by which way,
    /// `from` the first on; not its owner now. Of what is not known by address and port alone, sessions older than
    /// that may be anywhere that a former steering says.
    pub(crate) fn former_owner<B: Buf>(
        &self,
        snap: &Snapshot,
        packet: &Packet<B>,
        from: u8,
    ) -> Option<(u16, u8)> {
        let key = packet.key();
        let request =
            snap.locals.contains_key(&key.dst) || steering_of_mark(snap, key, packet.mark).is_some();
        let steering = match request {
            true => steering_of_service(snap, key, packet.mark),
            false => steering_of_server(snap, key)?,
        };
        if steering == Steering::AddressPort && snap.former_steerings.is_empty() {
            return None;
        }
        let owner_by = |way| match request {
            true => self.owner_of_request(way, key),
            false => self.owner_of_client(way, key.protocol, (key.dst, key.dport)),
        };
        let ways = std::iter::once(Steering::AddressPort).chain(snap.former_steerings.iter().copied());
        ways.zip(0..)
            .skip(usize::from(from))
            .filter(|&(way, number)| match steering {
                // Narrow steering comes back when no session is left, but for services that it was too wide for.
                Steering::AddressPort => way == Steering::Flow && request,
                Steering::Address(_) => way != Steering::Flow || request,
                // The first way is everybody's start, and not this one's.
                Steering::Flow => number > 0,
            })
            .map(|(way, number)| (owner_by(way), number))
            .find(|&(former, _)| former != owner_by(steering))
    }

    /// The worker that keeps a datagram's fragments together.
    pub(crate) fn keeper(&self, key: &fragments::Key) -> u16 {
        self.spread(key.hash(self.seed))
    }

    /// The worker whose session uses the local end that a packet goes to.
    fn owner_of_answer(&self, key: Key) -> u16 {
        let hashed = self.rss.as_ref().and_then(|rss| rss.owner_of_answer(&key));
        hashed.unwrap_or(key.dport % self.workers)
    }

    fn owner_of_request(&self, steering: Steering, key: Key) -> u16 {
        let hashed = match (steering, &self.rss) {
            (Steering::Flow, Some(rss)) => rss.owner_of_flow(&key),
            _ => None,
        };
        hashed.unwrap_or_else(|| self.owner_of_client(steering, key.protocol, (key.src, key.sport)))
    }

    fn owner_of_client(&self, steering: Steering, protocol: u16, (address, port): (IpAddr, u16)) -> u16 {
        let (address, port) = match steering {
            Steering::AddressPort | Steering::Flow => {
                let rss = self.rss.as_ref();
                if let Some(owner) = rss.and_then(|rss| rss.owner_of_client(protocol, address, port)) {
                    return owner;
                }
                (address, port)
            }
            Steering::Address(length) => (network(address, length), 0),
        };
        let end = match address {
            IpAddr::V4(address) => (u64::from(address.to_bits()) << 16) | u64::from(port),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                folded_multiply(bits as u64 ^ self.seed, (bits >> 64) as u64 | 1) ^ u64::from(port)
            }
        };
        self.spread(end)
    }

    /// Spreads hashes evenly over the workers.
    fn spread(&self, end: u64) -> u16 {
        let hash = folded_multiply(
            folded_multiply(end ^ self.seed, 0x9e37_79b9_7f4a_7c15) ^ end,
            0xf39c_c060_5ced_c835,
        );
        // The high half times the number of workers: evenly spread without a division.
        (((hash >> 32) * u64::from(self.workers)) >> 32) as u16
    }
}

fn steering_of_mark(snap: &Snapshot, key: Key, mark: u32) -> Option<Steering> {
    if mark == 0 {
        return None;
    }
    let key = (key.src.is_ipv6(), mark);
    let service = snap.mark_services.get(&key).map(|service| service.steering);
    service.or_else(|| snap.deleted_mark_services.get(&key).copied())
}

fn steering_of_service(snap: &Snapshot, key: Key, mark: u32) -> Steering {
    if let Some(steering) = steering_of_mark(snap, key, mark) {
        return steering;
    }
    if let Some(service) = snap.service(key.protocol as u8, key.dst, key.dport) {
        return service.steering;
    }
    let of = |port| snap.deleted_services.get(&(key.protocol as u8, key.dst, port));
    of(key.dport).or_else(|| of(0)).copied().unwrap_or(Steering::AddressPort)
}

fn steering_of_server(snap: &Snapshot, key: Key) -> Option<Steering> {
    let of = |port| snap.servers.get(&(key.protocol as u8, key.src, port));
    of(key.sport).or_else(|| of(0)).copied()
}

/// Whether a packet is a NAT server's answer to a client that is the host, by an address that the director has too.
fn is_answer_to_host(snap: &Snapshot, key: Key) -> bool {
    snap.hosts.contains_key(&key.dst)
        && steering_of_server(snap, key).is_some()
        && u8::try_from(key.protocol)
            .is_ok_and(|protocol| snap.service(protocol, key.dst, key.dport).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u16 = 6;

    #[test]
    fn clients_spread_evenly() {
        let steer = Steer::new(3, 42);
        let mut counts = [0u32; 3];
        for host in 0..100u8 {
            for port in 40_000..40_100 {
                let client = IpAddr::from([10, 0, 0, host]);
                counts[usize::from(steer.owner_of_client(Steering::AddressPort, TCP, (client, port)))] += 1;
            }
        }
        assert!(counts.iter().all(|&count| (3000..3700).contains(&count)), "{counts:?}");
    }

    #[test]
    fn under_a_mask_only_the_network_counts() {
        let steer = Steer::new(8, 42);
        let owner = |last, port| {
            steer.owner_of_client(Steering::Address(24), TCP, (IpAddr::from([10, 0, 0, last]), port))
        };
        assert!((0..=255).all(|last| owner(last, 1000 + u16::from(last)) == owner(0, 0)));
    }
}
