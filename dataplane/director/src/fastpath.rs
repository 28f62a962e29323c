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
mod opening;
mod rewrite;

use std::net::IpAddr;

use fulcrum_machine::{prefetch, prefetch_at};
use fulcrum_packet::{ethernet, ipv4, ipv6};

use crate::buffer::{Buf, Pool};
use crate::cells::WorkerCells;
use crate::counters::{DestinationCells, Traffic, WorkerCounters};
use crate::engine::{Context, Engine, Received};
use crate::forward::MIN_MTU;
use crate::forward::tunnel::Outside;
use crate::message::{Message, Stage};
use crate::neighbour::Hop;
use crate::output::Way;
use crate::packet::Packet;
use crate::reason::{Event, VerdictKind};
use crate::session::terms::{ERAS, Terms};
use crate::session::{Direction, Elsewhere, Session, SessionId, Sessions, Wide};
use crate::snapshot::{Forward, InterfaceId, Snapshot, TunnelKind};
use crate::{Nanos, Transmit};
pub(crate) use course::Courses;
pub(crate) use glance::Gate;
use glance::{Alike, Glance, View};
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

/// What packets of the short way pass through.
struct Hands<'a> {
    sessions: &'a mut Sessions,
    hops: &'a [Hop],
    /// What servers' packets are counted in.
    servers: WorkerCells<'a, DestinationCells>,
    tunnel: Enclosure<'a>,
    now: Nanos,
    /// Whether all tunnels take what their ways take.
    tunnels: bool,
    counters: &'a WorkerCounters,
    /// In which packets were looked at.
    era: u32,
    /// How many of each of [`EVENTS`] there were.
    sent: [u64; EVENTS.len()],
}

/// What headers of tunnels are made by.
struct Enclosure<'a> {
    ip_id: &'a mut u16,
    /// Whether what is in a tunnel may be cut on its way.
    may_cut: bool,
}

impl Enclosure<'_> {
    /// Writes the header of a session's tunnel before a packet of so many bytes, which has a hop less to live.
    #[inline(always)]
    fn enclose<const V6: bool, const OUTER: usize>(
        &mut self,
        (session, wide): (&Session, Option<&Wide>),
        source: IpAddr,
        (outer, inner): (&mut [u8; OUTER], &mut [u8]),
        total: u16,
    ) -> Option<()> {
        rewrite::route::<V6>(inner);
        let inner = inner.first_chunk()?;
        let outside = if V6 { Outside::of_v6(inner) } else { Outside::of_v4(inner, self.may_cut) };
        let total = total + OUTER as u16;
        match (source, wide) {
            (IpAddr::V4(source), None) => {
                outside.emit_v4(outer, total, (source, session.server_v4()), self.ip_id);
            }
            (IpAddr::V4(source), Some(wide)) => {
                outside.emit_v4(outer, total, (source, wide.server_v4()), self.ip_id);
            }
            (IpAddr::V6(source), Some(wide)) => {
                outside.emit_v6(outer, total, (source, wide.server_v6()));
            }
            (IpAddr::V6(_), None) => {}
        }
        Some(())
    }
}

/// The type in an Ethernet header before a tunnel's header of this length.
#[inline(always)]
fn outer_type<const OUTER: usize>() -> [u8; 2] {
    let kind = if OUTER == ipv6::HEADER { ethernet::IPV6 } else { ethernet::IPV4 };
    kind.to_be_bytes()
}

/// What packets have in common that are passed one after the other.
#[derive(Clone, Copy)]
struct Run {
    /// What sessions have to agree with.
    terms: Terms,
    forward: Forward,
    /// Whether their ends are replaced.
    rewrites: bool,
    /// Where the IP packets begin.
    l3: usize,
    /// Whether their frames have tags.
    is_tagged: bool,
    is_tcp: bool,
    /// UDP without a checksum.
    is_unsummed: bool,
}

impl Run {
    #[inline(always)]
    fn of(alike: Alike, forward: Forward, era: u32) -> Run {
        let marks = alike.marks();
        let (is_tcp, is_unsummed) = (marks.is_tcp(), marks.is_unsummed());
        let (l3, is_tagged) = (alike.l3(), marks.is_tagged());
        let (terms, rewrites) = (alike.terms(era).of_method(forward), forward != Forward::Dr);
        Run { terms, forward, rewrites, l3, is_tagged, is_tcp, is_unsummed }
    }

