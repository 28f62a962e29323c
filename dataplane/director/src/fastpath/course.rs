//! The way of a session's first packets: that of the session before it with the same server.
//!
//! A packet that has gone the whole way, and leaves with its session where such packets go, leaves it with the server
//! as well. The first packet of the next session then needs no route and no neighbour of its own; its addresses,
//! numbers and options are still dealt with as on the whole way.

use std::net::IpAddr;

use fulcrum_packet::{ethernet, ipv4, ipv6};

use super::{Deltas, begin, rewrite};
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::forward::MIN_MTU;
use crate::message::Stage;
use crate::neighbour::{HopId, NO_HOP};
use crate::output::Way;
use crate::packet::Packet;
use crate::reason::{Event, Reason, VerdictKind};
use crate::session::{Direction, SessionId};
use crate::snapshot::{DestinationId, Forward, InterfaceId, NO_DESTINATION, Snapshot};
use crate::{Nanos, Transmit};

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

    /// Interface and hop by which packets go to a server now, when that is known.
    #[inline]
    pub(super) fn course_of_server(
        &self,
        now: Nanos,
        destination: DestinationId,
        server: IpAddr,
    ) -> Option<(InterfaceId, HopId)> {
        let course = self.courses.get(destination);
        let hop = self.neighbours.hops().get(usize::from(course.hop))?;
        let is_it = self.config.short_way
            && (course.destination, course.era) == (destination, self.era)
            && course.server == server
            && now < hop.fresh_until;
        is_it.then_some((course.interface, course.hop))
    }

    /// The course for a client's packet, when that is all that has to be known of its way.
    #[inline]
    pub(crate) fn course(
        &self,
        ctx: &Context<'_, P>,
        packet: &Packet<P::Buf>,
        id: SessionId,
    ) -> Option<(InterfaceId, HopId)> {
        let session = self.sessions.get(id);
        let (interface, hop) =
            self.course_of_server(ctx.now, session.destination, self.sessions.untranslated_server(id)?)?;
        let header = if packet.is_v6() { ipv6::HEADER } else { ipv4::HEADER };
        let knows_all = matches!(session.forward(), Forward::Nat | Forward::FullNat)
            && session.care.is_simple()
            && packet.protocol == ipv4::TCP
            && packet.fragment.is_none()
            && packet.l4 - packet.l3 == header
            && packet.total <= usize::from(self.neighbours.hops()[usize::from(hop)].mtu)
            && packet.ttl() > 1;
        knows_all.then_some((interface, hop))
    }

    /// Sends a client's segment to the server of its session by a course.
    pub(crate) fn forward_by_course(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut packet: Packet<P::Buf>,
        id: SessionId,
        (out, number): (InterfaceId, HopId),
    ) {
        self.clamp_segment_size(ctx.snap, &mut packet, out, Some(id));
        let offset = self.shift_of_request(&mut packet, id);
        let hop = &self.neighbours.hops()[usize::from(number)];
        let (l3, front) = (packet.l3, usize::from(hop.header_len));
        if front != l3 && !begin(&mut packet.buf, l3, front) {
            let server = self.sessions.get(id).destination;
            return self.drop_packet(ctx, packet, Reason::NoHeadroom, Some(server));
        }
        let v6 = packet.is_v6();
        let frame = packet.buf.bytes_mut();
        hop.emit(frame);
        let kind = if v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        frame[front - 2..front].copy_from_slice(&kind.to_be_bytes());
        let out = hop.port;
        let ends = v6.then(|| self.sessions.ends(id));
        let mut sessions = self.sessions.lines();
        let (session, wide) = sessions.get_with_wide(id);
        let deltas = if let (Some(ends), Some(wide)) = (ends, wide) {
            let deltas = Deltas::between((ends.client, ends.vip), (ends.local, ends.server));
            let goes = session.goes_v6(wide, Direction::In);
            let change = deltas.shifted(0, offset).to_server(offset);
            rewrite::rewrite_v6(&mut frame[front..], true, goes, change);
            deltas
        } else {
            let goes = session.goes(Direction::In);
            let deltas = Deltas::between_v4(session.comes(Direction::In), goes);
            rewrite::rewrite_v4(&mut frame[front..], true, goes, deltas.shifted(0, offset).to_server(offset));
            deltas
        };
        let event =
            if session.forward() == Forward::FullNat { Event::ForwardedFullNat } else { Event::ForwardedNat };
        let server = session.destination;
        if packet.stage == Stage::Arrived && !session.is_of_era(self.era) {
            session.begin_era(self.era, deltas);
            session.set_hop(Direction::In, packet.interface, number);
        }
        ctx.out.tx.push(Transmit { port: out, buf: packet.buf });
        self.counters.event(event);
        self.verdict(ctx, VerdictKind::Forward, event.name(), Some(server));
    }
}
