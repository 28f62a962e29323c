//! FTP behind NAT and FULLNAT: the control connection says where data connections will come from and go to, and
//! that is not where client and server see each other.
//!
//! As in the kernel's helper, sessions for the data connections are made before these come, controlled by the
//! session that announced them, and what names addresses is rewritten; how the lines read is in `text`. A line that
//! a segment boundary cuts is left alone.

mod text;

use std::net::IpAddr;

use fulcrum_packet::ipv4;

use crate::buffer::Pool;
use crate::engine::{Context, Engine};
use crate::packet::Packet;
use crate::reason::Event;
use crate::session::tcp::State as TcpState;
use crate::session::{Direction, Key, NONE, NewSession, Session, SessionId, State};
use crate::snapshot::{Forward, Service, Snapshot, Timeouts};
use text::{End, Mode, Written};

/// What was said on a control connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Talk {
    /// How the client asked for the next data connection.
    mode: Mode,
    /// The last answer that was rewritten, by its number, and what it answered: sent again, it is to be so again.
    rewritten: Option<(u32, Mode)>,
}

impl<P: Pool> Engine<P> {
    /// Whether a session carries the data of another.
    pub(crate) fn is_ftp_data(&self, id: SessionId) -> bool {
        let control = self.sessions.control(id);
        control != NONE && !self.sessions.get(control).is_template()
    }

    /// Listens to a client: it asks for a passive data connection, or names its end of an active one. `seq` is the
    /// client's number of the segment.
    pub(crate) fn hear_client(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
        seq: u32,
    ) {
        let Some(start) = self.spoken(packet, id) else { return };
        let data = &packet.payload()[start..];
        let ends = self.sessions.ends(id);
        if let Some(mode) = text::asks_passive(data, ends.client.0.is_ipv6()) {
            if let Some(edits) = self.sessions.make_edits(id) {
                edits.talk.mode = mode;
            }
            return;
        }
        let Some(end) = text::active(data, ends.client.0.is_ipv6()) else { return };
        let Some(address) = end.address else { return };
        if let Some(edits) = self.sessions.edits_mut(id) {
            edits.talk.mode = Mode::Active;
        }
        let fullnat = self.sessions.get(id).forward() == Forward::FullNat;
        // A server refuses to connect to others than its client, which in FULLNAT it cannot tell.
        let refused = fullnat && address != ends.client.0;
        // The command has no form for the other family, unless it is the extended one.
        let untranslatable = ends.translates() && !end.extended;
        if refused || untranslatable {
            return;
        }
        let Some(local) = self.expect_active(ctx, id, (address, end.port)) else { return };
        if fullnat {
            let named = match local.0 {
                IpAddr::V4(address) if !end.extended => Written::numbers(address, local.1),
                address => Written::fields(address, local.1),
            };
            if let Some(growth) = replace(packet, start, end, named)
                && let Some(edits) = self.sessions.make_edits(id)
            {
                edits.request.edited(seq, growth);
            }
        }
    }

    /// Listens to a server: it names its end of the passive data connection that the client asked for. `seq` is the
    /// server's number of the segment.
    pub(crate) fn hear_server(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
        seq: u32,
    ) {
        let Some(start) = self.spoken(packet, id) else { return };
        let Some(talk) = self.sessions.edits(id).map(|edits| edits.talk) else { return };
        let mode = match talk.rewritten {
            Some((again, mode)) if again == seq => mode,
            _ => talk.mode,
        };
        let data = &packet.payload()[start..];
        let Some(end) = text::passive(data, mode, packet.is_v6()) else { return };
        let ends = self.sessions.ends(id);
        let server = (end.address.unwrap_or(ends.server.0), end.port);
        let vip = ends.vip.0;
        if !self.expect_passive(ctx, id, server) {
            return;
        }
        let named = match vip {
            IpAddr::V4(vip) if !end.extended => Written::numbers(vip, end.port),
            _ => Written::port(end.port),
        };
        if let Some(growth) = replace(packet, start, end, named)
            && let Some(edits) = self.sessions.edits_mut(id)
        {
            edits.answer.edited(seq, growth);
            edits.talk = Talk { mode: Mode::Active, rewritten: Some((seq, mode)) };
        }
    }

    /// Where the words of a segment begin, when a session is in a state to be listened to. // IPVS: ip_vs_ftp_in
    fn spoken(&self, packet: &Packet<P::Buf>, id: SessionId) -> Option<usize> {
        let start = packet.tcp_data().filter(|&start| start < packet.payload().len())?;
        (self.sessions.get(id).state() == State::Tcp(TcpState::Established)).then_some(start)
    }

