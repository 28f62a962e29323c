//! Services and servers as they are told of: what is known of them, and what was counted, side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use fulcrum_api::control::{ServerStanding, ServiceStanding};
use fulcrum_api::dataplane::{Counters, LocalPoolUse, ServerCounters, ServiceCounters};
use fulcrum_model::{Server, ServerKey, Service, ServiceKey, State};

use crate::verdict::keeper::Known;
use crate::vip::announce::{Board, Standing};
use crate::vip::possession::{Possession, vips_of};

/// All services, as far as there is room for each.
#[derive(Debug, Default)]
pub struct Views {
    /// In the order of the desired state, as many as are told of one by one.
    pub services: Vec<ServiceView>,
    /// Services that there are.
    pub service_count: usize,
    /// Servers that there are.
    pub server_count: usize,
    /// Services and servers without series of their own.
    pub omitted: (usize, usize),
    /// How many servers are in which state, by its name.
    pub states: BTreeMap<String, u64>,
    /// Use of their pools by rules that masquerade: sessions, and ports that were found taken.
    pub masqueraded: HashMap<String, (u64, u64)>,
}

/// VIPs, as far as there is room for each.
#[derive(Debug, Default)]
pub struct VipsView {
    /// VIPs that there are.
    pub count: usize,
    /// Of these, those that the director does not have.
    pub released: usize,
    /// For how long all announcements are withdrawn still.
    pub withdrawn: Duration,
    /// Whether the director has each, in order.
    pub held: Vec<(String, bool)>,
    /// Whether each is where it is to be announced: VIP, interface.
    pub places: Vec<(String, String, bool)>,
}

impl VipsView {
    /// The VIPs of a state, of which `limit` are told of one by one.
    pub fn new(state: &State, possession: &Possession, board: &Board, limit: usize) -> VipsView {
        let vips = vips_of(state);
        let told: BTreeSet<IpAddr> = vips.iter().copied().take(limit).collect();
        let places = board.places();
        let places = places.iter().filter(|((_, vip), _)| told.contains(vip));
        VipsView {
            count: vips.len(),
            released: vips.iter().filter(|vip| !possession.has(**vip)).count(),
            withdrawn: board.withdrawal().map_or(Duration::ZERO, |(left, _)| left),
            held: told.iter().map(|vip| (vip.to_string(), possession.has(*vip))).collect(),
            places: places
                .map(|((name, vip), standing)| {
                    (vip.to_string(), name.clone(), *standing == Standing::Announced)
                })
                .collect(),
        }
    }
}

/// A service and what was counted of it.
#[derive(Debug, Default)]
pub struct ServiceView {
    /// Its name, such as `tcp 172.16.100.9:80`.
    pub name: String,
    /// Its scheduler.
    pub scheduler: String,
    /// Its protocol, `mark` for a service by mark.
    pub protocol: &'static str,
    /// Absent without a data plane, or when this one does not have it yet.
    pub counters: Option<Counters>,
    /// Its servers that there are.
    pub server_count: usize,
    /// Of these, those that take new connections.
    pub available: usize,
    /// Its weight as far as it is healthy, and the weight below which it counts as failed.
    pub quorum: (u64, u64),
    /// It has lost its quorum.
    pub quorum_lost: bool,
    /// Its sorry server answers.
    pub sorry: bool,
    /// Sessions of all its servers: active, inactive.
    pub sessions: (u64, u64),
    /// Its use of local addresses: sessions, and ports that were found taken; absent when it uses none.
    pub local: Option<(u64, u64)>,
    /// Its servers: all of them, or none when there are too many.
    pub servers: Vec<ServerView>,
}

/// A server and what was counted of it.
#[derive(Debug, Default)]
pub struct ServerView {
    /// Its address and port.
    pub name: String,
    /// As configured.
    pub weight: u32,
    /// In the data plane, absent when it is not there.
    pub effective_weight: Option<u32>,
    /// How it is, in a word.
    pub state: String,
    /// What checks say of it.
    pub checks: Vec<CheckView>,
    /// What was counted.
    pub counted: Option<ServerCounted>,
}

