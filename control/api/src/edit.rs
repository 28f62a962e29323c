//! Edits and their refusals as messages, both ways.
//!
//! A refusal travels as the details of a gRPC status, so that the one who asked gets fulcrum-model's own error
//! back and can say it in its own words (ipvsadm's, for instance).

use fulcrum_model::{Edit, EditError, MarkRule, ServerKey, Service, ServiceKey};
use prost::Message as _;
use tonic::{Code, Status};

use crate::control::{self as wire, edit, refusal};
use crate::convert::{BadMessage, address, address_bytes, client_address, optional, present, small, state};
use crate::status::clipped;

impl From<&Edit> for wire::Edit {
    fn from(edit: &Edit) -> wire::Edit {
        use edit::Edit as Out;
        let name = |service: &ServiceKey, name: &Option<String>| wire::ServiceName {
            service: Some(service.into()),
            name: name.clone(),
        };
        let server = |service: &ServiceKey, server: &fulcrum_model::Server| wire::ServiceServer {
            service: Some(service.into()),
            server: Some(server.into()),
        };
        let local = |service: &ServiceKey, address| wire::ServiceAddress {
            service: Some(service.into()),
            address: address_bytes(address),
        };
        let edit = match edit {
            Edit::AddService(service) => Out::AddService(service.into()),
            Edit::UpdateService(service) => Out::UpdateService(service.into()),
            Edit::DeleteService(key) => Out::DeleteService(key.into()),
            Edit::ClearServices => Out::ClearServices(true),
            Edit::SetServicePool(key, pool) => Out::SetServicePool(name(key, pool)),
            Edit::SetServiceInterface(key, interface) => Out::SetServiceInterface(name(key, interface)),
            Edit::SetServiceMss(key, mss) => {
                Out::SetServiceMss(wire::ServiceMss { service: Some(key.into()), mss: mss.map(Into::into) })
            }
            Edit::SetServiceClientAddress(key, way) => {
                Out::SetServiceClientAddress(wire::ServiceClientAddress {
                    service: Some(key.into()),
                    client_address: crate::state::ClientAddress::from(*way).into(),
                })
            }
            Edit::SetServiceAnnouncement(key, announcement) => {
                Out::SetServiceAnnouncement(wire::SetServiceAnnouncement {
                    service: Some(key.into()),
                    announcement: Some(announcement.into()),
                })
            }
            Edit::SetServiceHealth(key, health) => Out::SetServiceHealth(wire::SetServiceHealth {
                service: Some(key.into()),
                health: Some(health.into()),
            }),
            Edit::SetServerHealth(service, server, health) => Out::SetServerHealth(wire::SetServerHealth {
                service: Some(service.into()),
                server: Some(server.into()),
                health: Some(health.into()),
            }),
            Edit::SetServerAdmin { service, address, port, admin } => {
                Out::SetServerAdmin(wire::SetServerAdmin {
                    service: service.as_ref().map(Into::into),
                    address: address_bytes(*address),
                    port: port.map(Into::into),
                    admin: Some((*admin).into()),
                })
            }
            Edit::SetStateTimeout(key, state, seconds) => Out::SetStateTimeout(wire::SetStateTimeout {
                service: key.as_ref().map(Into::into),
                state: state.name().to_owned(),
                seconds: *seconds,
            }),
            Edit::AddServer(key, new) => Out::AddServer(server(key, new)),
            Edit::UpdateServer(key, new) => Out::UpdateServer(server(key, new)),
            Edit::DeleteServer(service, server) => Out::DeleteServer(pair(service, server)),
            Edit::AddLocalAddress(key, address) => Out::AddLocalAddress(local(key, *address)),
            Edit::DeleteLocalAddress(key, address) => Out::DeleteLocalAddress(local(key, *address)),
            Edit::SetTimeouts(timeouts) => Out::SetTimeouts(timeouts.into()),
            Edit::SetSettings(settings) => Out::SetSettings(settings.into()),
            Edit::SetSetting { name, value } => {
                Out::SetSetting(crate::state::Setting { name: name.clone(), value: value.clone() })
            }
            Edit::AddMark(rule, at) => Out::AddMark(placed(rule, *at)),
            Edit::DeleteMark(rule, at) => Out::DeleteMark(placed(rule, *at)),
            Edit::ClearMarks => Out::ClearMarks(true),
            Edit::AddRoute(route) => Out::AddRoute(route.into()),
            Edit::DeleteRoute(to) => Out::DeleteRoute(to.into()),
            Edit::AddNeighbour(neighbour) => Out::AddNeighbour(neighbour.into()),
            Edit::DeleteNeighbour { interface, address } => Out::DeleteNeighbour(wire::NeighbourKey {
                interface: interface.clone(),
                address: address_bytes(*address),
            }),
            Edit::AddLocalPool(pool) => Out::AddLocalPool(pool.into()),
            Edit::DeleteLocalPool(name) => Out::DeleteLocalPool(name.clone()),
            Edit::AddSnat(rule, at) => {
                let at = at.map(|at| u32::try_from(at).unwrap_or(u32::MAX));
                Out::AddSnat(wire::PlacedSnat { rule: Some(rule.into()), at })
            }
            Edit::DeleteSnat(name) => Out::DeleteSnat(name.clone()),
            Edit::SetOverride(over) => Out::SetOverride(over.into()),
            Edit::DeleteOverride(key) => Out::DeleteOverride(key.into()),
            Edit::AddCheck(check) => Out::AddCheck(check.into()),
            Edit::UpdateCheck(check) => Out::UpdateCheck(check.into()),
            Edit::DeleteCheck(name) => Out::DeleteCheck(name.clone()),
        };
        wire::Edit { edit: Some(edit) }
    }
}

