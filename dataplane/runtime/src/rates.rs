//! Counters of services and servers as operators see them: since they were last zeroed, with IPVS's rates.
//!
//! Workers only ever count up, by server; zeroing and rates are arithmetic of the control thread here.

use std::collections::HashMap;

use fulcrum_director::Cells;
use fulcrum_director::counters::{DestinationCells, Estimator};
use fulcrum_model::{ServerKey, ServiceKey};
use fulcrum_program::{ServerCounters, ServiceCounters, ServiceTraffic, Totals, totals};

/// One set of counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    raw: Totals,
    zero: Totals,
    estimators: [Estimator; 5],
}

impl Default for Meter {
    fn default() -> Meter {
        let (events, bytes) = (Estimator::of_events(), Estimator::of_bytes());
        Meter { raw: [0; 5], zero: [0; 5], estimators: [events, events, events, bytes, bytes] }
    }
}

impl Meter {
    /// Counts since they were zeroed.
    pub(crate) fn counts(&self) -> Totals {
        std::array::from_fn(|n| self.raw[n].wrapping_sub(self.zero[n]))
    }

    /// Rates per second.
    pub(crate) fn rates(&self) -> Totals {
        self.estimators.map(|estimator| estimator.rate())
    }

    fn tick(&mut self) {
        for (estimator, raw) in self.estimators.iter_mut().zip(self.raw) {
            estimator.tick(raw);
        }
    }

    fn clear(&mut self) {
        self.zero = self.raw;
        for (estimator, raw) in self.estimators.iter_mut().zip(self.raw) {
            estimator.reset(raw);
        }
    }
}

/// A server's counters.
#[derive(Debug)]
pub(crate) struct ServerMeter {
    pub(crate) key: ServerKey,
    pub(crate) cells: Cells<DestinationCells>,
    pub(crate) meter: Meter,
}

/// A service's counters.
#[derive(Debug)]
pub(crate) struct ServiceMeter {
    pub(crate) key: ServiceKey,
    traffic: ServiceTraffic,
    pub(crate) meter: Meter,
    pub(crate) servers: Vec<ServerMeter>,
}

/// All of them, in the state's order.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) services: Vec<ServiceMeter>,
    /// Of all services that there ever were.
    pub(crate) total: Meter,
}

impl Meters {
    /// Follows a change of configuration: what stays keeps its counts, what is new starts with its counters.
    pub(crate) fn follow(&mut self, counters: Vec<ServiceCounters>) {
        // What those counted that go now belongs to the total.
        self.read();
        let mut old: HashMap<ServiceKey, ServiceMeter> =
            self.services.drain(..).map(|service| (service.key, service)).collect();
        self.services = counters
            .into_iter()
            .map(|ServiceCounters { key, traffic, servers }| {
                let before = old.remove(&key).filter(|before| before.traffic.continues(&traffic));
                let (meter, before) = before.map_or_else(Default::default, |b| (b.meter, b.servers));
                ServiceMeter { key, traffic, meter, servers: follow_servers(before, servers) }
            })
            .collect();
    }

    /// Reads all counters.
    pub(crate) fn read(&mut self) {
        for service in &mut self.services {
            service.read(&mut self.total);
        }
    }

    /// Reads the counters of one service: that service, or none when there is no such one.
    pub(crate) fn read_one(&mut self, key: ServiceKey) -> &[ServiceMeter] {
        let Some(at) = self.services.iter().position(|service| service.key == key) else { return &[] };
        self.services[at].read(&mut self.total);
        &self.services[at..=at]
    }

    /// Takes the rates' next step; to be called every two seconds.
    pub(crate) fn tick(&mut self) {
        self.read();
        self.total.tick();
        for service in &mut self.services {
            service.meter.tick();
            service.servers.iter_mut().for_each(|server| server.meter.tick());
        }
    }

    /// Zeroes one service and its servers, or everything; false when there is no such service.
    pub(crate) fn zero(&mut self, key: Option<ServiceKey>) -> bool {
        self.read();
        let mut found = key.is_none();
        for service in self.services.iter_mut().filter(|service| key.is_none_or(|key| key == service.key)) {
            found = true;
            service.meter.clear();
            service.servers.iter_mut().for_each(|server| server.meter.clear());
        }
        if key.is_none() {
            self.total.clear();
        }
        found
    }
}

