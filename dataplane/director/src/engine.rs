//! The engine of one worker.
//!
//! What it is made of, and the order in which a step does things; a packet's way goes on in `receive`.

use std::sync::Arc;

use crate::buffer::Pool;
use crate::counters::WorkerCounters;
use crate::defence::Defence;
use crate::dropped::Drops;
use crate::exception::{Policer, Up};
use crate::export::{NeighbourView, SessionView};
use crate::fastpath::{self, BURST, Courses, Gate, Glances};
use crate::fragments::follow::Waiting;
use crate::fragments::{Fragments, Limits, MAX_PIECES};
use crate::hash::Chance;
use crate::host::Limiter;
use crate::host::announce::Announcer;
use crate::journal::Journal;
use crate::local_port::LocalCursors;
use crate::message::{Envelope, First, Message, Stage};
use crate::neighbour::{Neighbours, Resolver};
use crate::output::Sent;
use crate::path_mtu::PathMtus;
use crate::reason::{Event, Verdict, VerdictKind};
use crate::rss::Rss;
use crate::session::{Session, SessionId, Sessions};
use crate::snapshot::{DestinationId, NO_DESTINATION, Service, Snapshot};
use crate::steer::Steer;
use crate::stream::InitialNumbers;
use crate::{Nanos, SECOND};

/// The worker that owns ARP and the packets that wait for it.
pub(crate) const RESOLVER: u16 = 0;

/// Sessions looked at for expiry per step at most.
const EXPIRY_BUDGET: usize = 128;

/// Sessions that may be ended for others in a row. Each step adds one, and each with a full burst, behind which more wait,
/// a half: a worker that has time takes many steps, one that has none takes a step for each full burst.
const ROOM_IN_A_ROW: u32 = 64;
/// What ending one takes, in halves.
pub(crate) const ROOM: u32 = 2;

/// Sessions looked at per step while those of deleted servers are searched for.
const FLUSH_BUDGET: SessionId = 128;

/// What an engine is made with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// This worker's number, 0-based. Worker 0 is the resolver: ARP and parked packets are its own.
    pub worker: u16,
    /// How many workers there are.
    pub workers: u16,
    /// How many sessions and templates this worker keeps at most.
    pub sessions: usize,
    /// Seed of every choice by chance (hashes, IP ids); the same for all workers, who must agree on owners.
    pub seed: u64,
    /// What initial sequence numbers towards servers follow from.
    pub numbers: InitialNumbers,
    /// Whether addresses that come up are announced by gratuitous ARP (replay says no: nobody listens).
    pub announce: bool,
    /// Test setting: every received packet goes to the wrong worker first.
    pub misdirect: bool,
    /// Whether packets of established sessions may take the short way; off, a test compares both.
    pub short_way: bool,
}

/// A frame with a port. Those that come and those that go are of one type, so that a burst can become the other.
#[derive(Debug)]
pub struct Framed<B> {
    /// Port number.
    pub port: u16,
    /// The frame.
    pub buf: B,
}

/// A received frame.
pub type Received<B> = Framed<B>;

/// A frame to send.
pub type Transmit<B> = Framed<B>;

/// What a step gives back; the caller empties it and uses it again, so that it does not allocate.
#[derive(Debug)]
pub struct Output<B> {
    /// Frames to send, in order.
    pub tx: Vec<Transmit<B>>,
    /// Messages for other workers, in order.
    pub outbox: Vec<Envelope<B>>,
    /// Frames for the host, in order.
    pub up: Vec<Up<B>>,
    /// When present: one verdict per packet that this step finished with.
    pub verdicts: Option<Vec<Verdict>>,
    /// When present: the frames that this step dropped.
    pub drops: Option<Drops<B>>,
}

impl<B> Default for Output<B> {
    fn default() -> Output<B> {
        Output { tx: Vec::new(), outbox: Vec::new(), up: Vec::new(), verdicts: None, drops: None }
    }
}

