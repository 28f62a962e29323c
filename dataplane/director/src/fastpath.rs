//! The short way of established sessions, a burst at a time.
//!
//! A packet that has gone the whole way (`receive`, `transit`, `forward`) leaves with its session where such packets
//! go ([`Engine::remember`]): next hop, interface, checksum deltas, good for one configuration. Later packets that are
//! plain (no options, no fragment, no change of state) are taken through here in stages, so that the cache misses of
//! a burst overlap: read headers and ask for the index, match tags and ask for sessions, ask for what sessions name,
//! then rewrite. Whatever is not plain, or not sure, goes the whole way, in its place in the burst: this file decides
//! nothing that is not decided there.

mod course;
mod glance;
mod hands;
mod opening;
mod rewrite;

use fulcrum_machine::{prefetch, prefetch_at};
use fulcrum_packet::{ipv4, ipv6};

use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine, Received};
use crate::forward::MIN_MTU;
use crate::message::{Message, Stage};
use crate::neighbour::Hop;
use crate::output::Way;
use crate::packet::Packet;
use crate::reason::{Event, VerdictKind};
use crate::session::terms::ERAS;
use crate::session::{Direction, SessionId, Sessions};
use crate::snapshot::{Forward, InterfaceId, Snapshot, TunnelKind};
pub(crate) use course::Courses;
pub(crate) use glance::Gate;
use glance::{Glance, View, is_tagged};
use hands::{Hands, begin, outer_header};
pub(crate) use rewrite::Deltas;

/// A frame that is offered to the engine, by a port or by another worker.
pub(crate) trait Offered<B> {
    /// The frame and the port it came in by, unless it has been looked at before.
    fn fresh(&self) -> Option<(u16, &B)>;
    /// The frame, to be changed.
    fn frame_mut(&mut self) -> Option<&mut B>;
    /// The frame; `None` of what is none.
    fn into_frame(self) -> Option<B>;
}

/// Frames that go through the stages together at most.
pub(crate) const BURST: usize = 64;

/// So many servers' cells and neighbours are near anyway, and not asked for.
const NEAR: usize = 256;

impl<B> Offered<B> for Received<B> {
    #[inline(always)]
    fn fresh(&self) -> Option<(u16, &B)> {
        Some((self.port, &self.buf))
    }

    #[inline(always)]
    fn frame_mut(&mut self) -> Option<&mut B> {
        Some(&mut self.buf)
    }

    #[inline(always)]
    fn into_frame(self) -> Option<B> {
        Some(self.buf)
    }
}

impl<B> Offered<B> for Message<B> {
    #[inline(always)]
    fn fresh(&self) -> Option<(u16, &B)> {
        match self {
            Message::Packet { port, stage: Stage::Arrived, buf, .. } => Some((*port, buf)),
            _ => None,
        }
    }

    #[inline(always)]
    fn frame_mut(&mut self) -> Option<&mut B> {
        match self {
            Message::Packet { buf, .. } => Some(buf),
            _ => None,
        }
    }

    #[inline(always)]
    fn into_frame(self) -> Option<B> {
        match self {
            Message::Packet { buf, .. } => Some(buf),
            _ => None,
        }
    }
}

/// How a packet came that goes the whole way, as far as its session may remember it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    interface: InterfaceId,
    plain: bool,
}

impl Came {
    /// Of a packet as it was received.
    #[inline]
    pub(crate) fn of<B: Buf>(packet: &Packet<B>) -> Came {
        let header = if packet.src.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER };
        let plain = packet.stage == Stage::Arrived
            && packet.fragment.is_none()
            && packet.l4 - packet.l3 == header
            && matches!(packet.protocol, ipv4::TCP | ipv4::UDP)
            && !packet.opens();
        Came { interface: packet.interface, plain }
    }

    /// Whether others like it may go the short way.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        self.plain
    }
}

/// What packets of the short way are counted as: [`Forward`]'s methods, and answers.
const EVENTS: [Event; 5] = [
    Event::ForwardedNat,
    Event::ForwardedFullNat,
    Event::ForwardedDr,
    Event::ForwardedTun,
    Event::ForwardedReply,
];
const ANSWER: usize = 4;

/// What was seen of a burst.
#[derive(Debug)]
pub(crate) struct Glances {
    /// Of the sessions when they were looked at.
    epoch: u32,
    /// In which they were.
    era: u32,
    /// Which frame comes next, of how many.
    next: usize,
    count: usize,
    list: [Glance; BURST],
}

impl Default for Glances {
    fn default() -> Glances {
        Glances { epoch: 0, era: 0, next: 0, count: 0, list: [Glance::WHOLE_WAY; BURST] }
    }
}

/// Asks for the headers of frames.
pub(crate) fn fetch<B: Buf, T: Offered<B>>(offered: &[T]) {
    for (_, buf) in offered.iter().filter_map(Offered::fresh) {
        buf.bytes().first().into_iter().for_each(prefetch);
    }
}

