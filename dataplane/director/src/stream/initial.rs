//! Initial sequence numbers of FULLNAT sessions.
//!
//! One local address and port serves many clients one after the other, each of whom counts on its own; a server
//! that still has the last one's connection in TIME_WAIT takes a SYN for a new one only when its number is higher
//! (RFC 9293, 3.10.7.4). So the director counts in their place, by the clock, from where nobody else can guess.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::Nanos;
use crate::session::Narrow;

/// The initial sequence number of a connection that is opened now (RFC 6528, with a clock of 64 ns).
pub(crate) fn number(secret: u64, local: (IpAddr, u16), server: (IpAddr, u16), now: Nanos) -> u32 {
    let hasher = SipHasher13::new_with_keys(secret, !secret);
    let ports = u32::from(local.1) << 16 | u32::from(server.1);
    let hash = match (local.0, server.0) {
        (IpAddr::V4(of), IpAddr::V4(to)) => {
            return number_v4(secret, Narrow::new((of.to_bits(), local.1), (to.to_bits(), server.1)), now);
        }
        (local, server) => {
            let bits = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                IpAddr::V6(address) => address.to_bits(),
            };
            hasher.hash(bytemuck::cast_slice(&[bits(local), bits(server), ports.into()]))
        }
    };
    (hash as u32).wrapping_add((now >> 6) as u32)
}

/// The same of IPv4, from local address to server.
#[inline]
pub(crate) fn number_v4(secret: u64, ends: Narrow, now: Nanos) -> u32 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&ends.addresses());
    bytes[8..].copy_from_slice(&ends.ports());
    let hash = SipHasher13::new_with_keys(secret, !secret).hash(&bytes);
    (hash as u32).wrapping_add((now >> 6) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SECOND;
    use crate::stream::sequence::after;

    #[test]
    fn a_port_that_is_used_again_counts_from_higher_up() {
        let end = |last, port| (IpAddr::from([10, 1, 0, last]), port);
        let at = |now| number(7, end(1, 5000), end(11, 80), now);
        for second in 1..120 {
            assert!(after(at(second * SECOND), at((second - 1) * SECOND)));
            assert!(after(at(second * SECOND), at(0)), "second {second}");
        }
        assert_ne!(at(0), number(7, end(1, 5001), end(11, 80), 0));
        assert_ne!(at(0), number(8, end(1, 5000), end(11, 80), 0));
    }
}
