//! The model's nouns to messages and back.
//!
//! Out is infallible. In is checked: a message from a socket may say anything, and what makes no sense is an
//! error that names the field. Rules that span several fields are fulcrum-model's `validate`.

use std::net::{IpAddr, Ipv4Addr};

use fulcrum_model as model;
use ipnet::IpNet;

use crate::state as wire;

/// A message with a field that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BadMessage {
    /// Path of the field, e.g. `service.servers[2].weight`.
    pub field: String,
    /// What was wrong with it and what would be right.
    pub problem: String,
}

impl BadMessage {
    /// A problem of the field called `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> BadMessage {
        BadMessage { field: field.into(), problem: problem.into() }
    }

    /// The same problem seen from outside: `outer.field`.
    #[must_use]
    pub fn within(self, outer: &str) -> BadMessage {
        BadMessage { field: format!("{outer}.{}", self.field), ..self }
    }
}

impl From<BadMessage> for tonic::Status {
    fn from(bad: BadMessage) -> tonic::Status {
        tonic::Status::invalid_argument(bad.to_string())
    }
}

type Checked<T> = Result<T, BadMessage>;

/// An address as 4 or 16 bytes in network order.
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that `bytes` of the field `field` are.
pub fn address(field: &str, bytes: &[u8]) -> Checked<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(v6))
    } else {
        Err(BadMessage::new(field, format!("{} bytes where an address has 4 or 16", bytes.len())))
    }
}

/// The MAC address that `bytes` of the field `field` are.
pub fn mac(field: &str, bytes: &[u8]) -> Checked<model::Mac> {
    <[u8; 6]>::try_from(bytes)
        .map(model::Mac)
        .map_err(|_| BadMessage::new(field, format!("{} bytes where a MAC address has 6", bytes.len())))
}

/// The port number in the field `field`.
pub fn port(field: &str, number: u32) -> Checked<u16> {
    small(field, number)
}

fn small(field: &str, number: u32) -> Checked<u16> {
    u16::try_from(number).map_err(|_| BadMessage::new(field, format!("{number} is more than 65535")))
}

fn ipv4(field: &str, bytes: &[u8]) -> Checked<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes)
        .map(Ipv4Addr::from)
        .map_err(|_| BadMessage::new(field, format!("{} bytes where an IPv4 address has 4", bytes.len())))
}

/// The value of the field `field`, which must be there.
pub fn present<T>(field: &str, value: Option<T>) -> Checked<T> {
    value.ok_or_else(|| BadMessage::new(field, "is missing"))
}

/// Converts each element, errors named `field[index]…`.
fn each<T, U: TryFrom<T, Error = BadMessage>>(field: &str, list: Vec<T>) -> Checked<Vec<U>> {
    list.into_iter()
        .enumerate()
        .map(|(index, item)| U::try_from(item).map_err(|bad| bad.within(&format!("{field}[{index}]"))))
        .collect()
}

impl From<model::Protocol> for wire::Protocol {
    fn from(protocol: model::Protocol) -> wire::Protocol {
        match protocol {
            model::Protocol::Tcp => wire::Protocol::Tcp,
            model::Protocol::Udp => wire::Protocol::Udp,
        }
    }
}

/// The protocol that a field called `protocol` holds.
pub fn protocol(number: i32) -> Checked<model::Protocol> {
    match wire::Protocol::try_from(number) {
        Ok(wire::Protocol::Tcp) => Ok(model::Protocol::Tcp),
        Ok(wire::Protocol::Udp) => Ok(model::Protocol::Udp),
        _ => Err(BadMessage::new("protocol", format!("{number} is neither TCP (6) nor UDP (17)"))),
    }
}

impl From<model::Forward> for wire::Forward {
    fn from(forward: model::Forward) -> wire::Forward {
        match forward {
            model::Forward::Nat => wire::Forward::Nat,
            model::Forward::FullNat => wire::Forward::Fullnat,
            model::Forward::Dr => wire::Forward::Dr,
            model::Forward::Tun => wire::Forward::Tun,
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
        _ => Err(BadMessage::new("forward", format!("{number} is none of NAT 1, FULLNAT 2, DR 3, TUN 4"))),
    }
}

impl From<&model::ServiceKey> for wire::ServiceKey {
    fn from(key: &model::ServiceKey) -> wire::ServiceKey {
        wire::ServiceKey {
            protocol: wire::Protocol::from(key.protocol).into(),
            address: address_bytes(key.address),
            port: key.port.into(),
        }
    }
}

impl TryFrom<wire::ServiceKey> for model::ServiceKey {
    type Error = BadMessage;