    /// What its packets are counted as.
    #[inline(always)]
    fn event(&self, out: bool) -> usize {
        if out { ANSWER } else { self.forward as usize }
    }
}

impl<'a> Hands<'a> {
    /// For what the engine has looked at, with what it saw; `None` where nothing is counted.
    #[inline(always)]
    fn of<P: Pool>(engine: &'a mut Engine<P>, ctx: &Context<'a, P>) -> Option<(Hands<'a>, &'a mut Glances)> {
        let Engine { sessions, neighbours, counters, path_mtus, ip_id, era, glances, config, .. } = engine;
        let hands = Hands {
            sessions,
            // What was read of a former era may not go by a hop of this one.
            hops: if *era == glances.era { neighbours.hops() } else { &[] },
            servers: ctx.snap.destination_cells.of(config.worker.into())?,
            tunnel: Enclosure { ip_id, may_cut: !ctx.snap.settings.pmtu_disc },
            now: ctx.now,
            tunnels: path_mtus.is_empty(),
            counters,
            era: glances.era,
            sent: [0; EVENTS.len()],
        };
        Some((hands, glances))
    }

    /// What the packets like one have in common, of which the way is known, and whose session is theirs.
    #[inline(always)]
    fn run(&self, glance: &Glance) -> Run {
        Run::of(glance.alike(), self.sessions.get(glance.session).forward(), self.era)
    }

    /// Sends a frame that was looked at by the short way and gives its port, or `None`.
    #[inline(always)]
    fn take<B: Buf>(&mut self, glance: &Glance, buf: &mut B) -> Option<u16> {
        let (v6, direction) = glance.marks.way()?;
        let run = self.run(glance);
        let port = match (v6, direction, run.forward) {
            (false, Direction::Out, _) => self.pass::<false, true, 0, _>(run, glance, buf),
            (true, Direction::Out, _) => self.pass::<true, true, 0, _>(run, glance, buf),
            (false, Direction::In, Forward::Tun) => {
                self.pass_into_tunnel::<false, { ipv4::HEADER }, _>(run, glance, buf)
            }
            (true, Direction::In, Forward::Tun) => self
                .pass_into_tunnel::<true, { ipv6::HEADER }, _>(run, glance, buf)
                .or_else(|| self.pass_into_tunnel::<true, { ipv4::HEADER }, _>(run, glance, buf)),
            (false, Direction::In, _) => self.pass::<false, false, 0, _>(run, glance, buf),
            (true, Direction::In, _) => self.pass::<true, false, 0, _>(run, glance, buf),
        }?;
        self.sent[run.event(direction == Direction::Out)] += 1;
        Some(port)
    }

    #[inline(never)]
    fn pass_into_tunnel<const V6: bool, const OUTER: usize, B: Buf>(
        &mut self,
        run: Run,
        glance: &Glance,
        buf: &mut B,
    ) -> Option<u16> {
        self.pass::<V6, false, OUTER, _>(run, glance, buf)
    }

    /// Makes frames that go out of those that came in as long as they are alike, and gives how many.
    #[inline(never)]
    fn pass_alike<const V6: bool, const OUT: bool, B: Buf>(
        &mut self,
        frames: &mut [Received<B>],
        list: &[Glance],
    ) -> usize {
        let Some(first) = list.first() else { return 0 };
        let run = self.run(first);
        let count = if !OUT && run.forward == Forward::Tun {
            let wide =
                if V6 { self.pass_into_tunnels::<V6, { ipv6::HEADER }, _>(run, frames, list) } else { 0 };
            match wide {
                0 => self.pass_into_tunnels::<V6, { ipv4::HEADER }, _>(run, frames, list),
                count => count,
            }
        } else if run.is_tagged {
            self.pass_run::<V6, OUT, 0, _>(Run { is_tagged: true, ..run }, frames, list)
        } else if !OUT && !run.rewrites {
            let run = Run { is_tagged: false, rewrites: false, ..run };
            self.pass_run::<V6, OUT, 0, _>(run, frames, list)
        } else if run.is_tcp {
            let run = Run { is_tagged: false, rewrites: true, is_tcp: true, is_unsummed: false, ..run };
            self.pass_run::<V6, OUT, 0, _>(run, frames, list)
        } else {
            let run = Run { is_tagged: false, rewrites: true, is_tcp: false, ..run };
            self.pass_run::<V6, OUT, 0, _>(run, frames, list)
        };
        self.sent[run.event(OUT)] += count as u64;
        count
    }

