//! The options of the command line and the way they are cut out of it.
//!
//! The scanner keeps popt's habits, which scripts depend on: short options bundle (`-Ln`), values may stick
//! (`-p300`, `-t=ADDRESS`, `--scheduler=rr`), an optional value is only taken when it does not look like an
//! option, long names are never abbreviated, `--` ends the options, and arguments may stand between them.

/// An option that is no command, in the order in which the rules are judged and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    Syncid,
    Exact,
    Ops,
    Pe,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    LocalAddress,
    LocalPool,
    VipInterface,
}

impl Opt {
    pub(super) const ALL: [(Opt, &'static str); 37] = [
        (Opt::Numeric, "numeric"),
        (Opt::Connection, "connection"),
        (Opt::Service, "service-address"),
        (Opt::Scheduler, "scheduler"),
        (Opt::Persistent, "persistent"),
        (Opt::Netmask, "netmask"),
        (Opt::Server, "real-server"),
        (Opt::Forward, "forwarding-method"),
        (Opt::Weight, "weight"),
        (Opt::UThreshold, "u-threshold"),
        (Opt::LThreshold, "l-threshold"),
        (Opt::McastInterface, "mcast-interface"),
        (Opt::Timeout, "timeout"),
        (Opt::Daemon, "daemon"),
        (Opt::Stats, "stats"),
        (Opt::Rate, "rate"),
        (Opt::Thresholds, "thresholds"),
        (Opt::PersistentConn, "persistent-conn"),
        (Opt::NoSort, "nosort"),
        (Opt::Syncid, "syncid"),
        (Opt::Exact, "exact"),
        (Opt::Ops, "ops"),
        (Opt::Pe, "pe"),
        (Opt::SchedFlags, "sched-flags"),
        (Opt::McastGroup, "mcast-group"),
        (Opt::McastPort, "mcast-port"),
        (Opt::McastTtl, "mcast-ttl"),
        (Opt::SyncMaxlen, "sync-maxlen"),
        (Opt::TunInfo, "tun-info"),
        (Opt::TunType, "tun-type"),
        (Opt::TunPort, "tun-port"),
        (Opt::TunNocsum, "tun-nocsum"),
        (Opt::TunCsum, "tun-csum"),
        (Opt::TunRemcsum, "tun-remcsum"),
        (Opt::LocalAddress, "laddr"),
        (Opt::LocalPool, "local-pool"),
        (Opt::VipInterface, "vip-interface"),
    ];

    pub(super) fn name(self) -> &'static str {
        Opt::ALL.iter().find(|(opt, _)| *opt == self).map_or("", |(_, name)| name)
    }
}

/// The command, which is always the first option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    EditServer,
    DeleteServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    Help,
    Version,
    AddLocalAddress,
    DeleteLocalAddress,
    GetLocalAddresses,
}

impl Verb {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Verb::AddService => "add-service",
            Verb::EditService => "edit-service",
            Verb::DeleteService => "delete-service",
            Verb::Flush => "flush",
            Verb::List => "list",
            Verb::AddServer => "add-server",
            Verb::EditServer => "edit-server",
            Verb::DeleteServer => "delete-server",
            Verb::Set => "set",
            Verb::StartDaemon => "start-daemon",
            Verb::StopDaemon => "stop-daemon",
            Verb::Restore => "restore",
            Verb::Save => "save",
            Verb::Zero => "zero",
            Verb::Help => "help",
            Verb::Version => "version",
            Verb::AddLocalAddress => "add-laddr",
            Verb::DeleteLocalAddress => "del-laddr",
            Verb::GetLocalAddresses => "get-laddr",
        }
    }
}

/// What an option of the table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Verb(Verb),
    /// An option of which nothing but its presence or its value matters.
    Opt(Opt),
    Tcp,
    Udp,
    Sctp,
    Mark,
    Ipv6,
    Masquerading,
    Ipip,
    Gatewaying,
    FullNat,
    /// `--sort`, which does nothing.
    Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    None,
    Needed,
    Optional,
}

