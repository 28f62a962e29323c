//! Where a packet goes after the first steps: to one of our addresses ([`Engine::deliver`]) or on to somebody
//! else's ([`Engine::route_on`]); and what belongs to a session on both ways.

use std::sync::Arc;

use fulcrum_packet::{ipv4, ipv6, tcp};

use crate::buffer::Pool;
use crate::engine::{Context, Engine};
use crate::host::{Error, is_fragmented_echo, is_icmp_error};
use crate::message::{First, Stage};
use crate::next_hop;
use crate::output::{Sent, way};
use crate::packet::{Packet, follows_session, is_balanced, is_ipsec};
use crate::reason::{Event, Reason, VerdictKind};
use crate::receive::MAX_HOPS;
use crate::session::sctp::State as SctpState;
use crate::session::tcp::State as TcpState;
use crate::session::{Direction, Key, NONE, SessionId, State, View};
use crate::snapshot::{Destination, Forward, NO_DESTINATION, Snapshot, Timeouts};

impl<P: Pool> Engine<P> {
    /// A packet to one of our addresses.
    pub(crate) fn deliver(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        match packet.protocol {
            _ if !packet.has_ports() => self.leave(ctx, packet, Reason::Fragment),
            _ if is_fragmented_echo(&packet) => self.answer_echo_fragment(ctx, packet),
            _ if matches!(packet.stage, Stage::Fragment { first: First::Host, .. }) => {
                self.leave(ctx, packet, Reason::Fragment)
            }
            // As in the kernel, without a service nothing is balanced, not even old sessions.
            protocol if follows_session(protocol) && ctx.snap.without_services() => {
                self.refuse(ctx, packet, Reason::NoService)
            }
            protocol if follows_session(protocol) => match self.find_session(ctx, packet.key()) {
                Some((id, Direction::In)) => self.take_request(ctx, packet, id),
                Some((id, Direction::Out)) => self.take_answer(ctx, packet, id),
                None if packet.is_later_fragment() => {
                    self.leave(ctx, packet, Reason::Fragment);
                }
                None if self.meet_expected(&packet, ctx) => self.deliver(ctx, packet),
                None => match self.elsewhere(ctx, &packet) {
                    Some((to, stage)) => self.hand_over(ctx, to, packet.port, packet.hops, stage, packet.buf),
                    None => self.connect(ctx, packet),
                },
            },
            _ if packet.is_icmp() => self.icmp_to_us(ctx, packet),
            // Nothing is asked for, so nothing is refused (RFC 8200, 4.7).
            ipv6::NONE if packet.is_v6() => self.drop_packet(ctx, packet, Reason::UnknownProtocol, None),
            _ => {
                let Some(packet) = self.up_to_host(ctx, packet) else { return };
                self.send_error(ctx, &packet, Error::ProtocolUnreachable);
                self.drop_packet(ctx, packet, Reason::UnknownProtocol, None);
            }
        }
    }

    /// A packet to one of our addresses that we have no use for: the host's, if the address is its own too.
    pub(crate) fn leave(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, reason: Reason) {
        if let Some(packet) = self.up_to_host(ctx, packet) {
            self.drop_packet(ctx, packet, reason, None);
        }
    }

    /// Whether a session of FTP's data waited for this packet, the first of its client.
    fn meet_expected(&mut self, packet: &Packet<P::Buf>, ctx: &Context<'_, P>) -> bool {
        let opens = packet.protocol == ipv4::TCP && packet.flags & tcp::SYN != 0;
        let Some(id) = self.sessions.find_expected(packet.key()).filter(|_| opens) else { return false };
        if self.sessions.overdue(id, ctx.now) {
            self.counters.event(Event::SessionExpired);
            self.end_session(ctx.snap, id);
            return false;
        }
        self.sessions.meet(id, packet.sport);
        if let Some(destination) = ctx.snap.destination(self.sessions.get(id).destination) {
            self.begin_care(ctx.now, id, packet, &destination.profile);
        }
        true
    }

