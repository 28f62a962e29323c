//! Multicast listening (RFC 3810): switches that snoop are told of the groups in which neighbours ask for the
//! director's IPv6 addresses. Only on worker 0.

use std::net::{IpAddr, Ipv6Addr};

use fulcrum_packet::mld::{self, Change};
use fulcrum_packet::{ethernet, ipv6, ndisc};

use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::output::is_link_local;
use crate::packet::Packet;
use crate::reason::{Event, Reason, VerdictKind};
use crate::receive::icmp_checksum_ok;
use crate::snapshot::{InterfaceId, Snapshot};

/// Groups in one report.
const RECORDS: usize = 48;

impl<P: Pool> Engine<P> {
    /// A router, or a switch in its place, asks who listens.
    pub(super) fn take_listener_query(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        let from_link = is_link_local(packet.src) && packet.ip().ttl() == mld::HOP_LIMIT;
        let Ok(asked) = mld::queried_group(packet.payload()) else {
            return self.drop_packet(ctx, packet, Reason::BadNd, None);
        };
        if !icmp_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadIcmpChecksum, None);
        }
        if !from_link || !self.limiter.take(ctx.now) {
            return self.drop_packet(ctx, packet, Reason::IcmpIgnored, None);
        }
        let snap = ctx.snap;
        let wanted = |group: &Ipv6Addr| asked.is_unspecified() || asked == *group;
        let mut groups = groups(snap, packet.interface).filter(wanted).peekable();
        while groups.peek().is_some() {
            self.report(ctx, packet.interface, Change::IsExclude, groups.by_ref().take(RECORDS));
        }
        self.verdict(ctx, VerdictKind::Reply, Event::ListeningReported.name(), None);
    }

    /// Tells that the director listens for questions about an address from now on.
    pub(super) fn report_listening(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv6Addr,
    ) {
        let group = ndisc::solicited_node(address);
        self.report(ctx, interface, Change::ToExclude, std::iter::once(group));
    }

    fn report(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        change: Change,
        groups: impl Iterator<Item = Ipv6Addr>,
    ) {
        let place = &ctx.snap.interfaces[usize::from(interface)];
        let own = place.addresses.iter().find_map(|&(own, _)| match own {
            IpAddr::V6(own) if own.is_unicast_link_local() => Some(own),
            _ => None,
        });
        let Some(src) = own else { return };
        let l3 = ethernet::header_len(place.vlan);
        let message = l3 + ipv6::HEADER + mld::ROUTER_ALERT;
        let Some(mut buf) = ctx.pool.alloc(message + mld::REPORT + RECORDS * mld::RECORD) else { return };
        let bytes = buf.bytes_mut();
        let mut records = 0;
        for (group, record) in groups.zip(bytes[message + mld::REPORT..].chunks_exact_mut(mld::RECORD)) {
            mld::emit_record(record, change, group);
            records += 1;
        }
        let end = message + mld::REPORT + records * mld::RECORD;
        mld::finish_report(&mut bytes[message..end], records as u16, src, mld::ROUTERS);
        bytes[message - mld::ROUTER_ALERT..message].copy_from_slice(&mld::router_alert());
        let header = ipv6::Header {
            traffic_class: 0,
            flow_label: 0,
            payload_len: (end - l3 - ipv6::HEADER) as u16,
            next_header: ipv6::HOP_BY_HOP,
            hop_limit: mld::HOP_LIMIT,
            src,
            dst: mld::ROUTERS,
        };
        header.emit(&mut bytes[l3..]);
        let to = ndisc::multicast_mac(mld::ROUTERS);
        ethernet::emit(bytes, to, place.mac, place.vlan, ethernet::IPV6);
        buf.truncate(end);
        self.counters.event(Event::ListeningReported);
        ctx.out.tx.push(Transmit { port: place.port, buf });
    }
}

/// The groups in which neighbours on an interface ask for the director's addresses; some may come twice.
fn groups(snap: &Snapshot, interface: InterfaceId) -> impl Iterator<Item = Ipv6Addr> + '_ {
    let own = snap.interfaces[usize::from(interface)].addresses.iter().map(|&(own, _)| own);
    let others = snap.locals.iter().filter(move |(_, local)| local.arp == Some(interface));
    own.chain(others.map(|(&address, _)| address)).filter_map(|address| match address {
        IpAddr::V6(address) => Some(ndisc::solicited_node(address)),
        IpAddr::V4(_) => None,
    })
}
