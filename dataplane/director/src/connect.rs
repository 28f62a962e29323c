//! New sessions: may this packet open one, which service, which server, which local port.

use std::net::IpAddr;

use fulcrum_packet::{ipv4, sctp, tcp, udp};

use crate::buffer::Pool;
use crate::counters::LocalCells;
use crate::engine::{Context, Engine, ROOM};
use crate::host::Error;
use crate::marks::network;
use crate::packet::{Packet, is_balanced};
use crate::reason::{Event, Reason};
use crate::schedule::Request;
use crate::session::{Direction, Key, NONE, NewSession, SessionId, State, TEMPLATE, View};
use crate::sip;
use crate::snapshot::{Destination, FTP, FTP_DATA, Forward, NO_DESTINATION, Persistence, Service, Snapshot};

/// The protocol that templates of marks have, whatever their sessions'. // IPVS: IPPROTO_IP
const IP: u8 = 0;

impl<P: Pool> Engine<P> {
    /// A packet to one of our addresses that belongs to no session.
    pub(crate) fn connect(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        let service = if is_balanced(packet.protocol) { find_service(ctx.snap, &packet) } else { None };
        let Some(service) = service else {
            let pool = ctx.snap.locals.get(&packet.dst).is_some_and(|local| local.pool.is_some());
            let reason = if pool { Reason::LocalNoSession } else { Reason::NoService };
            return self.refuse(ctx, packet, reason);
        };
        if let Some(server) = self.probed(ctx.snap, &packet).filter(|_| may_open(ctx.snap, &packet)) {
            let admitted = self.admit(ctx.snap);
            let opened = admitted.and_then(|()| self.open(ctx, service, server, &packet, NONE, true));
            return self.connected(ctx, service, packet, opened);
        }
        self.connect_to(ctx, service, packet);
    }

    /// A packet to a service that belongs to no session.
    pub(crate) fn connect_to(&mut self, ctx: &mut Context<'_, P>, service: &Service, packet: Packet<P::Buf>) {
        // IPVS never schedules active FTP's data connections.
        if packet.sport == FTP_DATA || !may_open(ctx.snap, &packet) {
            return self.refuse(ctx, packet, Reason::NoSession);
        }
        let opened = self.open_any(ctx, service, &packet, true);
        self.connected(ctx, service, packet, opened);
    }

    /// Sends the first packet of a session on its way, or says why there is none.
    pub(crate) fn connected(
        &mut self,
        ctx: &mut Context<'_, P>,
        service: &Service,
        packet: Packet<P::Buf>,
        opened: Result<SessionId, Reason>,
    ) {
        match opened {
            Ok(id) => {
                // The rest of a fragmented datagram has to find the way too.
                let ends = self.sessions.get(id).state() == State::OnePacket && packet.fragment.is_none();
                self.forward(ctx, packet, id);
                if ends {
                    self.counters.event(Event::SessionOfOnePacket);
                    self.end_session(ctx.snap, id);
                }
            }
            // Not one of FTP's data connections after all: like one to a port where nothing is.
            Err(Reason::NoServer) if service.port == FTP && packet.dport != FTP => {
                self.refuse(ctx, packet, Reason::NoSession);
            }
            Err(Reason::NoServer) if may_bypass(ctx.snap, service, &packet) => {
                self.open_bypass(ctx, packet);
            }
            Err(reason) => {
                if reason == Reason::NoServer {
                    self.send_error(ctx, &packet, Error::PortUnreachable);
                }
                self.drop_packet(ctx, packet, reason, None);
            }
        }
    }

    /// Sees to it that there is room for another session: when the table is full the most dispensable one ends. Not
    /// for everybody in a worker that has no time to spare: established sessions would pay for a flood.
    pub(crate) fn make_room(&mut self, snap: &Snapshot) -> bool {
        if !self.sessions.is_full() {
            return true;
        }
        let Some(left) = self.may_make_room.checked_sub(ROOM) else { return false };
        let Some(id) = self.sessions.most_dispensable() else { return false };
        self.may_make_room = left;
        self.counters.event(Event::SessionReclaimed);
        self.end_session(snap, id);
        true
    }

    /// Opens a session of a service, unless the defences are against it or there is no room. `own` says that the packet
    /// is the session's first: it is counted, and moves the session on.
    fn open_any(
        &mut self,
        ctx: &mut Context<'_, P>,
        service: &Service,
        packet: &Packet<P::Buf>,
        own: bool,
    ) -> Result<SessionId, Reason> {
        self.admit(ctx.snap)?;
        match service.persistence {
            Some(persistence) => self.open_persistent(ctx, service, persistence, packet, own),
            // Only templates lead to servers by other ports than the service's.
            None if service.mark.is_none() && packet.dport != service.port => Err(Reason::NoServer),
            None => {
                let destination = self.choose(ctx, service, packet.key())?;
                self.open(ctx, service, destination, packet, NONE, own)
            }
        }
    }

