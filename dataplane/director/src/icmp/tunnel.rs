//! ICMP errors about what the director sent into a tunnel: told to the client as errors about its own packet, and
//! the path's MTU remembered.

use std::net::IpAddr;

use fulcrum_packet::ports::Ports;
use fulcrum_packet::{ethernet, gre, gue, icmp, icmpv6, ip, ipv4, ipv6, udp};

use super::is_translated;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::forward::translate::translated_error;
use crate::host::Error;
use crate::message::{Envelope, Message};
use crate::packet::{Packet, ike_key, is_balanced, is_ipsec};
use crate::reason::{Event, Reason, VerdictKind};
use crate::receive::icmp_checksum_ok;
use crate::session::{Direction, Key};
use crate::snapshot::{Forward, Snapshot};

/// What an error quotes of a packet in a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted {
    /// The tunnel's end.
    server: IpAddr,
    /// Length of the headers of the tunnel: where the packet inside begins in what is quoted.
    overhead: usize,
    /// What the packet inside is known by, when enough of it is quoted.
    pub(crate) key: Option<Key>,
    /// Whether the client forbids that it is cut.
    inner_df: bool,
}

/// What an error quotes of a tunnel to one of our servers, when it does.
pub(crate) fn quoted<B: Buf>(snap: &Snapshot, packet: &Packet<B>) -> Option<Quoted> {
    if snap.tunnels.is_empty() || !packet.is_icmp() {
        return None;
    }
    let error = icmp::Message::new_checked(packet.payload()).ok()?;
    if !is_translated(packet.is_v6(), error.kind()) {
        return None;
    }
    let quoted = error.payload();
    let outer = ip::Packet::new_quoted(packet.is_v6(), quoted).ok()?;
    let (protocol, at) = match &outer {
        ip::Packet::V4(ip) => (ip.protocol(), ip.header_len()),
        ip::Packet::V6(ip) => {
            let upper = ip.upper().ok()?;
            (upper.protocol, upper.offset)
        }
    };
    let server = outer.dst();
    let (port, overhead, v6) = match protocol {
        ipv4::IPIP | ipv6::IPV6 => (0, at, Some(protocol == ipv6::IPV6)),
        gre::PROTOCOL => match gre::Header::parse(quoted.get(at..)?) {
            Ok((header, length)) => (0, at + length, Some(header.ethertype == ethernet::IPV6)),
            Err(_) => (0, at, None),
        },
        ipv4::UDP => {
            let port = Ports::new_checked(quoted.get(at..)?).ok()?.dst();
            match quoted.get(at + udp::HEADER..).map(gue::Header::parse) {
                Some(Ok((header, length))) => {
                    (port, at + udp::HEADER + length, Some(header.protocol == ipv6::IPV6))
                }
                _ => (port, at + udp::HEADER + gue::HEADER, None),
            }
        }
        _ => return None,
    };
    if !snap.tunnels.contains(&(server, port)) {
        return None;
    }
    let inner = v6.zip(quoted.get(overhead..)).and_then(|(v6, inner)| inner_key(v6, inner));
    let (key, inner_df) = inner.map_or((None, false), |(key, df)| (Some(key), df));
    Some(Quoted { server, overhead, key, inner_df })
}

fn inner_key(v6: bool, inner: &[u8]) -> Option<(Key, bool)> {
    let ip = ip::Packet::new_quoted(v6, inner).ok()?;
    let (protocol, at) = match &ip {
        ip::Packet::V4(ip) => (ip.protocol(), ip.header_len()),
        ip::Packet::V6(ip) => {
            let upper = ip.upper().ok()?;
            (upper.protocol, upper.offset)
        }
    };
    let (src, dst) = (ip.src(), ip.dst());
    if is_ipsec(protocol) {
        return Some((ike_key(src, dst), ip.dont_fragment()));
    }
    let ports = Ports::new_checked(inner.get(at..)?).ok().filter(|_| is_balanced(protocol))?;
    let key = Key { protocol: u16::from(protocol), src, sport: ports.src(), dst, dport: ports.dst() };
    Some((key, ip.dont_fragment()))
}

impl<P: Pool> Engine<P> {
    /// An error that quotes a tunnel, to one of our addresses, with the worker that owns the flow inside. // IPVS: ip_vs_in_icmp
    pub(super) fn error_from_tunnel(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        quoted: Quoted,
    ) {
        if !icmp_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadIcmpChecksum, None);
        }
        let v6 = packet.is_v6();
        let Ok(error) = icmp::Message::new_checked(packet.payload()) else {
            return self.drop_packet(ctx, packet, Reason::BadTransportHeader, None);
        };
        let (kind, code, mut rest) = (error.kind(), error.code(), error.rest());
        let too_big = match v6 {
            false => (kind, code) == (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED),
            true => kind == icmpv6::PACKET_TOO_BIG,
        };
        if too_big {
            let told = if v6 { rest.min(0xffff) } else { rest & 0xffff } as u16;
            let mtu = self.path_mtus.learn(quoted.server, told, ctx.now);
            self.counters.event(Event::PathMtuLearned);
            for to in (0..self.steer.workers()).filter(|&to| to != self.config.worker) {
                let message = Message::PathMtu { server: quoted.server, mtu };
                ctx.out.outbox.push(Envelope { to, message });
            }
            rest = u32::from(mtu).saturating_sub(quoted.overhead as u32);
        }
        let session = quoted.key.and_then(|key| self.find_session(ctx, key)).filter(|&(id, direction)| {
            let session = self.sessions.get(id);
            direction == Direction::In
                && session.forward() == Forward::Tun
                && self.sessions.ends(id).server.0 == quoted.server
        });
        // A client that lets its packets be cut needs no word: they are, from now on.
        let Some((id, _)) = session.filter(|_| !too_big || quoted.inner_df) else {
            if too_big {
                return self.verdict(ctx, VerdictKind::Punt, Event::PathMtuLearned.name(), None);
            }
            return self.drop_packet(ctx, packet, Reason::IcmpNoSession, None);
        };
        let server = self.sessions.get(id).destination;
        let ends = self.sessions.ends(id);
        let wire = match (v6, ends.client.0.is_ipv6()) {
            (from, to) if from == to => Some((kind, code, rest)),
            (from, _) => {
                // What the tunnel leaves for the packet inside has been worked out: its own header stays.
                let translated = translated_error(from, kind, code, rest);
                translated.map(|(kind, code, other)| (kind, code, if too_big { rest } else { other }))
            }
        };
        let Some((kind, code, rest)) = wire else {
            return self.drop_packet(ctx, packet, Reason::IcmpUntranslatable, Some(server));
        };
        let vip = ends.vip.0;
        let about = &packet.payload()[icmp::HEADER + quoted.overhead..];
        let error = Error::Relayed { kind, code, rest };
        let length = self.send_error_about(ctx, about, packet.interface, packet.port, Some(vip), error);
        if length > 0
            && let Some(destination) = ctx.snap.destination(server)
        {
            self.count_out(destination, (1, length as u64));
        }
        self.counters.event(Event::ForwardedIcmp);
        self.verdict(ctx, VerdictKind::Forward, Event::ForwardedIcmp.name(), Some(server));
    }
}