    /// The same of clients' packets that go into tunnels whose header before them has this length.
    #[inline(never)]
    fn pass_into_tunnels<const V6: bool, const OUTER: usize, B: Buf>(
        &mut self,
        run: Run,
        frames: &mut [Received<B>],
        list: &[Glance],
    ) -> usize {
        if run.is_tagged {
            return self.pass_run::<V6, false, OUTER, _>(Run { is_tagged: true, ..run }, frames, list);
        }
        self.pass_run::<V6, false, OUTER, _>(Run { is_tagged: false, ..run }, frames, list)
    }

    #[inline(always)]
    fn pass_run<const V6: bool, const OUT: bool, const OUTER: usize, B: Buf>(
        &mut self,
        run: Run,
        frames: &mut [Received<B>],
        list: &[Glance],
    ) -> usize {
        let Some(alike) = list.first().map(Glance::alike) else { return 0 };
        let mut count = 0;
        for (frame, glance) in frames.iter_mut().zip(list) {
            if glance.alike() != alike {
                break;
            }
            let Some(port) = self.pass::<V6, OUT, OUTER, _>(run, glance, &mut frame.buf) else { break };
            frame.port = port;
            count += 1;
        }
        count
    }

    /// Makes the frame that goes out of the one that came in, and gives its port; `None`, and nothing done, when that
    /// is for the whole way to judge, or another body of code. There is one for each family and direction, and for what
    /// goes into tunnels, by the length `OUTER` of the header that they put before packets: all places are known.
    #[inline(always)]
    fn pass<const V6: bool, const OUT: bool, const OUTER: usize, B: Buf>(
        &mut self,
        run: Run,
        glance: &Glance,
        buf: &mut B,
    ) -> Option<u16> {
        let direction = if OUT { Direction::Out } else { Direction::In };
        let meets = |terms| run.terms.meet(terms, direction);
        let (session, wide) = if V6 {
            let (session, wide) = self.sessions.get_wide(glance.session, meets)?;
            (session, Some(wide))
        } else {
            let session = self.sessions.line_mut(glance.session)?;
            if !meets(session.terms()) {
                return None;
            }
            (session, None)
        };
        if V6 {
            let ends = (glance.addresses_v6(buf.bytes())?, glance.ends.ports());
            if !session.is_between_v6(wide?, direction, ends) {
                return None;
            }
        } else if !session.is_between(direction, glance.ends) {
            return None;
        }
        let hop = self.hops.get(usize::from(session.hop(direction)))?;
        if session.expires <= self.now || self.now >= hop.fresh_until {
            return None;
        }
        if OUTER != 0 {
            let source = hop.source;
            if outer_header(source) != OUTER || !self.tunnels {
                return None;
            }
            if run.is_tagged || usize::from(glance.total) + OUTER > usize::from(hop.plain_mtu) {
                return self.pass_tagged_into_tunnel::<V6, OUTER, B>(glance, buf);
            }
            let traffic = &self.servers.get(session.destination)?.traffic;
            if !buf.grow_front(OUTER) {
                return None;
            }
            let heads = rewrite::heads_outside::<V6, OUTER, _>(buf, glance.total)?;
            let (ether, packet) = heads.split_first_chunk_mut()?;
            hop.emit_plain(ether);
            *ether.last_chunk_mut()? = outer_type::<OUTER>();
            let (outer, inner) = packet.split_first_chunk_mut()?;
            tally::<false>(session, traffic, glance.total, self.now);
            self.tunnel.enclose::<V6, OUTER>((session, wide), source, (outer, inner), glance.total)?;
            return Some(hop.port);
        }
        if run.rewrites && run.is_unsummed {
            return None;
        }
        // Among the options of an answer are acknowledgments of ranges, by other numbers.
        if OUT && run.is_tcp && session.offset != 0 && rewrite::has_options::<V6>(buf.bytes(), run.l3) {
            return None;
        }
        if run.is_tagged || glance.total > hop.plain_mtu {
            return self.pass_tagged::<V6, OUT, B>(glance, buf);
        }
        let traffic = &self.servers.get(session.destination)?.traffic;
        let heads = rewrite::heads::<V6, _>(buf, glance.total)?;
        let (ether, packet) = heads.split_first_chunk_mut()?;
        tally::<OUT>(session, traffic, glance.total, self.now);
        hop.emit_plain(ether);
        change::<V6, OUT>(session, wide, run.is_tcp, run.rewrites, packet);
        Some(hop.port)
    }

