//! From a command line to a [`Command`]: values as they come, then the rules, in ipvsadm's order, so that of
//! several mistakes the same one is named.

use std::net::{IpAddr, Ipv4Addr};

use super::options::{Id, Opt, Scanner, Verb};
use super::rules;
use super::values::{Names, host_port, number};
use super::{Command, Format, List, Usage};
use crate::edit::Edit;
use crate::state::{
    Family, Forward, Protocol, Server, ServerKey, Service, ServiceKey, Timeouts, prefix_of_mask,
};
use crate::validate::{DEFAULT_SCHEDULER, MAX_TIMEOUT, MAX_WEIGHT, SCHEDULERS};

/// Seconds of a `-p` without a number.
const DEFAULT_PERSISTENCE: u32 = 360;

/// The longest name of a scheduler that is looked at.
const SCHEDULER_NAME_LIMIT: usize = 15;

/// Which service is meant.
#[derive(Clone, Copy, Debug)]
enum Target {
    Address { transport: Transport, address: IpAddr, port: u16 },
    Mark { ipv6: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// The options as they were given.
#[derive(Debug, Default)]
struct Given<'a> {
    seen: Vec<Opt>,
    target: Option<Target>,
    scheduler: Option<&'a str>,
    persistent: Option<u32>,
    netmask: Option<Ipv4Addr>,
    server: Option<(IpAddr, u16)>,
    forward: Option<Forward>,
    weight: Option<u32>,
    upper_threshold: u32,
    lower_threshold: u32,
    pe: bool,
    flags: Option<&'a str>,
    tunnel: rules::Tunnel,
    local_address: Option<IpAddr>,
    local_pool: Option<&'a str>,
    vip_interface: Option<&'a str>,
}

pub(super) fn parse(args: &[String], names: &dyn Names) -> Result<Command, Usage> {
    if args.is_empty() {
        return Ok(Command::List(List::default()));
    }
    let mut scanner = Scanner::new(args);
    let Ok(Some((Id::Verb(verb), daemon))) = scanner.option() else { return Err(Usage::try_help()) };
    match verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        Verb::StartDaemon if !is_role(daemon) => {
            return Err(Usage::wrong("illegal start-daemon parameter specified"));
        }
        Verb::StopDaemon if !is_role(daemon) => return Err(Usage::wrong("illegal start_daemon specified")),
        _ => {}
    }
    let mut given = Given::default();
    while let Some((id, value)) = scanner.option().map_err(Usage::refused)? {
        given.take(id, value.unwrap_or_default(), value.is_some(), &scanner, names)?;
    }
    let mut arguments = scanner.arguments.iter();
    let mut timeouts = Timeouts { tcp: 0, tcp_fin: 0, udp: 0, ..Timeouts::default() };
    if verb == Verb::Set {
        for value in [&mut timeouts.tcp, &mut timeouts.tcp_fin, &mut timeouts.udp] {
            let text =
                arguments.next().ok_or_else(|| Usage::wrong("--set option requires 3 timeout values"))?;
            *value = seconds(text, 0)?;
        }
    }
    if let Some(extra) = arguments.next() {
        return Err(Usage::wrong(format!("unexpected argument {extra}")));
    }
    rules::check_options(verb, &given.seen)?;
    match verb {
        Verb::AddService | Verb::EditService => given.service_command(verb),
        Verb::DeleteService => {
            given.key("No such service").map(|key| Command::Edit(vec![Edit::DeleteService(key)]))
        }
        Verb::Flush => Ok(Command::Edit(vec![Edit::ClearServices])),
        Verb::List => given.list_command(),
        Verb::AddServer | Verb::EditServer => given.server_command(verb),
        Verb::DeleteServer => {
            let key = given.key("Service not defined")?;
            let (address, port) = given.server.ok_or_else(Usage::try_help)?;
            Ok(Command::Edit(vec![Edit::DeleteServer(key, ServerKey { address, port })]))
        }
        Verb::Set => Ok(Command::Edit(vec![Edit::SetTimeouts(timeouts)])),
        Verb::StartDaemon => Err(Usage::unavailable("Connection synchronization")),
        Verb::StopDaemon => Err(Usage::refused("No daemon is running")),
        Verb::Restore => Ok(Command::Restore),
        Verb::Save => Ok(Command::Save { numeric: given.has(Opt::Numeric) }),
        Verb::Zero => match given.target {
            None => Ok(Command::Zero(None)),
            Some(_) => given.key("No such service").map(|key| Command::Zero(Some(key))),
        },
        Verb::AddLocalAddress | Verb::DeleteLocalAddress => {
            let key = given.key("No such service")?;
            let address = given.local_address.ok_or_else(Usage::try_help)?;
            let edit = match verb {
                Verb::AddLocalAddress => Edit::AddLocalAddress(key, address),
                _ => Edit::DeleteLocalAddress(key, address),
            };
            Ok(Command::Edit(vec![edit]))
        }
        Verb::GetLocalAddresses => {
            let service = match given.target {
                None => None,
                Some(_) => Some(given.key("No such service")?),
            };
            Ok(Command::LocalAddresses { service, numeric: given.has(Opt::Numeric) })
        }
        Verb::Help | Verb::Version => Err(Usage::try_help()),
    }
}