    /// Whether a new session is let in: the defences are not against it, and there is room.
    pub(crate) fn admit(&mut self, snap: &Snapshot) -> Result<(), Reason> {
        if self.is_dropped_by_defence(snap) {
            return Err(Reason::Defence);
        }
        if !self.make_room(snap) {
            return Err(Reason::SessionsFull);
        }
        Ok(())
    }

    /// Opens a session for the flow that an ICMP error is about, as if its client had sent into it; `None` when it
    /// is no service's. // IPVS: schedule_icmp
    pub(crate) fn connect_by_error(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        flow: Key,
    ) -> Option<Result<SessionId, Reason>> {
        let of_error = (packet.key(), packet.flags);
        packet.become_of(flow, 0);
        let service = find_service(ctx.snap, packet).filter(|_| packet.sport != FTP_DATA);
        let opened = service.map(|service| self.open_any(ctx, service, packet, false));
        packet.become_of(of_error.0, of_error.1);
        opened
    }

    /// Opens a session that goes past all servers, as the cache_bypass setting wants it: like one by DR with the
    /// host that its client asked for. // IPVS: ip_vs_leave
    fn open_bypass(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        let (client, host) = ((packet.src, packet.sport), (packet.dst, packet.dport));
        let new = NewSession {
            protocol: packet.protocol,
            forward: Forward::Dr,
            state: State::new(packet.protocol),
            client,
            vip: host,
            local: client,
            server: host,
            destination: NO_DESTINATION,
            control: NONE,
        };
        let Some(id) = self.sessions.insert(new, ctx.now) else {
            return self.drop_packet(ctx, packet, Reason::SessionsFull, None);
        };
        self.counters.event(Event::SessionCreated);
        self.advance(ctx, id, Direction::In, &packet);
        self.forward(ctx, packet, id);
    }