    /// The same of a packet that passes every question but that of its length, where Ethernet headers are not as most
    /// are: not to be in the way of those.
    #[inline(never)]
    fn pass_tagged<const V6: bool, const OUT: bool, B: Buf>(
        &mut self,
        glance: &Glance,
        buf: &mut B,
    ) -> Option<u16> {
        let direction = if OUT { Direction::Out } else { Direction::In };
        let (session, wide) = self.sessions.get_with_wide(glance.session);
        let (hop, forward) = (self.hops.get(usize::from(session.hop(direction)))?, session.forward());
        if glance.total > hop.mtu {
            return None;
        }
        let traffic = &self.servers.get(session.destination)?.traffic;
        // Where the packet is to begin.
        let (l3, front) = (glance.l3(), usize::from(hop.header_len));
        if front != l3 && !begin(buf, l3, front) {
            return None;
        }
        let frame = buf.bytes_mut();
        hop.emit(frame);
        tally::<OUT>(session, traffic, glance.total, self.now);
        let rewrites = forward != Forward::Dr;
        change::<V6, OUT>(session, wide, glance.marks.is_tcp(), rewrites, frame.get_mut(front..)?);
        buf.truncate(front + usize::from(glance.total));
        Some(hop.port)
    }

    /// The same of one that goes into a tunnel.
    #[inline(never)]
    fn pass_tagged_into_tunnel<const V6: bool, const OUTER: usize, B: Buf>(
        &mut self,
        glance: &Glance,
        buf: &mut B,
    ) -> Option<u16> {
        let (session, wide) = self.sessions.get_with_wide(glance.session);
        let hop = self.hops.get(usize::from(session.hop(Direction::In)))?;
        if usize::from(glance.total) + OUTER > usize::from(hop.mtu) {
            return None;
        }
        let (traffic, source) = (&self.servers.get(session.destination)?.traffic, hop.source);
        let (outer, inner) = make_room::<OUTER, _>(hop, glance.l3(), glance.total, buf)?;
        tally::<false>(session, traffic, glance.total, self.now);
        self.tunnel.enclose::<V6, OUTER>((session, wide), source, (outer, inner), glance.total)?;
        Some(hop.port)
    }

    /// Counts what was sent.
    fn count(&self) {
        for (event, count) in EVENTS.into_iter().zip(self.sent).filter(|&(_, count)| count > 0) {
            self.counters.events(event, count);
            self.counters.short_way.add(count);
        }
    }

    /// Whether the index still says of a packet what it said when the burst was looked at, if that session is its own.
    #[inline(always)]
    fn is_still(&self, glance: &Glance) -> bool {
        self.sessions.get(glance.session).is_found_alone() || self.is_named(glance)
    }

    #[cold]
    fn is_named(&self, glance: &Glance) -> bool {
        self.sessions.candidate(glance.hash) == Some((glance.session, glance.marks.direction()))
    }
}

/// Makes of a packet what the other side gets of its session.
#[inline(always)]
fn change<const V6: bool, const OUT: bool>(
    session: &Session,
    wide: Option<&Wide>,
    is_tcp: bool,
    rewrites: bool,
    packet: &mut [u8],
) {
    let direction = if OUT { Direction::Out } else { Direction::In };
    if !rewrites {
        return rewrite::route::<V6>(packet);
    }
    let change =
        if OUT { session.deltas.to_client(session.offset) } else { session.deltas.to_server(session.offset) };
    if let (true, Some(wide)) = (V6, wide) {
        rewrite::rewrite_v6(packet, is_tcp, session.goes_v6(wide, direction), change);
    } else {
        rewrite::rewrite_v4(packet, is_tcp, session.goes(direction), change);
    }
}

