//! A director with sessions: one or more workers whose connections were opened through the engine itself.

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::{
    Buf as _, Engine, EngineConfig, Event, InitialNumbers, Nanos, Reason, SECOND, Snapshot, WorkerCounters,
};
use fulcrum_dpdk::{BURST, Mempool};
use fulcrum_model::Forward;
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp};
use fulcrum_program::{PortFacts, Program};
use fulcrum_runtime::harness::{self, Harness, Parts};

use crate::feed::{Drain, Feed, MacSwap, Stream};
use crate::frames::{self, DIRECTOR, Flows, Segment, Tuple};
use crate::machine;
use crate::measure::Clock;
use crate::world::World;

/// A worker with the engine.
pub(crate) type Ours = Harness<Engine<Mempool>, Feed, Drain>;
/// A worker with the least that can be done.
pub(crate) type Ceiling = Harness<MacSwap, Feed, Drain>;

/// What was offered did not come out as it should have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Lost(pub(crate) String);

/// What compiles states for one worker with one port.
pub(crate) fn program() -> Program {
    program_for(1)
}

pub(crate) fn program_for(workers: usize) -> Program {
    Program::new(
        workers,
        vec![PortFacts { name: "port".to_owned(), mac: DIRECTOR, partial_checksums: false }],
    )
}

/// Workers with room for `sessions` each, programmed with `snapshot`.
pub(crate) fn crew(pool: Mempool, workers: u16, sessions: usize, snapshot: &Arc<Snapshot>) -> Vec<Ours> {
    let parts = |worker| {
        let counters = Arc::new(WorkerCounters::new(1));
        let config = EngineConfig {
            worker,
            workers,
            sessions,
            seed: 1,
            numbers: InitialNumbers::of_seed(1),
            announce: false,
            misdirect: false,
            short_way: true,
        };
        Parts {
            director: Engine::new(config, Arc::clone(snapshot), Arc::clone(&counters)),
            counters,
            ingress: vec![Feed::new(pool)],
            egress: vec![Drain::default()],
        }
    };
    harness::crew(pool, (0..workers).map(parts).collect())
}

/// A worker that only turns frames round.
pub(crate) fn ceiling(pool: Mempool) -> Ceiling {
    let counters = Arc::new(WorkerCounters::new(1));
    let ingress = vec![Feed::new(pool)];
    let parts = Parts { director: MacSwap, counters, ingress, egress: vec![Drain::default()] };
    harness::crew(pool, vec![parts]).pop().expect("one part, one worker")
}

/// The feed and the drain of a worker's only port.
pub(crate) fn feed<D: fulcrum_runtime::Decide>(worker: &mut Harness<D, Feed, Drain>) -> &mut Feed {
    worker.ingress(0).expect("every worker here has one port")
}

pub(crate) fn drain<D: fulcrum_runtime::Decide>(worker: &mut Harness<D, Feed, Drain>) -> &mut Drain {
    worker.egress(0).expect("every worker here has one port")
}

/// A worker with established sessions.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) world: World,
    pub(crate) worker: Ours,
    pub(crate) requests: Arc<Flows>,
    /// Of servers, where they come back through the director.
    pub(crate) replies: Option<Arc<Flows>>,
    /// Bytes of memory that a session took.
    pub(crate) session_bytes: f64,
    pub(crate) clock: Clock,
}

/// Room beside the sessions that a table is made with.
const SPARE: usize = 4096;
/// Over which connections are opened, on a virtual clock: as after a while of service, timers are due at all times,
/// not all at once.
pub(crate) const OPENING: Nanos = 120 * SECOND;
/// Sequence numbers of servers.
const SERVER_SEQ: u32 = 0x1000_0000;

impl Table {
    /// Opens `sessions` connections: SYN, SYN and ACK of the server where the director sees it, ACK.
    pub(crate) fn open(pool: Mempool, world: World, sessions: usize) -> Result<Table, Lost> {
        Table::open_with_room(pool, world, sessions, sessions + SPARE)
    }

    /// The same with room for more sessions.
    pub(crate) fn open_with_room(
        pool: Mempool,
        world: World,
        sessions: usize,
        room: usize,
    ) -> Result<Table, Lost> {
        let (snapshot, _) = program().compile(&world.state(), 1);
        let memory = machine::resident();
        let worker = crew(pool, 1, room, &snapshot).pop().expect("one worker was asked for");
        let flows = || Flows::new(world.family, sessions);
        let mut requests = flows();
        let mut replies = world.answers_return().then(flows);
        let (none, session_bytes) = (Arc::new(Flows::new(world.family, 0)), 0.0);
        let mut table =
            Table { world, worker, requests: none, replies: None, session_bytes, clock: Clock::at(OPENING) };
        drain(&mut table.worker).kept = Some(Vec::with_capacity(BURST));
        for first in (0..sessions).step_by(BURST) {
            let now = OPENING * first as u64 / sessions as u64;
            table.open_some(now, first..sessions.min(first + BURST), &mut requests, &mut replies)?;
        }
        drain(&mut table.worker).kept = None;
        if table.worker.director().session_count() != sessions {
            return Err(Lost(format!(
                "{} of {sessions} sessions came about: {}",
                table.worker.director().session_count(),
                drops(table.worker.counters())
            )));
        }
        let ours = requests.bytes() + replies.as_ref().map_or(0, Flows::bytes);
        let memory = machine::resident().saturating_sub(memory + ours);
        table.session_bytes = memory as f64 / sessions as f64;
        requests.shuffle(2);
        if let Some(replies) = &mut replies {
            replies.shuffle(3);
        }
        table.requests = Arc::new(requests);
        table.replies = replies.map(Arc::new);
        Ok(table)
    }

