//! What a request means as edits of a state, or why it is refused, in the order in which the kernel finds out.

use fulcrum_model::{
    Edit, Family, Forward, Server, ServerKey, Service, ServiceKey, State, Timeouts, Tunnel, TunnelChecksum,
    TunnelKind, prefix_of_mask,
};

use crate::Errno;
use crate::family::{flag, method, tunnel};
use crate::record::flags;
use crate::request::{Name, Request, ServerAsked, ServiceAsked, family_of, of_family};

/// The longest time-out of `SET_CONFIG`: the kernel counts it in a hundredth of seconds, in 31 bits.
const LONGEST_TIMEOUT: u32 = i32::MAX as u32 / 100;

impl Request {
    /// Whether it changes the state.
    pub const fn changes(&self) -> bool {
        matches!(
            self,
            Request::SetTimeouts(_)
                | Request::NewService(_)
                | Request::SetService(_)
                | Request::DeleteService(_)
                | Request::NewServer(..)
                | Request::SetServer(..)
                | Request::DeleteServer(..)
                | Request::Flush
        )
    }

    /// The edits of this state that it asks for; none of a request that only looks.
    pub fn edits(&self, state: &State) -> Result<Vec<Edit>, Errno> {
        let edit = match self {
            Request::SetTimeouts(seconds) => set_timeouts(*seconds)?,
            Request::NewService(asked) => {
                let key = asked.name.ok_or(Errno::EINVAL)?;
                match state.service(key) {
                    Some(_) => return Err(Errno::EEXIST),
                    None => Edit::AddService(asked.service(key, 0)?),
                }
            }
            Request::SetService(asked) => {
                let old = known(state, asked.name)?;
                Edit::UpdateService(asked.service(old.key, flags(old))?)
            }
            Request::DeleteService(name) => Edit::DeleteService(known(state, *name)?.key),
            Request::NewServer(name, asked) => {
                let service = known(state, *name)?;
                Edit::AddServer(service.key, asked.as_ref().map_err(|why| *why)?.server(service)?)
            }
            Request::SetServer(name, asked) => {
                let service = known(state, *name)?;
                let mut server = asked.as_ref().map_err(|why| *why)?.server(service)?;
                if let Some(old) = service.servers.iter().find(|old| old.key == server.key) {
                    keep(old, &mut server);
                }
                Edit::UpdateServer(service.key, server)
            }
            Request::DeleteServer(name, asked) => {
                let service = known(state, *name)?;
                Edit::DeleteServer(service.key, asked.as_ref().map_err(|why| *why)?.key(service)?)
            }
            Request::Flush => Edit::ClearServices,
            _ => return Ok(Vec::new()),
        };
        Ok(vec![edit])
    }
}

fn known(state: &State, name: Name) -> Result<&Service, Errno> {
    name.and_then(|key| state.service(key)).ok_or(Errno::ESRCH)
}

fn set_timeouts(seconds: [Option<u32>; 3]) -> Result<Edit, Errno> {
    if seconds.iter().flatten().any(|seconds| *seconds > LONGEST_TIMEOUT) {
        return Err(Errno::EINVAL);
    }
    // What is not named is kept, as what is 0 is.
    let [tcp, tcp_fin, udp] = seconds.map(Option::unwrap_or_default);
    Ok(Edit::SetTimeouts(Timeouts { tcp, tcp_fin, udp, ..Timeouts::default() }))
}

/// What the family has no words for stays: servers reached by FULLNAT are called masqueraded here.
fn keep(old: &Server, new: &mut Server) {
    if old.forward == Forward::FullNat && new.forward == Forward::Nat {
        new.forward = Forward::FullNat;
    }
    if old.forward == Forward::Tun && new.forward == Forward::Tun {
        new.tunnel.source = old.tunnel.source;
    }
}

