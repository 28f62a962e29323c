//! Connections that come and go, on a virtual clock that turns as fast as keeps a million of them alive.

use std::sync::Arc;

use fulcrum_director::{Event, Nanos, SECOND};
use fulcrum_dpdk::{BURST, Mbuf, Mempool};
use fulcrum_machine::thread_time;
use fulcrum_model::Forward;
use fulcrum_packet::tcp;

use crate::feed::Stream;
use crate::frames::{Flows, Template};
use crate::measure::{Effort, median};
use crate::table::{self, Lost, Ours, crew, drain, feed};
use crate::weather::Weather;
use crate::world::World;

/// Different connections, which come again when the first ones are long over.
const DIFFERENT: usize = 1 << 22;
/// Connections alive at any time.
const LIVE: u64 = 1_000_000;

/// How far a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// A SYN, and nothing after it.
    Syn,
    /// Opened, one request, one answer, closed by both ends.
    Whole,
}

impl Life {
    /// How long the session stays after its last packet. // IPVS: tcp_timeouts, SYN_RECV and TIME_WAIT
    fn afterlife(self) -> Nanos {
        match self {
            Life::Syn => 60 * SECOND,
            Life::Whole => 120 * SECOND,
        }
    }
}

/// What a client does and what its server answers, in turns.
const CONVERSATION: [(u8, Option<u8>, usize); 5] = [
    (tcp::SYN, Some(tcp::SYN | tcp::ACK), 64),
    (tcp::ACK, None, 64),
    (tcp::PSH | tcp::ACK, Some(tcp::PSH | tcp::ACK), 128),
    (tcp::FIN | tcp::ACK, Some(tcp::FIN | tcp::ACK), 64),
    (tcp::ACK, None, 64),
];

/// A worker whose connections come and go.
#[derive(Debug)]
pub(crate) struct Churn {
    worker: Ours,
    life: Life,
    answers: bool,
    now: Nanos,
    /// Of each packet of a client.
    templates: Vec<Arc<[Template]>>,
    frames: Vec<Mbuf>,
}

/// What a connection took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    /// Thread CPU time from creation to expiry, its packets included, in nanoseconds: the median slice.
    pub(crate) ns: f64,
    /// Packets of each.
    pub(crate) packets: f64,
    /// As of [`crate::measure::Cost`].
    pub(crate) foul: usize,
}

impl Churn {
    /// As many connections as will be alive from now on, so that as many end as begin.
    pub(crate) fn start(pool: Mempool, world: World, life: Life) -> Result<Churn, Lost> {
        let mut flows = Flows::new(world.family, DIFFERENT);
        (0..DIFFERENT).for_each(|number| flows.push(&world.request(number)));
        flows.shuffle(5);
        let flows = Arc::new(flows);
        let (snapshot, _) = table::program().compile(&world.state(), 1);
        let room = LIVE as usize * 5 / 4;
        let mut worker = crew(pool, 1, room, &snapshot).pop().expect("one worker was asked for");
        let syn = Template::with_flags(world.family, 64, tcp::SYN);
        feed(&mut worker).set_stream(Some(Stream::of(&flows, syn)));
        let template = |(flags, _, wire): (u8, Option<u8>, usize)| {
            Arc::from([Template::with_flags(world.family, wire, flags)])
        };
        let mut churn = Churn {
            worker,
            life,
            answers: world.answers_return(),
            now: SECOND,
            templates: CONVERSATION.map(template).into(),
            frames: Vec::with_capacity(BURST),
        };
        for _ in 0..LIVE * 3 / 2 / BURST as u64 {
            churn.batch();
        }
        let live = churn.worker.director().session_count() as u64;
        if !(LIVE * 9 / 10..LIVE * 11 / 10).contains(&live) {
            return Err(Lost(format!(
                "{live} sessions live, not {LIVE}: {}",
                table::drops(churn.worker.counters())
            )));
        }
        Ok(churn)
    }

    /// Takes a burst of connections as far as they go.
    pub(crate) fn batch(&mut self) {
        self.now += self.life.afterlife() * BURST as u64 / LIVE;
        match self.life {
            Life::Syn => self.worker.turn(self.now),
            Life::Whole => self.conversation(),
        }
    }

    fn conversation(&mut self) {
        for (step, (_, answer, _)) in CONVERSATION.into_iter().enumerate() {
            let back = if step == 0 { 0 } else { BURST };
            if let Some(stream) = feed(&mut self.worker).stream() {
                stream.again(back, &self.templates[step]);
            }
            let answer = answer.filter(|_| self.answers);
            if answer.is_some() {
                drain(&mut self.worker).kept = Some(std::mem::take(&mut self.frames));
            }
            self.worker.turn(self.now);
            if let Some(flags) = answer {
                self.frames = drain(&mut self.worker).kept.take().unwrap_or_default();
                feed(&mut self.worker).answer(&mut self.frames, flags);
                self.worker.turn(self.now);
            }
        }
    }

    /// What a connection takes; as many must end as begin, and every packet must be forwarded.
    pub(crate) fn measure(&mut self, effort: Effort, weather: &mut Weather) -> Result<Connection, Lost> {
        let share = match self.life {
            Life::Syn => 4,
            Life::Whole => 16,
        };
        let batches = effort.packets / share / BURST as u64;
        let before = self.state();
        let mut count = 0;
        let (mut times, foul) = weather.measure(effort.slices, || {
            let start = thread_time();
            (0..batches).for_each(|_| self.batch());
            count += batches * BURST as u64;
            (thread_time() - start).as_nanos() as f64 / (batches * BURST as u64) as f64
        });
        let after = self.state();
        let [given, forwarded, created, expired] = std::array::from_fn(|i| after[i] - before[i]);
        if given != forwarded || created != count || expired.abs_diff(created) > created / 20 {
            return Err(Lost(format!(
                "{count} connections of {given} packets: {forwarded} forwarded, {created} sessions created, \
                 {expired} expired, {}",
                table::drops(self.worker.counters())
            )));
        }
        Ok(Connection { ns: median(&mut times), packets: given as f64 / count as f64, foul })
    }

    /// Packets offered so far.
    pub(crate) fn given(&mut self) -> u64 {
        feed(&mut self.worker).given
    }

    fn state(&mut self) -> [u64; 4] {
        let given = self.given();
        let counters = self.worker.counters();
        let happened = |event| counters.happened(event);
        [given, table::forwarded(counters), happened(Event::SessionCreated), happened(Event::SessionExpired)]
    }
}

/// Which rows there are.
pub(crate) fn rows() -> Vec<(World, Life)> {
    let of = |life| {
        [Forward::FullNat, Forward::Nat, Forward::Dr]
            .map(|forward| (crate::plan::plain(fulcrum_model::Family::V4, forward), life))
    };
    [Life::Syn, Life::Whole].into_iter().flat_map(of).collect()
}

/// A row's words.
pub(crate) fn name(world: &World, life: Life) -> String {
    let life = match life {
        Life::Syn => "new",
        Life::Whole => "short",
    };
    format!("{} connections {life} 1m 64b {}", crate::plan::word(world.forward), world.family.name())
}
