//! A SYN flood on a full table, mixed with established connections.

use std::sync::Arc;

use fulcrum_director::Event;
use fulcrum_dpdk::{BURST, Mempool};
use fulcrum_model::{Family, Forward};
use fulcrum_packet::tcp;

use crate::feed::Stream;
use crate::frames::{Flows, Template};
use crate::measure::{Effort, median};
use crate::plan::{M, plain};
use crate::table::{self, Lost, Table, drain, feed};
use crate::weather::Weather;

/// Established connections. As many again fill the table up.
const ESTABLISHED: usize = M / 2;
/// SYNs of clients that never were, before the first come again.
const SPOOFED: usize = 1 << 22;
/// Of each burst.
const SHARE: usize = 4;
/// SYNs per second that the worker has to bear.
const FLOOD: f64 = 1e6;

/// What a flood does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    /// Nanoseconds per established packet without the flood.
    pub(crate) calm: f64,
    /// Nanoseconds that each SYN costs the worker, what it does to established packets included.
    pub(crate) syn: f64,
    /// Share of their rate that established packets keep under a million SYNs a second.
    pub(crate) kept: f64,
    /// Sessions that made room meanwhile.
    pub(crate) reclaimed: u64,
    /// As of [`crate::measure::Cost`].
    pub(crate) foul: usize,
}

pub(crate) const NAME: &str = "fullnat flood 1m 64b ipv4";

/// Measures established packets alone and with a flood in turns; no established session may be lost.
pub(crate) fn measure(pool: Mempool, effort: Effort, weather: &mut Weather) -> Result<Flood, Lost> {
    let world = plain(Family::V4, Forward::FullNat);
    let mut table = Table::open_with_room(pool, world, ESTABLISHED, 2 * ESTABLISHED)?;
    let mut spoofed = Flows::new(world.family, SPOOFED);
    (0..SPOOFED).for_each(|number| spoofed.push(&world.request(ESTABLISHED * 2 + number)));
    spoofed.shuffle(6);
    let established = Stream::of(&table.requests, Template::new(world.family, 64));
    let flood = Stream::of(&Arc::new(spoofed), Template::with_flags(world.family, 64, tcp::SYN));

    feed(&mut table.worker).set_stream(Some(established));
    feed(&mut table.worker).mix(flood, SHARE);
    // Until the table is full.
    let room = (ESTABLISHED + SPOOFED / 4) * BURST / SHARE;
    table.slice(room as u64);
    let reclaimed = table.worker.counters().happened(Event::SessionReclaimed);
    weather.begin();
    let (slices, foul) = weather.measure(effort.slices, || {
        feed(&mut table.worker).set_share(0);
        let alone = table.slice(effort.packets);
        feed(&mut table.worker).set_share(SHARE);
        let burst = table.slice(effort.packets) * BURST as f64;
        (alone, (burst - alone * (BURST - SHARE) as f64) / SHARE as f64)
    });
    let (mut calm, mut syn): (Vec<f64>, Vec<f64>) = slices.into_iter().unzip();
    let (calm, syn) = (median(&mut calm), median(&mut syn));
    let reclaimed = table.worker.counters().happened(Event::SessionReclaimed) - reclaimed;
    if reclaimed == 0 {
        return Err(Lost("the table did not become full".to_owned()));
    }

    feed(&mut table.worker).set_share(0);
    let before = (feed(&mut table.worker).given, drain(&mut table.worker).taken);
    table.slice(ESTABLISHED as u64);
    let given = feed(&mut table.worker).given - before.0;
    let taken = drain(&mut table.worker).taken - before.1;
    if given != taken {
        let drops = table::drops(table.worker.counters());
        return Err(Lost(format!(
            "after the flood {taken} of {given} established packets came out: {drops}"
        )));
    }
    Ok(Flood { calm, syn, kept: (1.0 - FLOOD * syn * 1e-9).clamp(0.0, 1.0), reclaimed, foul })
}
