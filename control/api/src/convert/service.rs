//! Services and servers as messages.

use fulcrum_model as model;

use super::switches::{read_state_timeouts, state_timeouts};
use super::{BadMessage, Checked, address, address_bytes, byte, each, optional, port, present, small};
use crate::state as wire;

impl From<model::Protocol> for wire::Protocol {
    fn from(protocol: model::Protocol) -> wire::Protocol {
        match protocol {
            model::Protocol::Tcp => wire::Protocol::Tcp,
            model::Protocol::Udp => wire::Protocol::Udp,
            model::Protocol::Sctp => wire::Protocol::Sctp,
        }
    }
}

/// The protocol that a field called `protocol` holds.
pub fn protocol(number: i32) -> Checked<model::Protocol> {
    match wire::Protocol::try_from(number) {
        Ok(wire::Protocol::Tcp) => Ok(model::Protocol::Tcp),
        Ok(wire::Protocol::Udp) => Ok(model::Protocol::Udp),
        Ok(wire::Protocol::Sctp) => Ok(model::Protocol::Sctp),
        _ => Err(BadMessage::new("protocol", format!("{number} is none of TCP 6, UDP 17, SCTP 132"))),
    }
}

impl From<model::Family> for wire::Family {
    fn from(family: model::Family) -> wire::Family {
        match family {
            model::Family::V4 => wire::Family::Ipv4,
            model::Family::V6 => wire::Family::Ipv6,
        }
    }
}

/// The family that a field called `family` holds.
pub(super) fn family(number: i32) -> Checked<model::Family> {
    match wire::Family::try_from(number) {
        Ok(wire::Family::Ipv4) => Ok(model::Family::V4),
        Ok(wire::Family::Ipv6) => Ok(model::Family::V6),
        _ => Err(BadMessage::new("family", format!("{number} is none of IPv4 4, IPv6 6"))),
    }
}

impl From<model::Forward> for wire::Forward {
    fn from(forward: model::Forward) -> wire::Forward {
        match forward {
            model::Forward::Nat => wire::Forward::Nat,
            model::Forward::FullNat => wire::Forward::Fullnat,
            model::Forward::Dr => wire::Forward::Dr,
            model::Forward::Tun => wire::Forward::Tun,
            model::Forward::Local => wire::Forward::Local,
        }
    }
}

/// The forwarding method that a field called `forward` holds.
pub fn forward(number: i32) -> Checked<model::Forward> {
    match wire::Forward::try_from(number) {
        Ok(wire::Forward::Nat) => Ok(model::Forward::Nat),
        Ok(wire::Forward::Fullnat) => Ok(model::Forward::FullNat),
        Ok(wire::Forward::Dr) => Ok(model::Forward::Dr),
        Ok(wire::Forward::Tun) => Ok(model::Forward::Tun),
        Ok(wire::Forward::Local) => Ok(model::Forward::Local),
        _ => {
            let problem = format!("{number} is none of NAT 1, FULLNAT 2, DR 3, TUN 4, LOCAL 5");
            Err(BadMessage::new("forward", problem))
        }
    }
}

impl From<&model::ServiceKey> for wire::ServiceKey {
    fn from(key: &model::ServiceKey) -> wire::ServiceKey {
        match *key {
            model::ServiceKey::Address { protocol, address, port } => wire::ServiceKey {
                protocol: wire::Protocol::from(protocol).into(),
                address: address_bytes(address),
                port: port.into(),
                ..Default::default()
            },
            model::ServiceKey::Mark { family, mark } => wire::ServiceKey {
                mark: Some(mark),
                family: wire::Family::from(family).into(),
                ..Default::default()
            },
        }
    }
}

impl TryFrom<wire::ServiceKey> for model::ServiceKey {
    type Error = BadMessage;

    fn try_from(key: wire::ServiceKey) -> Checked<model::ServiceKey> {
        match key.mark {
            Some(mark) => Ok(model::ServiceKey::Mark { family: family(key.family)?, mark }),
            None => Ok(model::ServiceKey::Address {
                protocol: protocol(key.protocol)?,
                address: address("address", &key.address)?,
                port: port("port", key.port)?,
            }),
        }
    }
}

impl From<&model::ServerKey> for wire::ServerKey {
    fn from(key: &model::ServerKey) -> wire::ServerKey {
        wire::ServerKey { address: address_bytes(key.address), port: key.port.into() }
    }
}

impl TryFrom<wire::ServerKey> for model::ServerKey {
    type Error = BadMessage;

    fn try_from(key: wire::ServerKey) -> Checked<model::ServerKey> {
        Ok(model::ServerKey { address: address("address", &key.address)?, port: port("port", key.port)? })
    }
}