/// A check of a server.
#[derive(Debug)]
pub struct CheckView {
    /// Its name, or its kind where it has none; with a number where there are several of that name.
    pub name: String,
    /// What it says.
    pub verdict: &'static str,
    /// How long the last probe took.
    pub took: Option<Duration>,
    /// Probes so far: good, bad, and not made.
    pub probes: [u64; 3],
}

/// What the data plane counted of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerCounted {
    /// Since they were zeroed.
    pub counters: Counters,
    /// Sessions that are established.
    pub active: u64,
    /// Other sessions.
    pub inactive: u64,
}

/// The states of servers, all of which are told of, even those that no server is in.
const STATES: [&str; 6] = ["up", "down", "unknown", "unchecked", "draining", "disabled"];

impl Views {
    /// What is known and was counted, as far as `limit` allows. Which services and servers that are follows from the
    /// desired state alone, so that series do not come and go.
    pub fn new(known: &Known, counted: Vec<ServiceCounters>, uses: &[LocalPoolUse], limit: usize) -> Views {
        let by_key: HashMap<ServiceKey, ServiceCounters> = counted
            .into_iter()
            .filter_map(|service| Some((ServiceKey::try_from(service.key.clone()?).ok()?, service)))
            .collect();
        let mut locals: HashMap<&str, (u64, u64)> = HashMap::new();
        for used in uses {
            let (sessions, conflicts) = locals.entry(&used.service).or_default();
            *sessions += used.sessions;
            *conflicts += used.conflicts;
        }
        let desired = &known.desired.state.services;
        let server_count = desired.iter().map(|service| service.servers.len()).sum();
        let mut states: BTreeMap<String, u64> = STATES.iter().map(|state| ((*state).to_owned(), 0)).collect();
        let (mut services, mut room) = (Vec::new(), limit);
        for (at, (service, standing)) in std::iter::zip(desired, known.standings(None)).enumerate() {
            for server in &standing.servers {
                *states.entry(server.state.clone()).or_default() += 1;
            }
            if at >= limit {
                continue;
            }
            let counted = by_key.get(&service.key);
            let servers = match service.servers.len() <= room {
                true => servers(known, at, service, &standing, counted),
                false => Vec::new(),
            };
            room -= servers.len();
            let view = view(service, &standing, counted);
            services.push(ServiceView { local: locals.get(view.name.as_str()).copied(), servers, ..view });
        }
        let omitted = (desired.len() - services.len(), server_count - (limit - room));
        let rule = |(name, used): (&str, _)| Some((name.strip_prefix("snat ")?.to_owned(), used));
        let masqueraded = locals.into_iter().filter_map(rule).collect();
        Views { services, service_count: desired.len(), server_count, omitted, states, masqueraded }
    }
}

fn view(service: &Service, standing: &ServiceStanding, counted: Option<&ServiceCounters>) -> ServiceView {
    let counted_servers = counted.map_or(&[][..], |counted| &counted.servers);
    let sum = |count: fn(&ServerCounters) -> u64| counted_servers.iter().map(count).sum();
    ServiceView {
        name: service.key.to_string(),
        scheduler: service.scheduler.clone(),
        protocol: service.key.protocol().map_or("mark", |protocol| protocol.name()),
        counters: counted.map(|counted| counted.counters.unwrap_or_default()),
        server_count: service.servers.len(),
        available: standing
            .servers
            .iter()
            .filter(|server| server.weight.is_some_and(|weight| weight > 0))
            .count(),
        quorum: (standing.healthy_weight, standing.quorum.into()),
        quorum_lost: standing.quorum_lost_ms.is_some(),
        sorry: standing.sorry,
        sessions: (sum(|server| server.active), sum(|server| server.inactive)),
        local: None,
        servers: Vec::new(),
    }
}

