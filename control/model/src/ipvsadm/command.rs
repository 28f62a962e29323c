//! From a command line to a [`Command`]: values as they come, then the rules, in ipvsadm's order, so that of
//! several mistakes the same one is named.

use std::net::{IpAddr, Ipv4Addr};

use super::options::{Id, Opt, Scanner, Verb};
use super::rules;
use super::values::{Names, dotted, host_port, number};
use super::{Command, Format, List, Usage};
use crate::edit::Edit;
use crate::state::{
    Family, Forward, Protocol, Server, ServerKey, Service, ServiceKey, Timeouts, prefix_of_mask,
};
use crate::validate::{DEFAULT_SCHEDULER, MAX_TIMEOUT, MAX_WEIGHT};

/// Seconds of a `-p` without a number.
const DEFAULT_PERSISTENCE: u32 = 360;

/// The longest name of a scheduler that is looked at.
const SCHEDULER_NAME_LIMIT: usize = 15;

/// The granularity of persistence as it was given; whether it makes sense is judged when the command is known.
#[derive(Clone, Copy, Debug)]
enum Mask {
    Dotted(Ipv4Addr),
    Length(u8),
}

/// The options as they were given.
#[derive(Debug, Default)]
struct Given<'a> {
    seen: Vec<Opt>,
    target: Option<ServiceKey>,
    scheduler: Option<&'a str>,
    persistent: Option<u32>,
    mask: Option<Mask>,
    server: Option<(IpAddr, u16)>,
    forward: Option<Forward>,
    weight: Option<u32>,
    upper_threshold: u32,
    lower_threshold: u32,
    engine: Option<&'a str>,
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
        Verb::DeleteService => Ok(Command::Edit(vec![Edit::DeleteService(given.key()?)])),
        Verb::Flush => Ok(Command::Edit(vec![Edit::ClearServices])),
        Verb::List => given.list_command(),
        Verb::AddServer | Verb::EditServer => given.server_command(verb),
        Verb::DeleteServer => {
            let key = given.key()?;
            let (address, port) = given.server.ok_or_else(Usage::try_help)?;
            Ok(Command::Edit(vec![Edit::DeleteServer(key, ServerKey { address, port })]))
        }
        Verb::Set => Ok(Command::Edit(vec![Edit::SetTimeouts(timeouts)])),
        Verb::StartDaemon => Err(Usage::unavailable("Connection synchronization")),
        Verb::StopDaemon => Err(Usage::refused("No daemon is running")),
        Verb::Restore => Ok(Command::Restore),
        Verb::Save => Ok(Command::Save { numeric: given.has(Opt::Numeric) }),
        Verb::Zero => Ok(Command::Zero(given.target)),
        Verb::AddLocalAddress | Verb::DeleteLocalAddress => {
            let key = given.key()?;
            let address = given.local_address.ok_or_else(Usage::try_help)?;
            let edit = match verb {
                Verb::AddLocalAddress => Edit::AddLocalAddress(key, address),
                _ => Edit::DeleteLocalAddress(key, address),
            };
            Ok(Command::Edit(vec![edit]))
        }
        Verb::GetLocalAddresses => {
            Ok(Command::LocalAddresses { service: given.target, numeric: given.has(Opt::Numeric) })
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
            Id::Tcp => self.take_address(Protocol::Tcp, value, names),
            Id::Udp => self.take_address(Protocol::Udp, value, names),
            Id::Sctp => self.take_address(Protocol::Sctp, value, names),
            Id::Mark => {
                self.once(Opt::Service)?;
                let mark = number(value, 1, u32::MAX)
                    .ok_or_else(|| Usage::wrong(format!("invalid fwmark value `{value}' specified")))?;
                self.target = Some(ServiceKey::Mark { family: Family::V4, mark });
                Ok(())
            }
            Id::Ipv6 => match &mut self.target {
                Some(ServiceKey::Mark { family, .. }) => {
                    *family = Family::V6;
                    self.mask = None;
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
            Opt::Netmask => self.mask = Some(Mask::read(value, self.is_ipv6())?),
            Opt::Server => {
                // A service that is named later has no say in these.
                let protocol = self.target.and_then(|key| key.protocol()).unwrap_or(Protocol::Tcp);
                let service_port = self.target.and_then(|key| key.port()).unwrap_or(0);
                let (address, port) = host_port(value, protocol, names)
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
            Opt::Pe => self.engine = Some(value),
            Opt::SchedFlags => self.flags = Some(value),
            Opt::TunType => self.tunnel.set_kind(value)?,
            Opt::TunPort => self.tunnel.set_port(value)?,
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

    fn take_address(&mut self, protocol: Protocol, value: &str, names: &dyn Names) -> Result<(), Usage> {
        self.once(Opt::Service)?;
        let (address, port) = host_port(value, protocol, names)
            .ok_or_else(|| Usage::wrong("illegal virtual server address[:port] specified"))?;
        if address.is_ipv6() {
            // A mask that was given before is forgotten.
            self.mask = None;
        }
        self.target = Some(ServiceKey::new(protocol, address, port.unwrap_or(0)));
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

    fn is_ipv6(&self) -> bool {
        self.target.is_some_and(|key| key.family() == Family::V6)
    }

    /// The service meant, which the rules have seen to be there.
    fn key(&self) -> Result<ServiceKey, Usage> {
        self.target.ok_or_else(Usage::try_help)
    }

    fn service_command(self, verb: Verb) -> Result<Command, Usage> {
        let key = self.key()?;
        if key.port() == Some(0) && self.persistent.is_none() {
            return Err(Usage::wrong("Zero port specified for non-persistent service"));
        }
        if self.has(Opt::Ops) && key.protocol().is_some_and(|protocol| protocol != Protocol::Udp) {
            return Err(Usage::wrong("One-Packet Scheduling is only for UDP virtual services"));
        }
        let scheduler = self.scheduler.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_SCHEDULER);
        let named = |value: Option<&str>| value.filter(|name| !name.is_empty()).map(str::to_owned);
        let plain = Service::new(key, scheduler);
        // Without persistence the mask means nothing, and `-E ... -p` sets it anew.
        let mask = self.mask.filter(|_| self.persistent.is_some());
        let service = Service {
            scheduler_flags: rules::flags(scheduler, self.flags.unwrap_or_default())?,
            one_packet: self.has(Opt::Ops),
            persistent: self.persistent,
            prefix: mask.map_or(Ok(plain.prefix), Mask::prefix)?,
            persistence_engine: named(self.engine),
            local_pool: named(self.local_pool),
            interface: named(self.vip_interface),
            ..plain
        };
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
        let (key, forward) = (self.key()?, self.forward.unwrap_or_default());
        let (address, mut port) = self.server.ok_or_else(Usage::try_help)?;
        // These servers get the packet as it is.
        if let Some(service_port) = key.port()
            && matches!(forward, Forward::Dr | Forward::Tun | Forward::Local)
        {
            port = service_port;
        }
        // FULLNAT translates between the families.
        if Family::of(address) != key.family() && !matches!(forward, Forward::Tun | Forward::FullNat) {
            return Err(Usage::wrong("Different address family is allowed only for tunneling servers"));
        }
        let server = Server {
            tunnel: self.tunnel.of(forward, &self.seen)?,
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
        let (exact, sort) = (self.has(Opt::Exact), !self.has(Opt::NoSort));
        Ok(Command::List(List { service: self.target, format, numeric, exact, sort }))
    }
}

fn is_role(text: Option<&str>) -> bool {
    matches!(text, Some("master" | "backup"))
}

fn seconds(text: &str, least: u32) -> Result<u32, Usage> {
    number(text, least, MAX_TIMEOUT)
        .ok_or_else(|| Usage::wrong(format!("invalid timeout value `{text}' specified")))
}

impl Mask {
    /// A dotted mask for IPv4, a prefix length for IPv6.
    fn read(text: &str, ipv6: bool) -> Result<Mask, Usage> {
        match ipv6 {
            true => number(text, 1, 128)
                .and_then(|length| u8::try_from(length).ok())
                .map(Mask::Length)
                .ok_or_else(|| Usage::wrong("illegal ipv6 netmask specified")),
            false => dotted(text)
                .map(Mask::Dotted)
                .ok_or_else(|| Usage::wrong("illegal virtual server persistent mask specified")),
        }
    }

    fn prefix(self) -> Result<u8, Usage> {
        match self {
            Mask::Length(length) => Ok(length),
            Mask::Dotted(mask) => prefix_of_mask(mask).ok_or_else(|| {
                let why = format!("netmask {mask} has holes; such as 255.255.255.0");
                Usage::refused(format!("Invalid operation: {why}"))
            }),
        }
    }
}

fn multicast_group(text: &str) -> Result<(), Usage> {
    let (good, family) = match text.contains(':') {
        true => (text.parse().is_ok_and(|a: std::net::Ipv6Addr| a.is_multicast()), "IPv6"),
        false => (dotted(text).is_some_and(|a| a.is_multicast()), "IPv4"),
    };
    match good {
        true => Ok(()),
        false => Err(Usage::wrong(format!("invalid {family} mcast-group `{text}'"))),
    }
}