/// Reads the headers of frames, and asks for where the index is to be searched.
fn read<B: Buf, T: Offered<B>>(view: &View<'_>, gates: &[Gate], offered: &[T], list: &mut [Glance]) {
    let mut done = 0;
    while let (Some([first, ..]), Some(glance)) = (offered.get(done..), list.get_mut(done)) {
        let Some((port, _)) = first.fresh() else {
            *glance = Glance::WHOLE_WAY;
            done += 1;
            continue;
        };
        let gate = gates.get(usize::from(port)).unwrap_or(&Gate::CLOSED);
        let (frames, rest) = (&offered[done..], &mut list[done..]);
        let mut count = read_usual::<false, _, _>(view.sessions, gate, port, frames, rest);
        if count == 0 {
            count = read_usual::<true, _, _>(view.sessions, gate, port, frames, rest);
        }
        if count == 0 {
            count = read_closely(view, gate, port, frames, rest);
        }
        done += count;
    }
}

/// Reads frames that came by one port as long as they are of a family and need no closer look; gives how many.
// Nothing is called from here: there are registers for all that it needs.
#[inline(never)]
fn read_usual<const V6: bool, B: Buf, T: Offered<B>>(
    sessions: &Sessions,
    gate: &Gate,
    port: u16,
    offered: &[T],
    list: &mut [Glance],
) -> usize {
    let mut count = 0;
    for (frame, glance) in offered.iter().zip(list) {
        let Some((by, buf)) = frame.fresh() else { break };
        if by != port || glance.read_usual::<V6>(sessions, gate, buf.bytes()).is_none() {
            break;
        }
        count += 1;
    }
    count
}

/// Reads the first frame, which needs a closer look, and those behind it that have tags; gives how many.
#[inline(never)]
fn read_closely<B: Buf, T: Offered<B>>(
    view: &View<'_>,
    gate: &Gate,
    port: u16,
    offered: &[T],
    list: &mut [Glance],
) -> usize {
    let mut count = 0;
    for (frame, glance) in offered.iter().zip(list) {
        let Some((by, buf)) = frame.fresh() else { break };
        if count > 0 && (by != port || !is_tagged(buf.bytes())) {
            break;
        }
        glance.read_closely(view, gate, port, buf.bytes());
        count += 1;
    }
    count
}

/// Searches the index, and asks for the sessions that it names.
// Nor is anything called from this loop, but for what is not found at once.
#[inline(never)]
fn search(sessions: &Sessions, list: &mut [Glance]) {
    // Those whose sessions are not where they are looked for first do not keep the others waiting.
    let (mut late, mut waiting, count) = ([0u8; BURST], 0, list.len());
    let mut rest = list.iter_mut();
    while let Some(glance) = rest.by_ref().find_map(|glance| glance.search(sessions).err()) {
        if glance.search_on(sessions).is_err() {
            late[waiting % BURST] = (count - rest.len() - 1) as u8;
            waiting += 1;
        }
    }
    for &number in late.iter().take(waiting) {
        let glance = &mut list[usize::from(number)];
        let found = sessions.candidate(glance.hash);
        glance.suppose(found, sessions);
    }
}

/// Asks for addresses of sessions that are not in their lines, which are looked at.
#[inline(never)]
fn fetch_wide(sessions: &Sessions, list: &[Glance]) {
    for glance in list.iter().filter(|glance| glance.marks().is_plain()) {
        sessions.prefetch_wide(sessions.get(glance.session));
    }
}

impl<P: Pool> Engine<P> {
    /// The first stages for a burst of at most [`BURST`] frames: what the headers say, which sessions that may be, and
    /// the memory of all of them on its way.
    #[inline(never)]
    pub(crate) fn look<T: Offered<P::Buf>>(&mut self, snap: &Snapshot, offered: &[T]) {
        let Engine { sessions, gates, neighbours, config, era, glances, .. } = self;
        let on = config.short_way && !snap.without_services();
        let count = if on { offered.len().min(BURST) } else { 0 };
        sessions.begin_burst();
        (glances.epoch, glances.era) = (sessions.epoch(), *era);
        (glances.next, glances.count) = (0, count);
        let list = &mut glances.list[..count];
        read(&View { snap, sessions }, gates, offered, list);
        search(sessions, list);
        if sessions.has_wide() {
            fetch_wide(sessions, list);
        }
        if snap.destinations.len() <= NEAR {
            return;
        }
        let Some(servers) = snap.destination_cells.of(config.worker.into()) else { return };
        for glance in list.iter().filter(|glance| glance.marks().is_plain()) {
            let session = sessions.get(glance.session);
            prefetch_at(neighbours.hops(), usize::from(session.hop(glance.marks().direction())));
            servers.prefetch(session.destination);
        }
    }

