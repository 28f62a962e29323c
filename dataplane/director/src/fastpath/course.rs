//! The way of a session's first packets: that of the session before it with the same server.
//!
//! A packet that has gone the whole way, and leaves with its session where such packets go, leaves it with the server
//! as well. The first packet of the next session then needs no route and no neighbour of its own; its addresses,
//! numbers and options are still dealt with as on the whole way.

use std::net::IpAddr;

use fulcrum_packet::{ethernet, ipv4, ipv6};

use super::{Deltas, rewrite};
use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::forward::MIN_MTU;
use crate::message::Stage;
use crate::neighbour::{HopId, NO_HOP};
use crate::output::{Sent, Way};
use crate::packet::Packet;
use crate::reason::{Event, Reason};
use crate::session::{Direction, SessionId};
use crate::snapshot::{DestinationId, Forward, InterfaceId, NO_DESTINATION, Snapshot};

/// Where packets to a server go, in an era.
#[derive(Clone, Copy, Debug)]
struct Course {
    destination: DestinationId,
    server: IpAddr,
    era: u32,
    interface: InterfaceId,
    hop: HopId,
}

/// The courses of servers by destination id; ids that are far apart may share a place.
#[derive(Debug)]
pub(crate) struct Courses(Box<[Course]>);

impl Courses {
    const COUNT: usize = 1 << 14;

    fn get(&self, destination: DestinationId) -> &Course {
        &self.0[destination as usize % Courses::COUNT]
    }

    fn of(&mut self, destination: DestinationId) -> &mut Course {
        &mut self.0[destination as usize % Courses::COUNT]
    }
}

impl Default for Courses {
    fn default() -> Courses {
        let none = Course {
            destination: NO_DESTINATION,
            server: IpAddr::from([0; 4]),
            era: 0,
            interface: 0,
            hop: NO_HOP,
        };
        Courses(vec![none; Courses::COUNT].into())
    }
}

impl<P: Pool> Engine<P> {
    /// Keeps the way by which a packet of a session went to its server, for other sessions with it.
    pub(crate) fn learn_course(&mut self, snap: &Snapshot, id: SessionId, way: &Way) {
        let (destination, server) = (self.sessions.get(id).destination, self.sessions.ends(id).server.0);
        let least = if way.next_hop.is_ipv6() { usize::from(ipv6::MIN_MTU) } else { MIN_MTU };
        if usize::from(way.mtu) >= least
            && let Some(hop) = self.neighbours.hop(snap, way)
        {
            let (era, interface) = (self.era, way.interface);
            *self.courses.of(destination) = Course { destination, server, era, interface, hop };
        }
    }

    /// The course for a client's packet, when that is all that has to be known of its way.
    pub(crate) fn course(
        &self,
        ctx: &Context<'_, P>,
        packet: &Packet<P::Buf>,
        id: SessionId,
    ) -> Option<(InterfaceId, HopId)> {
        let session = self.sessions.get(id);
        let course = self.courses.get(session.destination);
        let hop = self.neighbours.hops().get(usize::from(course.hop))?;
        let ends = self.sessions.ends(id);
        let header = if packet.is_v6() { ipv6::HEADER } else { ipv4::HEADER };
        let knows_all = self.config.short_way
            && (course.destination, course.era) == (session.destination, self.era)
            && course.server == ends.server.0
            && matches!(session.forward(), Forward::Nat | Forward::FullNat)
            && session.care.is_simple()
            && !ends.translates()
            && packet.protocol == ipv4::TCP
            && packet.fragment.is_none()
            && packet.l4 - packet.l3 == header
            && packet.ip().ttl() > 1
            && packet.total <= usize::from(hop.mtu)
            && ctx.now < hop.fresh_until;
        knows_all.then_some((course.interface, course.hop))
    }

    /// Sends a client's segment to the server of its session by a course.
    pub(crate) fn forward_by_course(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut packet: Packet<P::Buf>,
        id: SessionId,
        (out, number): (InterfaceId, HopId),
    ) {
        let hop = self.neighbours.hops()[usize::from(number)];
        let (fullnat, server) = {
            let session = self.sessions.get(id);
            (session.forward() == Forward::FullNat, session.destination)
        };
        self.clamp_segment_size(ctx.snap, &mut packet, out, Some(id));
        if !self.sessions.get(id).care.is_nothing()
            && let Err(reason) = self.adapt_request(ctx, &mut packet, id, usize::from(hop.mtu))
        {
            return self.drop_packet(ctx, packet, reason, Some(server));
        }
        let (l3, front) = (packet.l3, usize::from(hop.header_len));
        if front > l3 && !packet.buf.grow_front(front - l3) {
            return self.drop_packet(ctx, packet, Reason::NoHeadroom, Some(server));
        }
        packet.buf.shrink_front(l3.saturating_sub(front));
        let (v6, ends) = (packet.is_v6(), self.sessions.ends(id));
        let frame = packet.buf.bytes_mut();
        hop.emit(frame, if v6 { ethernet::IPV6 } else { ethernet::IPV4 });
        let deltas = Deltas::between((ends.client, ends.vip), (ends.local, ends.server));
        // Numbers have been dealt with.
        let change = deltas.to_server(0);
        let session = self.sessions.get(id);
        if !v6 {
            rewrite::rewrite_v4(&mut frame[front..], ipv4::TCP, session.goes(Direction::In), change);
        } else if let Some((src, dst)) = self.sessions.other_ends_v6(session, Direction::In) {
            rewrite::rewrite_v6(&mut frame[front..], ipv4::TCP, src, dst, change);
        }
        if packet.stage == Stage::Arrived && session.era != self.era {
            let era = self.era;
            let session = self.sessions.get_mut(id);
            session.forget_hops();
            (session.era, session.deltas) = (era, deltas);
            session.set_hop(Direction::In, packet.interface, number);
        }
        ctx.out.tx.push(Transmit { port: hop.port, buf: packet.buf });
        let event = if fullnat { Event::ForwardedFullNat } else { Event::ForwardedNat };
        self.sent(ctx, Sent::Out, packet.port, event, Some(id));
    }
}