impl<'a> Given<'a> {
    fn take(
        &mut self,
        id: Id,
        value: &'a str,
        valued: bool,
        scanner: &Scanner<'_>,
        names: &dyn Names,
    ) -> Result<(), Usage> {
        match id {
            Id::Verb(_) => Err(Usage::wrong(format!("invalid option `{}'", scanner.current()))),
            Id::Tcp => self.take_address(Transport::Tcp, value, names),
            Id::Udp => self.take_address(Transport::Udp, value, names),
            Id::Sctp => self.take_address(Transport::Sctp, value, names),
            Id::Mark => {
                self.once(Opt::Service)?;
                number(value, 1, u32::MAX)
                    .ok_or_else(|| Usage::wrong(format!("invalid fwmark value `{value}' specified")))?;
                self.target = Some(Target::Mark { ipv6: false });
                Ok(())
            }
            Id::Ipv6 => match &mut self.target {
                Some(Target::Mark { ipv6 }) => {
                    *ipv6 = true;
                    Ok(())
                }
                _ => Err(Usage::wrong("-6 used before -f\n")),
            },
            Id::Masquerading => self.take_forward(Forward::Nat),
            Id::Ipip => self.take_forward(Forward::Tun),
            Id::Gatewaying => self.take_forward(Forward::Dr),
            Id::FullNat => self.take_forward(Forward::FullNat),
            Id::Sort => Ok(()),
            Id::Opt(opt) => {
                self.once(opt)?;
                self.take_value(opt, value, valued, names)
            }
        }
    }

    fn take_value(&mut self, opt: Opt, value: &'a str, valued: bool, names: &dyn Names) -> Result<(), Usage> {
        let ranged = |least, most, what: &str| number(value, least, most).ok_or_else(|| Usage::wrong(what));
        match opt {
            Opt::Scheduler => {
                let end = value.char_indices().nth(SCHEDULER_NAME_LIMIT).map_or(value.len(), |(at, _)| at);
                self.scheduler = Some(&value[..end]);
            }
            Opt::Persistent => {
                self.persistent = Some(if valued { seconds(value, 1)? } else { DEFAULT_PERSISTENCE })
            }
            Opt::Netmask if self.is_ipv6() => {
                ranged(1, 128, "illegal ipv6 netmask specified")?;
            }
            Opt::Netmask => {
                let mask = super::values::dotted(value);
                self.netmask = Some(
                    mask.ok_or_else(|| Usage::wrong("illegal virtual server persistent mask specified"))?,
                );
            }
            Opt::Server => {
                let (transport, service_port) = match self.target {
                    Some(Target::Address { transport, port, .. }) => (transport, port),
                    _ => (Transport::Tcp, 0),
                };
                let (address, port) = host_port(value, transport.names_as(), names)
                    .ok_or_else(|| Usage::wrong("illegal real server address[:port] specified"))?;
                self.server = Some((address, port.unwrap_or(service_port)));
            }
            Opt::Weight => self.weight = Some(ranged(0, MAX_WEIGHT, "illegal weight specified")?),
            Opt::UThreshold => {
                self.upper_threshold = ranged(0, i32::MAX as u32, "illegal u_threshold specified")?
            }
            Opt::LThreshold => {
                self.lower_threshold = ranged(0, i32::MAX as u32, "illegal l_threshold specified")?
            }
            Opt::Syncid => ranged(0, 255, "illegal syncid specified").map(drop)?,
            Opt::McastPort => ranged(1, 65535, "illegal mcast-port specified").map(drop)?,
            Opt::McastTtl => ranged(1, 255, "illegal mcast-ttl specified").map(drop)?,
            Opt::SyncMaxlen => ranged(1, 65507, "illegal sync-maxlen specified").map(drop)?,
            Opt::McastGroup => multicast_group(value)?,
            Opt::Pe => self.pe = !value.is_empty(),
            Opt::SchedFlags => self.flags = Some(value),
            Opt::TunType => self.tunnel.set_kind(value)?,
            Opt::TunPort => ranged(1, 65535, "illegal tunnel port specified").map(drop)?,
            Opt::LocalAddress => {
                let read = host_port(value, Protocol::Tcp, names).filter(|(_, port)| port.is_none());
                let (address, _) = read.ok_or_else(|| Usage::wrong("illegal local address specified"))?;
                self.local_address = Some(address);
            }
            Opt::LocalPool => self.local_pool = Some(value),
            Opt::VipInterface => self.vip_interface = Some(value),
            // Their presence says it all.
            _ => {}
        }
        Ok(())
    }