impl TryFrom<wire::Edit> for Edit {
    type Error = BadMessage;

    fn try_from(message: wire::Edit) -> Result<Edit, BadMessage> {
        use edit::Edit as In;
        let service = |key| service_key(key);
        let server = |pair: wire::ServiceServer| {
            let server = present("server", pair.server)?;
            let server = server.try_into().map_err(|bad: BadMessage| bad.within("server"))?;
            Ok::<_, BadMessage>((service_key(pair.service)?, server))
        };
        Ok(match present("edit", message.edit)? {
            In::AddService(new) => Edit::AddService(whole(new)?),
            In::UpdateService(new) => Edit::UpdateService(whole(new)?),
            In::DeleteService(key) => Edit::DeleteService(service(Some(key))?),
            In::ClearServices(_) => Edit::ClearServices,
            In::SetServicePool(set) => Edit::SetServicePool(service(set.service)?, set.name),
            In::SetServiceInterface(set) => Edit::SetServiceInterface(service(set.service)?, set.name),
            In::SetServiceMss(set) => {
                let mss = set.mss.map(|mss| small("mss", mss)).transpose()?;
                Edit::SetServiceMss(service(set.service)?, mss)
            }
            In::SetServiceClientAddress(set) => {
                Edit::SetServiceClientAddress(service(set.service)?, client_address(set.client_address)?)
            }
            In::SetServiceAnnouncement(set) => Edit::SetServiceAnnouncement(
                service(set.service)?,
                optional("announcement", set.announcement)?,
            ),
            In::SetServiceHealth(set) => {
                Edit::SetServiceHealth(service(set.service)?, optional("health", set.health)?)
            }
            In::SetServerHealth(set) => {
                let (key, server) =
                    both(wire::ServiceServerKey { service: set.service, server: set.server })?;
                Edit::SetServerHealth(key, server, optional("health", set.health)?)
            }
            In::SetServerAdmin(set) => Edit::SetServerAdmin {
                service: set.service.map(|key| service(Some(key))).transpose()?,
                address: address("address", &set.address)?,
                port: set.port.map(|number| small("port", number)).transpose()?,
                admin: set.admin.map(Into::into).unwrap_or_default(),
            },
            In::SetStateTimeout(set) => {
                let key = set.service.map(|key| service(Some(key))).transpose()?;
                Edit::SetStateTimeout(key, state("state", &set.state)?, set.seconds)
            }
            In::AddServer(pair) => server(pair).map(|(key, server)| Edit::AddServer(key, server))?,
            In::UpdateServer(pair) => server(pair).map(|(key, server)| Edit::UpdateServer(key, server))?,
            In::DeleteServer(pair) => {
                let (service, server) = both(pair)?;
                Edit::DeleteServer(service, server)
            }
            In::AddLocalAddress(local) => {
                Edit::AddLocalAddress(service(local.service)?, address("address", &local.address)?)
            }
            In::DeleteLocalAddress(local) => {
                Edit::DeleteLocalAddress(service(local.service)?, address("address", &local.address)?)
            }
            In::SetTimeouts(timeouts) => Edit::SetTimeouts(timeouts.try_into()?),
            In::SetSettings(settings) => Edit::SetSettings(settings.try_into()?),
            In::SetSetting(set) => Edit::SetSetting { name: set.name, value: set.value },
            In::AddMark(placed) => mark(placed).map(|(rule, at)| Edit::AddMark(rule, at))?,
            In::DeleteMark(placed) => mark(placed).map(|(rule, at)| Edit::DeleteMark(rule, at))?,
            In::ClearMarks(_) => Edit::ClearMarks,
            In::AddRoute(route) => Edit::AddRoute(route.try_into()?),
            In::DeleteRoute(to) => Edit::DeleteRoute(to.try_into()?),
            In::AddNeighbour(neighbour) => Edit::AddNeighbour(neighbour.try_into()?),
            In::DeleteNeighbour(key) => {
                Edit::DeleteNeighbour { address: address("address", &key.address)?, interface: key.interface }
            }
            In::AddLocalPool(pool) => Edit::AddLocalPool(pool.try_into()?),
            In::DeleteLocalPool(name) => Edit::DeleteLocalPool(name),
            In::AddSnat(placed) => {
                let rule = present("rule", placed.rule)?;
                let rule = rule.try_into().map_err(|bad: BadMessage| bad.within("rule"))?;
                Edit::AddSnat(rule, placed.at.map(|at| at as usize))
            }
            In::DeleteSnat(name) => Edit::DeleteSnat(name),
            In::SetOverride(over) => Edit::SetOverride(over.try_into()?),
            In::DeleteOverride(key) => Edit::DeleteOverride(key.try_into()?),
            In::AddCheck(check) => Edit::AddCheck(check.try_into()?),
            In::UpdateCheck(check) => Edit::UpdateCheck(check.try_into()?),
            In::DeleteCheck(name) => Edit::DeleteCheck(name),
        })
    }
}

