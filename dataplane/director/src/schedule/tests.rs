//! The schedulers against sequences recorded from a kernel, and against a plain model of its lists.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{NAMES, Request, Scheduler, build, build_fresh};
use crate::counters::PerWorker;
use crate::snapshot::{Destination, DestinationId, Forward, Tunnel};

const WORKERS: usize = 2;

const REQUEST: Request = Request {
    client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    client_port: 40000,
    vip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)),
    vip_port: 80,
    now: 0,
    chance: 0,
};

fn destination(id: DestinationId, weight: u32) -> Arc<Destination> {
    Arc::new(Destination {
        id,
        service: 0,
        protocol: 6,
        address: [10, 1, 0, 1].into(),
        port: 80,
        forward: Forward::Nat,
        tunnel: Tunnel::default(),
        weight,
        available: true,
        counters: Arc::new(PerWorker::new(WORKERS)),
        service_counters: Arc::new(PerWorker::new(WORKERS)),
        profile: Arc::default(),
    })
}

/// Servers 1, 2, 3… with these weights, added in this order: the list is newest first.
fn added(weights: &[u32]) -> Vec<Arc<Destination>> {
    let mut list: Vec<_> = (1..).zip(weights).map(|(id, weight)| destination(id, *weight)).collect();
    list.reverse();
    list
}

/// The ids of `n` successive choices; each connection stays open, or ends before the next one comes.
fn choices(scheduler: &dyn Scheduler, list: &[Arc<Destination>], n: usize, stay_open: bool) -> String {
    let mut ids = String::new();
    for turn in 0..n {
        let Some(index) = scheduler.choose(list, &REQUEST) else {
            ids.push('-');
            continue;
        };
        ids.push_str(&list[index].id.to_string());
        let cells = list[index].counters.of(turn % WORKERS);
        if stay_open { cells.active.add(1) } else { cells.inactive.add(1) }
    }
    ids
}

/// Recorded from Linux 6.1: scheduler, weights of servers 1, 2, 3 in order of addition, whether connections stay
/// open, the servers of successive connections.
const RECORDED: &[(&str, [u32; 3], bool, &str)] = &[
    ("rr", [3, 2, 1], true, "321321321321321321321321321321"),
    ("rr", [1, 1, 1], false, "321321321321321321321321321321"),
    ("rr", [1, 0, 1], false, "313131313131"),
    ("wrr", [3, 2, 1], false, "321121321121321121321121321121"),
    ("wrr", [3, 2, 1], true, "321121321121321121321121321121"),
    ("wrr", [1, 1, 1], true, "321321321321321321321321321321"),
    ("wrr", [10, 5, 0], false, "211211211211211211211211211211"),
    ("lc", [3, 2, 1], false, "321321321321321321321321321321"),
    ("lc", [1, 1, 1], false, "321321321321321321321321321321"),
    ("lc", [1, 1, 1], true, "321321321321321321321321321321"),
    ("wlc", [3, 2, 1], true, "321121321121321121321121321121"),
    ("wlc", [1, 1, 1], false, "321321321321321321321321321321"),
    ("wlc", [0, 0, 1], true, "333333"),
];

#[test]
fn choices_are_those_recorded_from_a_kernel() {
    for (name, weights, stay_open, expected) in RECORDED {
        let list = added(weights);
        let scheduler = build_fresh(name, 0, &list).unwrap();
        let got = choices(&*scheduler, &list, expected.len(), *stay_open);
        assert_eq!(got, *expected, "{name} {weights:?} stay open: {stay_open}");
    }
}

