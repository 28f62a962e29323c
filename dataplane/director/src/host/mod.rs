//! The director as a host: what the local stack does behind IPVS. ARP, neighbour discovery, ping, RST, ICMP errors, IP options.

pub(crate) mod announce;
mod arp;
pub(crate) mod extensions;
mod mld;
pub(crate) mod ndisc;
pub(crate) mod options;
mod reply;
mod resolve;

pub(crate) use reply::{Error, is_echo_request, is_fragmented_echo, is_icmp_error};

use crate::{Nanos, SECOND};

/// Errors a second at most, and in one burst. // Linux: icmp_msgs_per_sec 1000, icmp_msgs_burst 50
const RATE: Nanos = SECOND / 1000;
const BURST: Nanos = 50;

/// Token bucket for the ICMP errors of one worker.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// When the bucket will be full again.
    full_at: Nanos,
}

impl Limiter {
    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Nanos) -> bool {
        let full_at = self.full_at.max(now) + RATE;
        let granted = full_at - now <= BURST * RATE;
        if granted {
            self.full_at = full_at;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::default();
        let granted = |limiter: &mut Limiter, now| (0..200).filter(|_| limiter.take(now)).count();
        assert_eq!(granted(&mut limiter, 0), 50);
        assert_eq!(granted(&mut limiter, SECOND / 100), 10);
        assert_eq!(granted(&mut limiter, 10 * SECOND), 50);
    }
}
