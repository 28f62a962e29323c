//! What a message asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fulcrum_model::{Family, Protocol, ServiceKey};

use crate::attribute::{Attributes, Policy};
use crate::controller::{self, CONTROLLER, FAMILY_ID, Known};
use crate::family::{af, command, daemon, dest, service, top};
use crate::{Errno, Message};

/// Bytes of the header of generic netlink: command, version and two that mean nothing.
const GENERIC: usize = 4;

/// The longest names of schedulers and of persistence engines.
const SCHEDULER_NAME: usize = 15;
const ENGINE_NAME: usize = 16;
/// The longest name of an interface.
const INTERFACE_NAME: usize = 15;

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Nothing: it is no request.
    Nothing,
    /// Which families there are.
    Families,
    /// Which number a family has.
    Family(Known),
    /// Something of IPVS.
    Ipvs(Request),
}

/// What is asked of IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The version, and the size of the table of connections.
    Info,
    /// The time-outs.
    Timeouts,
    /// New time-outs for TCP, TCP after FIN and UDP in seconds.
    SetTimeouts([Option<u32>; 3]),
    /// A service is to be added.
    NewService(ServiceAsked),
    /// A service is to be changed.
    SetService(ServiceAsked),
    /// A service is to be deleted.
    DeleteService(Name),
    /// One service.
    Service(Name),
    /// All services.
    Services,
    /// A server is to be added; what is wrong with it matters when its service is there.
    NewServer(Name, Result<ServerAsked, Errno>),
    /// A server is to be changed.
    SetServer(Name, Result<ServerAsked, Errno>),
    /// A server is to be deleted.
    DeleteServer(Name, Result<ServerAsked, Errno>),
    /// The servers of a service; none of one that is not there, or that nobody can read.
    Servers(Option<Name>),
    /// Daemons that synchronize connections, of which there are none.
    Daemons,
    /// Counters of a service, or all, begin at 0 again.
    Zero(Option<Name>),
    /// All services are to be deleted.
    Flush,
}

/// What a service is known by; `None` of what only a kernel could have, such as a protocol without ports.
pub type Name = Option<ServiceKey>;

/// A service as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAsked {
    /// What it is known by.
    pub name: Name,
    pub(crate) scheduler: String,
    pub(crate) flags: u32,
    /// Which of the flags count.
    pub(crate) mask: u32,
    /// Of persistence, in seconds.
    pub(crate) timeout: u32,
    pub(crate) netmask: [u8; 4],
    pub(crate) engine: Option<String>,
}

/// A server as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAsked {
    /// Linux's number, 0 for that of the service.
    pub(crate) family: u16,
    pub(crate) address: [u8; 16],
    pub(crate) port: u16,
    pub(crate) method: u32,
    pub(crate) weight: u32,
    pub(crate) upper_threshold: u32,
    pub(crate) lower_threshold: u32,
    pub(crate) tunnel: (u8, u16, u16),
}

impl Message<'_> {
    /// What it asks for, of somebody who may change the director or not, in the order in which the kernel judges.
    pub fn question(&self, privileged: bool) -> Result<Question, Errno> {
        let Some(family) = self.family() else { return Ok(Question::Nothing) };
        if family != CONTROLLER && family != FAMILY_ID {
            return Err(Errno::ENOENT);
        }
        let (header, attributes) = self.payload().split_at_checked(GENERIC).ok_or(Errno::EINVAL)?;
        let (command, dump) = (header[0], self.is_dump());
        if family == CONTROLLER {
            return match (command, dump) {
                (controller::GET_FAMILY, true) => Ok(Question::Families),
                (controller::GET_FAMILY, false) => Known::asked(attributes).map(Question::Family),
                _ => Err(Errno::EOPNOTSUPP),
            };
        }
        if !controller::takes(command, dump) {
            return Err(Errno::EOPNOTSUPP);
        }
        if !privileged {
            return Err(Errno::EPERM);
        }
        if dump { Ok(all(command, attributes)) } else { one(command, attributes) }.map(Question::Ipvs)
    }
}

const TOP: [Policy; top::MAX] =
    [Policy::Nest, Policy::Nest, Policy::Nest, Policy::AtLeast(4), Policy::AtLeast(4), Policy::AtLeast(4)];