impl From<model::Tunnel> for wire::Tunnel {
    fn from(tunnel: model::Tunnel) -> wire::Tunnel {
        let (kind, port) = match tunnel.kind {
            model::TunnelKind::Ipip => (wire::TunnelKind::Ipip, 0),
            model::TunnelKind::Gre => (wire::TunnelKind::Gre, 0),
            model::TunnelKind::Gue { port } => (wire::TunnelKind::Gue, port),
        };
        let checksum = match tunnel.checksum {
            model::TunnelChecksum::None => wire::TunnelChecksum::None,
            model::TunnelChecksum::Csum => wire::TunnelChecksum::Csum,
            model::TunnelChecksum::Remcsum => wire::TunnelChecksum::Remcsum,
        };
        let source = match tunnel.source {
            model::TunnelSource::Interface => wire::TunnelSource::Interface,
            model::TunnelSource::Local => wire::TunnelSource::Local,
        };
        wire::Tunnel {
            kind: kind.into(),
            port: port.into(),
            checksum: checksum.into(),
            source: source.into(),
        }
    }
}

impl TryFrom<wire::Tunnel> for model::Tunnel {
    type Error = BadMessage;

    fn try_from(tunnel: wire::Tunnel) -> Checked<model::Tunnel> {
        let kind = match wire::TunnelKind::try_from(tunnel.kind) {
            Ok(wire::TunnelKind::Ipip) => model::TunnelKind::Ipip,
            Ok(wire::TunnelKind::Gre) => model::TunnelKind::Gre,
            Ok(wire::TunnelKind::Gue) => model::TunnelKind::Gue { port: port("port", tunnel.port)? },
            Err(_) => {
                let problem = format!("{} is none of IPIP 0, GRE 1, GUE 2", tunnel.kind);
                return Err(BadMessage::new("kind", problem));
            }
        };
        let checksum = match wire::TunnelChecksum::try_from(tunnel.checksum) {
            Ok(wire::TunnelChecksum::None) => model::TunnelChecksum::None,
            Ok(wire::TunnelChecksum::Csum) => model::TunnelChecksum::Csum,
            Ok(wire::TunnelChecksum::Remcsum) => model::TunnelChecksum::Remcsum,
            Err(_) => {
                let problem = format!("{} is none of NONE 0, CSUM 1, REMCSUM 2", tunnel.checksum);
                return Err(BadMessage::new("checksum", problem));
            }
        };
        let source = match wire::TunnelSource::try_from(tunnel.source) {
            Ok(wire::TunnelSource::Interface) => model::TunnelSource::Interface,
            Ok(wire::TunnelSource::Local) => model::TunnelSource::Local,
            Err(_) => {
                let problem = format!("{} is none of INTERFACE 0, LOCAL 1", tunnel.source);
                return Err(BadMessage::new("source", problem));
            }
        };
        Ok(model::Tunnel { kind, checksum, source })
    }
}

impl From<model::ClientAddress> for wire::ClientAddress {
    fn from(way: model::ClientAddress) -> wire::ClientAddress {
        match way {
            model::ClientAddress::None => wire::ClientAddress::None,
            model::ClientAddress::Toa => wire::ClientAddress::Toa,
            model::ClientAddress::ProxyV1 => wire::ClientAddress::ProxyV1,
            model::ClientAddress::ProxyV2 => wire::ClientAddress::ProxyV2,
        }
    }
}

/// The way that a field called `client_address` holds.
pub(crate) fn client_address(number: i32) -> Checked<model::ClientAddress> {
    match wire::ClientAddress::try_from(number) {
        Ok(wire::ClientAddress::None) => Ok(model::ClientAddress::None),
        Ok(wire::ClientAddress::Toa) => Ok(model::ClientAddress::Toa),
        Ok(wire::ClientAddress::ProxyV1) => Ok(model::ClientAddress::ProxyV1),
        Ok(wire::ClientAddress::ProxyV2) => Ok(model::ClientAddress::ProxyV2),
        Err(_) => {
            let problem = format!("{number} is none of NONE 0, TOA 1, PROXY_V1 2, PROXY_V2 3");
            Err(BadMessage::new("client_address", problem))
        }
    }
}

impl From<&model::Server> for wire::Server {
    fn from(server: &model::Server) -> wire::Server {
        wire::Server {
            key: Some((&server.key).into()),
            forward: wire::Forward::from(server.forward).into(),
            weight: server.weight,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
            tunnel: (server.tunnel != model::Tunnel::default()).then(|| server.tunnel.into()),
            admin: (server.admin != model::Admin::Enabled).then(|| server.admin.into()),
            health: (server.health != model::ServerHealth::default()).then(|| (&server.health).into()),
        }
    }
}

impl TryFrom<wire::Server> for model::Server {
    type Error = BadMessage;