    fn try_from(key: wire::ServiceKey) -> Checked<model::ServiceKey> {
        Ok(model::ServiceKey {
            protocol: protocol(key.protocol)?,
            address: address("address", &key.address)?,
            port: port("port", key.port)?,
        })
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

impl From<&model::Server> for wire::Server {
    fn from(server: &model::Server) -> wire::Server {
        wire::Server {
            key: Some((&server.key).into()),
            forward: wire::Forward::from(server.forward).into(),
            weight: server.weight,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
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
        })
    }
}

impl From<&model::Service> for wire::Service {
    fn from(service: &model::Service) -> wire::Service {
        wire::Service {
            key: Some((&service.key).into()),
            scheduler: service.scheduler.clone(),
            persistent: service.persistent,
            netmask: service.netmask.octets().to_vec(),
            local_pool: service.local_pool.clone(),
            local_addresses: service.local_addresses.iter().map(|local| address_bytes(local.0)).collect(),
            interface: service.interface.clone(),
            servers: service.servers.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Service> for model::Service {
    type Error = BadMessage;

    fn try_from(service: wire::Service) -> Checked<model::Service> {
        Ok(model::Service {
            key: present("key", service.key)?.try_into().map_err(|bad: BadMessage| bad.within("key"))?,
            scheduler: service.scheduler,
            persistent: service.persistent,
            netmask: ipv4("netmask", &service.netmask)?,
            local_pool: service.local_pool,
            local_addresses: service
                .local_addresses
                .iter()
                .map(|bytes| address("local_addresses", bytes).map(model::LocalAddress))
                .collect::<Checked<_>>()?,
            interface: service.interface,
            servers: each("servers", service.servers)?,
        })
    }
}

impl From<&model::Port> for wire::Port {
    fn from(port: &model::Port) -> wire::Port {
        wire::Port {
            name: port.name.clone(),
            device: port.device.clone(),
            mac: port.mac.map(|mac| mac.0.to_vec()),
        }
    }
}

impl TryFrom<wire::Port> for model::Port {
    type Error = BadMessage;

    fn try_from(port: wire::Port) -> Checked<model::Port> {
        let mac = port.mac.map(|bytes| mac("mac", &bytes)).transpose()?;
        Ok(model::Port { name: port.name, device: port.device, mac })
    }
}

impl From<&IpNet> for wire::Prefix {
    fn from(net: &IpNet) -> wire::Prefix {
        wire::Prefix { address: address_bytes(net.addr()), length: net.prefix_len().into() }
    }
}

impl TryFrom<wire::Prefix> for IpNet {
    type Error = BadMessage;

    fn try_from(prefix: wire::Prefix) -> Checked<IpNet> {
        let address = address("address", &prefix.address)?;
        let bad = || BadMessage::new("length", format!("{} is no prefix length of {address}", prefix.length));
        IpNet::new(address, u8::try_from(prefix.length).map_err(|_| bad())?).map_err(|_| bad())
    }
}

impl From<&model::Interface> for wire::Interface {
    fn from(interface: &model::Interface) -> wire::Interface {
        wire::Interface {
            name: interface.name.clone(),
            port: interface.port.clone(),
            vlan: interface.vlan.into(),
            mtu: interface.mtu.into(),
            addresses: interface.addresses.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Interface> for model::Interface {
    type Error = BadMessage;

    fn try_from(interface: wire::Interface) -> Checked<model::Interface> {
        Ok(model::Interface {
            name: interface.name,
            port: interface.port,
            vlan: small("vlan", interface.vlan)?,
            mtu: small("mtu", interface.mtu)?,
            addresses: each("addresses", interface.addresses)?,
        })
    }
}

impl From<&model::Route> for wire::Route {
    fn from(route: &model::Route) -> wire::Route {
        use wire::route::Target;
        wire::Route {
            to: Some((&route.to).into()),
            target: Some(match &route.target {
                model::RouteTarget::Via(gateway) => Target::Via(address_bytes(*gateway)),
                model::RouteTarget::Interface(name) => Target::Interface(name.clone()),
                model::RouteTarget::Unreachable => Target::Unreachable(true),
                model::RouteTarget::Blackhole => Target::Blackhole(true),
            }),
            mtu: route.mtu.map(Into::into),
        }
    }
}

impl TryFrom<wire::Route> for model::Route {
    type Error = BadMessage;

    fn try_from(route: wire::Route) -> Checked<model::Route> {
        use wire::route::Target;
        Ok(model::Route {
            to: present("to", route.to)?.try_into().map_err(|bad: BadMessage| bad.within("to"))?,
            target: match present("target", route.target)? {
                Target::Via(bytes) => model::RouteTarget::Via(address("via", &bytes)?),
                Target::Interface(name) => model::RouteTarget::Interface(name),
                Target::Unreachable(_) => model::RouteTarget::Unreachable,
                Target::Blackhole(_) => model::RouteTarget::Blackhole,
            },
            mtu: route.mtu.map(|mtu| small("mtu", mtu)).transpose()?,
        })
    }
}

impl From<&model::Neighbour> for wire::Neighbour {
    fn from(neighbour: &model::Neighbour) -> wire::Neighbour {
        wire::Neighbour {
            address: address_bytes(neighbour.address),
            mac: neighbour.mac.0.to_vec(),
            interface: neighbour.interface.clone(),
        }
    }
}

impl TryFrom<wire::Neighbour> for model::Neighbour {
    type Error = BadMessage;

    fn try_from(neighbour: wire::Neighbour) -> Checked<model::Neighbour> {
        Ok(model::Neighbour {
            address: address("address", &neighbour.address)?,
            mac: mac("mac", &neighbour.mac)?,
            interface: neighbour.interface,
        })
    }
}

impl From<&model::AddressRange> for wire::AddressRange {
    fn from(range: &model::AddressRange) -> wire::AddressRange {
        wire::AddressRange { first: range.first.octets().to_vec(), last: range.last.octets().to_vec() }
    }
}

impl TryFrom<wire::AddressRange> for model::AddressRange {
    type Error = BadMessage;

    fn try_from(range: wire::AddressRange) -> Checked<model::AddressRange> {
        let (first, last) = (ipv4("first", &range.first)?, ipv4("last", &range.last)?);
        if last < first {
            return Err(BadMessage::new("last", format!("{last} comes before {first}")));
        }
        Ok(model::AddressRange { first, last })
    }
}

impl From<&model::LocalPool> for wire::LocalPool {
    fn from(pool: &model::LocalPool) -> wire::LocalPool {
        wire::LocalPool {
            name: pool.name.clone(),
            interface: pool.interface.clone(),
            addresses: pool.addresses.iter().map(Into::into).collect(),
            first_port: pool.ports.first.into(),
            last_port: pool.ports.last.into(),
        }
    }
}

impl TryFrom<wire::LocalPool> for model::LocalPool {
    type Error = BadMessage;

    fn try_from(pool: wire::LocalPool) -> Checked<model::LocalPool> {
        let (first, last) = (port("first_port", pool.first_port)?, port("last_port", pool.last_port)?);
        if first == 0 || last < first {
            return Err(BadMessage::new("first_port", format!("{first}-{last} is no range of ports")));
        }
        Ok(model::LocalPool {
            name: pool.name,
            interface: pool.interface,
            addresses: each("addresses", pool.addresses)?,
            ports: model::PortRange { first, last },
        })
    }
}

impl From<&model::Timeouts> for wire::Timeouts {
    fn from(timeouts: &model::Timeouts) -> wire::Timeouts {
        wire::Timeouts { tcp: timeouts.tcp, tcp_fin: timeouts.tcp_fin, udp: timeouts.udp }
    }
}

impl From<wire::Timeouts> for model::Timeouts {
    fn from(timeouts: wire::Timeouts) -> model::Timeouts {
        model::Timeouts { tcp: timeouts.tcp, tcp_fin: timeouts.tcp_fin, udp: timeouts.udp }
    }
}

impl From<&model::Settings> for wire::Settings {
    fn from(settings: &model::Settings) -> wire::Settings {
        wire::Settings {
            expire_nodest_conn: settings.expire_nodest_conn,
            conn_reuse_mode: settings.conn_reuse_mode.into(),
            expire_quiescent_template: settings.expire_quiescent_template,
            sloppy_tcp: settings.sloppy_tcp,
            nat_icmp_send: settings.nat_icmp_send,
            ip_forward: settings.ip_forward,
        }
    }
}

impl TryFrom<wire::Settings> for model::Settings {
    type Error = BadMessage;

    fn try_from(settings: wire::Settings) -> Checked<model::Settings> {
        Ok(model::Settings {
            expire_nodest_conn: settings.expire_nodest_conn,
            conn_reuse_mode: u8::try_from(settings.conn_reuse_mode).map_err(|_| {
                BadMessage::new("conn_reuse_mode", format!("{} is more than 255", settings.conn_reuse_mode))
            })?,
            expire_quiescent_template: settings.expire_quiescent_template,
            sloppy_tcp: settings.sloppy_tcp,
            nat_icmp_send: settings.nat_icmp_send,
            ip_forward: settings.ip_forward,
        })
    }
}

/// Everything of a state but its services.
impl From<&model::State> for wire::Network {
    fn from(state: &model::State) -> wire::Network {
        wire::Network {
            ports: state.ports.iter().map(Into::into).collect(),
            interfaces: state.interfaces.iter().map(Into::into).collect(),
            routes: state.routes.iter().map(Into::into).collect(),
            neighbours: state.neighbours.iter().map(Into::into).collect(),
            local_pools: state.local_pools.iter().map(Into::into).collect(),
            timeouts: Some((&state.timeouts).into()),
            settings: Some((&state.settings).into()),
        }
    }
}

/// A state without services.
impl TryFrom<wire::Network> for model::State {
    type Error = BadMessage;

    fn try_from(network: wire::Network) -> Checked<model::State> {
        Ok(model::State {
            ports: each("ports", network.ports)?,
            interfaces: each("interfaces", network.interfaces)?,
            routes: each("routes", network.routes)?,
            neighbours: each("neighbours", network.neighbours)?,
            local_pools: each("local_pools", network.local_pools)?,
            services: Vec::new(),
            timeouts: present("timeouts", network.timeouts)?.into(),
            settings: present("settings", network.settings)?
                .try_into()
                .map_err(|bad: BadMessage| bad.within("settings"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_message_names_the_field() {
        let service = wire::Service {
            key: Some(wire::ServiceKey { protocol: 6, address: vec![10, 0, 0, 1], port: 80 }),
            netmask: vec![255; 4],
            servers: vec![wire::Server {
                key: Some(wire::ServerKey { address: vec![10, 0, 0], port: 80 }),
                forward: 1,
                ..Default::default()
            }],
            ..Default::default()
        };
        let bad = model::Service::try_from(service.clone()).unwrap_err();
        assert_eq!(bad.to_string(), "servers[0].key.address: 3 bytes where an address has 4 or 16");

        let mut nowhere = service.clone();
        nowhere.servers[0].forward = 9;
        nowhere.servers[0].key.as_mut().unwrap().address.push(2);
        let bad = model::Service::try_from(nowhere).unwrap_err();
        assert_eq!(bad.field, "servers[0].forward");

        let mut sctp = service;
        sctp.key.as_mut().unwrap().protocol = 132;
        let bad = model::Service::try_from(sctp).unwrap_err();
        assert_eq!(bad.to_string(), "key.protocol: 132 is neither TCP (6) nor UDP (17)");
        assert_eq!(tonic::Status::from(bad).code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn prefix_lengths_fit_their_family() {
        let prefix = wire::Prefix { address: vec![10, 0, 0, 1], length: 33 };
        assert_eq!(
            IpNet::try_from(prefix).unwrap_err().to_string(),
            "length: 33 is no prefix length of 10.0.0.1"
        );
    }
}
