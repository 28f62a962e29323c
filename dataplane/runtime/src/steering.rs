//! How packets come to the workers that own their flows: what each port is asked for, what it says it does, and what
//! all of them agree on.
//!
//! That is decided once, at start, because sessions stay with the workers that have them. A device that turns out to
//! do otherwise (`gauge`) costs a way to another worker and nothing else.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::Snapshot;
use fulcrum_director::rss::{KEY, Kinds, MAX_TABLE, Part, Rss, RssConfig};
use fulcrum_dpdk::{PortInfo, RssState, Spread};
use fulcrum_model::PortSteering;

use crate::deal;
use crate::gauge::{Gauge, Told};
use crate::ports::Port;
use crate::rules::{Outlook, Rules};

/// How packets of a port come to their owners.
#[derive(Debug)]
pub(crate) enum Way {
    /// Workers hand over what is not theirs; why not otherwise.
    Software(String),
    /// The device's hash decides.
    Rss {
        by: Spread,
        /// Entries of its table that lead to the owner, and all.
        entries: (usize, usize),
        told: Vec<Arc<Told>>,
    },
    /// Rules of the device do, for answers to local addresses.
    Flow(Rules),
}

impl Way {
    /// Its name, as the configuration's.
    pub(crate) fn name(&self) -> PortSteering {
        match self {
            Way::Software(_) => PortSteering::Software,
            Way::Rss { by: Spread::Both, .. } => PortSteering::Rss,
            Way::Rss { by: Spread::Source, .. } => PortSteering::RssSource,
            Way::Rss { by: Spread::Destination, .. } => PortSteering::RssDestination,
            Way::Flow(_) => PortSteering::Flow,
        }
    }

    /// How well it does, or why not otherwise.
    pub(crate) fn detail(&self) -> String {
        match self {
            Way::Software(why) => why.clone(),
            Way::Rss { entries: (some, all), .. } if some == all => {
                "every hash leads to its owner".to_owned()
            }
            Way::Rss { entries: (some, all), .. } => format!("{some} of {all} hashes lead to their owner"),
            Way::Flow(rules) => {
                let (some, all) = rules.addresses();
                format!("{} rules for {some} of {all} local addresses", rules.count())
            }
        }
    }

    /// Packets whose hash was compared, and of these those where device and director differed.
    pub(crate) fn compared(&self) -> (u64, u64) {
        let Way::Rss { told, .. } = self else { return (0, 0) };
        told.iter().fold((0, 0), |all, told| {
            let (agreed, disagreed) = told.so_far();
            (all.0 + agreed + disagreed, all.1 + disagreed)
        })
    }

    /// Gives up on the device of `port` if it does otherwise than it says; then says so.
    pub(crate) fn judge(&mut self, port: &str) {
        let (compared, disagreed) = self.compared();
        if crate::gauge::is_wrong(compared, disagreed) {
            let why = format!("the device hashed {disagreed} of {compared} packets otherwise than it says");
            tracing::warn!(port, "{why}: workers hand over what is not theirs");
            *self = Way::Software(why);
        }
    }
}

/// What a device is asked to hash by, when it is to do so.
pub(crate) fn wanted(
    steering: PortSteering,
    info: &PortInfo,
    workers: usize,
    rx_queues: u16,
    key: &[u8; KEY],
) -> Result<fulcrum_dpdk::RssConfig, String> {
    if workers == 1 {
        return Err("there is one worker".to_owned());
    }
    let by = match steering {
        PortSteering::Auto | PortSteering::Rss => Spread::Both,
        PortSteering::RssSource => Spread::Source,
        PortSteering::RssDestination => Spread::Destination,
        PortSteering::Software => return Err("asked for".to_owned()),
        PortSteering::Flow => return Err("asked to go by rules".to_owned()),
    };
    match () {
        () if !info.rss || info.rss_table == 0 => Err("the device has no RSS to be set up".to_owned()),
        () if rx_queues == 1 => Err("the device has one receive queue".to_owned()),
        () if by != Spread::Both && !info.rss_by_end => {
            Err(format!("the device cannot hash one end alone, as {steering} wants it"))
        }
        () => Ok(fulcrum_dpdk::RssConfig { key: *key, by }),
    }
}

