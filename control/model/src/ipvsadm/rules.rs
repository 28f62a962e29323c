//! Which options go with which command, tunnel type and scheduler.

use super::Usage;
use super::options::{Opt, Verb};
use super::values::number;
use crate::state::{self, Forward, TunnelChecksum, TunnelKind, TunnelSource};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Needed,
    Allowed,
    /// At most one of these.
    OneOf,
    Illegal,
}

const fn rule(verb: Verb, opt: Opt) -> Rule {
    match verb {
        Verb::AddService | Verb::EditService => match opt {
            Opt::Service => Rule::Needed,
            Opt::Scheduler | Opt::Persistent | Opt::Netmask | Opt::Ops | Opt::Pe | Opt::SchedFlags => {
                Rule::Allowed
            }
            Opt::LocalPool | Opt::VipInterface => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::DeleteService => match opt {
            Opt::Service => Rule::Needed,
            _ => Rule::Illegal,
        },
        Verb::List => match opt {
            Opt::Connection | Opt::Service | Opt::Timeout | Opt::Daemon => Rule::OneOf,
            Opt::Numeric | Opt::Stats | Opt::Rate | Opt::Thresholds | Opt::PersistentConn => Rule::Allowed,
            Opt::NoSort | Opt::Syncid | Opt::Exact | Opt::TunInfo => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::AddServer | Verb::EditServer => match opt {
            Opt::Service | Opt::Server => Rule::Needed,
            Opt::Forward | Opt::Weight | Opt::UThreshold | Opt::LThreshold => Rule::Allowed,
            Opt::TunType | Opt::TunPort | Opt::TunNocsum | Opt::TunCsum | Opt::TunRemcsum => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::DeleteServer => match opt {
            Opt::Service | Opt::Server => Rule::Needed,
            _ => Rule::Illegal,
        },
        Verb::StartDaemon => match opt {
            Opt::McastInterface | Opt::Syncid | Opt::McastGroup | Opt::McastPort => Rule::Allowed,
            Opt::McastTtl | Opt::SyncMaxlen => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::StopDaemon => match opt {
            Opt::Syncid => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::Save => match opt {
            Opt::Numeric => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::Zero => match opt {
            Opt::Service => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::AddLocalAddress | Verb::DeleteLocalAddress => match opt {
            Opt::Service | Opt::LocalAddress => Rule::Needed,
            _ => Rule::Illegal,
        },
        Verb::GetLocalAddresses => match opt {
            Opt::Service | Opt::Numeric => Rule::Allowed,
            _ => Rule::Illegal,
        },
        Verb::Flush | Verb::Set | Verb::Restore | Verb::Help | Verb::Version => Rule::Illegal,
    }
}

/// Judges the options given with a command.
pub(super) fn check_options(verb: Verb, seen: &[Opt]) -> Result<(), Usage> {
    judge(seen, verb.name(), "command", |opt| rule(verb, opt))
}

fn judge(seen: &[Opt], whose: &str, what: &str, rule: impl Fn(Opt) -> Rule) -> Result<(), Usage> {
    let mut chosen = None;
    for (opt, name) in Opt::ALL {
        let message = match (rule(opt), seen.contains(&opt)) {
            (Rule::Needed, false) => {
                format!("You need to supply the '{name}' option for the '{whose}' {what}")
            }
            (Rule::Illegal, true) => format!("Illegal '{name}' option with the '{whose}' {what}"),
            (Rule::OneOf, true) => match chosen.replace(name) {
                None => continue,
                Some(first) => {
                    format!("The option '{name}' conflicts with the '{first}' option in the '{whose}' {what}")
                }
            },
            _ => continue,
        };
        return Err(Usage::wrong(message));
    }
    Ok(())
}

/// The tunnel that the options of a server ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tunnel {
    kind: Kind,
    port: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Ipip,
    Gue,
    Gre,
}

impl Tunnel {
    pub(super) fn set_kind(&mut self, text: &str) -> Result<(), Usage> {
        self.kind = match text {
            "ipip" => Kind::Ipip,
            "gue" => Kind::Gue,
            "gre" => Kind::Gre,
            _ => return Err(Usage::wrong("illegal tunnel type specified")),
        };
        Ok(())
    }

    pub(super) fn set_port(&mut self, text: &str) -> Result<(), Usage> {
        let port = number(text, 1, 65535).and_then(|port| u16::try_from(port).ok());
        self.port = port.ok_or_else(|| Usage::wrong("illegal tunnel port specified"))?;
        Ok(())
    }

    /// Judges the tunnel options given with a server; the tunnel that it gets.
    pub(super) fn of(self, forward: Forward, seen: &[Opt]) -> Result<state::Tunnel, Usage> {
        let tunnelled = [Opt::TunType, Opt::TunPort, Opt::TunNocsum, Opt::TunCsum, Opt::TunRemcsum];
        if forward != Forward::Tun {
            return match seen.iter().any(|opt| tunnelled.contains(opt)) {
                true => Err(Usage::wrong("Tunnel options conflict with forward method")),
                false => Ok(state::Tunnel::default()),
            };
        }
        let name = match self.kind {
            Kind::Ipip => "ipip",
            Kind::Gue => "gue",
            Kind::Gre => "gre",
        };
        judge(seen, name, "tunnel type", |opt| match (self.kind, opt) {
            (Kind::Gue, Opt::TunPort) => Rule::Needed,
            (Kind::Ipip | Kind::Gre, Opt::TunPort) => Rule::Illegal,
            (Kind::Gue, Opt::TunNocsum | Opt::TunCsum | Opt::TunRemcsum) => Rule::OneOf,
            (Kind::Gre, Opt::TunNocsum | Opt::TunCsum) => Rule::OneOf,
            (_, Opt::TunNocsum | Opt::TunCsum | Opt::TunRemcsum) => Rule::Illegal,
            _ => Rule::Allowed,
        })?;
        Ok(state::Tunnel {
            kind: match self.kind {
                Kind::Ipip => TunnelKind::Ipip,
                Kind::Gue => TunnelKind::Gue { port: self.port },
                Kind::Gre => TunnelKind::Gre,
            },
            checksum: match (seen.contains(&Opt::TunCsum), seen.contains(&Opt::TunRemcsum)) {
                (true, _) => TunnelChecksum::Csum,
                (_, true) => TunnelChecksum::Remcsum,
                _ => TunnelChecksum::None,
            },
            source: TunnelSource::Interface,
        })
    }
}

/// The flags that `-b` means for a scheduler, as bits.
pub(super) fn flags(scheduler: &str, flags: &str) -> Result<u8, Usage> {
    let mut bits = 0;
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        bits |= match (flag, flag.split_once('-')) {
            ("flag-1", _) => 1,
            ("flag-2", _) => 2,
            ("flag-3", _) => 4,
            (_, Some((owner @ ("sh" | "mh"), what @ ("fallback" | "port")))) => match owner == scheduler {
                true if what == "fallback" => 1,
                true => 2,
                false => return Err(Usage::wrong(format!("incompatible scheduler flag `{flag}'"))),
            },
            _ => return Err(Usage::wrong(format!("invalid scheduler flag `{flag}'"))),
        };
    }
    Ok(bits)
}
