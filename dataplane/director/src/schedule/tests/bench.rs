//! A service without packets: servers, a scheduler, connections that stay in one state until they end.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::{Request, Scheduler, build, build_fresh};
use crate::cells::Cells;
use crate::snapshot::{Destination, DestinationId, Forward, Tunnel};
use crate::threshold::Thresholds;
use crate::{Nanos, SECOND};

pub(super) const WORKERS: usize = 2;

pub(super) const REQUEST: Request = Request {
    client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    client_port: 40000,
    vip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)),
    vip_port: 80,
    now: 0,
    chance: 0,
    lblc_expiration: 86_400 * SECOND,
    lblcr_expiration: 86_400 * SECOND,
};

/// A server at 10.1.0.`id`.
pub(super) fn destination(id: DestinationId, weight: u32) -> Arc<Destination> {
    let address = Ipv4Addr::new(10, 1, (id >> 8) as u8, id as u8);
    Arc::new(Destination {
        id,
        service: 0,
        protocol: 6,
        address: address.into(),
        port: 80,
        forward: Forward::Nat,
        tunnel: Tunnel::default(),
        tunnel_sources: Arc::default(),
        weight,
        last_weight: weight,
        thresholds: Thresholds::default(),
        available: true,
        counters: Cells::new(WORKERS),
        profile: Arc::default(),
        local: false,
    })
}

/// Servers 1, 2, 3… with these weights, added in this order: the list is newest first.
pub(super) fn added(weights: &[u32]) -> Vec<Arc<Destination>> {
    let mut list: Vec<_> = (1..).zip(weights).map(|(id, weight)| destination(id, *weight)).collect();
    list.reverse();
    list
}

/// What a server is added or edited with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) id: DestinationId,
    pub(super) weight: u32,
    pub(super) upper: u32,
    pub(super) lower: u32,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is established.
    Active,
    /// It is closed, and rests.
    Closed,
    /// Of UDP; ends by [`Bench::end_udp`].
    Udp,
}

#[derive(Debug)]
pub(super) struct Bench {
    pub(super) list: Vec<Arc<Destination>>,
    pub(super) scheduler: Box<dyn Scheduler>,
    pub(super) flags: u8,
    pub(super) now: Nanos,
    /// Address and port of the server with id 0.
    pub(super) servers: (IpAddr, u16),
    pub(super) expiration: Nanos,
    udp: Vec<Arc<Destination>>,
    /// Connections made.
    made: usize,
}

impl Bench {
    pub(super) fn new(name: &str, flags: u8) -> Bench {
        Bench {
            list: Vec::new(),
            scheduler: build_fresh(name, flags, &[]).unwrap(),
            flags,
            now: SECOND,
            servers: (Ipv4Addr::new(10, 1, 0, 0).into(), 80),
            expiration: 86_400 * SECOND,
            udp: Vec::new(),
            made: 0,
        }
    }

    fn edited(&mut self, list: Vec<Arc<Destination>>) {
        self.scheduler = self.scheduler.carry_over(self.flags, &self.list, &list);
        self.list = list;
    }

    /// The address and port of a server.
    pub(super) fn server(&self, id: DestinationId) -> (IpAddr, u16) {
        let address = match self.servers.0 {
            IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + id).into(),
            IpAddr::V6(base) => IpAddr::V6((base.to_bits() + u128::from(id)).into()),
        };
        (address, self.servers.1)
    }

    pub(super) fn add(&mut self, setting: Setting) {
        let mut server = Arc::unwrap_or_clone(destination(setting.id, setting.weight));
        let (address, port) = self.server(setting.id);
        (server.address, server.port) = (address, port);
        server.thresholds = Thresholds::new(setting.upper, setting.lower);
        let mut list = self.list.clone();
        list.insert(0, Arc::new(server));
        self.edited(list);
    }

    pub(super) fn edit(&mut self, setting: Setting) {
        let mut list = self.list.clone();
        let place = list.iter().position(|d| d.id == setting.id).unwrap();
        let before = Destination::clone(&list[place]);
        list[place] = Arc::new(Destination {
            weight: setting.weight,
            last_weight: if setting.weight > 0 { setting.weight } else { before.last_weight },
            thresholds: before.thresholds.edited(setting.upper, setting.lower),
            ..before
        });
        self.edited(list);
    }

    pub(super) fn delete(&mut self, id: DestinationId) {
        let list = self.list.iter().filter(|d| d.id != id).cloned().collect();
        self.edited(list);
    }

    /// Edits the service.
    pub(super) fn change(&mut self, name: &str, flags: u8) {
        self.flags = flags;
        self.scheduler = if self.scheduler.name() == name {
            self.scheduler.carry_over(flags, &self.list, &self.list)
        } else {
            build(name, flags, &self.list).unwrap()
        };
    }

    /// A new connection; gives the id of its server.
    pub(super) fn open(&mut self, kind: Kind, request: &Request) -> Option<DestinationId> {
        let expirations = (self.expiration, self.expiration);
        let request = Request {
            now: self.now,
            lblc_expiration: expirations.0,
            lblcr_expiration: expirations.1,
            ..*request
        };
        let server = Arc::clone(&self.list[self.scheduler.choose(&self.list, &request)?]);
        // Every connection is of the next worker.
        self.made += 1;
        let cells = server.counters.of(self.made % WORKERS);
        cells.inactive.add(1);
        server.thresholds.begun(&server.counters);
        match kind {
            Kind::Active => {
                cells.inactive.sub_one();
                cells.active.add(1);
            }
            Kind::Closed => {}
            Kind::Udp => self.udp.push(Arc::clone(&server)),
        }
        Some(server.id)
    }

    /// Ends the UDP sessions of a server, or all of them.
    pub(super) fn end_udp(&mut self, of: Option<DestinationId>) {
        for server in self.udp.extract_if(.., |server| of.is_none_or(|id| server.id == id)) {
            // Thresholds may have been edited since.
            let now = self.list.iter().find(|d| d.id == server.id);
            server.counters.of(0).inactive.sub_one();
            now.unwrap_or(&server).thresholds.ended(&server.counters);
        }
    }
}