/// A key for all devices: by chance, so that nobody can choose flows that meet at one worker; where one end counts, one
/// of 16 bits again and again, so that the same end has the same hash as source and as destination.
pub(crate) fn key(ports: &[fulcrum_model::Port], mut chance: impl FnMut() -> u64) -> [u8; KEY] {
    let by_end = |port: &fulcrum_model::Port| {
        matches!(port.steering, PortSteering::RssSource | PortSteering::RssDestination)
    };
    if ports.iter().any(by_end) {
        // An odd number of ones: then every value of 16 bits occurs. // Woo and Park: Scalable TCP session monitoring
        return std::array::from_fn(|n| [0x6d, 0x5a][n % 2]);
    }
    loop {
        let words: [u64; KEY / 8] = std::array::from_fn(|_| chance());
        let key: [u8; KEY] = std::array::from_fn(|n| words[n / 8].to_be_bytes()[n % 8]);
        if spreads_local_ports(&key) {
            return key;
        }
    }
}

/// Whether the ports of a local address reach every entry of the largest table, of either family.
fn spreads_local_ports(key: &[u8; KEY]) -> bool {
    [10, 34].into_iter().all(|place| {
        let mut independent: Vec<u32> = Vec::new();
        for bit in 0..16 {
            let mut input = [0; 36];
            input[place + bit / 8] = 0x80 >> (bit % 8);
            let mut value = fulcrum_director::rss::toeplitz(key, &input) & (MAX_TABLE as u32 - 1);
            for known in &independent {
                value = value.min(value ^ known);
            }
            if value != 0 {
                independent.push(value);
            }
        }
        independent.len() >= MAX_TABLE.ilog2() as usize
    })
}

/// Has started ports hash for their workers. By what hash owners are found, and a gauge, if one, for each receive
/// queue of each port.
pub(crate) fn settle(ports: &mut [Port], workers: usize) -> (Option<Arc<Rss>>, Vec<Vec<Option<Gauge>>>) {
    let mut gauges: Vec<Vec<Option<Gauge>>> =
        ports.iter().map(|port| (0..port.rx_queues).map(|_| None).collect()).collect();
    let mut candidates = Vec::new();
    for (number, port) in ports.iter_mut().enumerate() {
        let Some(config) = port.rss else { continue };
        // Some devices take a key with their configuration, others when they run.
        let mut state = port.port.rss();
        if !state.as_ref().is_ok_and(|state| state.key == config.key) && port.port.set_rss(&config).is_ok() {
            state = port.port.rss();
        }
        match state {
            Ok(state) => {
                let queues = usize::from(port.rx_queues);
                candidates.push(Candidate { number, queues, by: config.by, state });
            }
            Err(error) => port.way = Way::Software(error.to_string()),
        }
    }
    let (rss, members, refused) = agree(candidates, workers);
    for (number, why) in refused {
        ports[number].way = Way::Software(why);
    }
    for member in &members {
        let Some(rss) = &rss else { break };
        let port = &mut ports[member.number];
        let wanted = table(rss, member.number, member.queues, member.state.table.len(), workers);
        let refusal = port.port.set_rss_table(&wanted).err();
        let actual = port.port.rss().map_or_else(|_| member.state.table.clone(), |state| state.table);
        port.notes.extend(refusal.map(|error| error.to_string()));
        (port.way, gauges[member.number]) = way(rss, member, actual, workers);
    }
    for (number, port) in ports.iter_mut().enumerate() {
        let Way::Software(without) = &port.way else { continue };
        if workers == 1 || !matches!(port.steering, PortSteering::Auto | PortSteering::Flow) {
            continue;
        }
        let outlook = Outlook { number, queues: port.rx_queues.into(), workers };
        let rules = match &rss {
            Some(rss) if rss.config().answers.is_some() => {
                Err("other ports go by RSS, and there is one way for all".to_owned())
            }
            _ => Rules::probe(&mut port.port, outlook),
        };
        port.way = match rules {
            Ok(rules) => Way::Flow(rules),
            Err(why) if port.steering == PortSteering::Flow => Way::Software(why),
            Err(_) => Way::Software(without.clone()),
        };
    }
    for port in ports.iter() {
        tracing::info!(port = port.name, steering = %port.way.name(), "{}", port.way.detail());
    }
    (rss, gauges)
}