impl ServiceAsked {
    fn service(&self, key: ServiceKey, old: u32) -> Result<Service, Errno> {
        let flags = (old & !self.mask) | (self.flags & self.mask);
        let prefix = match key.family() {
            Family::V4 => prefix_of_mask(self.netmask.into()).ok_or(Errno::EINVAL)?,
            Family::V6 => {
                let length = u32::from_ne_bytes(self.netmask);
                u8::try_from(length).ok().filter(|bits| (1..=128).contains(bits)).ok_or(Errno::EINVAL)?
            }
        };
        let plain = Service::new(key, &self.scheduler);
        let persistent = (flags & flag::PERSISTENT != 0).then_some(self.timeout);
        Ok(Service {
            scheduler_flags: u8::try_from(flags >> flag::SCHEDULER_SHIFT & 0b111).unwrap_or(0),
            one_packet: flags & flag::ONE_PACKET != 0,
            persistent,
            // Without persistence it means nothing.
            prefix: if persistent.is_some() { prefix } else { plain.prefix },
            persistence_engine: self.engine.clone(),
            ..plain
        })
    }
}

impl ServerAsked {
    fn address(&self, service: &Service) -> Result<ServerKey, Errno> {
        let family = match self.family {
            0 => service.key.family(),
            number => family_of(number)?,
        };
        Ok(ServerKey { address: of_family(family, self.address), port: self.port })
    }

    /// The server of the service that is meant.
    fn key(&self, service: &Service) -> Result<ServerKey, Errno> {
        let asked = self.address(service)?;
        let has = |key: ServerKey| service.servers.iter().find(|server| server.key == key);
        let Some(port) = service.key.port().filter(|_| has(asked).is_none()) else { return Ok(asked) };
        let other = ServerKey { port, ..asked };
        Ok(if has(other).is_some_and(|server| as_it_is(server.forward)) { other } else { asked })
    }

    fn server(&self, service: &Service) -> Result<Server, Errno> {
        let asked = self.address(service)?;
        let forward = match self.method & method::MASK {
            method::MASQ => Some(Forward::Nat),
            method::LOCALNODE => Some(Forward::Local),
            method::TUNNEL => Some(Forward::Tun),
            method::DROUTE => Some(Forward::Dr),
            _ => None,
        };
        if Family::of(asked.address) != service.key.family() && forward != Some(Forward::Tun) {
            return Err(Errno::EINVAL);
        }
        if self.weight > i32::MAX as u32 || self.lower_threshold > self.upper_threshold {
            return Err(Errno::ERANGE);
        }
        let forward = forward.ok_or(Errno::EINVAL)?;
        // These get the packet as it is, whatever port they are said to have; but one that is there is that one.
        let known = service.servers.iter().any(|server| server.key == asked);
        let port = service.key.port().filter(|_| as_it_is(forward) && !known).unwrap_or(asked.port);
        Ok(Server {
            tunnel: if forward == Forward::Tun { self.tunnel()? } else { Tunnel::default() },
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
            ..Server::new(ServerKey { port, ..asked }, forward)
        })
    }

    fn tunnel(&self) -> Result<Tunnel, Errno> {
        let (kind, port, flags) = self.tunnel;
        let kind = match kind {
            tunnel::IPIP => TunnelKind::Ipip,
            tunnel::GUE if port == 0 => return Err(Errno::EINVAL),
            tunnel::GUE => TunnelKind::Gue { port },
            tunnel::GRE => TunnelKind::Gre,
            _ => return Err(Errno::EINVAL),
        };
        let checksum = match (kind, flags) {
            (TunnelKind::Ipip, _) => TunnelChecksum::None,
            (TunnelKind::Gue { .. }, flags) if flags & tunnel::REMCSUM != 0 => TunnelChecksum::Remcsum,
            (_, flags) if flags & tunnel::CSUM != 0 => TunnelChecksum::Csum,
            _ => TunnelChecksum::None,
        };
        Ok(Tunnel { kind, checksum, ..Tunnel::default() })
    }
}

/// Whether a server gets packets as they came, with the port that the client asked for.
const fn as_it_is(forward: Forward) -> bool {
    matches!(forward, Forward::Dr | Forward::Tun | Forward::Local)
}
