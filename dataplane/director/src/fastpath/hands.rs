//! What a packet of the short way passes through, when it is known whose it is: the last questions, then its bytes.
//! Which frames come here, and in what order, is for `fastpath`.

use std::net::IpAddr;

use fulcrum_packet::{ethernet, ipv4, ipv6};

use super::glance::{Alike, Glance};
use super::{ANSWER, EVENTS, Glances, rewrite};
use crate::Nanos;
use crate::buffer::{Buf, Pool};
use crate::cells::WorkerCells;
use crate::counters::{DestinationCells, Traffic, WorkerCounters};
use crate::engine::{Context, Engine, Received};
use crate::forward::tunnel::Outside;
use crate::neighbour::Hop;
use crate::session::terms::Terms;
use crate::session::{Direction, Lines, Session, Wide};
use crate::snapshot::Forward;

/// What packets of the short way pass through.
pub(super) struct Hands<'a> {
    pub(super) sessions: Lines<'a>,
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
    pub(super) fn of<P: Pool>(
        engine: &'a mut Engine<P>,
        ctx: &Context<'a, P>,
    ) -> Option<(Hands<'a>, &'a mut Glances)> {
        let Engine { sessions, neighbours, counters, path_mtus, ip_id, era, glances, config, .. } = engine;
        let hands = Hands {
            sessions: sessions.lines(),
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

    /// The same for one body of code, which then has in its registers, or near, what it needs for all packets.
    #[inline(always)]
    fn lend(&mut self) -> Hands<'_> {
        Hands {
            sessions: self.sessions.lend(),
            hops: self.hops,
            servers: self.servers,
            tunnel: Enclosure { ip_id: self.tunnel.ip_id, may_cut: self.tunnel.may_cut },
            now: self.now,
            tunnels: self.tunnels,
            counters: self.counters,
            era: self.era,
            sent: [0; EVENTS.len()],
        }
    }

    /// What the packets like one have in common, of which the way is known, and whose session is theirs.
    #[inline(always)]
    fn run(&self, glance: &Glance) -> Run {
        Run::of(glance.alike(), self.sessions.get(glance.session).forward(), self.era)
    }

    /// Sends a frame that was looked at by the short way and gives its port, or `None`.
    #[inline(always)]
    pub(super) fn take<B: Buf>(&mut self, glance: &Glance, buf: &mut B) -> Option<u16> {
        let (v6, direction) = glance.marks().way()?;
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
    pub(super) fn pass_alike<const V6: bool, const OUT: bool, B: Buf>(
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
            self.lend().pass_run::<V6, OUT, 0, _>(Run { is_tagged: true, ..run }, frames, list)
        } else if !OUT && !run.rewrites {
            let run = Run { is_tagged: false, rewrites: false, ..run };
            self.lend().pass_run::<V6, OUT, 0, _>(run, frames, list)
        } else if run.is_tcp {
            let run = Run { is_tagged: false, rewrites: true, is_tcp: true, is_unsummed: false, ..run };
            self.lend().pass_run::<V6, OUT, 0, _>(run, frames, list)
        } else {
            let run = Run { is_tagged: false, rewrites: true, is_tcp: false, ..run };
            self.lend().pass_run::<V6, OUT, 0, _>(run, frames, list)
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
        change::<V6, OUT>(session, wide, glance.marks().is_tcp(), rewrites, frame.get_mut(front..)?);
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
    pub(super) fn count(&self) {
        for (event, count) in EVENTS.into_iter().zip(self.sent).filter(|&(_, count)| count > 0) {
            self.counters.events(event, count);
            self.counters.short_way.add(count);
        }
    }

    /// Whether the index still says of a packet what it said when the burst was looked at, if that session is its own.
    #[inline(always)]
    pub(super) fn is_still(&self, glance: &Glance) -> bool {
        self.sessions.get(glance.session).is_found_alone() || self.is_named(glance)
    }

    #[cold]
    fn is_named(&self, glance: &Glance) -> bool {
        self.sessions.candidate(glance.hash) == Some((glance.session, glance.marks().direction()))
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
pub(super) fn begin<B: Buf>(buf: &mut B, l3: usize, front: usize) -> bool {
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

/// Length of the header that a tunnel from an address puts before packets.
pub(super) fn outer_header(source: IpAddr) -> usize {
    if source.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER }
}
