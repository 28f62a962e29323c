//! The loop of one worker: receive, decide, send, exchange with the others, answer the control thread.
//!
//! No lock, no allocation after warm-up, no system call but those by which an adaptive idle worker sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Instant;

use fulcrum_director::{Buf, Engine, Message, Nanos, Output, Reason, Received, WorkerCounters};
use fulcrum_dpdk::{BURST, Mbuf, Mempool, TxQueue, wait_for_frames};
use fulcrum_machine::{Appender, cycles, prefetch_unseen};

use crate::board::{Board, Stage};
use crate::ends::{Decide, Egress, Ingress};
use crate::exception::Uplink;
use crate::gauge::Inlet;
use crate::idle::{Idle, Rest};
use crate::mesh::Mesh;
use crate::orders::{Answer, Order, Slot};
use crate::tap::Tap;
use crate::translations::Outlet;
use crate::transmit::Transmitter;

/// Places of the session table looked at for one answer about sessions.
const SLICE: u32 = 2048;
/// Of these, in one turn: each may be a cache miss, and packets wait meanwhile.
const BITE: usize = 32;

/// Time between two looks after bonds: these want ten a second, and whoever stops a member waits for one.
const TENDING: Nanos = 2_000_000;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(crate) enum Phase {
    /// All goes on.
    Run,
    /// Nothing is received any more, what was goes out.
    Drain,
    /// Leave.
    Quit,
}

/// Tells workers the phase.
#[derive(Debug, Default)]
pub(crate) struct Signal(AtomicU8);

impl Signal {
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }

    #[inline]
    fn get(&self) -> Phase {
        match self.0.load(Relaxed) {
            0 => Phase::Run,
            1 => Phase::Drain,
            _ => Phase::Quit,
        }
    }
}

/// The clock that all workers share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        // Wraps after five hundred years.
        self.0.elapsed().as_nanos() as u64
    }
}

/// A fault on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// Worker 0 panics.
    Panic,
    /// Worker 0 hangs in a system call.
    Hang,
    /// Worker 0 turns in circles.
    Spin,
}

/// Everything that one worker owns. Ports' queues and the engine can be others: benchmarks run this very loop.
#[derive(Debug)]
pub(crate) struct Worker<D = Engine<Mempool>, I = Inlet, E = TxQueue> {
    pub(crate) engine: D,
    pub(crate) pool: Mempool,
    /// Receive queues with their ports.
    pub(crate) rx: Vec<(u16, I)>,
    pub(crate) transmitter: Transmitter<E>,
    pub(crate) mesh: Mesh<Mbuf>,
    /// To and from the host, where interfaces have twins.
    pub(crate) uplink: Option<Uplink>,
    pub(crate) slot: Slot,
    pub(crate) idle: Idle,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) board: Arc<Board>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) fault: Option<Fault>,
    /// Copies frames for somebody, while there is one.
    pub(crate) tap: Option<Box<Tap>>,
    /// Where translations go, if somebody wants to know of them.
    pub(crate) translations: Option<Outlet>,
    /// When queues of bonds are to be tended next; never where there are none.
    pub(crate) tending: Nanos,
    /// The cycle counter when the turn began.
    pub(crate) lap: u64,
}

/// What a worker uses again and again.
#[derive(Debug)]
pub(crate) struct Hands {
    burst: Vec<Received<Mbuf>>,
    inbox: Vec<Message<Mbuf>>,
    out: Output<Mbuf>,
}

impl Hands {
    /// For a worker that takes in up to `messages` messages in a turn.
    fn new(messages: usize) -> Hands {
        let out = messages + 16 * BURST;
        Hands {
            burst: Vec::with_capacity(BURST),
            inbox: Vec::with_capacity(messages),
            out: Output {
                tx: Vec::with_capacity(out),
                outbox: Vec::with_capacity(out),
                up: Vec::with_capacity(out),
                verdicts: None,
                drops: None,
            },
        }
    }
}

impl<D: Decide, I: Ingress, E: Egress> Worker<D, I, E> {
    /// Works until told to quit.
    pub(crate) fn run(mut self) {
        let mut hands = self.hands();
        self.idle.settle();
        self.listen();
        self.lap = cycles();
        loop {
            let now = self.clock.now();
            let receiving = match self.signal.get() {
                Phase::Run => self.rx.len(),
                Phase::Drain => 0,
                Phase::Quit => break,
            };
            self.turn(now, receiving, &mut hands);
            if let Some(fault) = self.fault {
                self.board.enter(Stage::Deciding);
                commit(fault, now);
            }
        }
        self.board.enter(Stage::Stopped);
    }

    /// What the worker uses in its turns.
    pub(crate) fn hands(&self) -> Hands {
        Hands::new(self.messages() * self.mesh.others())
    }

    /// How many messages of each worker are taken in a turn at most: as many as frames come by all queues, which is what
    /// another worker may hand over in a turn of its own.
    fn messages(&self) -> usize {
        self.rx.len().max(1) * BURST
    }