/// One worker's director.
#[derive(Debug)]
pub struct Engine<P: Pool> {
    pub(crate) config: EngineConfig,
    /// The configuration; away while a step works with it.
    snapshot: Option<Arc<Snapshot>>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) steer: Steer,
    pub(crate) sessions: Sessions,
    pub(crate) neighbours: Neighbours,
    /// Worker 0's.
    pub(crate) resolver: Resolver<P::Buf>,
    /// Worker 0's.
    pub(crate) announcer: Announcer,
    pub(crate) limiter: Limiter,
    /// Of what goes up to the host.
    pub(crate) policer: Policer,
    pub(crate) path_mtus: PathMtus,
    pub(crate) fragments: Fragments<First, Waiting<P::Buf>>,
    /// Fragments that a first one has released; empty but while they are sent on.
    pub(crate) ready_fragments: Vec<Waiting<P::Buf>>,
    /// Identification of the next packet that needs one.
    pub(crate) ip_id: u16,
    /// Numbers for choices by chance.
    pub(crate) chance: Chance,
    /// Where the search for a local port towards a destination goes on, by destination id.
    pub(crate) local_cursors: LocalCursors,
    /// Where the search for sessions of deleted servers goes on, while there is one.
    flush: Option<SessionId>,
    /// Before this time there is nothing to attend to but packets, unless one goes the whole way.
    due: Nanos,
    pub(crate) defence: Defence,
    /// How many sessions may be ended for others now, in halves.
    pub(crate) may_make_room: u32,
    /// How frames are judged that come in by a port, by port.
    pub(crate) gates: Vec<Gate>,
    /// What sessions remember of where their packets go counts when it is of this era.
    pub(crate) era: u32,
    /// Gateways had fallen silent, or answered again, so often when this era began.
    turns: u64,
    pub(crate) courses: Courses,
    /// Of the burst in work.
    pub(crate) glances: Box<Glances>,
    /// Present where somebody asks who was behind a local address.
    pub(crate) journal: Option<Journal>,
}

/// What a step works with beside the engine itself.
pub(crate) struct Context<'a, P: Pool> {
    pub(crate) now: Nanos,
    pub(crate) snap: &'a Snapshot,
    pub(crate) pool: &'a mut P,
    pub(crate) out: &'a mut Output<P::Buf>,
    /// The service that was last opened a session of by the short way, and its address and port.
    pub(crate) opened: Option<((u32, u16), &'a Service)>,
    /// The frame that could not be sent last, while somebody looks at drops.
    pub(crate) refused: Option<P::Buf>,
}

impl<P: Pool> Context<'_, P> {
    /// Tells what became of a packet, when somebody wants to know.
    #[inline]
    pub(crate) fn verdict(&mut self, kind: VerdictKind, reason: &'static str, server: Option<DestinationId>) {
        if let Some(verdicts) = &mut self.out.verdicts {
            let service = server.and_then(|id| self.snap.destination(id)).map(|server| server.service);
            verdicts.push(Verdict { kind, reason, service, server });
        }
    }
}

impl<P: Pool> Engine<P> {
    /// An engine without sessions. `counters` are this worker's own, for others to read.
    pub fn new(config: EngineConfig, snapshot: Arc<Snapshot>, counters: Arc<WorkerCounters>) -> Engine<P> {
        let mut neighbours = Neighbours::default();
        neighbours.install_static(&snapshot, false);
        Engine {
            steer: Steer::new(config.workers, config.seed),
            sessions: Sessions::new(config.sessions, config.seed, 0),
            neighbours,
            resolver: Resolver::default(),
            announcer: Announcer::default(),
            limiter: Limiter::default(),
            policer: Policer::new(config.workers),
            path_mtus: PathMtus::default(),
            fragments: Fragments::new(Limits::default(), config.seed),
            ready_fragments: Vec::with_capacity(MAX_PIECES),
            ip_id: (config.seed >> 16) as u16 ^ config.worker,
            chance: Chance::new(config.seed, config.worker),
            local_cursors: LocalCursors::default(),
            flush: None,
            due: 0,
            defence: Defence::default(),
            may_make_room: ROOM_IN_A_ROW * ROOM,
            gates: Gate::all(&snapshot).collect(),
            era: 1,
            turns: 0,
            courses: Courses::default(),
            glances: Box::default(),
            journal: None,
            config,
            snapshot: Some(snapshot),
            counters,
        }
    }

    /// Has flows owned as devices spread them; before the first packet, and the same for all workers.
    pub fn steer_by(&mut self, rss: Arc<Rss>) {
        self.steer = self.steer.clone().by(rss);
    }

    /// Keeps a journal of translations from now on, with room for so many in a step.
    pub fn keep_journal(&mut self, room: usize) {
        self.journal = Some(Journal::new(room));
    }