/// Has ports that go by rules keep them for the local addresses of `snapshot`.
pub(crate) fn follow(ports: &mut [Port], snapshot: &Snapshot) {
    let pools = snapshot.locals.iter().filter(|(_, local)| local.pool.is_some());
    let addresses: HashSet<IpAddr> = pools.map(|(address, _)| *address).collect();
    for port in ports {
        let Way::Flow(rules) = &mut port.way else { continue };
        if let Err(error) = rules.follow(&mut port.port, &addresses) {
            rules.clear(&mut port.port);
            tracing::warn!(port = port.name, "{error}: workers hand over what is not theirs");
            port.way = Way::Software(error.to_string());
        }
    }
}

/// A port that may hash, and what it says.
pub(crate) struct Candidate {
    /// Number of the port.
    pub(crate) number: usize,
    /// Its receive queues.
    pub(crate) queues: usize,
    /// What it was asked for.
    pub(crate) by: Spread,
    /// What it does.
    pub(crate) state: RssState,
}

/// A port's number, and why it cannot take part.
type Refusal = (usize, String);

/// What those candidates agree on that can take part; the others' reasons.
pub(crate) fn agree(
    candidates: Vec<Candidate>,
    workers: usize,
) -> (Option<Arc<Rss>>, Vec<Candidate>, Vec<Refusal>) {
    let by_end = candidates.iter().any(|candidate| candidate.by != Spread::Both);
    let to_servers = candidates.iter().any(|candidate| candidate.by == Spread::Destination);
    // That of most; of as many, the first one's: a device that keeps its own is none to go by.
    let keys = || candidates.iter().map(|candidate| candidate.state.key);
    let key = keys().rev().max_by_key(|key| keys().filter(|other| other == key).count()).unwrap_or([0; KEY]);
    let mut refused = Vec::new();
    let members: Vec<Candidate> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let state = &candidate.state;
            let why = match () {
                () if state.by != candidate.by => "the device hashes another end than it was asked for",
                () if state.kinds.is_empty() => "the device hashes no ports",
                () if !state.table.len().is_power_of_two() || state.table.len() < workers => {
                    "the device's redirection table is none of a power of two, or smaller than the number of workers"
                }
                () if state.key != key => "the device keeps a key that is not the other ports'",
                () if !spreads_local_ports(&state.key) => "the device keeps a key that tells few ports apart",
                () if by_end && !repeats(&state.key) => "the device keeps a key that tells source from destination",
                () if candidate.by == Spread::Both && to_servers => {
                    "another port hashes destinations alone, and there is one way for all"
                }
                () => return Some(candidate),
            };
            refused.push((candidate.number, why.to_owned()));
            None
        })
        .collect();
    let table = members.iter().map(|member| member.state.table.len()).min();
    let Some(table) = table else { return (None, members, refused) };
    let any = |by| members.iter().any(|member| member.by == by);
    let end = (any(Spread::Source) || any(Spread::Destination)).then_some(Part::End);
    let both = any(Spread::Both).then_some(Part::Both);
    let rss = Rss::new(RssConfig {
        key,
        table,
        workers: u16::try_from(workers).unwrap_or(u16::MAX),
        kinds: members.iter().fold(Kinds::default(), |all, member| all.or(member.state.kinds)),
        requests: end.or(both),
        answers: any(Spread::Destination).then_some(Part::End).or(both),
    });
    (Some(Arc::new(rss)), members, refused)
}

/// Whether a key is the same 16 bits again and again.
fn repeats(key: &[u8; KEY]) -> bool {
    key.chunks_exact(2).all(|pair| pair == &key[..2])
}

/// The table by which a port's frames come to the workers that own them, where these poll a queue of it.
pub(crate) fn table(rss: &Rss, port: usize, queues: usize, entries: usize, workers: usize) -> Vec<u16> {
    (0..entries)
        .map(|entry| {
            let owner = usize::from(rss.worker(u32::try_from(entry).unwrap_or(0)));
            let queue = (0..queues).find(|&queue| deal::receiver(port, queue, queues, workers) == owner);
            u16::try_from(queue.unwrap_or(entry % queues)).unwrap_or(0)
        })
        .collect()
}