    fn try_from(server: wire::Server) -> Checked<model::Server> {
        Ok(model::Server {
            key: present("key", server.key)?.try_into().map_err(|bad: BadMessage| bad.within("key"))?,
            forward: forward(server.forward)?,
            weight: server.weight,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
            tunnel: match server.tunnel {
                Some(tunnel) => tunnel.try_into().map_err(|bad: BadMessage| bad.within("tunnel"))?,
                None => model::Tunnel::default(),
            },
            admin: server.admin.map(Into::into).unwrap_or_default(),
            health: optional("health", server.health)?,
        })
    }
}

impl From<&model::Service> for wire::Service {
    fn from(service: &model::Service) -> wire::Service {
        wire::Service {
            key: Some((&service.key).into()),
            scheduler: service.scheduler.clone(),
            persistent: service.persistent,
            prefix: service.prefix.into(),
            local_pool: service.local_pool.clone(),
            local_addresses: service.local_addresses.iter().map(|local| address_bytes(local.0)).collect(),
            interface: service.interface.clone(),
            servers: service.servers.iter().map(Into::into).collect(),
            scheduler_flags: service.scheduler_flags.into(),
            one_packet: service.one_packet,
            persistence_engine: service.persistence_engine.clone(),
            timeouts: state_timeouts(&service.timeouts),
            mss: service.mss.map(Into::into),
            client_address: wire::ClientAddress::from(service.client_address).into(),
            health: (service.health != model::ServiceHealth::default()).then(|| (&service.health).into()),
            announcement: (service.announcement != model::Announcement::default())
                .then(|| (&service.announcement).into()),
            withheld: service.withheld,
        }
    }
}

impl From<&model::Announcement> for wire::Announcement {
    fn from(announcement: &model::Announcement) -> wire::Announcement {
        let when = match announcement.when {
            model::Announce::Never => wire::Announce::Never,
            model::Announce::Healthy => wire::Announce::Healthy,
            model::Announce::Always => wire::Announce::Always,
        };
        wire::Announcement { when: when.into(), on: announcement.on.clone(), after: announcement.after }
    }
}

impl TryFrom<wire::Announcement> for model::Announcement {
    type Error = BadMessage;

    fn try_from(announcement: wire::Announcement) -> Checked<model::Announcement> {
        let when = match wire::Announce::try_from(announcement.when) {
            Ok(wire::Announce::Never) => model::Announce::Never,
            Ok(wire::Announce::Healthy) => model::Announce::Healthy,
            Ok(wire::Announce::Always) => model::Announce::Always,
            Err(_) => {
                let problem = format!("{} is none of NEVER 0, HEALTHY 1, ALWAYS 2", announcement.when);
                return Err(BadMessage::new("when", problem));
            }
        };
        Ok(model::Announcement { when, on: announcement.on, after: announcement.after })
    }
}

impl TryFrom<wire::Service> for model::Service {
    type Error = BadMessage;

    fn try_from(service: wire::Service) -> Checked<model::Service> {
        Ok(model::Service {
            key: present("key", service.key)?.try_into().map_err(|bad: BadMessage| bad.within("key"))?,
            scheduler: service.scheduler,
            persistent: service.persistent,
            prefix: byte("prefix", service.prefix)?,
            local_pool: service.local_pool,
            local_addresses: service
                .local_addresses
                .iter()
                .map(|bytes| address("local_addresses", bytes).map(model::LocalAddress))
                .collect::<Checked<_>>()?,
            interface: service.interface,
            servers: each("servers", service.servers)?,
            scheduler_flags: byte("scheduler_flags", service.scheduler_flags)?,
            one_packet: service.one_packet,
            persistence_engine: service.persistence_engine,
            timeouts: read_state_timeouts("timeouts", service.timeouts)?,
            mss: service.mss.map(|mss| small("mss", mss)).transpose()?,
            client_address: client_address(service.client_address)?,
            health: optional("health", service.health)?,
            announcement: optional("announcement", service.announcement)?,
            withheld: service.withheld,
        })
    }
}

impl From<&model::Override> for wire::Override {
    fn from(over: &model::Override) -> wire::Override {
        wire::Override {
            service: Some((&over.service).into()),
            full_nat: over.full_nat,
            local_pool: over.local_pool.clone(),
            interface: over.interface.clone(),
            mss: over.mss.map(Into::into),
            client_address: over.client_address.map(|way| wire::ClientAddress::from(way).into()),
        }
    }
}

impl TryFrom<wire::Override> for model::Override {
    type Error = BadMessage;

    fn try_from(over: wire::Override) -> Checked<model::Override> {
        let service = present("service", over.service)?;
        Ok(model::Override {
            service: service.try_into().map_err(|bad: BadMessage| bad.within("service"))?,
            full_nat: over.full_nat,
            local_pool: over.local_pool,
            interface: over.interface,
            mss: over.mss.map(|mss| small("mss", mss)).transpose()?,
            client_address: over.client_address.map(client_address).transpose()?,
        })
    }
}