    /// Where a packet that met no session here may meet one: with its owner of before its service was persistent.
    /// From there a packet that may open a session comes back.
    fn elsewhere(&self, ctx: &Context<'_, P>, packet: &Packet<P::Buf>) -> Option<(u16, Stage)> {
        let plain = packet.is_v6() || packet.l4 - packet.l3 == ipv4::HEADER;
        let answers = packet.protocol == ipv4::TCP && packet.flags & tcp::ACK != 0;
        if self.steer.workers() == 1 || !plain || packet.opens() && !answers {
            return None;
        }
        let from = match packet.stage {
            Stage::Arrived => 0,
            Stage::FormerOwner(way) => way + 1,
            _ => return None,
        };
        match self.steer.former_owner(ctx.snap, packet, from) {
            Some((former, way)) if packet.hops < MAX_HOPS - 1 => Some((former, Stage::FormerOwner(way))),
            _ if packet.protocol == ipv4::UDP && packet.stage != Stage::Arrived => {
                self.steer.owner(ctx.snap, packet).map(|owner| (owner, Stage::Owner))
            }
            _ => None,
        }
    }

    /// A packet to somebody else: an answer of a NAT server, or one that we merely route.
    pub(crate) fn route_on(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        let session = match packet.protocol {
            _ if ctx.snap.without_services() || !packet.has_ports() => None,
            protocol if follows_session(protocol) => self.find_session(ctx, packet.key()),
            _ if packet.is_icmp() => self.session_of_icmp(ctx, &packet),
            _ => None,
        };
        if let Some((id, Direction::In)) = session
            && self.is_masqueraded(ctx.snap, id)
        {
            return self.take_masqueraded(ctx, packet, id);
        }
        let session = session.filter(|&(_, direction)| direction == Direction::Out);
        let packet = match session {
            Some(_) => packet,
            None if packet.stage == Stage::Host => return self.send_for_host(ctx, packet.port, packet.buf),
            None => match self.up_to_host(ctx, packet) {
                Some(packet) => packet,
                None => return,
            },
        };
        if session.is_none()
            && is_balanced(packet.protocol)
            && matches!(packet.stage, Stage::Arrived | Stage::FormerOwner(_))
            && let Some((to, stage)) = self.elsewhere(ctx, &packet)
        {
            return self.hand_over(ctx, to, packet.port, packet.hops, stage, packet.buf);
        }
        let mut packet = packet;
        if session.is_none() && packet.has_ports() && !ctx.snap.snat.is_empty() {
            match self.masquerade(ctx, packet) {
                Some(back) => packet = back,
                None => return,
            }
        }
        if session.is_none() && !ctx.snap.settings.ip_forward {
            return self.drop_packet(ctx, packet, Reason::NotForwarding, None);
        }
        let own = match session {
            Some((id, _)) => self.sessions.ends(id).vip.0,
            None => self.route_source(ctx.snap, &packet),
        };
        let Some(mut packet) = self.process_options(ctx, packet, own) else { return };
        if packet.ip().ttl() <= 1 {
            return self.expire_ttl(ctx, packet, session.map(|(id, _)| id));
        }
        let way = match way(ctx.snap, packet.dst, || next_hop::of_packet(&packet)) {
            Ok(way) => way,
            Err(reason) => {
                match reason {
                    Reason::RouteBlackhole => {}
                    Reason::RouteUnreachable => _ = self.send_error(ctx, &packet, Error::HostUnreachable),
                    _ => _ = self.send_error(ctx, &packet, Error::NetUnreachable),
                }
                return self.drop_packet(ctx, packet, reason, None);
            }
        };
        if packet.total > usize::from(way.mtu) && packet.ip().dont_fragment() {
            self.send_error(ctx, &packet, Error::TooBig(way.mtu));
            return self.drop_packet(ctx, packet, Reason::TooBig, None);
        }
        if let Some((id, _)) = session {
            return if packet.is_icmp() {
                self.error_from_server(ctx, packet, id)
            } else {
                self.take_answer(ctx, packet, id)
            };
        }
        packet.ip_mut().decrement_ttl();
        if self.is_stray_of_server(ctx.snap, &packet) {
            self.send_error(ctx, &packet, Error::PortUnreachable);
            return self.drop_packet(ctx, packet, Reason::StrayServerPacket, None);
        }
        self.clamp_segment_size(ctx.snap, &mut packet, way.interface, None);
        let port = packet.port;
        let sent = self.send(ctx, packet.buf, packet.l3, &way, port, true);
        self.sent(ctx, sent, port, Event::ForwardedRoute, None);
    }

    /// Whether nat_icmp_send wants a packet refused that a NAT server sent outside of any session.
    fn is_stray_of_server(&self, snap: &Snapshot, packet: &Packet<P::Buf>) -> bool {
        snap.settings.nat_icmp_send
            && is_balanced(packet.protocol)
            && packet.flags & tcp::RST == 0
            && !packet.is_later_fragment()
            && snap.servers.contains_key(&(packet.protocol, packet.src, packet.sport))
    }