/// The status that says that edit number `index` was refused, and why.
pub fn refused(index: usize, error: &EditError) -> Status {
    use refusal::Kind;
    let (code, kind) = match error {
        EditError::ServiceExists(key) => (Code::AlreadyExists, Kind::ServiceExists(key.into())),
        EditError::NoService(key) => (Code::NotFound, Kind::NoService(key.into())),
        EditError::ServerExists(service, server) => {
            (Code::AlreadyExists, Kind::ServerExists(pair(service, server)))
        }
        EditError::NoServer(service, server) => (Code::NotFound, Kind::NoServer(pair(service, server))),
        EditError::UnknownScheduler(name) => {
            (Code::InvalidArgument, Kind::UnknownScheduler(clipped(name.clone())))
        }
        EditError::UnknownEngine(name) => (Code::InvalidArgument, Kind::UnknownEngine(clipped(name.clone()))),
        EditError::Thresholds { lower, upper } => {
            (Code::InvalidArgument, Kind::Thresholds(wire::Thresholds { lower: *lower, upper: *upper }))
        }
        EditError::Exists(what) => (Code::AlreadyExists, Kind::Exists(clipped(what.clone()))),
        EditError::Missing(what) => (Code::NotFound, Kind::Missing(clipped(what.clone()))),
        EditError::Invalid(why) => (Code::InvalidArgument, Kind::Invalid(clipped(why.clone()))),
    };
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let details = wire::Refusal { index, kind: Some(kind) }.encode_to_vec();
    Status::with_details(code, clipped(error.to_string()), details.into())
}

/// The refusal that a status carries, if it carries one: which edit, and why.
pub fn refusal(status: &Status) -> Option<(usize, EditError)> {
    use refusal::Kind;
    if status.details().is_empty() {
        return None;
    }
    let refusal = wire::Refusal::decode(status.details()).ok()?;
    let error = match refusal.kind? {
        Kind::ServiceExists(key) => EditError::ServiceExists(key.try_into().ok()?),
        Kind::NoService(key) => EditError::NoService(key.try_into().ok()?),
        Kind::ServerExists(pair) => {
            let (service, server) = both(pair).ok()?;
            EditError::ServerExists(service, server)
        }
        Kind::NoServer(pair) => {
            let (service, server) = both(pair).ok()?;
            EditError::NoServer(service, server)
        }
        Kind::UnknownScheduler(name) => EditError::UnknownScheduler(name),
        Kind::UnknownEngine(name) => EditError::UnknownEngine(name),
        Kind::Thresholds(wire::Thresholds { lower, upper }) => EditError::Thresholds { lower, upper },
        Kind::Exists(what) => EditError::Exists(what),
        Kind::Missing(what) => EditError::Missing(what),
        Kind::Invalid(why) => EditError::Invalid(why),
    };
    Some((refusal.index as usize, error))
}