    /// The journal, to be emptied after each step.
    #[inline]
    pub fn journal(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Works on received frames and on messages from other workers, ends what is over, asks for neighbours.
    /// Drains `burst` and `inbox`; adds to `out`. To be called regularly also when nothing came.
    pub fn step(
        &mut self,
        now: Nanos,
        pool: &mut P,
        burst: &mut Vec<Received<P::Buf>>,
        inbox: &mut Vec<Message<P::Buf>>,
        out: &mut Output<P::Buf>,
    ) {
        // Taken, not cloned: all workers would write to the same count with every burst.
        let snapshot = self.snapshot.take().expect("a step puts it back");
        let sent_before = out.tx.len();
        if self.turns != snapshot.next_hops.turns() {
            self.turns = snapshot.next_hops.turns();
            self.forget_courses(&snapshot);
        }
        let spare = if burst.len() < BURST { ROOM } else { ROOM / 2 };
        self.may_make_room = (self.may_make_room + spare).min(ROOM_IN_A_ROW * ROOM);
        self.counters.rx_packets.add(burst.len() as u64);
        if let Some(journal) = &mut self.journal {
            journal.now = now;
        }
        let mut ctx = Context { now, snap: &snapshot, pool, out, opened: None, refused: None };
        // What goes the short way leaves nothing to attend to.
        let mut is_due = now >= self.due || !inbox.is_empty();
        while !burst.is_empty() {
            let count = burst.len().min(BURST);
            // What goes to a wrong worker first has to go the whole way there.
            let offered = if self.config.misdirect { &[] } else { &burst[..count] };
            self.look(ctx.snap, offered);
            let short = self.send_at_once(&mut ctx, &mut burst[..count]);
            if short == burst.len() {
                ctx.out.tx.append(burst);
                break;
            }
            is_due = true;
            ctx.out.tx.extend(burst.drain(..short));
            let mut frames = burst.drain(..count - short);
            while let Some(Received { port, buf }) = self.send_short(&mut ctx, &mut frames) {
                self.receive_seen(&mut ctx, (port, 0, Stage::Arrived), buf);
            }
        }
        while !inbox.is_empty() {
            let count = inbox.len().min(BURST);
            // Another processor has just had them in its cache.
            fastpath::fetch(&inbox[..count]);
            self.look(ctx.snap, &inbox[..count]);
            let mut messages = inbox.drain(..count);
            while let Some(message) = self.send_short(&mut ctx, &mut messages) {
                self.take_message(&mut ctx, message);
            }
        }
        if is_due {
            self.attend(&mut ctx);
        }
        let sent = ctx.out.tx.len() - sent_before;
        self.counters.tx_packets.add(sent as u64);
        self.counters.sessions.set(self.sessions.len() as u64);
        self.snapshot = Some(snapshot);
    }

    fn take_message(&mut self, ctx: &mut Context<'_, P>, message: Message<P::Buf>) {
        match message {
            Message::Packet { port, hops, stage, buf } => {
                self.receive_seen(ctx, (port, hops, stage), buf);
            }
            Message::Park { interface, next_hop, port, routed, buf } => {
                if let Sent::Dropped(reason) = self.park(ctx, interface, next_hop, port, routed, buf) {
                    self.counters.count_drop(port, reason);
                    ctx.let_refused_go(port, reason);
                }
            }
            Message::PathMtu { server, mtu } => _ = self.path_mtus.learn(server, mtu, ctx.now),
            Message::Neighbour { interface, address, mac } => {
                self.neighbours.learn(interface, address, mac, ctx.now);
            }
            Message::NeighbourUsed { interface, address } => self.neighbour_used(ctx, interface, address),
            Message::FromHost { interface, buf } => self.take_from_host(ctx, interface, buf),
        }
    }

    /// Does what packets and time leave to be done.
    #[inline(never)]
    fn attend(&mut self, ctx: &mut Context<'_, P>) {
        self.expire_sessions(ctx);
        self.discard_fragments(ctx);
        self.flush_sessions(ctx);
        self.defend(ctx);
        if self.config.worker == RESOLVER {
            self.resolve(ctx);
        }
        self.due = self.next_duty();
    }

    /// When there is something to attend to, if no packet goes the whole way; 0 when there is now.
    fn next_duty(&self) -> Nanos {
        if self.flush.is_some() {
            return 0;
        }
        let resolver = if self.config.worker == RESOLVER { self.resolver.next_look() } else { Nanos::MAX };
        let announcer = if self.announces() { self.announcer.due() } else { Nanos::MAX };
        [self.sessions.next_deadline(), self.fragments.next_end(), self.defence.next(), resolver, announcer]
            .into_iter()
            .fold(Nanos::MAX, Nanos::min)
    }

    fn expire_sessions(&mut self, ctx: &mut Context<'_, P>) {
        let mut budget = EXPIRY_BUDGET;
        while let Some(id) = self.sessions.next_expired(ctx.now, &mut budget) {
            self.counters.event(Event::SessionExpired);
            self.settle(ctx.snap, id);
            self.sessions.remove_due(id);
        }
    }

    /// Ends sessions of deleted servers, as the expire_nodest_conn setting wants it. // IPVS: expire_nodest_conn_work
    fn flush_sessions(&mut self, ctx: &mut Context<'_, P>) {
        let Some(from) = self.flush else { return };
        let all = self.sessions.high_water();
        let end = from.saturating_add(FLUSH_BUDGET).min(all);
        for id in from..end {
            let deleted = |session: &Session| {
                self.sessions.controls(id) == 0
                    && session.destination != NO_DESTINATION
                    && ctx.snap.destination(session.destination).is_none_or(|server| !server.available)
            };
            if self.sessions.slot(id).is_some_and(deleted) {
                self.counters.event(Event::SessionExpired);
                self.end_session(ctx.snap, id);
            }
        }
        self.flush = (end < all).then_some(end);
    }

    /// Goes over to a new configuration; gives the old one back, for the caller to drop elsewhere. Packets wait for
    /// it, so nothing here looks through services, servers or addresses; only what changes about neighbours and
    /// interfaces is taken over at once.
    pub fn install(&mut self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let old = self.snapshot.take().expect("a step puts it back");
        // Interfaces keep their ids: a new one comes behind those that were there.
        let (before, after) = (&old.interfaces, &snapshot.interfaces);
        let keep_learned = before.len() <= after.len()
            && before.iter().zip(after).all(|(a, b)| (a.port, a.vlan) == (b.port, b.vlan));
        if snapshot.paths != old.paths {
            if !keep_learned || !Arc::ptr_eq(&old.neighbours, &snapshot.neighbours) {
                self.neighbours.install_static(&snapshot, keep_learned);
            }
            self.forget_courses(&snapshot);
        }
        if self.config.worker == RESOLVER {
            self.announcer.look();
            if !keep_learned {
                self.resolver.forget();
            }
        }
        if snapshot.settings.expire_nodest_conn {
            self.flush = Some(0);
        }
        self.due = 0;
        self.snapshot = Some(snapshot);
        old
    }

    /// Whether this engine tells neighbours of own addresses.
    pub(crate) fn announces(&self) -> bool {
        self.config.announce && self.config.worker == RESOLVER
    }

    /// The generation of the configuration in use.
    pub fn generation(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.generation)
    }

