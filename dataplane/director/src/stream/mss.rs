//! Maximum segment sizes that SYNs announce, lowered on their way: where a service or an interface wants it, and to
//! leave room for what the director adds.

use fulcrum_packet::ipv4;
use fulcrum_packet::tcp::{self, options};

use crate::buffer::{Buf, Pool};
use crate::engine::Engine;
use crate::packet::Packet;
use crate::reason::Event;
use crate::session::SessionId;
use crate::snapshot::{InterfaceId, Snapshot};

impl<P: Pool> Engine<P> {
    /// Lowers what a SYN announces to what the interfaces that it passes allow, and the service of its session.
    pub(crate) fn clamp_segment_size(
        &self,
        snap: &Snapshot,
        packet: &mut Packet<P::Buf>,
        out: InterfaceId,
        session: Option<SessionId>,
    ) {
        if packet.protocol != ipv4::TCP || packet.flags & tcp::SYN == 0 || packet.is_later_fragment() {
            return;
        }
        let server = session.and_then(|id| snap.destination(self.sessions.get(id).destination));
        let service = server.map_or(0, |server| server.profile.mss);
        let of = |interface: InterfaceId| snap.interfaces[usize::from(interface)].mss;
        let limits = [service, of(packet.interface), of(out)];
        if limits == [0; 3] {
            return;
        }
        let most = limits.into_iter().filter(|&limit| limit != 0).min();
        if most.is_some_and(|most| lower(packet, most)) {
            self.counters.event(Event::SegmentSizeLowered);
        }
    }
}

/// Lowers what a SYN announces by the bytes that the director will add to segments.
pub(super) fn leave_room<B: Buf>(packet: &mut Packet<B>, bytes: u16) {
    if let Some(announced) = options::mss(packet.payload()) {
        lower(packet, announced.saturating_sub(bytes));
    }
}

fn lower<B: Buf>(packet: &mut Packet<B>, most: u16) -> bool {
    let lowers = options::mss(packet.payload()).is_some_and(|announced| announced > most);
    if lowers {
        let delta = options::lower_mss(packet.payload_mut(), most);
        packet.mend(delta);
    }
    lowers
}
