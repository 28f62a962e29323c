//! What routers told of the paths to TUN servers: the largest packet that gets through.

use std::net::IpAddr;

use crate::snapshot::FastMap;
use crate::{Nanos, SECOND};

/// How long a router's word counts. // Linux: net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires
const LIFETIME: Nanos = 600 * SECOND;
/// Less than this is not believed. // Linux: net.ipv4.route.min_pmtu
const MIN_V4: u16 = 552;
const MIN_V6: u16 = fulcrum_packet::ipv6::MIN_MTU;
/// Paths remembered at most; only such as lead to servers come here.
const PATHS: usize = 4096;

/// The paths that one worker knows.
#[derive(Debug)]
pub(crate) struct PathMtus {
    known: FastMap<IpAddr, (u16, Nanos)>,
}

impl Default for PathMtus {
    fn default() -> PathMtus {
        PathMtus { known: FastMap::with_capacity_and_hasher(PATHS, Default::default()) }
    }
}

impl PathMtus {
    /// The largest packet to `server`, when the way out takes `mtu`.
    #[inline]
    pub(crate) fn limit(&self, server: IpAddr, mtu: u16, now: Nanos) -> u16 {
        if self.known.is_empty() {
            return mtu;
        }
        match self.known.get(&server) {
            Some(&(told, expires)) if now < expires => told.min(mtu),
            _ => mtu,
        }
    }

    /// Whether nothing was told yet.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Takes in that packets of more than `told` bytes do not reach `server`; gives what is believed.
    pub(crate) fn learn(&mut self, server: IpAddr, told: u16, now: Nanos) -> u16 {
        let mtu = told.max(if server.is_ipv6() { MIN_V6 } else { MIN_V4 });
        if self.known.len() >= PATHS {
            self.known.retain(|_, &mut (_, expires)| now < expires);
        }
        let known = self.known.get(&server).filter(|&&(_, expires)| now < expires);
        // A router further on may tell less, none tells more.
        let mtu = known.map_or(mtu, |&(before, _)| before.min(mtu));
        if self.known.len() < PATHS || self.known.contains_key(&server) {
            self.known.insert(server, (mtu, now + LIFETIME));
        }
        mtu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_word_counts_for_ten_minutes() {
        let server = IpAddr::from([10, 1, 0, 11]);
        let mut paths = PathMtus::default();
        assert_eq!(paths.limit(server, 1500, 0), 1500);
        assert_eq!(paths.learn(server, 1400, 0), 1400);
        assert_eq!(paths.learn(server, 1450, 0), 1400);
        assert_eq!(paths.learn(server, 0, 0), 552);
        assert_eq!(paths.limit(server, 1500, LIFETIME - 1), 552);
        assert_eq!(paths.limit(server, 1500, LIFETIME), 1500);
        assert_eq!(paths.learn("fd00::1".parse().unwrap(), 40, 0), 1280);
    }
}
