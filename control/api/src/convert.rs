//! The model's nouns to messages and back.
//!
//! Out is infallible. In is checked: a message from a socket may say anything, and what makes no sense is an
//! error that names the field. Rules that span several fields are fulcrum-model's `validate`. Services are in
//! `service`, what follows from checks in `health`, checks in `check`, ports to marks in `network`, time-outs and
//! settings in `switches`.

use std::net::IpAddr;

use fulcrum_model as model;

mod check;
mod health;
mod network;
mod service;
mod switches;

pub(crate) use service::client_address;
pub use service::{forward, protocol};
pub(crate) use switches::state;

use crate::state as wire;
use crate::status::clipped;

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
        tonic::Status::invalid_argument(clipped(bad.to_string()))
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

pub(crate) fn small(field: &str, number: u32) -> Checked<u16> {
    u16::try_from(number).map_err(|_| BadMessage::new(field, format!("{number} is more than 65535")))
}

fn byte(field: &str, number: u32) -> Checked<u8> {
    u8::try_from(number).map_err(|_| BadMessage::new(field, format!("{number} is more than 255")))
}

/// The value of the field `field`, which must be there.
pub fn present<T>(field: &str, value: Option<T>) -> Checked<T> {
    value.ok_or_else(|| BadMessage::new(field, "is missing"))
}

/// The value of the field `field`, its default when it is not there.
pub(crate) fn optional<T, U: TryFrom<T, Error = BadMessage> + Default>(
    field: &str,
    value: Option<T>,
) -> Checked<U> {
    value.map_or(Ok(U::default()), |value| U::try_from(value).map_err(|bad| bad.within(field)))
}

/// Converts each element, errors named `field[index]…`.
fn each<T, U: TryFrom<T, Error = BadMessage>>(field: &str, list: Vec<T>) -> Checked<Vec<U>> {
    list.into_iter()
        .enumerate()
        .map(|(index, item)| U::try_from(item).map_err(|bad| bad.within(&format!("{field}[{index}]"))))
        .collect()
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
            marks: state.marks.iter().map(Into::into).collect(),
            checks: state.checks.iter().map(Into::into).collect(),
            exception: (state.exception != model::Exception::default()).then(|| (&state.exception).into()),
            snat: state.snat.iter().map(Into::into).collect(),
            overrides: state.overrides.iter().map(Into::into).collect(),
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
            marks: each("marks", network.marks)?,
            checks: each("checks", network.checks)?,
            snat: each("snat", network.snat)?,
            overrides: each("overrides", network.overrides)?,
            services: Vec::new(),
            timeouts: present("timeouts", network.timeouts)?
                .try_into()
                .map_err(|bad: BadMessage| bad.within("timeouts"))?,
            settings: present("settings", network.settings)?
                .try_into()
                .map_err(|bad: BadMessage| bad.within("settings"))?,
            exception: match network.exception {
                Some(exception) => exception.try_into().map_err(|bad: BadMessage| bad.within("exception"))?,
                None => model::Exception::default(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    #[test]
    fn a_bad_message_names_the_field() {
        let service = wire::Service {
            key: Some(wire::ServiceKey {
                protocol: 6,
                address: vec![10, 0, 0, 1],
                port: 80,
                ..Default::default()
            }),
            prefix: 32,
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

        let mut icmp = service;
        icmp.key.as_mut().unwrap().protocol = 1;
        let bad = model::Service::try_from(icmp).unwrap_err();
        assert_eq!(bad.to_string(), "key.protocol: 1 is none of TCP 6, UDP 17, SCTP 132");
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