#[derive(Debug)]
struct Entry(&'static str, char, Value, Id);

/// No short form.
const NO: char = '\0';

const TABLE: &[Entry] = &[
    Entry("add-service", 'A', Value::None, Id::Verb(Verb::AddService)),
    Entry("edit-service", 'E', Value::None, Id::Verb(Verb::EditService)),
    Entry("delete-service", 'D', Value::None, Id::Verb(Verb::DeleteService)),
    Entry("clear", 'C', Value::None, Id::Verb(Verb::Flush)),
    Entry("list", 'L', Value::None, Id::Verb(Verb::List)),
    Entry("list", 'l', Value::None, Id::Verb(Verb::List)),
    Entry("zero", 'Z', Value::None, Id::Verb(Verb::Zero)),
    Entry("add-server", 'a', Value::None, Id::Verb(Verb::AddServer)),
    Entry("edit-server", 'e', Value::None, Id::Verb(Verb::EditServer)),
    Entry("delete-server", 'd', Value::None, Id::Verb(Verb::DeleteServer)),
    Entry("set", NO, Value::None, Id::Verb(Verb::Set)),
    Entry("help", 'h', Value::None, Id::Verb(Verb::Help)),
    Entry("version", 'v', Value::None, Id::Verb(Verb::Version)),
    Entry("restore", 'R', Value::None, Id::Verb(Verb::Restore)),
    Entry("save", 'S', Value::None, Id::Verb(Verb::Save)),
    Entry("start-daemon", NO, Value::Needed, Id::Verb(Verb::StartDaemon)),
    Entry("stop-daemon", NO, Value::Needed, Id::Verb(Verb::StopDaemon)),
    Entry("add-laddr", 'P', Value::None, Id::Verb(Verb::AddLocalAddress)),
    Entry("del-laddr", 'Q', Value::None, Id::Verb(Verb::DeleteLocalAddress)),
    Entry("get-laddr", 'G', Value::None, Id::Verb(Verb::GetLocalAddresses)),
    Entry("tcp-service", 't', Value::Needed, Id::Tcp),
    Entry("udp-service", 'u', Value::Needed, Id::Udp),
    Entry("sctp-service", NO, Value::Needed, Id::Sctp),
    Entry("fwmark-service", 'f', Value::Needed, Id::Mark),
    Entry("scheduler", 's', Value::Needed, Id::Opt(Opt::Scheduler)),
    Entry("persistent", 'p', Value::Optional, Id::Opt(Opt::Persistent)),
    Entry("netmask", 'M', Value::Needed, Id::Opt(Opt::Netmask)),
    Entry("real-server", 'r', Value::Needed, Id::Opt(Opt::Server)),
    Entry("masquerading", 'm', Value::None, Id::Masquerading),
    Entry("ipip", 'i', Value::None, Id::Ipip),
    Entry("gatewaying", 'g', Value::None, Id::Gatewaying),
    Entry("fullnat", NO, Value::None, Id::FullNat),
    Entry("weight", 'w', Value::Needed, Id::Opt(Opt::Weight)),
    Entry("u-threshold", 'x', Value::Needed, Id::Opt(Opt::UThreshold)),
    Entry("l-threshold", 'y', Value::Needed, Id::Opt(Opt::LThreshold)),
    Entry("numeric", 'n', Value::None, Id::Opt(Opt::Numeric)),
    Entry("connection", 'c', Value::None, Id::Opt(Opt::Connection)),
    Entry("mcast-interface", NO, Value::Needed, Id::Opt(Opt::McastInterface)),
    Entry("syncid", NO, Value::Needed, Id::Opt(Opt::Syncid)),
    Entry("timeout", NO, Value::None, Id::Opt(Opt::Timeout)),
    Entry("daemon", NO, Value::None, Id::Opt(Opt::Daemon)),
    Entry("stats", NO, Value::None, Id::Opt(Opt::Stats)),
    Entry("rate", NO, Value::None, Id::Opt(Opt::Rate)),
    Entry("thresholds", NO, Value::None, Id::Opt(Opt::Thresholds)),
    Entry("persistent-conn", NO, Value::None, Id::Opt(Opt::PersistentConn)),
    Entry("nosort", NO, Value::None, Id::Opt(Opt::NoSort)),
    Entry("sort", NO, Value::None, Id::Sort),
    Entry("exact", 'X', Value::None, Id::Opt(Opt::Exact)),
    Entry("ipv6", '6', Value::None, Id::Ipv6),
    Entry("ops", 'o', Value::None, Id::Opt(Opt::Ops)),
    Entry("pe", NO, Value::Needed, Id::Opt(Opt::Pe)),
    Entry("sched-flags", 'b', Value::Needed, Id::Opt(Opt::SchedFlags)),
    Entry("mcast-group", NO, Value::Needed, Id::Opt(Opt::McastGroup)),
    Entry("mcast-port", NO, Value::Needed, Id::Opt(Opt::McastPort)),
    Entry("mcast-ttl", NO, Value::Needed, Id::Opt(Opt::McastTtl)),
    Entry("sync-maxlen", NO, Value::Needed, Id::Opt(Opt::SyncMaxlen)),
    Entry("tun-info", NO, Value::None, Id::Opt(Opt::TunInfo)),
    Entry("tun-type", NO, Value::Needed, Id::Opt(Opt::TunType)),
    Entry("tun-port", NO, Value::Needed, Id::Opt(Opt::TunPort)),
    Entry("tun-nocsum", NO, Value::None, Id::Opt(Opt::TunNocsum)),
    Entry("tun-csum", NO, Value::None, Id::Opt(Opt::TunCsum)),
    Entry("tun-remcsum", NO, Value::None, Id::Opt(Opt::TunRemcsum)),
    Entry("laddr", 'z', Value::Needed, Id::Opt(Opt::LocalAddress)),
    Entry("local-pool", NO, Value::Needed, Id::Opt(Opt::LocalPool)),
    Entry("vip-interface", NO, Value::Needed, Id::Opt(Opt::VipInterface)),
];

/// `-b` of `-a` and `-e`: FULLNAT, as other FULLNAT directors have it; elsewhere it is `--sched-flags`.
const B_FOR_SERVERS: Entry = Entry("fullnat", 'b', Value::None, Id::FullNat);

/// Cuts options out of a command line.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    args: &'a [String],
    next: usize,
    /// What is left of a bundle of short options.
    bundle: &'a str,
    only_arguments: bool,
    /// Arguments that are no options, in order.
    pub(super) arguments: Vec<&'a str>,
    b_is_fullnat: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(args: &'a [String]) -> Scanner<'a> {
        Scanner {
            args,
            next: 0,
            bundle: "",
            only_arguments: false,
            arguments: Vec::new(),
            b_is_fullnat: false,
        }
    }

    /// The next option with its value; `None` at the end. An error is popt's sentence about the option.
    pub(super) fn option(&mut self) -> Result<Option<(Id, Option<&'a str>)>, String> {
        while self.bundle.is_empty() {
            let Some(arg) = self.args.get(self.next) else { return Ok(None) };
            self.next += 1;
            if self.only_arguments || !arg.starts_with('-') || arg == "-" {
                self.arguments.push(arg);
            } else if arg == "--" {
                self.only_arguments = true;
            } else if let Some(long) = arg.strip_prefix("--") {
                let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
                let entry =
                    TABLE.iter().find(|entry| entry.0 == name).ok_or_else(|| self.bad("unknown option"))?;
                return self.with_value(entry, value).map(Some);
            } else {
                self.bundle = &arg[1..];
            }
        }
        let mut rest = self.bundle.chars();
        let letter = rest.next().unwrap_or_default();
        self.bundle = rest.as_str();
        let entry = match letter {
            'b' if self.b_is_fullnat => &B_FOR_SERVERS,
            NO => return Err(self.bad("unknown option")),
            _ => TABLE.iter().find(|entry| entry.1 == letter).ok_or_else(|| self.bad("unknown option"))?,
        };
        if entry.2 == Value::None {
            return match self.bundle.starts_with('=') {
                true => Err(self.bad("option does not take an argument")),
                false => self.with_value(entry, None).map(Some),
            };
        }
        let stuck = std::mem::take(&mut self.bundle);
        let stuck = (!stuck.is_empty()).then(|| stuck.strip_prefix('=').unwrap_or(stuck));
        self.with_value(entry, stuck).map(Some)
    }

    /// The whole argument in which the last option stood, as messages name it.
    pub(super) fn current(&self) -> &'a str {
        self.next.checked_sub(1).and_then(|at| self.args.get(at)).map_or("", String::as_str)
    }

    fn with_value(&mut self, entry: &Entry, stuck: Option<&'a str>) -> Result<(Id, Option<&'a str>), String> {
        let value = match (entry.2, stuck) {
            (Value::None, Some(_)) => return Err(self.bad("option does not take an argument")),
            (Value::None, None) => None,
            (_, Some(stuck)) => Some(stuck),
            (Value::Needed, None) => {
                let value = self.args.get(self.next).ok_or_else(|| self.bad("missing argument"))?;
                self.next += 1;
                Some(value.as_str())
            }
            (Value::Optional, None) => match self.args.get(self.next) {
                Some(value) if !value.starts_with('-') => {
                    self.next += 1;
                    Some(value.as_str())
                }
                _ => None,
            },
        };
        if matches!(entry.3, Id::Verb(Verb::AddServer | Verb::EditServer)) {
            self.b_is_fullnat = true;
        }
        Ok((entry.3, value))
    }

    fn bad(&self, why: &str) -> String {
        format!("{}: {why}", self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::super::help::{COMMANDS, OPTIONS, SERVICES};
    use super::*;

    #[test]
    fn every_option_is_described_as_it_is() {
        let undescribed = [
            "start-daemon",
            "stop-daemon",
            "syncid",
            "mcast-interface",
            "mcast-group",
            "mcast-port",
            "mcast-ttl",
            "sync-maxlen",
        ];
        let described: Vec<_> = [COMMANDS, SERVICES, OPTIONS].concat();
        for Entry(long, short, value, _) in TABLE.iter().filter(|entry| entry.1 != 'l') {
            let Some(found) = described.iter().find(|d| d.long == *long) else {
                assert!(undescribed.contains(long), "{long}");
                continue;
            };
            assert_eq!(found.short.unwrap_or(NO), *short, "{long}");
            let wanted = match value {
                Value::Needed => !found.value.is_empty() && !found.value.starts_with('['),
                Value::Optional => found.value.starts_with('['),
                // The three values of --set are arguments of its own.
                Value::None => found.value.is_empty() || *long == "set",
            };
            assert!(wanted, "{long}");
        }
        for description in described {
            assert!(TABLE.iter().any(|entry| entry.0 == description.long), "{}", description.long);
        }
    }
}