    /// The server that takes a new connection, by the key of the packet that opens it.
    pub(crate) fn choose<'a>(
        &mut self,
        ctx: &Context<'_, P>,
        service: &'a Service,
        key: Key,
    ) -> Result<&'a Destination, Reason> {
        let request = Request {
            client: key.src,
            client_port: key.sport,
            vip: key.dst,
            vip_port: key.dport,
            now: ctx.now,
            chance: self.chance.draw(),
            lblc_expiration: ctx.snap.settings.lblc_expiration,
            lblcr_expiration: ctx.snap.settings.lblcr_expiration,
        };
        let index = service.scheduler.choose(&service.destinations, &request).ok_or(Reason::NoServer)?;
        Ok(&service.destinations[index])
    }

    /// Opens a session of a persistent service: with the server of the client's template, or with a new template.
    fn open_persistent(
        &mut self,
        ctx: &mut Context<'_, P>,
        service: &Service,
        persistence: Persistence,
        packet: &Packet<P::Buf>,
        own: bool,
    ) -> Result<SessionId, Reason> {
        let mut key = template_key(service, persistence, packet.key());
        if persistence.sip {
            let call = packet.payload().get(udp::HEADER..).filter(|_| packet.protocol == ipv4::UDP);
            let call = call.and_then(sip::call_id).ok_or(Reason::NoCall)?;
            key.src = sip::template_address(self.config.seed, key.src, call);
        }
        let mut template = self.find_session(ctx, key).map(|(id, _)| id);
        if let Some(id) = template.filter(|&id| !self.template_is_valid(ctx.snap, id)) {
            self.leave_template(ctx.snap, id);
            template = None;
        }
        let template = match template {
            Some(id) => id,
            None => {
                let destination = self.choose(ctx, service, packet.key())?;
                self.open_template(ctx, service, persistence, destination, key, packet)?
            }
        };
        let destination = self.sessions.get(template).destination;
        let destination = ctx.snap.destination(destination).ok_or(Reason::NoServer)?;
        let opened = self.open(ctx, service, destination, packet, template, own);
        // Every new session gives the template its whole time again, but not one that outlives it by the minute.
        let session = self.sessions.get_mut(template);
        session.touch(ctx.now);
        opened
    }

    /// Puts a template aside that is not valid any more: with `expire_nodest_conn` nobody needs one without a server.
    fn leave_template(&mut self, snap: &Snapshot, id: SessionId) {
        let session = self.sessions.get(id);
        let gone = snap.destination(session.destination).is_none_or(|destination| !destination.available);
        if gone && self.sessions.controls(id) == 0 && snap.settings.expire_nodest_conn {
            return self.end_session(snap, id);
        }
        self.sessions.retire_template(id);
    }

    fn template_is_valid(&self, snap: &Snapshot, id: SessionId) -> bool {
        snap.destination(self.sessions.get(id).destination).is_some_and(|destination| {
            destination.available && !(snap.settings.expire_quiescent_template && destination.weight == 0)
        })
    }

    fn open_template(
        &mut self,
        ctx: &mut Context<'_, P>,
        service: &Service,
        persistence: Persistence,
        destination: &Destination,
        key: Key,
        packet: &Packet<P::Buf>,
    ) -> Result<SessionId, Reason> {
        let own_port = packet.dport == service.port && service.port != FTP;
        let new = NewSession {
            protocol: (key.protocol & !TEMPLATE) as u8,
            forward: destination.forward,
            state: State::Template { assured: false },
            client: (network(packet.src, persistence.prefix), 0),
            vip: (key.dst, key.dport),
            local: (key.src, 0),
            server: (destination.address, if own_port { destination.port } else { 0 }),
            destination: destination.id,
            control: NONE,
        };
        let id = self.sessions.insert(new, ctx.now).ok_or(Reason::SessionsFull)?;
        self.counters.event(Event::TemplateCreated);
        destination.counters.of(usize::from(self.config.worker)).persistent.add(1);
        self.sessions.get_mut(id).set_timeout(persistence.timeout);
        Ok(id)
    }

    /// Opens a session with a server.
    pub(crate) fn open(
        &mut self,
        ctx: &mut Context<'_, P>,
        service: &Service,
        destination: &Destination,
        packet: &Packet<P::Buf>,
        control: SessionId,
        own: bool,
    ) -> Result<SessionId, Reason> {
        if !self.make_room(ctx.snap) {
            return Err(Reason::SessionsFull);
        }
        let rewrites_port = matches!(destination.forward, Forward::Nat | Forward::FullNat);
        let own_port = service.mark.is_some() || packet.dport == service.port;
        let server_port =
            if rewrites_port && own_port && destination.port != 0 { destination.port } else { packet.dport };
        let server = (destination.address, server_port);
        let client = (packet.src, packet.sport);
        let local = match destination.forward {
            Forward::FullNat => {
                let ranges = service.local_addresses_for(server.0);
                self.take_local_port(ctx.snap, packet.protocol, ranges, destination.id, server)?
            }
            _ => client,
        };
        let new = NewSession {
            protocol: packet.protocol,
            forward: destination.forward,
            state: first_state(service, destination, packet.protocol),
            client,
            vip: (packet.dst, packet.dport),
            local,
            server,
            destination: destination.id,
            control,
        };
        self.begin(ctx, destination, new, packet, own)
    }

    /// Makes a session and counts it; where the packet is its `own`, that moves it on from its first state.
    pub(crate) fn begin(
        &mut self,
        ctx: &mut Context<'_, P>,
        destination: &Destination,
        new: NewSession,
        packet: &Packet<P::Buf>,
        own: bool,
    ) -> Result<SessionId, Reason> {
        let before = new.state;
        let answered = matches!(new.forward, Forward::Nat | Forward::FullNat);
        let view = if answered { View::Input } else { View::InputOnly };
        let state = match own {
            true => before.next(view, packet.flags, self.defence.secure_tcp),
            false => before,
        };
        let new = NewSession { state, ..new };
        let id = self.sessions.insert(new, ctx.now).ok_or(Reason::SessionsFull)?;
        self.begin_care(ctx.now, id, packet, &destination.profile);
        if own {
            let session = self.sessions.get_mut(id);
            session.count_in();
            if let Some(timeout) = state.timeout(&destination.profile.timeouts) {
                session.set_timeout(timeout);
                session.touch(ctx.now);
            }
            if state != before && state.is_established() {
                self.assure_template(new.control);
            }
        }
        self.count_opened(ctx.snap, destination, id, if own { packet.weight() } else { (0, 0) });
        Ok(id)
    }

    /// Counts a session that a packet has opened, and what it weighs.
    #[inline]
    pub(crate) fn count_opened(
        &mut self,
        snap: &Snapshot,
        destination: &Destination,
        id: SessionId,
        (packets, bytes): (u64, u64),
    ) {
        self.counters.event(Event::SessionCreated);
        self.count_begun(snap, destination, id);
        if destination.available {
            let traffic = &destination.counters.of(self.config.worker.into()).traffic;
            traffic.connections.add(1);
            traffic.count_in(packets, bytes);
        }
    }

    /// Counts a session that is there now with its server and its local address; [`Engine::end_session`] takes it
    /// back.
    #[inline(always)]
    pub(crate) fn count_begun(&mut self, snap: &Snapshot, destination: &Destination, id: SessionId) {
        let worker = usize::from(self.config.worker);
        let session = self.sessions.get(id);
        let cells = destination.counters.of(worker);
        if session.is_active() { &cells.active } else { &cells.inactive }.add(1);
        destination.thresholds.begun(&destination.counters);
        if session.forward() == Forward::FullNat {
            if let Some(cells) = self.local_cells(snap, id) {
                cells.sessions.add(1);
            }
            self.note(true, id);
        }
    }

    /// What this worker counts of a session's local address.
    #[inline(always)]
    pub(crate) fn local_cells<'a>(&self, snap: &'a Snapshot, id: SessionId) -> Option<&'a LocalCells> {
        let session = self.sessions.get(id);
        let local = if session.is_wide() {
            snap.locals.get(&self.sessions.ends(id).local.0)
        } else {
            let ((local, _), _) = session.goes(Direction::In).ends();
            snap.locals.get_v4(local)
        };
        Some(local?.pool.as_ref()?.of(self.config.worker.into()))
    }

    /// Writes down who is behind a local address and port from now on, or was so far.
    #[inline]
    pub(crate) fn note(&mut self, begins: bool, id: SessionId) {
        if let Some(journal) = &mut self.journal {
            journal.note(begins, self.sessions.get(id).protocol(), &self.sessions.ends(id));
        }
    }
}