fn all(command: u8, attributes: &[u8]) -> Request {
    match command {
        command::GET_SERVICE => Request::Services,
        command::GET_DEST => {
            let attributes = Attributes::read(attributes, &TOP);
            let named = attributes.and_then(|attributes| name(attributes.get(top::SERVICE)));
            Request::Servers(named.ok())
        }
        _ => Request::Daemons,
    }
}

fn one(command: u8, attributes: &[u8]) -> Result<Request, Errno> {
    let attributes = Attributes::read(attributes, &TOP)?;
    let service = attributes.get(top::SERVICE);
    let server = |full| server(attributes.get(top::DEST), full);
    Ok(match command {
        command::FLUSH => Request::Flush,
        command::GET_INFO => Request::Info,
        command::GET_CONFIG => Request::Timeouts,
        command::SET_CONFIG => Request::SetTimeouts(
            [top::TIMEOUT_TCP, top::TIMEOUT_TCP_FIN, top::TIMEOUT_UDP].map(|number| attributes.u32(number)),
        ),
        command::NEW_DAEMON => return Err(new_daemon(attributes.get(top::DAEMON))),
        command::DEL_DAEMON => return Err(delete_daemon(attributes.get(top::DAEMON))),
        command::ZERO if service.is_none() => Request::Zero(None),
        command::ZERO => Request::Zero(Some(name(service)?)),
        command::NEW_SERVICE => Request::NewService(whole(service)?),
        command::SET_SERVICE => Request::SetService(whole(service)?),
        command::DEL_SERVICE => Request::DeleteService(name(service)?),
        command::NEW_DEST => Request::NewServer(name(service)?, server(true)),
        command::SET_DEST => Request::SetServer(name(service)?, server(true)),
        command::DEL_DEST => Request::DeleteServer(name(service)?, server(false)),
        _ => Request::Service(name(service)?),
    })
}

const SERVICE: [Policy; 12] = [
    Policy::AtLeast(2),
    Policy::AtLeast(2),
    Policy::AtMost(16),
    Policy::AtLeast(2),
    Policy::AtLeast(4),
    Policy::Text(SCHEDULER_NAME),
    Policy::AtMost(8),
    Policy::AtLeast(4),
    Policy::AtLeast(4),
    Policy::Nest,
    Policy::Text(ENGINE_NAME),
    Policy::Nest,
];

/// Reads a nest, whose mistakes all have the same number.
fn nest<'a, const N: usize>(
    bytes: Option<&'a [u8]>,
    policy: &[Policy; N],
) -> Result<Attributes<'a, N>, Errno> {
    let bytes = bytes.ok_or(Errno::EINVAL)?;
    Attributes::read(bytes, policy).map_err(|_| Errno::EINVAL)
}

fn name(bytes: Option<&[u8]>) -> Result<Name, Errno> {
    nest(bytes, &SERVICE).and_then(|attributes| named(&attributes))
}

fn named(attributes: &Attributes<'_, 12>) -> Result<Name, Errno> {
    let family = attributes.u16(service::AF).ok_or(Errno::EINVAL)?;
    let mark = attributes.u32(service::FWMARK);
    let end = (|| {
        let address = padded(attributes.get(service::ADDR)?);
        Some((attributes.u16(service::PROTOCOL)?, address, attributes.be16(service::PORT)?))
    })();
    if mark.is_none() && end.is_none() {
        return Err(Errno::EINVAL);
    }
    let family = family_of(family)?;
    Ok(match (mark, end) {
        // A mark of 0 names the service of TCP at no address.
        (Some(0), _) => Some(ServiceKey::new(Protocol::Tcp, of_family(family, [0; 16]), 0)),
        (Some(mark), _) => Some(ServiceKey::Mark { family, mark }),
        (None, Some((protocol, address, port))) => {
            let protocol = Protocol::ALL.into_iter().find(|p| u16::from(p.number()) == protocol);
            protocol.map(|protocol| ServiceKey::new(protocol, of_family(family, address), port))
        }
        (None, None) => None,
    })
}

