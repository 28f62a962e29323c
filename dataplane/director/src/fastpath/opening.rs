//! The way of a packet that opens a session, as far as its headers have been read already.
//!
//! A SYN of IPv4 that the glance found to be of no session needs none of the first steps again: it is where
//! `receive`, `dispatch` and `deliver` would have brought it, before `connect`. What these check beyond the glance is
//! checked here. What another worker owns goes to it at once. When its service asks for nothing beside a server, and a packet to that server has gone out before,
//! the session is opened and its SYN sent by numbers alone ([`Engine::open_v4`]); what is not so plain goes on as a
//! [`Packet`], from where it has got to.

use std::net::{IpAddr, Ipv4Addr};

use fulcrum_packet::{ipv4, tcp};

use super::{Deltas, EVENTS, Glance, Glances, begin, rewrite};
use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::message::Stage;
use crate::neighbour::HopId;
use crate::packet::Packet;
use crate::reason::{Reason, VerdictKind};
use crate::receive::is_no_source;
use crate::session::{Broad, Direction, Key, NONE, Narrow, Session, SessionId, State, View};
use crate::snapshot::{ClientAddress, Destination, FTP, FTP_DATA, Forward, InterfaceId, Service, Snapshot};
use crate::stream::lead_numbers;

impl Glances {
    /// Of the frame that was taken last, if it was looked at.
    fn last(&self) -> Option<&Glance> {
        self.list.get(self.next.checked_sub(1)?)
    }
}

impl<P: Pool> Engine<P> {
    /// Takes a frame that the short way has left, with what was seen of it.
    pub(crate) fn receive_seen(
        &mut self,
        ctx: &mut Context<'_, P>,
        (port, hops, stage): (u16, u8, Stage),
        mut buf: P::Buf,
    ) {
        let Some(glance) =
            self.glances.last().filter(|glance| glance.marks().is_new() && ctx.snap.marks.is_empty())
        else {
            return self.receive(ctx, port, hops, stage, buf);
        };
        let glance = &{ *glance };
        if let Some(to) = self.other_owner(ctx.snap, glance, hops, &buf) {
            return self.hand_over(ctx, to, port, hops, stage, buf);
        }
        let Some(service) = self.service_to_open(ctx, glance, &buf) else {
            return self.receive(ctx, port, hops, stage, buf);
        };
        if !is_simple(service, glance) {
            return self.connect_to(ctx, service, opening(glance, port, hops, buf));
        }
        let chosen = self.admit(ctx.snap).and_then(|()| self.choose(ctx, service, key(glance)));
        let destination = match chosen {
            Ok(destination) => destination,
            Err(Reason::NoServer) => {
                return self.connected(ctx, service, opening(glance, port, hops, buf), Err(Reason::NoServer));
            }
            Err(reason) => return self.drop_frame(ctx, port, reason, buf),
        };
        let Some(hop) = self.hop_of_first(ctx, service, destination, glance) else {
            let packet = opening(glance, port, hops, buf);
            let opened = self.open(ctx, service, destination, &packet, NONE, true);
            return self.connected(ctx, service, packet, opened);
        };
        match self.open_v4(ctx, service, destination, glance, (hop, segment(glance, &mut buf))) {
            Ok(id) => self.send_first(ctx, glance, (port, buf), id, hop),
            Err(reason) => self.connected(ctx, service, opening(glance, port, hops, buf), Err(reason)),
        }
    }

    /// The other worker that owns a packet which no session here may be of. That one reads it from the beginning.
    fn other_owner(&self, snap: &Snapshot, glance: &Glance, hops: u8, buf: &P::Buf) -> Option<u16> {
        if self.steer.workers() == 1 {
            return None;
        }
        let owner = self.steer.owner_of(snap, any_key(glance, buf.bytes())?, 0)?;
        self.next_worker(owner, hops)
    }