    /// Makes or renews the session of a data connection from the server to an end that its client named. Gives the
    /// end that the server has to connect to.
    fn expect_active(
        &mut self,
        ctx: &mut Context<'_, P>,
        control: SessionId,
        client: (IpAddr, u16),
    ) -> Option<(IpAddr, u16)> {
        let ends = self.sessions.ends(control);
        let vip = (ends.vip.0, ends.vip.1.wrapping_sub(1));
        let server = (ends.server.0, ends.server.1.wrapping_sub(1));
        let key = data_key(client, vip);
        // Another's data may belong to another worker: it would not be found.
        let owner = self.steer.owner_of(ctx.snap, key, 0).filter(|_| client.0 != ends.client.0);
        if self.steer.workers() > 1 && owner.is_some_and(|owner| owner != self.config.worker) {
            return None;
        }
        if let Some(id) = self.data_session(ctx, key, server) {
            return Some(self.sessions.ends(id).local);
        }
        self.open_data(ctx, control, client, vip, server)
    }

    /// Makes or renews the session of a data connection from the client, by whatever port, to an end that its server
    /// named; true when there is one.
    fn expect_passive(
        &mut self,
        ctx: &mut Context<'_, P>,
        control: SessionId,
        server: (IpAddr, u16),
    ) -> bool {
        let ends = self.sessions.ends(control);
        if ends.server.0.is_ipv6() != server.0.is_ipv6() {
            return false;
        }
        let (client, vip) = ((ends.client.0, 0), (ends.vip.0, server.1));
        self.data_session(ctx, data_key(client, vip), server).is_some()
            || self.open_data(ctx, control, client, vip, server).is_some()
    }

    /// The session of a data connection that was announced before, waiting again; one to another server ends.
    fn data_session(&mut self, ctx: &Context<'_, P>, key: Key, server: (IpAddr, u16)) -> Option<SessionId> {
        let (id, _) = self.find_session(ctx, key).filter(|&(_, direction)| direction == Direction::In)?;
        if self.sessions.ends(id).server != server || !self.is_ftp_data(id) {
            self.end_session(ctx.snap, id);
            return None;
        }
        self.listen(ctx, id);
        Some(id)
    }

    /// Makes the session of a data connection; gives its local end.
    fn open_data(
        &mut self,
        ctx: &mut Context<'_, P>,
        control: SessionId,
        client: (IpAddr, u16),
        vip: (IpAddr, u16),
        server: (IpAddr, u16),
    ) -> Option<(IpAddr, u16)> {
        if !self.make_room(ctx.snap) {
            return None;
        }
        let session = self.sessions.get(control);
        let forward = session.forward();
        let destination = ctx.snap.destination(session.destination)?;
        let local = match forward {
            Forward::FullNat => {
                let service = service_of(ctx.snap, session, self.sessions.ends(control).vip)?;
                let ranges = service.local_addresses_for(server.0);
                self.take_local_port(ctx.snap, ipv4::TCP, ranges, destination.id, server).ok()?
            }
            _ => client,
        };
        let new = NewSession {
            protocol: ipv4::TCP,
            forward,
            state: State::Tcp(TcpState::Listen),
            client,
            vip,
            local,
            server,
            destination: destination.id,
            control,
        };
        let id = match client.1 {
            0 => self.sessions.expect(new, ctx.now)?,
            _ => self.sessions.insert(new, ctx.now)?,
        };
        self.listen(ctx, id);
        self.counters.event(Event::FtpDataExpected);
        self.count_begun(ctx.snap, destination, id);
        Some(local)
    }

    /// Lets a data session wait for its first packet.
    fn listen(&mut self, ctx: &Context<'_, P>, id: SessionId) {
        let session = self.sessions.get_mut(id);
        let server = ctx.snap.destination(session.destination);
        let timeouts = server.map_or(&Timeouts::KERNEL, |server| &server.profile.timeouts);
        session.set_timeout(timeouts.tcp[TcpState::Listen as usize]);
        session.touch(ctx.now);
        self.sessions.requeue(id);
        self.change_state(ctx.snap, id, State::Tcp(TcpState::Listen));
    }
}

fn data_key(client: (IpAddr, u16), vip: (IpAddr, u16)) -> Key {
    Key { protocol: u16::from(ipv4::TCP), src: client.0, sport: client.1, dst: vip.0, dport: vip.1 }
}

/// The service of a control session.
fn service_of<'a>(snap: &'a Snapshot, session: &Session, vip: (IpAddr, u16)) -> Option<&'a Service> {
    let id = snap.destination(session.destination)?.service;
    let by_address = snap.services.get(&(session.protocol(), vip.0, vip.1));
    let found = by_address.filter(|service| service.id == id);
    let found = found.or_else(|| snap.mark_services.values().find(|service| service.id == id));
    found.map(|service| &**service)
}

/// Replaces what names an end in a segment's data, which begins at `start`; gives by how much it grew.
fn replace<B: crate::Buf>(packet: &mut Packet<B>, start: usize, end: End, by: Written) -> Option<u32> {
    let place = end.place();
    let growth = (by.bytes().len() as u32).wrapping_sub(place.len() as u32);
    packet.splice(start + place.start, place.len(), by.bytes()).then_some(growth)
}