/// The state of a new session.
fn first_state(service: &Service, destination: &Destination, protocol: u8) -> State {
    match State::new(protocol) {
        // An answer to a local address finds its client by the session alone.
        State::Udp if service.profile.one_packet && destination.forward != Forward::FullNat => {
            State::OnePacket
        }
        state => state,
    }
}

/// Whether a packet of a mark, which no server takes, may go on to where it was sent.
fn may_bypass<B>(snap: &Snapshot, service: &Service, packet: &Packet<B>) -> bool {
    snap.settings.cache_bypass && service.mark.is_some() && !snap.locals.contains_key(&packet.dst)
}

/// The service of a packet: of its mark, of its address and port.
fn find_service<'a, B>(snap: &'a Snapshot, packet: &Packet<B>) -> Option<&'a Service> {
    service_of(snap, packet.mark, packet.protocol, (packet.dst, packet.dport))
}

/// The service of packets with this mark to this end.
#[inline]
pub(crate) fn service_of(snap: &Snapshot, mark: u32, protocol: u8, to: (IpAddr, u16)) -> Option<&Service> {
    let marked = match mark {
        0 => None,
        mark => snap.mark_services.get(&(to.0.is_ipv6(), mark)),
    };
    let service = marked.or_else(|| snap.service(protocol, to.0, to.1));
    service.map(|service| &**service)
}

/// What the template of a packet's client is known by. // IPVS: ip_vs_sched_persist
pub(crate) fn template_key(service: &Service, persistence: Persistence, packet: Key) -> Key {
    let src = network(packet.src, persistence.prefix);
    match service.mark {
        // One template for all addresses, ports and protocols of the mark.
        Some(mark) if packet.dport != 0 => {
            let dst = match packet.src {
                IpAddr::V4(_) => IpAddr::V4(mark.into()),
                IpAddr::V6(_) => IpAddr::V6((u128::from(mark) << 96).into()),
            };
            Key { protocol: u16::from(IP) | TEMPLATE, src, sport: 0, dst, dport: 0 }
        }
        _ => {
            let own_port = packet.dport == service.port && service.port != FTP;
            let dport = if own_port { service.port } else { 0 };
            Key { protocol: packet.protocol | TEMPLATE, src, sport: 0, dst: packet.dst, dport }
        }
    }
}

/// Whether a packet may open a session: any datagram; of TCP a SYN, of SCTP an INIT, or with sloppy_tcp and
/// sloppy_sctp anything; never RST or ABORT.
fn may_open<B>(snap: &Snapshot, packet: &Packet<B>) -> bool {
    let flags = packet.flags;
    match packet.protocol {
        ipv4::TCP => flags & tcp::RST == 0 && (flags & tcp::SYN != 0 || snap.settings.sloppy_tcp),
        ipv4::SCTP => flags != sctp::ABORT && (flags == sctp::INIT || snap.settings.sloppy_sctp),
        _ => true,
    }
}