    /// The service of a packet that may open a session; it is this worker's, and no mark's.
    #[inline]
    fn service_to_open<'a>(
        &self,
        ctx: &mut Context<'a, P>,
        glance: &Glance,
        buf: &P::Buf,
    ) -> Option<&'a Service> {
        let fresh = glance.marks().is_tcp() && !glance.marks().is_v6();
        if !fresh || self.sessions.expects() {
            return None;
        }
        // Sessions may have come since, by packets before this one.
        if flags(glance, buf) & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) != tcp::SYN
            || self.sessions.has_come(glance.hash)
        {
            return None;
        }
        let ((client, _), to) = glance.ends.ends();
        let service = match ctx.opened {
            Some((of, service)) if of == to => service,
            _ => {
                let service = ctx.snap.service(ipv4::TCP, Ipv4Addr::from_bits(to.0).into(), to.1)?;
                ctx.opened = Some((to, service));
                service
            }
        };
        if is_no_source(client.into()) || ctx.snap.locals.get_v4(client).is_some() {
            return None;
        }
        Some(service)
    }

    /// The hop by which a session's first packet goes to its server, when that is known, and nothing has to be done to
    /// it but what [`Engine::open_v4`] and [`Engine::send_first`] do.
    #[inline]
    fn hop_of_first(
        &self,
        ctx: &Context<'_, P>,
        service: &Service,
        destination: &Destination,
        glance: &Glance,
    ) -> Option<HopId> {
        let (interface, hop) = self.course_of_server(ctx.now, destination.id, destination.address)?;
        let mss = |interface: InterfaceId| ctx.snap.interfaces[usize::from(interface)].mss;
        let is_plain = destination.address.is_ipv4()
            && destination.forward != Forward::Tun
            && glance.total <= self.neighbours.hops()[usize::from(hop)].mtu
            && (service.profile.mss, mss(glance.interface()), mss(interface)) == (0, 0, 0);
        is_plain.then_some(hop)
    }

    /// Opens a session of IPv4 by another method than TUN whose packets need nothing beside other ends and numbers, like
    /// [`Engine::open`]; it remembers where its client's packets go. `syn` is its first segment.
    #[inline]
    fn open_v4(
        &mut self,
        ctx: &mut Context<'_, P>,
        service: &Service,
        destination: &Destination,
        glance: &Glance,
        (hop, syn): (HopId, &mut [u8]),
    ) -> Result<SessionId, Reason> {
        let (client, (_, dport)) = glance.ends.ends();
        let IpAddr::V4(address) = destination.address else { return Err(Reason::NoLocalAddress) };
        let server = (address.to_bits(), if destination.port != 0 { destination.port } else { dport });
        let fullnat = destination.forward == Forward::FullNat;
        let view = if destination.forward == Forward::Dr { View::InputOnly } else { View::Input };
        let next = match fullnat {
            true => self.next_local_port(ctx.snap, ipv4::TCP, service, destination.id, server),
            false => None,
        };
        let (local, reply) = match next {
            Some((local, reply)) => (local, Some(reply)),
            None if fullnat => {
                let to = (destination.address, server.1);
                let ranges = service.local_addresses_for(to.0);
                let local = self.take_local_port(ctx.snap, ipv4::TCP, ranges, destination.id, to)?;
                let (IpAddr::V4(address), port) = local else { return Err(Reason::NoLocalAddress) };
                ((address.to_bits(), port), None)
            }
            None => (client, None),
        };
        let comes = [glance.ends, Narrow::new(server, local)];
        let state = State::new(ipv4::TCP).next(view, tcp::SYN, self.defence.secure_tcp);
        let mut session = Session::of(ipv4::TCP, destination.forward, state, comes, destination.id);
        session.count_in();
        if let Some(timeout) = state.timeout(&destination.profile.timeouts) {
            session.set_timeout(timeout);
            session.touch(ctx.now);
        }
        if fullnat {
            lead_numbers(&mut session, &self.config.numbers, ctx.now, syn);
        }
        session.begin_era(self.era, Deltas::between_v4(glance.ends, session.goes(Direction::In)));
        session.set_hop(Direction::In, glance.interface(), hop);
        let id = self.sessions.insert_v4(session, glance.hash, reply).ok_or(Reason::SessionsFull)?;
        self.count_opened(ctx.snap, destination, id, (1, glance.total.into()));
        Ok(id)
    }

    /// Sends the packet that has opened a session.
    #[inline]
    fn send_first(
        &mut self,
        ctx: &mut Context<'_, P>,
        glance: &Glance,
        (port, mut buf): (u16, P::Buf),
        id: SessionId,
        hop: HopId,
    ) {
        let hop = &self.neighbours.hops()[usize::from(hop)];
        let session = self.sessions.get(id);
        let server = Some(session.destination);
        let (l3, front) = (glance.l3(), usize::from(hop.header_len));
        if front != l3 && !begin(&mut buf, l3, front) {
            self.counters.count_drop(port, Reason::NoHeadroom);
            self.verdict(ctx, VerdictKind::Drop, Reason::NoHeadroom.name(), server);
            return ctx.let_go(port, Reason::NoHeadroom, buf);
        }
        buf.truncate(front + usize::from(glance.total));
        let frame = buf.bytes_mut();
        hop.emit(frame);
        let forward = session.forward();
        if forward == Forward::Dr {
            rewrite::route::<false>(&mut frame[front..]);
        } else {
            let change = session.deltas.to_server(session.offset);
            rewrite::rewrite_v4(&mut frame[front..], true, session.goes(Direction::In), change);
        }
        let event = EVENTS[forward as usize];
        ctx.out.tx.push(Transmit { port: hop.port, buf });
        self.counters.event(event);
        self.verdict(ctx, VerdictKind::Forward, event.name(), server);
    }
}

