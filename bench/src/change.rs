//! How long a change of the configuration holds packets up.

use std::sync::Arc;

use fulcrum_dpdk::Mempool;
use fulcrum_machine::thread_time;
use fulcrum_model::{Family, Forward};

use crate::feed::Stream;
use crate::frames::Template;
use crate::measure::median;
use crate::plan::{K, SERVERS, plain};
use crate::table::{self, Lost, Table, feed};
use crate::world::World;

/// What taking in a configuration of ten thousand services does to a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldUp {
    /// Microseconds of thread CPU time of a turn with 64 packets, most of the time.
    pub(crate) turn: f64,
    /// Microseconds by which the longest turn about the change is longer: the median change.
    pub(crate) longest: f64,
}

pub(crate) const NAME: &str = "fullnat change 10000-services";

const SERVICES: usize = 10_000;
const CHANGES: usize = 7;
/// Turns after a change that are looked at.
const TURNS: usize = 64;

/// Changes between one service and ten thousand while packets flow.
pub(crate) fn measure(pool: Mempool) -> Result<HoldUp, Lost> {
    let small = plain(Family::V4, Forward::FullNat);
    let large = World { services: SERVICES, ..small };
    let mut table = Table::open(pool, small, 64 * K)?;
    let stream = Stream::of(&table.requests, Template::new(small.family, 64));
    feed(&mut table.worker).set_stream(Some(stream));

    let mut program = table::program();
    let mut state = large.state();
    // Neighbours by hand are for few; others are learned.
    let gateway = state.neighbours.pop();
    state.neighbours.truncate(SERVERS);
    state.neighbours.extend(gateway);
    let mut longest = Vec::new();
    let mut turns = Vec::new();
    for change in 0..2 * CHANGES as u64 {
        let (snapshot, _) = if change % 2 == 0 {
            program.compile(&state, 2 + change)
        } else {
            program.compile(&small.state(), 2 + change)
        };
        let taken = one(&mut table, &snapshot, &mut turns);
        program.acknowledged(2 + change);
        if change % 2 == 0 {
            longest.push(taken);
        }
        drop(snapshot);
    }
    let turn = median(&mut turns);
    Ok(HoldUp { turn, longest: median(&mut longest) - turn })
}

/// The longest of the turns from a change on, in microseconds.
fn one(table: &mut Table, snapshot: &Arc<fulcrum_director::Snapshot>, turns: &mut Vec<f64>) -> f64 {
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