    /// When the engine wants to be stepped again if nothing comes.
    pub fn next_deadline(&self, now: Nanos) -> Nanos {
        let announcements = if self.announces() { self.announcer.due() } else { Nanos::MAX };
        self.sessions.next_deadline().min(announcements).min(now + SECOND / 10).max(now)
    }

    /// Live sessions and templates.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Copies sessions into `out`, looking at no more than `budget` slots from `cursor` on, and moves the cursor;
    /// true when all have been seen. Never grows `out` beyond its capacity.
    pub fn export_sessions(
        &self,
        now: Nanos,
        cursor: &mut u32,
        out: &mut Vec<SessionView>,
        budget: usize,
    ) -> bool {
        for _ in 0..budget {
            if *cursor >= self.sessions.high_water() {
                return true;
            }
            if out.len() == out.capacity() {
                return false;
            }
            if let Some(session) = self.sessions.slot(*cursor).filter(|session| session.expires > now) {
                out.push(SessionView::of(session, &self.sessions.ends(*cursor), now));
            }
            *cursor += 1;
        }
        *cursor >= self.sessions.high_water()
    }

    /// Copies what is known of neighbours into `out` (the resolver's view; other workers know a part of it).
    pub fn export_neighbours(&self, out: &mut Vec<NeighbourView>) {
        self.neighbours.export_static(out);
        self.resolver.export(out);
    }
}
