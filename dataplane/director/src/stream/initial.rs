//! Initial sequence numbers of FULLNAT sessions.
//!
//! One local address and port serves many clients one after the other, each of whom counts on its own; a server
//! that still has the last one's connection in TIME_WAIT takes a SYN for a new one only when its number is higher
//! (RFC 9293, 3.10.7.4). So the director counts in their place, by the clock, from where nobody else can guess.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::Nanos;
use crate::hash::folded_multiply;
use crate::session::Narrow;

/// What initial sequence numbers follow from (RFC 6528, with a clock of 64 ns). Servers remember those of a director
/// that has ended, so the next one at its local addresses should go on with the same.
#[derive(Clone, Copy, Debug)]
pub struct InitialNumbers {
    /// What nobody else knows.
    pub secret: [u64; 2],
    /// What a clock that goes on when the director does not says at the engine's time 0.
    pub epoch: Nanos,
}

/// Odd, and without pattern.
const PLACES: u64 = 0x9e37_79b9_7f4a_7c15;

impl InitialNumbers {
    /// Of a director that comes after no other.
    pub fn of_seed(seed: u64) -> InitialNumbers {
        InitialNumbers { secret: [seed, !seed], epoch: 0 }
    }

    /// Which of so many local ports towards a server is the first to be used: seldom one that a director before has
    /// used last, whose connections a server may still have.
    pub(crate) fn place(&self, server: u32, ports: u32) -> u32 {
        let place = folded_multiply(self.epoch, u64::from(server) + PLACES);
        (place % u64::from(ports.max(1))) as u32
    }

    /// The number of a connection that is opened now.
    pub(crate) fn number(&self, local: (IpAddr, u16), server: (IpAddr, u16), now: Nanos) -> u32 {
        let ports = u32::from(local.1) << 16 | u32::from(server.1);
        match (local.0, server.0) {
            (IpAddr::V4(of), IpAddr::V4(to)) => {
                self.number_v4(Narrow::new((of.to_bits(), local.1), (to.to_bits(), server.1)), now)
            }
            (local, server) => {
                let bits = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                    IpAddr::V6(address) => address.to_bits(),
                };
                self.of(bytemuck::cast_slice(&[bits(local), bits(server), ports.into()]), now)
            }
        }
    }

    /// The same of IPv4, from local address to server.
    #[inline]
    pub(crate) fn number_v4(&self, ends: Narrow, now: Nanos) -> u32 {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&ends.addresses());
        bytes[8..].copy_from_slice(&ends.ports());
        self.of(&bytes, now)
    }

    #[inline]
    fn of(&self, ends: &[u8], now: Nanos) -> u32 {
        let hash = SipHasher13::new_with_keys(self.secret[0], self.secret[1]).hash(ends);
        (hash as u32).wrapping_add((self.epoch.wrapping_add(now) >> 6) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SECOND;
    use crate::stream::sequence::after;

    #[test]
    fn a_port_that_is_used_again_counts_from_higher_up() {
        let end = |last, port| (IpAddr::from([10, 1, 0, last]), port);
        let numbers = InitialNumbers::of_seed(7);
        let at = |now| numbers.number(end(1, 5000), end(11, 80), now);
        for second in 1..120 {
            assert!(after(at(second * SECOND), at((second - 1) * SECOND)));
            assert!(after(at(second * SECOND), at(0)), "second {second}");
        }
        assert_ne!(at(0), numbers.number(end(1, 5001), end(11, 80), 0));
        assert_ne!(at(0), InitialNumbers::of_seed(8).number(end(1, 5000), end(11, 80), 0));
    }

    #[test]
    fn a_director_that_starts_anew_goes_on_counting() {
        let ends = |text: &str| (text.parse().unwrap(), 5000);
        for (local, server) in [("10.1.0.1", "10.1.0.11"), ("fd00::1", "fd00::11"), ("10.1.0.1", "fd00::11")]
        {
            let (local, server) = (ends(local), ends(server));
            let before = InitialNumbers { epoch: 100 * SECOND, ..InitialNumbers::of_seed(7) };
            let last = before.number(local, server, 60 * SECOND);
            let next = InitialNumbers { epoch: 161 * SECOND, ..before };
            assert!(after(next.number(local, server, 0), last));
        }
    }
}
