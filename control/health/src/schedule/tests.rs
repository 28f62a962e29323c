//! The schedule by itself, with a clock that the tests turn.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use fulcrum_model::Check;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::target::Verdict;

const LIMITS: Limits = Limits { sockets: 1000, programs: 2 };

fn at(elapsed: Duration) -> Moment {
    Moment { elapsed, wall: SystemTime::UNIX_EPOCH + elapsed }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn target(number: u32, interval: Duration) -> Target {
    let check = Check { interval, rise: 2, fall: 2, ..Check::new("any", CheckKind::Tcp) };
    Target::new(&check, IpAddr::V4(Ipv4Addr::from_bits(0x7f00_0000 + number)), 80, None)
}

/// Runs a schedule until `end`. A probe takes `takes` and has the outcome that `answer` gives it. Every start by target.
fn run(
    schedule: &mut Schedule,
    end: Duration,
    takes: Duration,
    answer: impl Fn(&Target, Duration) -> Outcome,
) -> HashMap<Target, Vec<Duration>> {
    let mut starts: HashMap<Target, Vec<Duration>> = HashMap::new();
    let mut under_way: BTreeSet<(Duration, Id)> = BTreeSet::new();
    let mut targets = HashMap::new();
    let mut now = Duration::ZERO;
    loop {
        for (id, target) in schedule.start(at(now)) {
            starts.entry(target.clone()).or_default().push(now);
            under_way.insert((now + takes, id));
            targets.insert(id, target);
        }
        let next = schedule.wake().into_iter().chain(under_way.first().map(|(when, _)| *when)).min();
        let Some(next) = next.filter(|next| *next <= end) else { return starts };
        assert!(next >= now, "a turn in the past that was not taken");
        now = next;
        while let Some((_, id)) = under_way.first().copied().filter(|(when, _)| *when <= now) {
            under_way.pop_first();
            schedule.done(id, answer(&targets[&id], now), at(now));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_target_has_its_turns(intervals in vec(100..5000u64, 1..60), takes in 0..90u64) {
        let mut schedule = Schedule::new(LIMITS);
        let targets: Vec<Target> = (0..).zip(&intervals).map(|(n, ms)| target(n, millis(*ms))).collect();
        schedule.set_targets(targets.clone(), at(Duration::ZERO));
        let starts = run(&mut schedule, millis(20_000), millis(takes), |_, _| Outcome::Good);
        for target in targets {
            let (interval, starts) = (target.check.interval, &starts[&target]);
            prop_assert!(starts[0] <= interval);
            for (nth, pair) in starts.windows(2).enumerate() {
                let (gap, least) = (pair[1] - pair[0], if nth == 0 { 0.5 } else { 0.9 });
                prop_assert!(gap <= interval + millis(1), "{gap:?} of {interval:?}");
                prop_assert!(gap >= interval.mul_f64(least).min(millis(takes)), "{gap:?} of {interval:?}");
            }
            let report = schedule.report(&target).unwrap();
            prop_assert_eq!(report.verdict, Verdict::Up);
            prop_assert!(report.good >= starts.len() as u64 - 1);
        }
    }

    #[test]
    fn targets_come_and_go(sets in vec(vec(0..12u32, 0..12), 1..12), takes in 0..400u64) {
        let mut schedule = Schedule::new(Limits { sockets: 3, programs: 1 });
        let mut now = Duration::ZERO;
        let mut under_way: Vec<(Duration, Id)> = Vec::new();
        for set in sets {
            let before: HashMap<Target, Report> = schedule.reports().map(|r| (r.target.clone(), r)).collect();
            let wanted: HashSet<Target> = set.iter().map(|n| target(*n, millis(300))).collect();
            let gone = schedule.set_targets(wanted.clone(), at(now));
            prop_assert_eq!(gone.len(), before.keys().filter(|target| !wanted.contains(target)).count());
            let there: HashSet<Target> = schedule.reports().map(|report| report.target).collect();
            prop_assert_eq!(&there, &wanted);
            for (target, report) in before.iter().filter(|(target, _)| wanted.contains(target)) {
                prop_assert_eq!(schedule.report(target), Some(report.clone()));
            }
            for _ in 0..20 {
                now += millis(50);
                for (_, id) in under_way.extract_if(.., |(when, _)| *when <= now) {
                    schedule.done(id, Outcome::Good, at(now));
                }
                under_way.extend(schedule.start(at(now)).into_iter().map(|(id, _)| (now + millis(takes), id)));
                prop_assert!(schedule.running() <= 3);
            }
        }
        schedule.set_targets([], at(now));
        prop_assert_eq!((schedule.running(), schedule.wake()), (0, None));
    }
}

#[test]
fn new_targets_do_not_begin_together() {
    let mut schedule = Schedule::new(LIMITS);
    schedule.set_targets((0..1000).map(|n| target(n, millis(5000))), at(Duration::ZERO));
    let starts = run(&mut schedule, millis(20_000), millis(1), |_, _| Outcome::Good);
    for turn in 0..3 {
        let mut begun: Vec<Duration> = starts.values().map(|starts| starts[turn]).collect();
        begun.sort();
        let most = begun.windows(50).filter(|window| window[49] - window[0] < millis(10)).count();
        assert_eq!(most, 0, "no 50 of 1000 within a hundredth of a second, in turn {turn}");
    }
    assert!(starts.values().all(|starts| starts[0] <= millis(1000)), "soon for all that");
}

#[test]
fn one_server_that_fails_is_the_one_that_is_down() {
    let mut schedule = Schedule::new(LIMITS);
    let (dead, interval) = (target(7, millis(1000)), millis(1000));
    schedule.set_targets((0..20).map(|n| target(n, interval)), at(Duration::ZERO));
    let fails = |target: &Target, now: Duration| match *target == dead && now > millis(5000) {
        true => Outcome::Bad("connection refused".to_owned()),
        false => Outcome::Good,
    };
    let before = schedule.changes();
    run(&mut schedule, millis(5000), Duration::ZERO, fails);
    assert_eq!(schedule.changes() - before, 20, "everybody came up once");
    run(&mut schedule, millis(5000) + interval * 2, Duration::ZERO, fails);
    let down: Vec<Report> = schedule.reports().filter(|report| report.verdict == Verdict::Down).collect();
    let [report] = &down[..] else { panic!("{down:?}") };
    assert_eq!((&report.target, report.last_error.as_deref()), (&dead, Some("connection refused")));
    assert!(report.since <= SystemTime::UNIX_EPOCH + millis(5000) + interval * 2, "fall × interval");
}

#[test]
fn what_cannot_be_asked_in_time_is_unknown() {
    let mut schedule = Schedule::new(Limits { sockets: 1, programs: 1 });
    let (one, two) = (target(1, millis(100)), target(2, millis(100)));
    schedule.set_targets([one.clone(), two.clone()], at(Duration::ZERO));
    // The first one never ends.
    let started = schedule.start(at(millis(100)));
    let [(_, first)] = &started[..] else { panic!("{started:?}") };
    let waiting = if *first == one { two } else { one };
    let wake = schedule.wake().expect("the one that waits is to be told");
    schedule.start(at(wake));
    let report = schedule.report(&waiting).unwrap();
    assert_eq!((report.verdict, report.unasked), (Verdict::Unknown, 1));
    let why = "1 probes are under way, no more fit in this process's limits";
    assert_eq!(report.last_error.as_deref(), Some(why));
    assert!(schedule.report(first).unwrap().last_error.is_none());
}

#[test]
fn other_times_change_nothing_that_is_known() {
    let mut schedule = Schedule::new(LIMITS);
    let (old, new, elsewhere) = (target(1, millis(1000)), target(1, millis(300)), target(2, millis(300)));
    schedule.set_targets([old.clone()], at(Duration::ZERO));
    run(&mut schedule, millis(1000), Duration::ZERO, |_, _| Outcome::Good);
    let before = schedule.report(&old).unwrap();
    schedule.set_targets([new.clone(), elsewhere.clone()], at(millis(2000)));
    let after = schedule.report(&new).unwrap();
    assert_eq!((after.verdict, after.since, after.good), (Verdict::Up, before.since, before.good));
    assert!(after.changed > before.changed);
    assert_eq!(schedule.report(&elsewhere).unwrap().verdict, Verdict::Unknown);
    let starts = run(&mut schedule, millis(9000), Duration::ZERO, |_, _| Outcome::Good);
    assert!(starts[&new].len() > 20 && starts[&elsewhere].len() > 20 && !starts.contains_key(&old));
}

#[test]
fn names_make_no_other_target() {
    let check = |name: &str| Arc::new(Check::new(name, CheckKind::Tcp));
    let target = |name: &str, port| Target::new(&check(name), IpAddr::from([127, 0, 0, 1]), port, None);
    let mut schedule = Schedule::new(LIMITS);
    schedule.set_targets([target("a", 80), target("b", 80), target("a", 81)], at(Duration::ZERO));
    assert_eq!(schedule.reports().count(), 2);
}