    /// The last stage of most bursts, right after they were looked at: makes frames that go out of those that came, in
    /// their place, until one has to go the whole way; gives how many.
    #[inline(never)]
    pub(crate) fn send_at_once(
        &mut self,
        ctx: &mut Context<'_, P>,
        frames: &mut [Received<P::Buf>],
    ) -> usize {
        if ctx.out.verdicts.is_some() {
            return 0;
        }
        let Some((mut hands, glances)) = Hands::of(self, ctx) else { return 0 };
        let list = &glances.list[..glances.count];
        let mut count = 0;
        while let (Some(frames), Some(list)) = (frames.get_mut(count..), list.get(count..)) {
            let Some(way) = list.first().and_then(|glance| glance.marks().way()) else { break };
            let more = match way {
                (false, Direction::In) => hands.pass_alike::<false, false, _>(frames, list),
                (false, Direction::Out) => hands.pass_alike::<false, true, _>(frames, list),
                (true, Direction::In) => hands.pass_alike::<true, false, _>(frames, list),
                (true, Direction::Out) => hands.pass_alike::<true, true, _>(frames, list),
            };
            if more == 0 {
                break;
            }
            count += more;
        }
        glances.next = count;
        hands.count();
        count
    }

    /// The last stage: sends the frames that were looked at, until one comes that has to go the whole way, which is
    /// given back as it came.
    #[inline(always)]
    pub(crate) fn send_short<T: Offered<P::Buf>>(
        &mut self,
        ctx: &mut Context<'_, P>,
        frames: &mut impl Iterator<Item = T>,
    ) -> Option<T> {
        let glances = &mut self.glances;
        let next = glances.list[..glances.count].get(glances.next);
        if next.is_none_or(|glance| glance.marks().way().is_none()) {
            glances.next = (glances.next + 1).min(glances.count);
            return frames.next();
        }
        self.send_next(ctx, frames)
    }

    /// The same, when the next one is likely to go the short way.
    #[inline(never)]
    fn send_next<T: Offered<P::Buf>>(
        &mut self,
        ctx: &mut Context<'_, P>,
        frames: &mut impl Iterator<Item = T>,
    ) -> Option<T> {
        let glances = &mut self.glances;
        // Whether sessions have come or gone since the burst was looked at.
        let stale = self.sessions.epoch() != glances.epoch;
        let Some((mut hands, glances)) = Hands::of(self, ctx) else {
            self.glances.next += 1;
            return frames.next();
        };
        let telling = ctx.out.verdicts.is_some();
        let mut rest = None;
        let mut list = glances.list[glances.next..glances.count].iter();
        for glance in list.by_ref() {
            let Some(mut frame) = frames.next() else { break };
            let port = match frame.frame_mut() {
                Some(buf) if glance.marks().is_plain() && (!stale || hands.is_still(glance)) => {
                    hands.take(glance, buf)
                }
                _ => None,
            };
            let Some(port) = port else {
                rest = Some(frame);
                break;
            };
            if let Some(buf) = frame.into_frame() {
                ctx.out.tx.push(Transmit { port, buf });
            }
            if telling {
                let session = hands.sessions.get(glance.session);
                let event = match glance.marks().direction() {
                    Direction::In => EVENTS[session.forward() as usize],
                    Direction::Out => EVENTS[ANSWER],
                };
                ctx.verdict(VerdictKind::Forward, event.name(), Some(session.destination));
            }
        }
        glances.next = glances.count - list.len();
        hands.count();
        rest
    }

    /// Leaves with a session where packets like the one that was just sent go.
    pub(crate) fn remember(
        &mut self,
        snap: &Snapshot,
        id: SessionId,
        direction: Direction,
        came: Came,
        way: &Way,
    ) {
        let session = self.sessions.get(id);
        let current = session.is_of_era(self.era);
        let hop = self.neighbours.hops().get(usize::from(session.hop(direction)));
        if current && hop.is_some_and(Hop::is_open) && session.comes_by(direction, came.interface) {
            return;
        }
        let ends = self.sessions.ends(id);
        let translates = ends.local.0.is_ipv6() != ends.client.0.is_ipv6();
        let tunnels = direction == Direction::In && session.forward() == Forward::Tun;
        let Some(destination) = snap.destination(session.destination).filter(|server| server.available)
        else {
            return;
        };
        let least = if way.next_hop.is_ipv6() { usize::from(ipv6::MIN_MTU) } else { MIN_MTU };
        let is_simple = session.care.is_simple()
            && !translates
            && (!tunnels
                || destination.tunnel.kind == TunnelKind::Ipip && destination.tunnel_sources.is_empty())
            && usize::from(way.mtu) >= least + outer_header(way.source);
        if !is_simple {
            return;
        }
        let Some(hop) = self.neighbours.hop(snap, way) else {
            if self.neighbours.out_of_hops() {
                self.forget_courses(snap);
            }
            return;
        };
        if tunnels && self.neighbours.hops()[usize::from(hop)].source != way.source {
            return;
        }
        let deltas = Deltas::between((ends.client, ends.vip), (ends.local, ends.server));
        let session = self.sessions.get_mut(id);
        session.begin_era(self.era, deltas);
        session.set_hop(direction, came.interface, hop);
    }

    /// Begins a new era: what sessions remember of before does not count.
    pub(crate) fn forget_courses(&mut self, snap: &Snapshot) {
        self.era = (self.era + 1) % ERAS;
        self.era += u32::from(self.era == 0);
        // In their place: a configuration is taken in between two bursts, which wait for an allocator that is busy.
        self.gates.clear();
        self.gates.extend(Gate::all(snap));
        self.neighbours.forget_hops();
    }
}