fn servers(
    known: &Known,
    at: usize,
    service: &Service,
    standing: &ServiceStanding,
    counted: Option<&ServiceCounters>,
) -> Vec<ServerView> {
    let by_key: HashMap<ServerKey, &ServerCounters> = counted
        .iter()
        .flat_map(|counted| &counted.servers)
        .filter_map(|server| Some((ServerKey::try_from(server.key.clone()?).ok()?, server)))
        .collect();
    let server = |(nth, (server, standing)): (usize, (&Server, &ServerStanding))| ServerView {
        name: server.key.to_string(),
        weight: server.weight,
        effective_weight: standing.weight,
        state: standing.state.clone(),
        checks: checks(known, at, nth),
        counted: by_key.get(&server.key).map(|counted| ServerCounted {
            counters: counted.counters.unwrap_or_default(),
            active: counted.active,
            inactive: counted.inactive,
        }),
    };
    std::iter::zip(&service.servers, &standing.servers).enumerate().map(server).collect()
}

/// The checks of a server, by the places of its service and of itself.
fn checks(known: &Known, at: usize, nth: usize) -> Vec<CheckView> {
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let mut checks = Vec::new();
    for ask in known.plan.of(at, nth) {
        let number = seen.entry(&ask.check).or_default();
        *number += 1;
        let name = if *number == 1 { ask.check.to_string() } else { format!("{} {number}", ask.check) };
        let report = known.reports.get(ask.place).and_then(Option::as_ref);
        checks.push(CheckView {
            name,
            verdict: report.map(|report| report.verdict).unwrap_or_default().name(),
            took: report.and_then(|report| report.took),
            probes: report.map_or([0; 3], |report| [report.good, report.bad, report.unasked]),
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fulcrum_model::{Config, State};

    use super::*;
    use crate::desired::Revision;
    use crate::verdict::memory::Memory;
    use crate::verdict::plan::Plan;

    fn state(services: &[usize]) -> Arc<State> {
        let text: String = services
            .iter()
            .enumerate()
            .map(|(n, servers)| {
                let servers = (0..*servers).map(|m| {
                    format!("[[service.server]]\naddress = \"192.168.20.{m}:80\"\nforward = \"dr\"\nweight = {m}\n")
                });
                format!("[[service]]\naddress = \"172.16.100.{n}:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n")
                    + &servers.collect::<String>()
            })
            .collect();
        Arc::new(Config::parse("test", &text).unwrap().state)
    }

    /// That state, nothing of which has been checked.
    fn known(state: Arc<State>) -> Known {
        Known {
            plan: Arc::new(Plan::new(&state)),
            reports: Arc::default(),
            memory: Memory::default(),
            effective: state.clone(),
            desired: Revision { number: 1, fingerprint: 0, state },
        }
    }

    #[test]
    fn a_service_has_series_for_all_of_its_servers_or_for_none() {
        let known = known(state(&[2, 4, 1, 3]));
        let told = |limit| {
            let views = Views::new(&known, Vec::new(), &[], limit);
            assert_eq!((views.service_count, views.server_count), (4, 10));
            assert_eq!(views.states["unchecked"], 10);
            (views.services.iter().map(|view| view.servers.len()).collect::<Vec<_>>(), views.omitted)
        };
        assert_eq!(told(100), (vec![2, 4, 1, 3], (0, 0)));
        assert_eq!(told(10), (vec![2, 4, 1, 3], (0, 0)));
        assert_eq!(told(5), (vec![2, 0, 1, 0], (0, 7)));
        assert_eq!(told(3), (vec![2, 0, 1], (1, 7)));
        assert_eq!(told(0), (vec![], (4, 10)));
        let view = &Views::new(&known, Vec::new(), &[], 5).services[1];
        assert_eq!((view.server_count, view.available), (4, 3), "sums are of all servers");
    }
}