fn pair(service: &ServiceKey, server: &ServerKey) -> wire::ServiceServerKey {
    wire::ServiceServerKey { service: Some(service.into()), server: Some(server.into()) }
}

fn both(pair: wire::ServiceServerKey) -> Result<(ServiceKey, ServerKey), BadMessage> {
    let server = present("server", pair.server)?;
    Ok((service_key(pair.service)?, server.try_into().map_err(|bad: BadMessage| bad.within("server"))?))
}

fn placed(rule: &MarkRule, at: Option<usize>) -> wire::PlacedMark {
    let at = at.map(|at| u32::try_from(at).unwrap_or(u32::MAX));
    wire::PlacedMark { rule: Some(rule.into()), at }
}

fn mark(placed: wire::PlacedMark) -> Result<(MarkRule, Option<usize>), BadMessage> {
    let rule = present("rule", placed.rule)?.try_into().map_err(|bad: BadMessage| bad.within("rule"))?;
    Ok((rule, placed.at.map(|at| at as usize)))
}

fn service_key(key: Option<crate::state::ServiceKey>) -> Result<ServiceKey, BadMessage> {
    present("service", key)?.try_into().map_err(|bad: BadMessage| bad.within("service"))
}

fn whole(service: crate::state::Service) -> Result<Service, BadMessage> {
    service.try_into().map_err(|bad: BadMessage| bad.within("service"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use crate::control::edit;
    use fulcrum_model::*;

    use super::*;

    const SERVICE: ServiceKey =
        ServiceKey::new(Protocol::Udp, std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 53);
    const SERVER: ServerKey =
        ServerKey { address: std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), port: 5353 };

    #[test]
    fn every_edit_comes_back_as_it_was() {
        let service = Service {
            persistent: Some(300),
            prefix: 24,
            local_pool: Some("inside".into()),
            local_addresses: vec![LocalAddress(SERVER.address)],
            interface: Some("wan".into()),
            ..Service::new(SERVICE, "wrr")
        };
        let server = Server {
            tunnel: Tunnel {
                kind: TunnelKind::Gue { port: 6080 },
                checksum: TunnelChecksum::Remcsum,
                source: TunnelSource::Local,
            },
            weight: 3,
            upper_threshold: 9,
            lower_threshold: 4,
            ..Server::new(SERVER, Forward::FullNat)
        };
        let mark = MarkRule {
            family: Some(Family::V6),
            protocol: Some(Protocol::Sctp),
            destination_ports: vec![PortRange { first: 0, last: 9 }],
            ..MarkRule::new(10)
        };
        let net: ipnet::IpNet = "10.9.0.0/16".parse().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let edits = [
            Edit::AddService(service.clone()),
            Edit::UpdateService(Service { persistent: None, local_pool: None, ..service }),
            Edit::DeleteService(SERVICE),
            Edit::ClearServices,
            Edit::SetServicePool(SERVICE, Some("inside".into())),
            Edit::SetServicePool(SERVICE, None),
            Edit::SetServiceInterface(SERVICE, Some("wan".into())),
            Edit::SetServiceInterface(SERVICE, None),
            Edit::SetServiceMss(SERVICE, Some(1400)),
            Edit::SetServiceMss(SERVICE, None),
            Edit::SetServiceClientAddress(SERVICE, ClientAddress::ProxyV2),
            Edit::SetServiceHealth(SERVICE, ServiceHealth::default()),
            Edit::SetServiceHealth(
                SERVICE,
                ServiceHealth {
                    checks: vec!["dns".into()],
                    own_checks: vec![Check::new("", CheckKind::Ping)],
                    on_failure: OnFailure::Quiesce,
                    quorum: 3,
                    hysteresis: 1,
                    sorry_server: Some(Box::new(server.clone())),
                    slow_start: 30,
                },
            ),
            Edit::SetServerHealth(SERVICE, SERVER, ServerHealth::default()),
            Edit::SetServerHealth(
                SERVICE,
                SERVER,
                ServerHealth {
                    checks: Some(Vec::new()),
                    on_failure: Some(OnFailure::Remove),
                    address: Some(SERVER.address),
                    port: Some(80),
                },
            ),
            Edit::SetServerAdmin {
                service: Some(SERVICE),
                address: SERVER.address,
                port: Some(SERVER.port),
                admin: Admin::Drain { until: Some(1 << 32) },
            },
            Edit::SetServerAdmin {
                service: None,
                address: SERVER.address,
                port: None,
                admin: Admin::Disabled,
            },
            Edit::SetStateTimeout(Some(SERVICE), TimeoutState::TcpSynRecv, Some(3)),
            Edit::SetStateTimeout(None, TimeoutState::SctpInit1, None),
            Edit::AddServer(SERVICE, server.clone()),
            Edit::UpdateServer(SERVICE, server),
            Edit::DeleteServer(SERVICE, SERVER),
            Edit::AddLocalAddress(SERVICE, SERVER.address),
            Edit::DeleteLocalAddress(SERVICE, SERVER.address),
            Edit::SetTimeouts(Timeouts { tcp: 1, tcp_fin: 0, udp: 3, ..Timeouts::default() }),
            Edit::SetSetting { name: "sloppy_tcp".into(), value: "1".into() },
            Edit::AddMark(mark.clone(), None),
            Edit::AddMark(mark.clone(), Some(3)),
            Edit::DeleteMark(mark.clone(), Some(1)),
            Edit::DeleteMark(mark, None),
            Edit::ClearMarks,
            Edit::SetSettings(Settings { sloppy_tcp: true, ..Settings::default() }),
            Edit::AddRoute(Route { to: net, target: RouteTarget::Blackhole, mtu: Some(1400) }),
            Edit::DeleteRoute(net),
            Edit::AddNeighbour(Neighbour { address: SERVER.address, mac, interface: "lan".into() }),
            Edit::DeleteNeighbour { interface: "lan".into(), address: SERVER.address },
            Edit::AddLocalPool(LocalPool {
                name: "inside".into(),
                interface: "lan".into(),
                addresses: vec![AddressRange {
                    first: Ipv4Addr::new(1, 0, 0, 1).into(),
                    last: Ipv4Addr::new(1, 0, 0, 9).into(),
                }],
                ports: PortRange::default(),
            }),
            Edit::DeleteLocalPool("inside".into()),
            Edit::AddSnat(
                Snat {
                    name: "servers".into(),
                    source: "10.1.0.0/24".parse().unwrap(),
                    destination: Some("0.0.0.0/0".parse().unwrap()),
                    protocol: Some(SnatProtocol::Icmp),
                    destination_ports: vec![PortRange { first: 80, last: 81 }],
                    pool: Some("inside".into()),
                },
                Some(1),
            ),
            Edit::DeleteSnat("servers".into()),
            Edit::SetOverride(Override {
                full_nat: true,
                local_pool: Some("inside".into()),
                client_address: Some(ClientAddress::Toa),
                mss: Some(1400),
                ..Override::new(SERVICE)
            }),
            Edit::DeleteOverride(SERVICE),
            Edit::AddCheck(Check::new("web", CheckKind::Tcp)),
            Edit::UpdateCheck(Check::new("web", CheckKind::Ping)),
            Edit::DeleteCheck("web".into()),
        ];
        for edit in edits {
            let bytes = wire::Edit::from(&edit).encode_to_vec();
            assert_eq!(Edit::try_from(wire::Edit::decode(bytes.as_slice()).unwrap()).unwrap(), edit);
        }
    }

    #[test]
    fn every_refusal_comes_back_as_it_was() {
        let errors = [
            EditError::ServiceExists(SERVICE),
            EditError::NoService(SERVICE),
            EditError::ServerExists(SERVICE, SERVER),
            EditError::NoServer(SERVICE, SERVER),
            EditError::UnknownScheduler("best".into()),
            EditError::UnknownEngine("sap".into()),
            EditError::Thresholds { lower: 2, upper: 1 },
            EditError::Exists("route to 10.0.0.0/8".into()),
            EditError::Missing("route to 10.0.0.0/8".into()),
            EditError::Invalid("no".into()),
        ];
        for (index, error) in errors.into_iter().enumerate() {
            let status = refused(index, &error);
            assert_eq!(status.message(), error.to_string());
            assert_eq!(refusal(&status), Some((index, error)));
        }
        assert_eq!(refusal(&Status::unavailable("nobody there")), None);
    }

    #[test]
    fn an_edit_without_its_parts_is_an_error_that_names_them() {
        let bad = |edit| Edit::try_from(wire::Edit { edit }).unwrap_err().field;
        assert_eq!(bad(None), "edit");
        assert_eq!(bad(Some(edit::Edit::AddServer(wire::ServiceServer::default()))), "server");
        let no_address = wire::ServiceAddress { service: Some((&SERVICE).into()), address: vec![1] };
        assert_eq!(bad(Some(edit::Edit::AddLocalAddress(no_address))), "address");
        let service = crate::state::Service::default();
        assert_eq!(bad(Some(edit::Edit::AddService(service))), "service.key");
    }
}