    /// A packet whose TTL is used up.
    pub(crate) fn expire_ttl(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        session: Option<SessionId>,
    ) {
        let server = session.map(|id| self.sessions.get(id).destination);
        if is_icmp_error(&packet) {
            return self.drop_packet(ctx, packet, Reason::IcmpTtlExpired, server);
        }
        self.send_error(ctx, &packet, Error::TtlExpired);
        self.drop_packet(ctx, packet, Reason::TtlExpired, server);
    }

    /// The live session of a key; one that is over is ended here.
    pub(crate) fn find_session(&mut self, ctx: &Context<'_, P>, key: Key) -> Option<(SessionId, Direction)> {
        let (id, direction) = self.sessions.find(key)?;
        if self.sessions.overdue(id, ctx.now) {
            self.counters.event(Event::SessionExpired);
            self.end_session(ctx.snap, id);
            // Another session may have been hidden behind its reply key.
            return self.find_session(ctx, key);
        }
        Some((id, direction))
    }

    /// A packet of a session's client.
    fn take_request(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, id: SessionId) {
        let session = self.sessions.get(id);
        let destination = ctx.snap.destination(session.destination);
        if packet.opens() && self.starts_anew(ctx.snap, id) || self.probes_anew(ctx.snap, &packet, id) {
            self.counters.event(Event::SessionReused);
            self.end_session(ctx.snap, id);
            return self.connect(ctx, packet);
        }
        if session.state() == State::OnePacket && !packet.is_later_fragment() {
            self.counters.event(Event::SessionOfOnePacket);
            self.end_session(ctx.snap, id);
            return self.connect(ctx, packet);
        }
        if session.destination == NO_DESTINATION {
            self.advance(ctx, id, Direction::In, &packet);
            return self.forward(ctx, packet, id);
        }
        // Probes reach servers that are out because of them.
        let reachable = |server: &&Arc<Destination>| server.available || packet.stage == Stage::Host;
        let Some(destination) = destination.filter(reachable) else {
            if ctx.snap.settings.expire_nodest_conn {
                self.end_session(ctx.snap, id);
                return self.connect(ctx, packet);
            }
            let server = session.destination;
            return self.drop_packet(ctx, packet, Reason::ServerDeleted, Some(server));
        };
        self.count_in(destination, &packet);
        if packet.opens() && session.state().is_over() && !session.care.is_nothing() {
            self.renew_care(ctx.now, id, &packet, &destination.profile);
        }
        self.advance(ctx, id, Direction::In, &packet);
        self.forward(ctx, packet, id);
    }

    /// Whether a SYN or INIT ends the session it meets and is scheduled like a new one. // IPVS: is_new_conn_expected
    pub(crate) fn starts_anew(&self, snap: &Snapshot, id: SessionId) -> bool {
        let session = self.sessions.get(id);
        let weight = snap.destination(session.destination).map_or(0, |destination| destination.weight);
        if snap.settings.expire_nodest_conn && weight == 0 && session.destination != NO_DESTINATION {
            return true;
        }
        let mode = snap.settings.conn_reuse_mode;
        if mode == 0 || self.sessions.control(id) != NONE {
            return false;
        }
        match session.state() {
            State::Tcp(TcpState::TimeWait | TcpState::Close) | State::Sctp(SctpState::Closed) => true,
            State::Tcp(TcpState::FinWait) => mode & 2 != 0 && session.no_output(),
            _ => false,
        }
    }

    /// A packet of a session's server, from where a NAT or FULLNAT server sends it.
    fn take_answer(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, id: SessionId) {
        if packet.ip().ttl() <= 1 {
            return self.expire_ttl(ctx, packet, Some(id));
        }
        self.reply(ctx, packet, id);
    }