impl ServiceMeter {
    /// Reads its counters and its servers', and adds what is new to the total.
    fn read(&mut self, total: &mut Meter) {
        let raw = self.traffic.totals();
        for (total, (new, old)) in total.raw.iter_mut().zip(raw.iter().zip(self.meter.raw)) {
            *total = total.wrapping_add(new.wrapping_sub(old));
        }
        self.meter.raw = raw;
        for server in &mut self.servers {
            server.meter.raw = totals(&server.cells);
        }
    }
}

fn follow_servers(before: Vec<ServerMeter>, servers: Vec<ServerCounters>) -> Vec<ServerMeter> {
    let mut before: HashMap<ServerKey, ServerMeter> =
        before.into_iter().map(|server| (server.key, server)).collect();
    servers
        .into_iter()
        .map(|ServerCounters { key, cells }| {
            let known = before.remove(&key).filter(|server| server.cells.same(&cells));
            known.unwrap_or_else(|| ServerMeter { key, cells, meter: Meter::default() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use fulcrum_director::counters::Traffic;

    use super::*;

    fn key(port: u16) -> ServiceKey {
        ServiceKey::new(fulcrum_model::Protocol::Tcp, [10, 0, 0, 1].into(), port)
    }

    /// Made in a generation, with a server.
    fn service(port: u16, since: u64) -> ServiceCounters {
        let key = ServerKey { address: [10, 0, 0, 2].into(), port: 80 };
        let server = ServerCounters { key, cells: Cells::new(2) };
        let traffic = ServiceTraffic { since, base: [0; 5], servers: vec![server.cells.clone()] };
        ServiceCounters { key: self::key(port), traffic, servers: vec![server] }
    }

    fn traffic(service: &ServiceCounters, worker: usize) -> &Traffic {
        &service.servers[0].cells.of(worker).traffic
    }

    #[test]
    fn counts_are_sums_since_the_last_zeroing() {
        let mut meters = Meters::default();
        let (first, second) = (service(80, 1), service(81, 1));
        meters.follow(vec![first.clone(), second.clone()]);
        traffic(&first, 0).in_packets.add(5);
        traffic(&first, 1).in_packets.add(7);
        traffic(&second, 0).connections.add(1);
        meters.read();
        assert_eq!(meters.services[0].meter.counts(), [0, 12, 0, 0, 0]);
        assert_eq!(meters.services[0].servers[0].meter.counts(), [0, 12, 0, 0, 0]);
        assert_eq!(meters.total.counts(), [1, 12, 0, 0, 0]);

        assert!(meters.zero(Some(key(80))));
        assert_eq!(meters.services[0].meter.counts(), [0; 5]);
        assert_eq!(meters.services[0].servers[0].meter.counts(), [0; 5]);
        assert_eq!(meters.services[1].meter.counts(), [1, 0, 0, 0, 0]);
        assert_eq!(meters.total.counts(), [1, 12, 0, 0, 0]);
        assert!(!meters.zero(Some(key(82))));
        assert!(meters.zero(None));
        assert_eq!(meters.total.counts(), [0; 5]);
    }

    #[test]
    fn an_edit_keeps_counts_and_a_new_service_starts_at_nothing() {
        let mut meters = Meters::default();
        let (first, second) = (service(80, 1), service(81, 1));
        meters.follow(vec![first.clone()]);
        traffic(&first, 0).in_packets.add(5);
        meters.follow(vec![second.clone(), first.clone()]);
        assert_eq!(meters.services[1].meter.counts(), [0, 5, 0, 0, 0]);
        traffic(&first, 0).in_packets.add(1);
        meters.follow(vec![service(80, 2)]);
        assert_eq!(meters.services[0].meter.counts(), [0; 5]);
        assert_eq!(meters.total.counts(), [0, 6, 0, 0, 0], "the total remembers what is gone");
    }

    #[test]
    fn a_steady_flow_has_its_rate_after_a_while() {
        let mut meters = Meters::default();
        let only = service(80, 1);
        meters.follow(vec![only.clone()]);
        for _ in 0..40 {
            traffic(&only, 0).in_packets.add(200);
            traffic(&only, 0).in_bytes.add(20_000);
            meters.tick();
        }
        let [_, packets, _, bytes, _] = meters.services[0].meter.rates();
        assert!((99..=100).contains(&packets), "{packets}");
        assert!((9_990..=10_000).contains(&bytes), "{bytes}");
        meters.zero(None);
        assert_eq!(meters.services[0].meter.rates(), [0; 5]);
    }
}