pub(crate) fn family_of(number: u16) -> Result<Family, Errno> {
    match number {
        af::INET => Ok(Family::V4),
        af::INET6 => Ok(Family::V6),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// An address that may have been sent short.
fn padded(bytes: &[u8]) -> [u8; 16] {
    let mut address = [0; 16];
    let length = bytes.len().min(16);
    address[..length].copy_from_slice(&bytes[..length]);
    address
}

pub(crate) fn of_family(family: Family, bytes: [u8; 16]) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        Family::V6 => Ipv6Addr::from(bytes).into(),
    }
}

fn whole(bytes: Option<&[u8]>) -> Result<ServiceAsked, Errno> {
    let attributes = nest(bytes, &SERVICE)?;
    let name = named(&attributes)?;
    let missing = Errno::EINVAL;
    let flags: [u8; 8] = {
        let all = padded(attributes.get(service::FLAGS).ok_or(missing)?);
        all[..8].try_into().map_err(|_| missing)?
    };
    let (flags, mask) = flags.split_at(4);
    let bits = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).map_err(|_| missing);
    Ok(ServiceAsked {
        name,
        scheduler: attributes.text(service::SCHED_NAME).ok_or(missing)?,
        flags: bits(flags)?,
        mask: bits(mask)?,
        timeout: attributes.u32(service::TIMEOUT).ok_or(missing)?,
        netmask: attributes.u32(service::NETMASK).ok_or(missing)?.to_ne_bytes(),
        engine: attributes.text(service::PE_NAME).filter(|name| !name.is_empty()),
    })
}

const DEST: [Policy; 15] = [
    Policy::AtMost(16),
    Policy::AtLeast(2),
    Policy::AtLeast(4),
    Policy::AtLeast(4),
    Policy::AtLeast(4),
    Policy::AtLeast(4),
    Policy::AtLeast(4),
    Policy::AtLeast(4),
    Policy::AtLeast(4),
    Policy::Nest,
    Policy::AtLeast(2),
    Policy::Nest,
    Policy::AtLeast(1),
    Policy::AtLeast(2),
    Policy::AtLeast(2),
];

fn server(bytes: Option<&[u8]>, full: bool) -> Result<ServerAsked, Errno> {
    let attributes = nest(bytes, &DEST)?;
    let number = |number| match (attributes.u32(number), full) {
        (Some(value), _) => Ok(value),
        (None, true) => Err(Errno::EINVAL),
        (None, false) => Ok(0),
    };
    Ok(ServerAsked {
        family: attributes.u16(dest::ADDR_FAMILY).unwrap_or(0),
        address: padded(attributes.get(dest::ADDR).ok_or(Errno::EINVAL)?),
        port: attributes.be16(dest::PORT).ok_or(Errno::EINVAL)?,
        method: number(dest::FWD_METHOD)?,
        weight: number(dest::WEIGHT)?,
        upper_threshold: number(dest::U_THRESH)?,
        lower_threshold: number(dest::L_THRESH)?,
        tunnel: (
            attributes.u8(dest::TUN_TYPE).unwrap_or(0),
            attributes.be16(dest::TUN_PORT).unwrap_or(0),
            attributes.u16(dest::TUN_FLAGS).unwrap_or(0),
        ),
    })
}

const DAEMON: [Policy; 8] = [
    Policy::AtLeast(4),
    Policy::Text(INTERFACE_NAME),
    Policy::AtLeast(4),
    Policy::AtLeast(2),
    Policy::AtLeast(4),
    Policy::AtMost(16),
    Policy::AtLeast(2),
    Policy::AtLeast(1),
];

/// Why no daemon starts: because of what is wrong, or because there is none.
fn new_daemon(bytes: Option<&[u8]>) -> Errno {
    let read = nest(bytes, &DAEMON);
    let good = read.is_ok_and(|attributes| {
        matches!(attributes.u32(daemon::STATE), Some(1 | 2))
            && attributes.get(daemon::MCAST_IFN).is_some()
            && attributes.get(daemon::SYNC_ID).is_some()
    });
    if good { Errno::ENOPROTOOPT } else { Errno::EINVAL }
}

fn delete_daemon(bytes: Option<&[u8]>) -> Errno {
    let read = nest(bytes, &DAEMON);
    let good = read.is_ok_and(|attributes| matches!(attributes.u32(daemon::STATE), Some(1 | 2)));
    if good { Errno::ESRCH } else { Errno::EINVAL }
}
