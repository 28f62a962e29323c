//! The way of a packet that opens a session, as far as its headers have been read already.
//!
//! A SYN of IPv4 that the glance found to be of no session needs none of the first steps again: it is where
//! `receive`, `dispatch` and `deliver` would have brought it, before `connect`. What these check beyond the glance is
//! checked here; what is not plain goes through them.

use std::net::{IpAddr, Ipv4Addr};

use fulcrum_packet::{ipv4, tcp};

use super::{Glance, Glances};
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::message::Stage;
use crate::packet::Packet;
use crate::receive::is_no_source;
use crate::session::Key;
use crate::snapshot::Service;

impl<'a> Glances<'a> {
    /// Of the frame that was taken last.
    fn last(&self) -> &Glance<'a> {
        &self.list[self.next - 1]
    }
}

impl<P: Pool> Engine<P> {
    /// Takes a frame that the short way has left, with what was seen of it.
    pub(crate) fn receive_seen(
        &mut self,
        ctx: &mut Context<'_, P>,
        glances: &Glances<'_>,
        (port, hops, stage): (u16, u8, Stage),
        buf: P::Buf,
    ) {
        let glance = glances.last();
        match self.service_to_open(ctx, glance, hops, &buf) {
            Some(service) => {
                let packet = opening(glance, port, hops, buf);
                self.connect_to(ctx, service, packet);
            }
            None => self.receive(ctx, port, hops, stage, buf),
        }
    }

    /// The service of a packet that is sure to be of no session, may open one, and is this worker's.
    fn service_to_open<'a>(
        &self,
        ctx: &Context<'a, P>,
        glance: &Glance<'_>,
        hops: u8,
        buf: &P::Buf,
    ) -> Option<&'a Service> {
        let snap = ctx.snap;
        let fresh = glance.is_new() && glance.protocol == ipv4::TCP && !glance.v6;
        if !fresh || !snap.marks.is_empty() || self.sessions.expects() {
            return None;
        }
        // Sessions may have come since, by packets before this one.
        if flags(glance, buf) & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) != tcp::SYN
            || self.sessions.candidate(glance.hash).is_some()
        {
            return None;
        }
        let ((client, sport), (vip, dport)) = glance.ends.ends();
        let (client, vip) = (Ipv4Addr::from_bits(client), Ipv4Addr::from_bits(vip));
        let service = snap.service(ipv4::TCP, vip.into(), dport)?;
        if is_no_source(client) || snap.locals.contains_key(&client.into()) {
            return None;
        }
        if self.steer.workers() > 1 {
            let key = Key { protocol: ipv4::TCP.into(), src: client.into(), sport, dst: vip.into(), dport };
            let owner = self.steer.owner_of(snap, key, 0);
            if owner.is_some_and(|owner| self.next_worker(owner, hops).is_some()) {
                return None;
            }
        }
        Some(service)
    }
}

/// The flags of a segment.
fn flags<B: Buf>(glance: &Glance<'_>, buf: &B) -> u8 {
    let place = usize::from(glance.l3) + ipv4::HEADER + 13;
    buf.bytes().get(place).copied().unwrap_or(0)
}

/// What the first steps would have made of a frame.
fn opening<B: Buf>(glance: &Glance<'_>, port: u16, hops: u8, mut buf: B) -> Packet<B> {
    let (l3, total) = (usize::from(glance.l3), usize::from(glance.total));
    buf.truncate(l3 + total);
    let ((src, sport), (dst, dport)) = glance.ends.ends();
    let flags = flags(glance, &buf);
    Packet {
        buf,
        port,
        interface: glance.interface,
        hops,
        stage: Stage::Arrived,
        l3,
        l4: l3 + ipv4::HEADER,
        src: IpAddr::V4(src.into()),
        dst: IpAddr::V4(dst.into()),
        protocol: glance.protocol,
        total,
        fragment: None,
        mark: 0,
        sport,
        dport,
        flags,
    }
}
