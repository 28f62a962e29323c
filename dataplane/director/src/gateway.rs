//! A gateway for the servers: what they start themselves goes out with an address and port of a pool.
//!
//! A masqueraded flow is a FULLNAT session whose virtual end is its server, the host that the flow goes to; its
//! destination stands for the rule. So whatever treats FULLNAT treats it too; here is how it begins, and ICMP echo, whose
//! identifier takes the part of the port.

use std::net::IpAddr;

use fulcrum_packet::{icmp, icmpv6, ipv4, ipv6, sctp, tcp};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::host::Error;
use crate::message::{First, Stage};
use crate::output::way;
use crate::packet::{Packet, checked, is_balanced};
use crate::reason::{Event, Reason};
use crate::session::{Direction, Ends, Key, NONE, NewSession, SessionId, State};
use crate::snapshot::{Forward, GATEWAY, LocalRange, Snapshot, SnatRule};
use crate::{Nanos, SECOND};

/// Life of an echo's session after its last packet. // Linux: nf_conntrack_icmp_timeout
const ECHO_TIMEOUT: Nanos = 30 * SECOND;

/// The key of an echo request or reply: the identifier is the port of who asks.
pub(crate) fn echo_key<B: Buf>(packet: &Packet<B>) -> Option<Key> {
    if !packet.is_icmp() {
        return None;
    }
    if let Stage::Fragment { first, .. } = packet.stage {
        return matches!(first, First::Ports(..)).then(|| packet.key());
    }
    if packet.is_later_fragment() {
        return None;
    }
    let ends = (packet.src, packet.dst);
    key_of_echo(packet.protocol, ends, packet.payload())
}

/// The key of an ICMP message between these ends, when it is an echo.
pub(crate) fn key_of_echo(protocol: u8, (src, dst): (IpAddr, IpAddr), message: &[u8]) -> Option<Key> {
    if protocol != if src.is_ipv6() { ipv6::ICMP } else { ipv4::ICMP } {
        return None;
    }
    let message = icmp::Message::new_checked(message).ok()?;
    let id = (message.rest() >> 16) as u16;
    let (sport, dport) = match (src.is_ipv6(), message.kind()) {
        (false, icmp::ECHO_REQUEST) | (true, icmpv6::ECHO_REQUEST) => (id, 0),
        (false, icmp::ECHO_REPLY) | (true, icmpv6::ECHO_REPLY) => (0, id),
        _ => return None,
    };
    Some(Key { protocol: protocol.into(), src, sport, dst, dport })
}

/// Whether a packet may be the first of a flow.
fn begins<B: Buf>(packet: &Packet<B>, key: Key) -> bool {
    match packet.protocol {
        ipv4::TCP => packet.flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN,
        ipv4::SCTP => packet.flags == sctp::INIT,
        ipv4::UDP => true,
        // An echo request.
        _ => key.dport == 0,
    }
}

/// The rule for a packet that fits no session; `None` when it is to go on as it is.
fn rule_for<'a, B: Buf>(snap: &'a Snapshot, packet: &Packet<B>) -> Option<(&'a SnatRule, &'a [LocalRange])> {
    let key = echo_key(packet).unwrap_or_else(|| packet.key());
    let rule = snap.snat.iter().find(|rule| rule.counts.available && rule.fits(key))?;
    Some((rule, rule.pool.as_deref()?))
}

impl<P: Pool> Engine<P> {
    /// Whether a session is one of a rule that masquerades.
    pub(crate) fn is_masqueraded(&self, snap: &Snapshot, id: SessionId) -> bool {
        let destination = snap.destination(self.sessions.get(id).destination);
        destination.is_some_and(|destination| destination.service == GATEWAY)
    }

    /// A packet to somebody else that fits no session: masqueraded, or given back to be routed as it is. What answers
    /// packets that were routed to a server is given back, too.
    pub(crate) fn masquerade(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
    ) -> Option<Packet<P::Buf>> {
        let snap = ctx.snap;
        let Some((rule, ranges)) = rule_for(snap, &packet) else { return Some(packet) };
        let key = match echo_key(&packet) {
            Some(key) => key,
            None if is_balanced(packet.protocol) => packet.key(),
            // An error about what was routed.
            None if packet.is_icmp() => return Some(packet),
            None => {
                self.drop_packet(ctx, packet, Reason::SnatProtocol, None);
                return None;
            }
        };
        if packet.is_later_fragment() {
            self.drop_packet(ctx, packet, Reason::Fragment, None);
            return None;
        }
        let answers = snap.servers.contains_key(&(packet.protocol, packet.src, packet.sport));
        if !begins(&packet, key) || answers {
            return Some(packet);
        }
        match self.open_masqueraded(ctx, rule, ranges, key, &packet) {
            Ok(id) => self.send_masqueraded(ctx, packet, id),
            Err(reason) => self.drop_packet(ctx, packet, reason, None),
        }
        None
    }