/// Histories recorded from Linux 6.1, servers with ids in order of addition: `+1:6` adds server 1 with weight 6,
/// `~1:3` edits it, `-1` deletes it; in between the servers of successive connections, `-` where there was none.
const HISTORIES: &[(&str, &str)] = &[
    (
        "wrr",
        "+1:1 1111111 +2:0 111 +3:4 31333 ~3:3 33 +4:4 4 ~4:3 4314343 ~1:6 43114 -2 4311431 +5:2 5 +6:0 \
     5431111 ~5:6 51 ~1:4 51 ~5:3 1543154 ~4:1 53 ~5:2 5 ~6:6 6 ~4:0 653 ~6:3 6531653 ~3:2 653 ~5:4 \
     65315 ~1:3 56 ~5:3 65 -6 515 +7:4 7531753 ~3:4 75317 -5 7 ~1:2 7373173 ~7:6 73 +8:6 87",
    ),
    (
        "wrr",
        "+1:0 - +2:0 --- ~1:6 111 -1 ------- +3:0 ------- ~2:3 22222 ~3:4 32332 ~3:0 2 -3 222 +4:4 42442 \
     ~2:4 42 +5:1 5 +6:2 65 +7:6 7654277 -7 4242642 +8:4 86428 ~8:2 8654242 -5 42864 +9:4 98642 ~9:1 \
     98642 -8 9642424 ~6:6 64264 ~6:4 6429642 ~9:3 96 -4 9626296 -6 929 -9 222 ~2:3 2222222 ~2:6 \
     2222222 ~2:2 2",
    ),
    (
        "rr",
        "+1:1 1111111 +2:6 21 -2 1111111 +3:0 1111111 +4:4 414 ~3:4 3143143 ~3:6 14 +5:100 31 ~5:6 5 ~1:2 \
     4 ~4:3 3154315 ~5:3 4315431 ~3:2 5 +6:1 43165 ~4:6 43165 ~4:3 4316543 ~5:4 165 ~6:3 4316543 ~4:6 \
     1 ~4:4 65 ~6:0 43 ~6:2 165 ~1:3 43165 ~4:0 31653 ~1:2 16531 ~5:0 6",
    ),
    (
        "wrr",
        "+1:1 111 +2:0 11111 ~1:0 - +3:4 3333333 -1 33 ~3:2 33 ~2:2 32 +4:100 432 ~3:1 43 -3 424 +5:6 444 \
     ~4:4 55 +6:1 54542 -2 5465455 ~5:0 444 ~6:2 4644644 +7:4 74764 ~6:3 76474 +8:1 747 -4 7 +9:4 976 \
     ~9:6 97697 ~7:1 96 ~8:2 98 -8 9697699 -6 999 ~5:6 95 -9 5575555 ~5:0 777",
    ),
];

#[test]
fn edits_between_choices_are_taken_as_recorded_from_a_kernel() {
    for (name, history) in HISTORIES {
        let mut list: Vec<Arc<Destination>> = Vec::new();
        let mut scheduler = build_fresh(name, 0, &[]).unwrap();
        for (at, word) in history.split(' ').enumerate() {
            let old = list.clone();
            let (kind, rest) = word.split_at(1);
            let server = |text: &str| {
                let (id, weight) = text.split_once(':').unwrap();
                destination(id.parse().unwrap(), weight.parse().unwrap())
            };
            match kind {
                "+" => list.insert(0, server(rest)),
                "~" => {
                    let edited = server(rest);
                    let place = list.iter().position(|d| d.id == edited.id).unwrap();
                    list[place] = edited;
                }
                "-" if !rest.is_empty() && !rest.starts_with('-') => {
                    list.retain(|d| d.id.to_string() != rest);
                }
                _ => {
                    let got = choices(&*scheduler, &list, word.len(), true);
                    assert_eq!(got, word, "{name}, word {at} of {history}");
                    continue;
                }
            }
            scheduler = scheduler.carry_over(0, &old, &list);
        }
    }
}

#[test]
fn every_name_builds_and_no_other() {
    assert_eq!(NAMES, ["rr", "wrr", "lc", "wlc"]);
    for name in NAMES {
        assert_eq!(build(name, 0, &[]).unwrap().name(), *name);
    }
    for unknown in ["", "RR", "sed"] {
        assert!(build(unknown, 0, &[]).is_none(), "{unknown}");
    }
}

#[test]
fn nobody_is_chosen_when_nobody_may_be() {
    for name in NAMES {
        for weights in [&[][..], &[0], &[0, 0, 0]] {
            let list = added(weights);
            assert_eq!(build(name, 0, &list).unwrap().choose(&list, &REQUEST), None, "{name} {weights:?}");
            assert_eq!(
                build_fresh(name, 0, &list).unwrap().choose(&list, &REQUEST),
                None,
                "{name} {weights:?}"
            );
        }
    }
}

#[test]
fn a_scheduler_set_later_starts_with_the_heaviest() {
    let list = added(&[3, 2, 1]);
    assert_eq!(choices(&*build("wrr", 0, &list).unwrap(), &list, 7, true), "1213211");
}

#[test]
fn wrr_gives_each_its_weight() {
    let list = added(&[2, 3, 4]);
    let scheduler = build("wrr", 0, &list).unwrap();
    assert_eq!(choices(&*scheduler, &list, 9, true), "332321321");
}