/// Whether a new session of a service needs nothing but a server.
#[inline]
fn is_simple(service: &Service, glance: &Glance) -> bool {
    let ((_, sport), (_, dport)) = glance.ends.ends();
    service.persistence.is_none()
        && service.profile.client_address == ClientAddress::None
        && dport == service.port
        && dport != FTP
        && sport != FTP_DATA
}

/// The key of a packet of TCP over IPv4.
#[inline]
fn key(glance: &Glance) -> Key {
    let ((src, sport), (dst, dport)) = glance.ends.ends();
    let (src, dst) = (IpAddr::V4(src.into()), IpAddr::V4(dst.into()));
    Key { protocol: ipv4::TCP.into(), src, sport, dst, dport }
}

/// The key of any packet whose headers have been read.
fn any_key(glance: &Glance, frame: &[u8]) -> Option<Key> {
    let protocol = if glance.marks().is_tcp() { ipv4::TCP } else { ipv4::UDP }.into();
    if !glance.marks().is_v6() {
        return Some(Key { protocol, ..key(glance) });
    }
    let (src, dst) = Broad::read(glance.addresses_v6(frame)?).addresses();
    Some(Key { protocol, src: src.into(), dst: dst.into(), ..key(glance) })
}

/// Its segment.
#[inline]
fn segment<'b, B: Buf>(glance: &Glance, buf: &'b mut B) -> &'b mut [u8] {
    let l3 = glance.l3();
    let place = l3 + ipv4::HEADER..l3 + usize::from(glance.total);
    buf.bytes_mut().get_mut(place).unwrap_or_default()
}

/// Its flags.
#[inline]
fn flags<B: Buf>(glance: &Glance, buf: &B) -> u8 {
    let place = glance.l3() + ipv4::HEADER + 13;
    buf.bytes().get(place).copied().unwrap_or(0)
}

/// What the first steps would have made of it.
#[inline(never)]
fn opening<B: Buf>(glance: &Glance, port: u16, hops: u8, mut buf: B) -> Packet<B> {
    let (l3, total) = (glance.l3(), usize::from(glance.total));
    buf.truncate(l3 + total);
    let ((src, sport), (dst, dport)) = glance.ends.ends();
    let flags = flags(glance, &buf);
    Packet {
        buf,
        port,
        interface: glance.interface(),
        hops,
        stage: Stage::Arrived,
        l3,
        l4: l3 + ipv4::HEADER,
        src: IpAddr::V4(src.into()),
        dst: IpAddr::V4(dst.into()),
        protocol: ipv4::TCP,
        total,
        fragment: None,
        mark: 0,
        sport,
        dport,
        flags,
    }
}
