//! Rules that masquerade: what counts for each and what its sessions name, over edits and after deletion.
//!
//! A rule is the same as long as it is for the same packets. One that is deleted, or is for others now, stays for the
//! packets of its sessions.

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::PerWorker;
use fulcrum_director::snapshot::{Destination, Forward, GATEWAY, LocalRange, Profile, SnatRule, Tunnel};
use fulcrum_director::threshold::Thresholds;
use fulcrum_model::{Snat, State};
use fulcrum_packet::ip::unspecified;

use crate::locals::Pools;
use crate::services::{Registry, put};
use crate::terms;

#[derive(Debug)]
pub(crate) struct KnownRule {
    model: Snat,
    rule: SnatRule,
    /// The first generation without it, when it is deleted.
    gone: Option<u64>,
}

impl KnownRule {
    fn is_for_packets_of(&self, rule: &Snat) -> bool {
        let known = Snat { pool: rule.pool.clone(), ..self.model.clone() };
        self.gone.is_none() && known == *rule
    }

    fn references(&self) -> u64 {
        let cells = self.rule.counts.counters.iter();
        cells.fold(0u64, |sum, cell| sum.wrapping_add(cell.references()))
    }
}

impl Registry {
    /// The rules of a state, and after them those of before that have sessions; the same list when it is.
    pub(crate) fn snat(&mut self, state: &State, pools: &Pools, generation: u64) -> Arc<[SnatRule]> {
        let profile = Profile { timeouts: terms::timeouts(None, &state.timeouts), ..Profile::default() };
        let mut before = std::mem::take(&mut self.rules);
        let mut now: Vec<KnownRule> = Vec::with_capacity(state.snat.len());
        let mut same = true;
        for model in &state.snat {
            let place = before.iter().position(|known| known.is_for_packets_of(model));
            let known = place.map(|place| before.remove(place));
            same &= place == Some(0);
            let pool = model.pool.as_ref().map(|name| pool(pools, name, model.source.addr()));
            now.push(match known {
                Some(mut known) => {
                    if known.rule.pool != pool || *known.rule.counts.profile != profile {
                        let counts = Destination {
                            profile: Arc::new(profile.clone()),
                            ..Destination::clone(&known.rule.counts)
                        };
                        known.rule = SnatRule { pool, counts: Arc::new(counts), ..known.rule };
                        put(&mut self.by_id, &known.rule.counts);
                        same = false;
                    }
                    known.model.clone_from(model);
                    known
                }
                None => self.begin_rule(model, pool, &profile),
            });
        }
        for mut known in before {
            if known.gone.is_none() {
                let counts = Destination { available: false, ..Destination::clone(&known.rule.counts) };
                known.rule.counts = Arc::new(counts);
                put(&mut self.by_id, &known.rule.counts);
                same = false;
            }
            let since = *known.gone.get_or_insert(generation);
            if since > self.acknowledged || known.references() != 0 {
                now.push(known);
                continue;
            }
            let id = known.rule.counts.id;
            self.destination_ids.give_back(id, generation);
            self.by_id[id as usize] = None;
            same = false;
        }
        self.rules = now;
        if !same {
            self.same_ways = false;
            self.compiled_rules = self.rules.iter().map(|known| known.rule.clone()).collect();
        }
        self.compiled_rules.clone()
    }

    pub(crate) fn snat_rules(&self) -> impl Iterator<Item = &SnatRule> {
        self.rules.iter().filter(|known| known.gone.is_none()).map(|known| &known.rule)
    }

    fn begin_rule(&mut self, model: &Snat, pool: Option<Arc<[LocalRange]>>, profile: &Profile) -> KnownRule {
        let id = self.destination_ids.take();
        let network = |net: ipnet::IpNet| (net.network(), net.prefix_len());
        let counts = Arc::new(Destination {
            id,
            service: GATEWAY,
            protocol: 0,
            address: unspecified(model.source.addr().is_ipv6()),
            port: 0,
            forward: Forward::FullNat,
            tunnel: Tunnel::default(),
            tunnel_sources: Arc::default(),
            local: false,
            weight: 1,
            last_weight: 1,
            thresholds: Thresholds::new(0, 0),
            available: true,
            counters: self.destination_cells.begin(id),
            profile: Arc::new(profile.clone()),
        });
        put(&mut self.by_id, &counts);
        let rule = SnatRule {
            name: model.name.clone(),
            source: network(model.source),
            destination: model.destination.map(network),
            protocol: model.protocol.map(|protocol| protocol.number(model.family())),
            ports: model.destination_ports.iter().map(|range| (range.first, range.last)).collect(),
            pool,
            counts,
            refused: Arc::new(PerWorker::new(self.workers)),
        };
        KnownRule { model: model.clone(), rule, gone: None }
    }
}

/// The addresses of a pool that are of the family of `like`; none where there is no such pool.
fn pool(pools: &Pools, name: &str, like: IpAddr) -> Arc<[LocalRange]> {
    let ranges = pools.get(name).into_iter().flat_map(|ranges| ranges.iter());
    ranges.filter(|range| range.address.is_ipv6() == like.is_ipv6()).copied().collect()
}
