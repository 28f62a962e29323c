//! The schedulers one by one; against a kernel's choices in `recorded`, against plain models (`model`) in `histories`.

mod bench;
mod histories;
mod model;
mod recorded;

use std::collections::HashSet;
use std::sync::Arc;

use super::{NAMES, Scheduler, build, build_fresh};
use crate::snapshot::Destination;
use bench::{REQUEST, WORKERS, added, destination};

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

#[test]
fn every_name_builds_and_no_other() {
    let names = "rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos";
    assert_eq!(NAMES.join(" "), names);
    for name in NAMES {
        assert_eq!(build(name, 0, &[]).unwrap().name(), *name);
    }
    for unknown in ["", "RR", "sedx"] {
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
        let chosen = build(name, 0, &list).unwrap().choose(&list, &REQUEST);
        assert_eq!(chosen.is_some(), *name != "ovf", "{name}");
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