    fn take_address(&mut self, transport: Transport, value: &str, names: &dyn Names) -> Result<(), Usage> {
        self.once(Opt::Service)?;
        let (address, port) = host_port(value, transport.names_as(), names)
            .ok_or_else(|| Usage::wrong("illegal virtual server address[:port] specified"))?;
        self.target = Some(Target::Address { transport, address, port: port.unwrap_or(0) });
        Ok(())
    }

    fn take_forward(&mut self, forward: Forward) -> Result<(), Usage> {
        self.once(Opt::Forward)?;
        self.forward = Some(forward);
        Ok(())
    }

    fn once(&mut self, opt: Opt) -> Result<(), Usage> {
        if self.has(opt) {
            return Err(Usage::wrong(format!("multiple '{}' options specified", opt.name())));
        }
        self.seen.push(opt);
        Ok(())
    }

    fn has(&self, opt: Opt) -> bool {
        self.seen.contains(&opt)
    }

    const fn is_ipv6(&self) -> bool {
        matches!(
            self.target,
            Some(Target::Address { address: IpAddr::V6(_), .. } | Target::Mark { ipv6: true })
        )
    }

    /// The service meant, for commands about one that exists: a kind that cannot exist here is `missing`.
    fn key(&self, missing: &str) -> Result<ServiceKey, Usage> {
        self.available_key().ok_or_else(|| Usage::refused(missing))
    }

    fn available_key(&self) -> Option<ServiceKey> {
        match self.target? {
            Target::Address { transport: Transport::Tcp, address, port } => {
                Some(ServiceKey::new(Protocol::Tcp, address, port))
            }
            Target::Address { transport: Transport::Udp, address, port } => {
                Some(ServiceKey::new(Protocol::Udp, address, port))
            }
            _ => None,
        }
        .filter(|key| key.family() == Family::V4)
    }