#[test]
fn an_active_connection_weighs_257_others() {
    for name in ["lc", "wlc"] {
        let list = added(&[1, 1]);
        let scheduler = build(name, 0, &list).unwrap();
        list[0].counters.of(0).active.add(1);
        // Spread over the workers; what counts is the sum.
        list[1].counters.of(0).inactive.add(200);
        list[1].counters.of(1).inactive.add(56);
        assert_eq!(scheduler.choose(&list, &REQUEST), Some(1), "{name}");
        list[1].counters.of(1).inactive.add(1);
        assert_eq!(scheduler.choose(&list, &REQUEST), Some(0), "{name}: of equals the newest");
        list[0].counters.of(1).inactive.add(1);
        assert_eq!(scheduler.choose(&list, &REQUEST), Some(1), "{name}");
    }
}

#[test]
fn loads_and_weights_at_their_limits_do_not_overflow() {
    let list = added(&[65535, u32::MAX]);
    for cell in [&list[0], &list[1]] {
        cell.counters.of(0).active.add(u64::MAX >> 1);
        cell.counters.of(1).inactive.add(u64::MAX >> 1);
    }
    for name in NAMES {
        assert!(build(name, 0, &list).unwrap().choose(&list, &REQUEST).is_some(), "{name}");
    }
    // A count read while a session moved from one worker's cell to another's.
    let list = added(&[1, 1]);
    list[1].counters.of(0).active.sub_one();
    assert_eq!(build("wlc", 0, &list).unwrap().choose(&list, &REQUEST), Some(0));
}

#[test]
fn rr_goes_on_after_edits() {
    let one_two_three = added(&[1, 1, 1]);
    let rr = build_fresh("rr", 0, &one_two_three).unwrap();
    assert_eq!(choices(&*rr, &one_two_three, 2, true), "32");

    // Server 4 comes in front; server 1 is still next.
    let mut with_four = vec![destination(4, 1)];
    with_four.extend(one_two_three.iter().cloned());
    let after = rr.carry_over(0, &one_two_three, &with_four);
    assert_eq!(choices(&*after, &with_four, 5, true), "14321");

    // The server chosen last goes: the one after it is still next.
    let without_two = vec![one_two_three[0].clone(), one_two_three[2].clone()];
    assert_eq!(choices(&*rr.carry_over(0, &one_two_three, &without_two), &without_two, 3, true), "131");

    // All that were chosen go: from the top.
    let only_one = vec![one_two_three[2].clone()];
    assert_eq!(choices(&*rr.carry_over(0, &one_two_three, &only_one), &only_one, 2, true), "11");
}

#[test]
fn workers_that_choose_at_once_share_one_sequence() {
    for name in ["rr", "wrr"] {
        let list = added(&[5, 3, 2, 0]);
        let scheduler = build_fresh(name, 0, &list).unwrap();
        let counts = std::thread::scope(|scope| {
            let worker = || {
                let mut counts = [0u32; 4];
                for _ in 0..30_000 {
                    counts[scheduler.choose(&list, &REQUEST).unwrap()] += 1;
                }
                counts
            };
            let workers: Vec<_> = (0..3).map(|_| scope.spawn(worker)).collect();
            let sum = |a: [u32; 4], b: [u32; 4]| std::array::from_fn(|i| a[i] + b[i]);
            workers.into_iter().map(|w| w.join().unwrap()).fold([0; 4], sum)
        });
        let expected = if name == "rr" { [0, 30_000, 30_000, 30_000] } else { [0, 18_000, 27_000, 45_000] };
        assert_eq!(counts, expected, "{name}");
    }
}

/// The kernel's lists and cursors, kept the plain way: by server, edited one step at a time.
#[derive(Clone, Debug, Default)]
struct Model {
    /// (id, weight), newest first.
    list: Vec<(DestinationId, u32)>,
    /// Server that the walk stands on; `None`: the list's head.
    at: Option<DestinationId>,
    bar: i64,
}

impl Model {
    fn after(&self, at: Option<DestinationId>) -> usize {
        at.map_or(0, |id| self.list.iter().position(|(d, _)| *d == id).unwrap() + 1)
    }

    fn rr(&mut self) -> Option<DestinationId> {
        let start = self.after(self.at);
        let order: Vec<_> = self.list[start..].iter().chain(&self.list[..start]).collect();
        let (id, _) = **order.iter().find(|(_, weight)| *weight > 0)?;
        self.at = Some(id);
        self.at
    }