    fn open_some(
        &mut self,
        now: Nanos,
        numbers: std::ops::Range<usize>,
        requests: &mut Flows,
        replies: &mut Option<Flows>,
    ) -> Result<(), Lost> {
        for number in numbers.clone() {
            let tuple = self.world.request(number);
            requests.push(&tuple);
            feed(&mut self.worker).offer(&tuple, Segment::bare(tcp::SYN, number as u32, 0));
        }
        let forwarded = self.turn_out(now, numbers.len())?;
        if let Some(replies) = replies {
            for (number, tuple) in &forwarded {
                let answer = Tuple { src: tuple.dst, sport: tuple.dport, dst: tuple.src, dport: tuple.sport };
                replies.push(&answer);
                let segment =
                    Segment::bare(tcp::SYN | tcp::ACK, SERVER_SEQ.wrapping_add(*number), number + 1);
                feed(&mut self.worker).offer(&answer, segment);
            }
            self.turn_out(now, numbers.len())?;
        }
        for number in numbers.clone() {
            let tuple = self.world.request(number);
            let (seq, ack) = (number as u32 + 1, SERVER_SEQ.wrapping_add(number as u32 + 1));
            feed(&mut self.worker).offer(&tuple, Segment::bare(tcp::ACK, seq, ack));
        }
        self.turn_out(now, numbers.len()).map(drop)
    }

    /// Takes one turn, out of which `count` frames must come; their sequence numbers and tuples.
    fn turn_out(&mut self, now: Nanos, count: usize) -> Result<Vec<(u32, Tuple)>, Lost> {
        self.worker.turn(now);
        let kept = drain(&mut self.worker).kept.as_mut().expect("set by the caller");
        if kept.len() != count {
            let lost = format!("{count} frames went in, {} came out", kept.len());
            return Err(Lost(format!("{lost}: {}", drops(self.worker.counters()))));
        }
        let tunnelled = self.world.forward == Forward::Tun;
        let seen =
            kept.iter().map(|frame| if tunnelled { None } else { seen(frame.bytes()) }).collect::<Vec<_>>();
        kept.clear();
        Ok(seen.into_iter().flatten().collect())
    }

    /// Nanoseconds per packet, over at least `packets` packets.
    pub(crate) fn slice(&mut self, packets: u64) -> f64 {
        self.clock.slice(&mut self.worker, packets)
    }

    /// Sends a burst of `stream` through and looks at what comes out.
    pub(crate) fn check(&mut self, stream: &Stream) -> Result<(), Lost> {
        feed(&mut self.worker).set_stream(Some(stream.clone()));
        drain(&mut self.worker).kept = Some(Vec::with_capacity(BURST));
        self.worker.turn(self.clock.tick());
        let kept = drain(&mut self.worker).kept.take().unwrap_or_default();
        if kept.len() != BURST {
            return Err(Lost(format!("{BURST} frames went in, {} came out", kept.len())));
        }
        for frame in &kept {
            if let Some(fault) = frames::fault(frame.bytes()) {
                return Err(Lost(format!("a frame came out with {fault}")));
            }
            if frame.bytes()[..6] == DIRECTOR {
                return Err(Lost("a frame came out for the director itself".to_owned()));
            }
        }
        Ok(())
    }
}

/// Sequence number and tuple of a TCP frame.
pub(crate) fn seen(frame: &[u8]) -> Option<(u32, Tuple)> {
    let bytes = &frame[ethernet::HEADER..];
    let (src, dst, at): (IpAddr, IpAddr, usize) = match u16::from_be_bytes([frame[12], frame[13]]) {
        ethernet::IPV4 => {
            let ip = ipv4::Packet::new_checked(bytes).ok()?;
            (ip.src().into(), ip.dst().into(), ip.header_len())
        }
        ethernet::IPV6 => {
            let ip = ipv6::Packet::new_checked(bytes).ok()?;
            (ip.src().into(), ip.dst().into(), ipv6::HEADER)
        }
        _ => return None,
    };
    let segment = tcp::Segment::new_checked(&bytes[at..]).ok()?;
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    Some((segment.seq(), Tuple { src, dst, sport: port(at), dport: port(at + 2) }))
}

/// Why packets were dropped, in words.
pub(crate) fn drops(counters: &WorkerCounters) -> String {
    let dropped: Vec<String> = Reason::ALL
        .iter()
        .filter_map(|&reason| match counters.dropped(reason) {
            0 => None,
            count => Some(format!("{count} {}", reason.name())),
        })
        .collect();
    if dropped.is_empty() { "nothing was dropped".to_owned() } else { dropped.join(", ") }
}

/// Packets that were forwarded by sessions so far.
pub(crate) fn forwarded(counters: &WorkerCounters) -> u64 {
    [
        Event::ForwardedNat,
        Event::ForwardedFullNat,
        Event::ForwardedDr,
        Event::ForwardedTun,
        Event::ForwardedReply,
    ]
    .into_iter()
    .map(|event| counters.happened(event))
    .sum()
}