    fn service_command(self, verb: Verb) -> Result<Command, Usage> {
        if let Some(Target::Address { transport, port, .. }) = self.target {
            if port == 0 && self.persistent.is_none() {
                return Err(Usage::wrong("Zero port specified for non-persistent service"));
            }
            if self.has(Opt::Ops) && transport != Transport::Udp {
                return Err(Usage::wrong("One-Packet Scheduling is only for UDP virtual services"));
            }
        }
        let scheduler = self.scheduler.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_SCHEDULER);
        let flagged = rules::check_flags(scheduler, self.flags.unwrap_or_default())?;
        let key = match (self.available_key(), self.target) {
            (Some(key), _) => key,
            (None, _) if verb == Verb::EditService => return Err(Usage::refused("No such service")),
            (None, Some(Target::Mark { .. })) => return Err(Usage::unavailable("Services by firewall mark")),
            (None, Some(Target::Address { transport: Transport::Sctp, .. })) => {
                return Err(Usage::unavailable("SCTP services"));
            }
            (None, _) => return Err(Usage::unavailable("IPv6 services")),
        };
        if self.has(Opt::Ops) {
            return Err(Usage::unavailable("One-packet scheduling"));
        }
        if self.pe {
            return Err(Usage::refused("Scheduler or persistence engine not found"));
        }
        if flagged && SCHEDULERS.contains(&scheduler) {
            return Err(Usage::unavailable("Scheduler flags"));
        }
        let named = |value: Option<&str>| value.filter(|name| !name.is_empty()).map(str::to_owned);
        let mut service = Service {
            persistent: self.persistent,
            local_pool: named(self.local_pool),
            interface: named(self.vip_interface),
            ..Service::new(key, scheduler)
        };
        // Without persistence the mask means nothing, and `-E ... -p` sets it anew.
        if let Some(mask) = self.netmask.filter(|_| self.persistent.is_some()) {
            service.prefix = prefix_of_mask(mask).ok_or_else(|| {
                Usage::refused(format!("Invalid operation: netmask {mask} has holes; such as 255.255.255.0"))
            })?;
        }
        if verb == Verb::AddService {
            return Ok(Command::Edit(vec![Edit::AddService(service)]));
        }
        let mut edits = vec![Edit::UpdateService(service)];
        if self.local_pool == Some("") {
            edits.push(Edit::SetServicePool(key, None));
        }
        if self.vip_interface == Some("") {
            edits.push(Edit::SetServiceInterface(key, None));
        }
        Ok(Command::Edit(edits))
    }

    fn server_command(self, verb: Verb) -> Result<Command, Usage> {
        let (address, mut port) = self.server.ok_or_else(Usage::try_help)?;
        let forward = self.forward.unwrap_or_default();
        // These servers get the packet as it is.
        if let Some(Target::Address { port: service_port, .. }) = self.target
            && matches!(forward, Forward::Dr | Forward::Tun)
        {
            port = service_port;
        }
        if address.is_ipv6() != self.is_ipv6() && forward != Forward::Tun {
            return Err(Usage::wrong("Different address family is allowed only for tunneling servers"));
        }
        self.tunnel.check(forward, &self.seen)?;
        let key = self.key("Service not defined")?;
        if let Some(kind) = self.tunnel.unavailable() {
            return Err(Usage::unavailable(&format!("Tunnel type {kind}")));
        }
        let server = Server {
            weight: self.weight.unwrap_or(1),
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
            ..Server::new(ServerKey { address, port }, forward)
        };
        Ok(Command::Edit(vec![match verb {
            Verb::AddServer => Edit::AddServer(key, server),
            _ => Edit::UpdateServer(key, server),
        }]))
    }

    fn list_command(self) -> Result<Command, Usage> {
        let details = self.has(Opt::Stats) || self.has(Opt::Rate) || self.has(Opt::Thresholds);
        let other = self.has(Opt::Timeout) || self.has(Opt::Daemon);
        if ((other || self.has(Opt::Connection)) && details) || (other && self.has(Opt::PersistentConn)) {
            return Err(Usage::wrong("options conflicts in the list command"));
        }
        if self.has(Opt::Timeout) {
            return Ok(Command::ListTimeouts);
        }
        if self.has(Opt::Daemon) {
            return Ok(Command::ListDaemons);
        }
        let numeric = self.has(Opt::Numeric);
        if self.has(Opt::Connection) {
            return Ok(Command::ListSessions { numeric, persistence_data: self.has(Opt::PersistentConn) });
        }
        let formats = [
            (Opt::Stats, Format::Stats),
            (Opt::Rate, Format::Rate),
            (Opt::Thresholds, Format::Thresholds),
            (Opt::PersistentConn, Format::PersistentConn),
            (Opt::TunInfo, Format::TunInfo),
        ];
        let format =
            formats.iter().find(|(opt, _)| self.has(*opt)).map_or(Format::Plain, |(_, format)| *format);
        let service = match self.target {
            None => None,
            Some(_) => Some(self.available_key().ok_or_else(Usage::no_such_service_listed)?),
        };
        let (exact, sort) = (self.has(Opt::Exact), !self.has(Opt::NoSort));
        Ok(Command::List(List { service, format, numeric, exact, sort }))
    }
}

impl Transport {
    /// Whose port names apply.
    const fn names_as(self) -> Protocol {
        match self {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp | Transport::Sctp => Protocol::Tcp,
        }
    }
}

fn is_role(text: Option<&str>) -> bool {
    matches!(text, Some("master" | "backup"))
}

fn seconds(text: &str, least: u32) -> Result<u32, Usage> {
    number(text, least, MAX_TIMEOUT)
        .ok_or_else(|| Usage::wrong(format!("invalid timeout value `{text}' specified")))
}

fn multicast_group(text: &str) -> Result<(), Usage> {
    let (good, family) = match text.contains(':') {
        true => (text.parse().is_ok_and(|a: std::net::Ipv6Addr| a.is_multicast()), "IPv6"),
        false => (super::values::dotted(text).is_some_and(|a| a.is_multicast()), "IPv4"),
    };
    match good {
        true => Ok(()),
        false => Err(Usage::wrong(format!("invalid {family} mcast-group `{text}'"))),
    }
}
