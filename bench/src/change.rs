//! How long a change of the configuration holds packets up.

use std::sync::Arc;

use fulcrum_director::Snapshot;
use fulcrum_dpdk::Mempool;
use fulcrum_machine::thread_time;
use fulcrum_model::{Family, Forward, State};

use crate::feed::Stream;
use crate::frames::Template;
use crate::measure::median;
use crate::plan::{K, SERVERS, plain};
use crate::table::{self, Lost, Table, feed};
use crate::world::World;

/// What taking in a change of ten thousand services does to a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldUp {
    /// Microseconds of thread CPU time of a turn with 64 packets, most of the time.
    pub(crate) turn: f64,
    /// Microseconds by which the longest turn about a change is longer: the median round of the worst change.
    pub(crate) longest: f64,
    /// Which change that is.
    pub(crate) change: &'static str,
}

pub(crate) const NAME: &str = "fullnat change 10000-services";

const SERVICES: usize = 10_000;
const ROUNDS: usize = 7;
/// Turns after a change that are looked at.
const TURNS: usize = 64;

/// Goes through every change, again and again, while packets flow.
pub(crate) fn measure(pool: Mempool) -> Result<HoldUp, Lost> {
    let small = plain(Family::V4, Forward::FullNat);
    let mut table = Table::open(pool, small, 64 * K)?;
    let stream = Stream::of(&table.requests, Template::new(small.family, 64));
    feed(&mut table.worker).set_stream(Some(stream));

    let mut program = table::program();
    let states = states(small);
    let mut longest = states.each_ref().map(|_| Vec::new());
    let mut turns = Vec::new();
    let mut generation = 1;
    for _ in 0..ROUNDS {
        for ((_, state), longest) in states.iter().zip(&mut longest) {
            generation += 1;
            let (snapshot, _) = program.compile(state, generation);
            longest.push(one(&mut table, &snapshot, &mut turns));
            if table.worker.installed() != generation {
                return Err(Lost(format!("configuration {generation} was not taken in {TURNS} turns")));
            }
            program.acknowledged(generation);
        }
    }
    let turn = median(&mut turns);
    let worst = states.iter().zip(&mut longest).map(|((change, _), longest)| (*change, median(longest)));
    let (change, longest) = worst.max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are changes");
    Ok(HoldUp { turn, longest: longest - turn, change })
}

/// What the configuration goes over to in turn, and what that changes.
fn states(small: World) -> [(&'static str, State); 5] {
    let mut all = World { services: SERVICES, ..small }.state();
    // Neighbours by hand are for few; others are learned.
    let gateway = all.neighbours.pop();
    all.neighbours.truncate(SERVERS);
    all.neighbours.extend(gateway);
    let others = |change: fn(&mut fulcrum_model::Server)| {
        let mut state = all.clone();
        // The first service's sessions are those that packets flow in.
        state.services[1..].iter_mut().flat_map(|service| &mut service.servers).for_each(change);
        state
    };
    let reweighed = others(|server| server.weight = 7);
    let methods = others(|server| (server.weight, server.forward) = (7, Forward::Nat));
    let mut gone = small.state();
    gone.settings.expire_nodest_conn = true;
    [
        ("all come", all),
        ("all weights change", reweighed),
        ("all methods change", methods),
        ("all go", gone),
        ("a setting changes", small.state()),
    ]
}

/// The longest of the turns from a change on, in microseconds.
fn one(table: &mut Table, snapshot: &Arc<Snapshot>, turns: &mut Vec<f64>) -> f64 {
    let mut longest = 0f64;
    for number in 0..2 * TURNS {
        if number == TURNS {
            table.worker.install(snapshot);
        }
        let now = table.clock.tick();
        let start = thread_time();
        table.worker.turn(now);
        let took = (thread_time() - start).as_nanos() as f64 / 1e3;
        if number < TURNS {
            turns.push(took);
        } else {
            longest = longest.max(took);
        }
    }
    longest
}