    fn divisor(&self) -> i64 {
        let largest = self.largest();
        (1..=largest.max(1))
            .rev()
            .find(|d| largest > 0 && self.list.iter().all(|(_, w)| i64::from(*w) % d == 0))
            .unwrap_or(1)
    }

    fn largest(&self) -> i64 {
        self.list.iter().map(|(_, weight)| i64::from(*weight)).max().unwrap_or(0)
    }

    fn top(&self) -> i64 {
        self.largest() - (self.divisor() - 1)
    }

    fn wrr_edited(&mut self) {
        self.at = None;
        if self.bar > self.top() || self.bar == 0 {
            self.bar = self.top();
        } else if self.divisor() > 1 {
            self.bar = self.bar / self.divisor() * self.divisor() + 1;
        }
    }

    fn wrr(&mut self) -> Option<DestinationId> {
        if self.largest() == 0 {
            return None;
        }
        loop {
            let start = self.after(self.at);
            if let Some((id, _)) = self.list[start..].iter().find(|(_, w)| i64::from(*w) >= self.bar) {
                self.at = Some(*id);
                return self.at;
            }
            self.at = None;
            self.bar -= self.divisor();
            if self.bar <= 0 {
                self.bar = self.top();
            }
        }
    }

    /// Deletes the server; rr steps back when it stood on it.
    fn delete(&mut self, id: DestinationId) {
        let place = self.after(Some(id)) - 1;
        if self.at == Some(id) {
            self.at = place.checked_sub(1).map(|before| self.list[before].0);
        }
        self.list.remove(place);
    }
}

/// A small generator: the tests need variety, not quality.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn long_random_histories_agree_with_the_model() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        for name in ["rr", "wrr"] {
            let mut list: Vec<Arc<Destination>> = Vec::new();
            let mut scheduler = build(name, 0, &[]).unwrap();
            let mut model = Model::default();
            let mut next_id = 0;
            for step in 0..120 {
                let old = list.clone();
                match dice.roll(8) {
                    0 if list.len() < 8 => {
                        let weight = u32::try_from([0, 1, 2, 4, 6, 100][dice.roll(6) as usize]).unwrap();
                        list.insert(0, destination(next_id, weight));
                        model.list.insert(0, (next_id, weight));
                        next_id += 1;
                    }
                    1 if !list.is_empty() => {
                        let gone = list.remove(dice.roll(list.len() as u64) as usize);
                        model.delete(gone.id);
                    }
                    2 if !list.is_empty() => {
                        let i = dice.roll(list.len() as u64) as usize;
                        let weight = dice.roll(7) as u32;
                        if list[i].weight == weight {
                            continue;
                        }
                        list[i] = destination(list[i].id, weight);
                        model.list[i].1 = weight;
                    }
                    _ => {
                        let got = scheduler.choose(&list, &REQUEST).map(|i| list[i].id);
                        let expected = if name == "rr" { model.rr() } else { model.wrr() };
                        assert_eq!(got, expected, "{name}, seed {seed}, step {step}, {model:?}");
                        continue;
                    }
                }
                if name == "wrr" {
                    model.wrr_edited();
                }
                scheduler = scheduler.carry_over(0, &old, &list);
            }
        }
    }
}

#[test]
fn several_edits_at_once_are_taken_one_at_a_time() {
    // 1 goes, then 4 and 5 come, then 3 changes.
    let old = added(&[4, 2, 6]);
    let wrr = build_fresh("wrr", 0, &old).unwrap();
    choices(&*wrr, &old, 4, true);
    let steps = [
        vec![destination(3, 6), destination(2, 2)],
        vec![destination(4, 9), destination(3, 6), destination(2, 2)],
        vec![destination(5, 3), destination(4, 9), destination(3, 6), destination(2, 2)],
        vec![destination(5, 3), destination(4, 9), destination(3, 12), destination(2, 2)],
    ];
    let at_once = wrr.carry_over(0, &old, &steps[3]);
    let mut one_by_one = wrr.carry_over(0, &old, &steps[0]);
    for pair in steps.windows(2) {
        one_by_one = one_by_one.carry_over(0, &pair[0], &pair[1]);
    }
    let sequence = choices(&*at_once, &steps[3], 40, true);
    assert_eq!(sequence, choices(&*one_by_one, &steps[3], 40, true));
    let chosen: HashSet<char> = sequence.chars().collect();
    assert_eq!(chosen, HashSet::from(['2', '3', '4', '5']));
}