    fn open_masqueraded(
        &mut self,
        ctx: &mut Context<'_, P>,
        rule: &SnatRule,
        ranges: &[LocalRange],
        key: Key,
        packet: &Packet<P::Buf>,
    ) -> Result<SessionId, Reason> {
        self.admit(ctx.snap)?;
        let (client, host) = ((key.src, key.sport), (key.dst, key.dport));
        let local = self.take_local_port(ctx.snap, packet.protocol, ranges, rule.counts.id, host);
        let local = local.inspect_err(|_| rule.refused.of(usize::from(self.config.worker)).add(1))?;
        let new = NewSession {
            protocol: packet.protocol,
            forward: Forward::FullNat,
            state: State::new(packet.protocol),
            client,
            vip: host,
            local,
            server: host,
            destination: rule.counts.id,
            control: NONE,
        };
        let id = self.begin(ctx, &rule.counts, new, packet, true)?;
        if packet.is_icmp() {
            let session = self.sessions.get_mut(id);
            session.set_timeout(ECHO_TIMEOUT);
            session.touch(ctx.now);
        }
        Ok(id)
    }

    /// A packet of a masqueraded session from the server that started it.
    pub(crate) fn take_masqueraded(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        id: SessionId,
    ) {
        if packet.is_icmp() && echo_key(&packet).is_none() {
            return self.error_from_client(ctx, packet, id);
        }
        if packet.opens() && self.starts_anew(ctx.snap, id) {
            self.counters.event(Event::SessionReused);
            self.end_session(ctx.snap, id);
            if let Some(packet) = self.masquerade(ctx, packet) {
                self.drop_packet(ctx, packet, Reason::NoSession, None);
            }
            return;
        }
        if let Some(rule) = ctx.snap.destination(self.sessions.get(id).destination) {
            self.count_in(rule, &packet);
            if packet.opens() && self.sessions.get(id).state().is_over() {
                self.renew_care(ctx.now, id, &packet, &rule.profile);
            }
        }
        match packet.is_icmp() {
            true => self.sessions.get_mut(id).touch(ctx.now),
            false => self.advance(ctx, id, Direction::In, &packet),
        }
        self.send_masqueraded(ctx, packet, id);
    }

    /// Sends a packet on that is counted.
    fn send_masqueraded(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, id: SessionId) {
        let Ends { local, server, .. } = self.sessions.ends(id);
        let Some(packet) = self.process_options(ctx, packet, local.0) else { return };
        if !packet.is_icmp() {
            return self.forward(ctx, packet, id);
        }
        self.send_echo(
            ctx,
            packet,
            (local.0, server.0),
            local.1,
            (id, Direction::In),
            Event::ForwardedFullNat,
        );
    }

    /// Sends the reply to a masqueraded echo request back to the server that asked.
    pub(crate) fn return_echo(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, id: SessionId) {
        let Ends { client, .. } = self.sessions.ends(id);
        let session = self.sessions.get_mut(id);
        session.set_answered();
        session.touch(ctx.now);
        if let Some(rule) = ctx.snap.destination(session.destination) {
            self.count_out(rule, packet.weight());
        }
        let ends = (packet.src, client.0);
        self.send_echo(ctx, packet, ends, client.1, (id, Direction::Out), Event::ForwardedReply);
    }

    /// Sends an echo on with other ends and another identifier.
    fn send_echo(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut packet: Packet<P::Buf>,
        ends: (IpAddr, IpAddr),
        identifier: u16,
        (id, direction): (SessionId, Direction),
        event: Event,
    ) {
        if packet.ip().ttl() <= 1 {
            return self.expire_ttl(ctx, packet, Some(id));
        }
        let way = match way(ctx.snap, ends.1, || self.flow_of(id, direction)) {
            Ok(way) => way,
            Err(reason) => {
                self.send_error(ctx, &packet, Error::HostUnreachable);
                return self.drop_packet(ctx, packet, reason, None);
            }
        };
        if packet.total > usize::from(way.mtu) && packet.ip().dont_fragment() {
            self.send_error(ctx, &packet, Error::TooBig(way.mtu));
            return self.drop_packet(ctx, packet, Reason::TooBig, None);
        }
        packet.ip_mut().decrement_ttl();
        rewrite_echo(&mut packet, ends, identifier);
        let port = packet.port;
        let sent = self.send(ctx, packet.buf, packet.l3, &way, port, false);
        self.sent(ctx, sent, port, event, Some(id));
    }
}

/// Gives an echo other ends and another identifier, and mends its checksums.
fn rewrite_echo<B: Buf>(packet: &mut Packet<B>, (src, dst): (IpAddr, IpAddr), identifier: u16) {
    let mut ip = packet.ip_mut();
    let ends = ip.set_src(src).and(ip.set_dst(dst));
    (packet.src, packet.dst) = (src, dst);
    if packet.is_later_fragment() {
        return;
    }
    let v6 = packet.is_v6();
    let mut message = checked(icmp::Message::new_checked(packet.payload_mut()));
    let named = message.set_identifier(identifier);
    let change = if v6 { named.and(ends) } else { named };
    let mended = change.apply(message.checksum());
    message.set_checksum(mended);
}