/// Counts a packet of so many bytes, and lets its session live on.
#[inline(always)]
fn tally<const OUT: bool>(session: &mut Session, traffic: &Traffic, total: u16, now: Nanos) {
    session.touch(now);
    if OUT {
        traffic.count_out(1, total.into());
    } else {
        traffic.count_in(1, total.into());
        session.count_in();
    }
}

/// Has the packet that begins at `l3` of a frame begin at `front`; false when there is no room.
#[cold]
fn begin<B: Buf>(buf: &mut B, l3: usize, front: usize) -> bool {
    match front.checked_sub(l3) {
        Some(more) => buf.grow_front(more),
        None => {
            buf.shrink_front(l3 - front);
            true
        }
    }
}

/// Has the packet that begins at `l3` of a frame begin behind an Ethernet header, which is written, and `OUTER` bytes
/// for a tunnel's; gives these, and the packet. `None`, and nothing done, when there is no room.
#[inline(always)]
fn make_room<'a, const OUTER: usize, B: Buf>(
    hop: &Hop,
    l3: usize,
    total: u16,
    buf: &'a mut B,
) -> Option<(&'a mut [u8; OUTER], &'a mut [u8])> {
    let header = usize::from(hop.header_len);
    let front = header + OUTER;
    if !buf.grow_front(front.checked_sub(l3)?) {
        return None;
    }
    buf.truncate(front + usize::from(total));
    let (ether, packet) = buf.bytes_mut().split_at_mut_checked(header)?;
    hop.emit(ether);
    *ether.last_chunk_mut()? = outer_type::<OUTER>();
    packet.split_first_chunk_mut()
}

/// Asks for the headers of frames.
pub(crate) fn fetch<B: Buf, T: Offered<B>>(offered: &[T]) {
    for (_, buf) in offered.iter().filter_map(Offered::fresh) {
        buf.bytes().first().into_iter().for_each(prefetch);
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
        let view = View { snap, sessions };
        // Mostly all come by the same port.
        let (mut from, mut gate) = (u32::MAX, &Gate::CLOSED);
        for (frame, glance) in offered.iter().zip(&mut *list) {
            let Some((port, buf)) = frame.fresh() else {
                *glance = Glance::WHOLE_WAY;
                continue;
            };
            if from != port.into() {
                (from, gate) = (port.into(), gates.get(usize::from(port)).unwrap_or(&Gate::CLOSED));
            }
            glance.read(&view, gate, port, buf);
        }
        // Those whose sessions are not where they are looked for first do not keep the others waiting.
        let (mut late, mut waiting) = ([0u8; BURST], 0);
        let mut rest = list.iter_mut();
        while let Some(glance) = rest.next() {
            match sessions.candidate_in(glance.session, glance.hash) {
                Ok(found) => glance.suppose(found, sessions),
                Err(Elsewhere) => {
                    late[waiting % BURST] = (count - rest.len() - 1) as u8;
                    waiting += 1;
                }
            }
        }
        for &number in late.iter().take(waiting) {
            let glance = &mut list[usize::from(number)];
            let found = sessions.candidate(glance.hash);
            glance.suppose(found, sessions);
        }
        let many = snap.destinations.len() > NEAR;
        if !many && !sessions.has_wide() {
            return;
        }
        let worker = usize::from(config.worker);
        let servers = snap.destination_cells.of(worker);
        for glance in list.iter().filter(|glance| glance.marks.is_plain()) {
            let session = sessions.get(glance.session);
            sessions.prefetch_wide(session);
            if let (true, Some(servers)) = (many, servers) {
                prefetch_at(neighbours.hops(), usize::from(session.hop(glance.marks.direction())));
                servers.prefetch(session.destination);
            }
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
            let Some(way) = list.first().and_then(|glance| glance.marks.way()) else { break };
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
        if next.is_none_or(|glance| glance.marks.way().is_none()) {
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
                Some(buf) if glance.marks.is_plain() && (!stale || hands.is_still(glance)) => {
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
                let event = match glance.marks.direction() {
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

/// Length of the header that a tunnel from an address puts before packets.
fn outer_header(source: IpAddr) -> usize {
    if source.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER }
}