    /// Moves a session on by a packet: state, time-out, what its server counts.
    pub(crate) fn advance(
        &mut self,
        ctx: &Context<'_, P>,
        id: SessionId,
        direction: Direction,
        packet: &Packet<P::Buf>,
    ) {
        if packet.is_later_fragment() {
            return;
        }
        let session = self.sessions.get_mut(id);
        if is_ipsec(packet.protocol) {
            return session.touch(ctx.now);
        }
        match direction {
            Direction::Out => session.set_answered(),
            Direction::In => session.count_in(),
        }
        let before = session.timeout();
        let view = match direction {
            Direction::Out => View::Output,
            Direction::In if session.no_output() => View::InputOnly,
            Direction::In => View::Input,
        };
        let state = session.state();
        let next = state.next(view, packet.flags, self.defence.secure_tcp);
        let assured = if next == State::Udp {
            direction == Direction::Out
        } else {
            next != state && next.is_established()
        };
        let destination = ctx.snap.destination(session.destination);
        let timeouts = destination.map_or(&Timeouts::KERNEL, |destination| &destination.profile.timeouts);
        if let Some(timeout) = next.timeout(timeouts) {
            session.set_timeout(timeout);
        }
        session.touch(ctx.now);
        if session.timeout() < before {
            self.sessions.requeue(id);
        }
        if next != state {
            self.change_state(ctx.snap, id, next);
        }
        if assured {
            self.assure_template(self.sessions.control(id));
        }
    }

    /// Says of the template that controls a session, if one does, that a session of it was established.
    pub(crate) fn assure_template(&mut self, control: SessionId) {
        if control != NONE && self.sessions.get(control).is_template() {
            self.sessions.get_mut(control).set_state(State::Template { assured: true });
        }
    }

    /// Gives a session a state, and its server the counts that follow from it.
    pub(crate) fn change_state(&mut self, snap: &Snapshot, id: SessionId, state: State) {
        let session = self.sessions.get_mut(id);
        session.set_state(state);
        if session.is_active() != state.is_active()
            && let Some(destination) = snap.destination(session.destination)
        {
            session.set_active(state.is_active());
            let cells = destination.counters.of(usize::from(self.config.worker));
            let (from, to) = match state.is_active() {
                true => (&cells.inactive, &cells.active),
                false => (&cells.active, &cells.inactive),
            };
            from.sub_one();
            to.add(1);
        }
        self.sessions.state_changed(id);
    }

    /// Ends a session and settles the counts it was part of.
    /// One that controls others is only hidden: it ends when they have.
    pub(crate) fn end_session(&mut self, snap: &Snapshot, id: SessionId) {
        if self.sessions.controls(id) > 0 {
            return self.sessions.retire(id);
        }
        self.settle(snap, id);
        self.sessions.remove(id);
    }

    /// Takes a session that ends from the counts of its server and of its local address.
    #[inline]
    pub(crate) fn settle(&mut self, snap: &Snapshot, id: SessionId) {
        let worker = usize::from(self.config.worker);
        let session = self.sessions.get(id);
        if let Some(destination) = snap.destination(session.destination) {
            let cells = destination.counters.of(worker);
            match session.state() {
                State::Template { .. } => cells.persistent.sub_one(),
                _ if session.is_active() => cells.active.sub_one(),
                _ => cells.inactive.sub_one(),
            }
            destination.thresholds.ended(&destination.counters);
        }
        if session.forward() == Forward::FullNat && !session.is_template() {
            if let Some(cells) = self.local_cells(snap, id) {
                cells.sessions.sub_one();
            }
            self.note(false, id);
        }
    }

    /// Counts a packet from a client, as IPVS does: only while the server belongs to a service.
    pub(crate) fn count_in(&self, destination: &Destination, packet: &Packet<P::Buf>) {
        if destination.available {
            let (packets, bytes) = packet.weight();
            destination.counters.of(self.config.worker.into()).traffic.count_in(packets, bytes);
        }
    }

    /// Counts a packet to a client, as [`Packet::weight`] gives it.
    pub(crate) fn count_out(&self, destination: &Destination, (packets, bytes): (u64, u64)) {
        if destination.available {
            destination.counters.of(self.config.worker.into()).traffic.count_out(packets, bytes);
        }
    }

    /// Tells what became of a packet that was to be sent.
    pub(crate) fn sent(
        &mut self,
        ctx: &mut Context<'_, P>,
        sent: Sent,
        port: u16,
        event: Event,
        session: Option<SessionId>,
    ) {
        let server = session.map(|id| self.sessions.get(id).destination);
        match sent {
            Sent::Out | Sent::Up => {
                self.counters.event(event);
                self.verdict(ctx, VerdictKind::Forward, event.name(), server);
            }
            Sent::Parked => {
                self.counters.event(event);
                self.verdict(ctx, VerdictKind::Hold, Event::Parked.name(), server);
            }
            Sent::Dropped(reason) => {
                self.counters.count_drop(port, reason);
                self.verdict(ctx, VerdictKind::Drop, reason.name(), server);
                ctx.let_refused_go(port, reason);
            }
        }
    }
}