    /// One turn of the loop, at the time `now`, over the first `receiving` queues.
    #[inline]
    pub(crate) fn turn(&mut self, now: Nanos, receiving: usize, hands: &mut Hands) {
        let messages = self.mesh.collect(self.messages(), &mut hands.inbox);
        self.board.messages.add(messages as u64);
        let mut work = messages;
        if let Some(uplink) = &mut self.uplink {
            work += uplink.collect(&mut self.pool, &mut hands.inbox);
        }
        let mut decided = false;
        for queue in 0..receiving {
            work += self.receive(queue, &mut hands.burst);
            if !hands.burst.is_empty() {
                work += self.decide(now, hands);
                decided = true;
            }
        }
        // Once in every turn also without frames: messages, timers.
        if !decided {
            work += self.decide(now, hands);
        }
        self.board.enter(Stage::Sending);
        work += self.transmitter.forward(&mut self.tap);
        work += self.answer(now);
        if now >= self.tending {
            self.tend(now);
        }
        self.board.turns.add(1);
        self.board.enter(Stage::Idle);
        let end = cycles();
        self.board.clock.set(end);
        if work > 0 {
            self.board.busy.add(end.wrapping_sub(self.lap));
        }
        self.lap = end;
        match self.idle.turn(work > 0, now, || self.engine.next_deadline(now)) {
            Rest::None => return,
            Rest::Nap(time) => std::thread::sleep(time),
            Rest::Arm => return self.rx.iter_mut().for_each(|(_, queue)| queue.arm()),
            Rest::Disarm => return self.disarm(),
            Rest::Wait(limit) => {
                wait_for_frames(limit);
                self.disarm();
            }
        }
        self.lap = cycles();
        self.board.asleep.add(self.lap.wrapping_sub(end));
    }

    /// Does for queues what their devices want now and then.
    #[cold]
    fn tend(&mut self, now: Nanos) {
        self.rx.iter_mut().for_each(|(_, queue)| queue.tend());
        self.transmitter.tend();
        self.tending = now + TENDING;
    }

    /// Has the worker's ports wake it, where all of them can and nobody else may want it: what other workers send
    /// raises no interrupt.
    fn listen(&mut self) {
        let naps = self.idle.naps() && self.mesh.others() == 0 && self.uplink.is_none();
        if naps && !self.rx.is_empty() && self.rx.iter_mut().all(|(_, queue)| queue.watch()) {
            tracing::info!("idle: the ports' interrupts wake the worker");
            self.idle.use_interrupts();
        }
    }

    fn disarm(&mut self) {
        self.rx.iter_mut().for_each(|(_, queue)| queue.disarm());
    }

    #[inline]
    fn receive(&mut self, queue: usize, burst: &mut Vec<Received<Mbuf>>) -> usize {
        self.board.enter(Stage::Receiving);
        let (port, queue) = &mut self.rx[queue];
        let (port, counters, pool) = (*port, &self.counters, &self.pool);
        let mut burst = Appender::new(burst);
        let frames = queue.poll(BURST, |buf| match buf.whole(pool) {
            Some(buf) => {
                // What its headers say is asked for when the whole burst is here.
                prefetch_unseen(buf.bytes(), 0);
                burst.push(Received { port, buf });
            }
            None => {
                counters.rx_packets.add(1);
                counters.count_drop(port, Reason::MultiSegment);
            }
        });
        if frames > 0 {
            self.board.bursts.add(1);
            self.board.frames.add(frames as u64);
        }
        frames
    }

    #[inline]
    fn decide(&mut self, now: Nanos, hands: &mut Hands) -> usize {
        self.board.enter(Stage::Deciding);
        if let Some(tap) = &mut self.tap {
            hands.out.drops = tap.before(now, &hands.burst);
        }
        self.engine.step(now, &mut self.pool, &mut hands.burst, &mut hands.inbox, &mut hands.out);
        self.board.enter(Stage::Sending);
        if let Some(outlet) = &mut self.translations
            && let Some(journal) = self.engine.engine().and_then(Engine::journal)
        {
            outlet.take(journal);
        }
        let work = hands.out.tx.len() + hands.out.outbox.len() + hands.out.up.len();
        match &mut self.uplink {
            Some(uplink) => uplink.send(&mut hands.out.up),
            None => hands.out.up.clear(),
        }
        if let Some(tap) = &mut self.tap {
            tap.after(hands.out.drops.take());
            tap.sending(&hands.out.tx);
        }
        self.transmitter.send(&mut hands.out.tx, &mut self.tap);
        self.mesh.deliver(&mut hands.out.outbox, |port, reason, frame| {
            if let Some(tap) = &mut self.tap {
                tap.dropped(port, reason, frame);
            }
        });
        work
    }

    /// Carries out one order: the control thread is patient, packets are not.
    #[inline]
    fn answer(&mut self, now: Nanos) -> usize {
        let Some(order) = self.slot.next() else { return 0 };
        let Some(engine) = self.engine.engine() else { return 0 };
        self.board.enter(Stage::Answering);
        let answer = match order {
            Order::Install(snapshot) => {
                let generation = snapshot.generation;
                let old = engine.install(snapshot);
                self.board.acknowledge(generation);
                Answer::Retired(old)
            }
            Order::Sessions { question, mut cursor, room: mut found } => {
                let done = engine.export_sessions(now, &mut cursor, &mut found, BITE);
                if !done && !cursor.is_multiple_of(SLICE) {
                    self.slot.put_back(Order::Sessions { question, cursor, room: found });
                    return 1;
                }
                Answer::Sessions { question, cursor, done, found }
            }
            Order::Neighbours { question, room: mut found } => {
                engine.export_neighbours(&mut found);
                Answer::Neighbours { question, found }
            }
            Order::Tap { question, tap } => {
                Answer::Tap { question, old: std::mem::replace(&mut self.tap, tap) }
            }
        };
        self.slot.answer(answer);
        1
    }
}

/// A second after the start, so that what watches is watching.
fn commit(fault: Fault, now: Nanos) {
    if now > fulcrum_director::SECOND {
        match fault {
            Fault::Panic => panic!("asked for by --test-fault"),
            Fault::Hang => loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            },
            Fault::Spin => loop {
                std::hint::spin_loop();
            },
        }
    }
}