/// The way of a port that hashes, by the table that it ends up with, and a gauge for each of its queues.
pub(crate) fn way(
    rss: &Arc<Rss>,
    candidate: &Candidate,
    table: Vec<u16>,
    workers: usize,
) -> (Way, Vec<Option<Gauge>>) {
    let Candidate { number, queues, by, state } = candidate;
    let leads = |(entry, queue): (usize, &u16)| {
        let owner = rss.worker(u32::try_from(entry).unwrap_or(0));
        deal::receiver(*number, (*queue).into(), *queues, workers) == usize::from(owner)
    };
    let right = table.iter().enumerate().filter(|&place| leads(place)).count();
    if right == 0 {
        let why = "the device's redirection table leads nowhere right".to_owned();
        return (Way::Software(why), (0..*queues).map(|_| None).collect());
    }
    let entries = (right, table.len());
    let table: Arc<[u16]> = table.into();
    let told: Vec<Arc<Told>> = (0..*queues).map(|_| Arc::default()).collect();
    let gauges = (0..).zip(&told).map(|(queue, told)| {
        Some(Gauge::new(rss.config().key, *by, state.kinds, Arc::clone(&table), queue, Arc::clone(told)))
    });
    let gauges = gauges.collect();
    (Way::Rss { by: *by, entries, told }, gauges)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const TCP4: Kinds = Kinds { tcp4: true, udp4: false, tcp6: false, udp6: false };

    fn chance() -> impl FnMut() -> u64 {
        let mut n = 7u64;
        move || {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            n ^ n >> 29
        }
    }

    fn any_key() -> [u8; KEY] {
        key(&[], chance())
    }

    fn candidate(number: usize, queues: usize, by: Spread, key: [u8; KEY], entries: usize) -> Candidate {
        let table = (0..entries).map(|entry| (entry % queues) as u16).collect();
        Candidate { number, queues, by, state: RssState { key, by, kinds: TCP4, table } }
    }

    fn port(steering: PortSteering) -> fulcrum_model::Port {
        fulcrum_model::Port {
            name: "wan".into(),
            device: "net_null0".into(),
            bond: None,
            mac: None,
            steering,
        }
    }

    #[test]
    fn keys_spread_local_ports_and_repeat_where_one_end_counts() {
        assert!(spreads_local_ports(&any_key()) && !repeats(&any_key()));
        let by_end = key(&[port(PortSteering::Auto), port(PortSteering::RssSource)], chance());
        assert!(spreads_local_ports(&by_end) && repeats(&by_end));
        assert!(!spreads_local_ports(&[0x55; KEY]), "ones and zeros in turn have two values");
    }

    #[test]
    fn ports_of_one_key_agree_on_the_smallest_table() {
        for workers in [2, 3, 8] {
            let queues = workers;
            let (rss, members, refused) = agree(
                vec![
                    candidate(0, queues, Spread::Both, any_key(), 512),
                    candidate(1, queues, Spread::Both, any_key(), 128),
                    candidate(2, queues, Spread::Both, [1; KEY], 128),
                ],
                workers,
            );
            let rss = rss.unwrap();
            assert_eq!((rss.config().table, members.len(), refused.len()), (128, 2, 1));
            assert_eq!((rss.config().requests, rss.config().answers), (Some(Part::Both), Some(Part::Both)));
            for member in &members {
                let entries = member.state.table.len();
                let table = table(&rss, member.number, queues, entries, workers);
                let (way, gauges) = way(&rss, member, table, workers);
                assert_eq!(way.detail(), "every hash leads to its owner");
                assert_eq!((way.name(), gauges.iter().flatten().count()), (PortSteering::Rss, queues));
            }
        }
    }

    #[test]
    fn a_port_that_keeps_a_key_of_its_own_does_not_count_for_the_others() {
        let own = any_key().map(u8::reverse_bits);
        assert!(spreads_local_ports(&own));
        let (rss, members, refused) = agree(
            [own, any_key(), any_key()]
                .into_iter()
                .zip(0..)
                .map(|(key, n)| candidate(n, 2, Spread::Both, key, 128))
                .collect(),
            2,
        );
        assert_eq!(rss.unwrap().config().key, any_key());
        assert_eq!(members.iter().map(|member| member.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(refused, [(0, "the device keeps a key that is not the other ports'".to_owned())]);
    }

    #[test]
    fn a_port_with_fewer_queues_than_workers_leads_to_those_that_poll_it() {
        let (workers, queues) = (8, 3);
        let (rss, members, _) = agree(vec![candidate(5, queues, Spread::Both, any_key(), 64)], workers);
        let rss = rss.unwrap();
        let table = table(&rss, 5, queues, 64, workers);
        assert!(table.iter().all(|&queue| usize::from(queue) < queues));
        let (way, _) = way(&rss, &members[0], table, workers);
        assert_eq!(way.detail(), "24 of 64 hashes lead to their owner");
    }

    #[test]
    fn a_device_that_keeps_everything_for_one_queue_is_right_for_one_worker() {
        let (rss, members, _) = agree(vec![candidate(0, 4, Spread::Both, any_key(), 128)], 4);
        let (way, _) = way(&rss.unwrap(), &members[0], vec![0; 128], 4);
        assert_eq!(way.detail(), "32 of 128 hashes lead to their owner");
    }

    #[test]
    fn ends_need_a_key_that_repeats_and_one_way_for_answers() {
        let by_end = key(&[port(PortSteering::RssSource)], chance());
        let (rss, members, refused) = agree(
            vec![
                candidate(0, 2, Spread::Source, by_end, 128),
                candidate(1, 2, Spread::Destination, by_end, 128),
                candidate(2, 2, Spread::Both, by_end, 128),
            ],
            2,
        );
        let rss = rss.unwrap();
        assert_eq!((rss.config().requests, rss.config().answers), (Some(Part::End), Some(Part::End)));
        assert_eq!(members.len(), 2);
        assert!(refused[0].1.contains("hashes destinations alone"), "{refused:?}");
        let (rss, ..) = agree(vec![candidate(0, 2, Spread::Source, any_key(), 128)], 2);
        assert!(rss.is_none(), "a key that tells source from destination");
        let (rss, members, _) = agree(
            vec![candidate(0, 2, Spread::Source, by_end, 128), candidate(1, 2, Spread::Both, by_end, 128)],
            2,
        );
        let rss = rss.unwrap();
        assert_eq!((rss.config().requests, rss.config().answers), (Some(Part::End), Some(Part::Both)));
        assert_eq!(members.len(), 2);
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_reason() {
        let refused = |state: fn(&mut RssState)| {
            let mut candidate = candidate(0, 2, Spread::Both, any_key(), 128);
            state(&mut candidate.state);
            let (rss, members, refused) = agree(vec![candidate], 2);
            assert!(rss.is_none() && members.is_empty());
            refused[0].1.clone()
        };
        assert!(refused(|state| state.kinds = Kinds::default()).contains("no ports"));
        assert!(refused(|state| state.table.truncate(100)).contains("power of two"));
        assert!(refused(|state| state.table.clear()).contains("power of two"));
        assert!(refused(|state| state.by = Spread::Source).contains("another end"));
        assert!(refused(|state| state.key = [0; KEY]).contains("few ports"));
    }

    #[test]
    fn a_device_that_does_otherwise_is_given_up_once() {
        let (rss, members, _) = agree(vec![candidate(0, 2, Spread::Both, any_key(), 128)], 2);
        let (mut way, _) = way(&rss.unwrap(), &members[0], members[0].state.table.clone(), 2);
        let Way::Rss { told, .. } = &way else { panic!("{way:?}") };
        let told = told.clone();
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || Copied(Arc::clone(&writer)))
            .with_ansi(false)
            .without_time()
            .finish();
        let said = || String::from_utf8(std::mem::take(&mut *log.lock().unwrap())).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            (0..7).for_each(|_| told[1].count(false));
            way.judge("wan");
            assert_eq!(
                (way.name(), said().as_str()),
                (PortSteering::Rss, ""),
                "these may be of a kind of their own"
            );
            told[0].count(false);
            way.judge("wan");
            let why = "the device hashed 8 of 8 packets otherwise than it says";
            assert_eq!((way.name(), way.detail().as_str()), (PortSteering::Software, why));
            let line = said();
            assert!(line.contains("WARN") && line.contains("port=\"wan\"") && line.contains(why), "{line}");
            way.judge("wan");
            assert_eq!(said(), "", "once is enough");
        });
    }

    /// A log that can be read.
    struct Copied(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Copied {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
