//! Which options go with which command, tunnel type and scheduler.

use super::Usage;
use super::options::{Opt, Verb};
use crate::state::Forward;

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

/// The type of a tunnel; `ipip` is all that can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tunnel {
    #[default]
    Ipip,
    Gue,
    Gre,
}

impl Tunnel {
    pub(super) fn set_kind(&mut self, text: &str) -> Result<(), Usage> {
        *self = match text {
            "ipip" => Tunnel::Ipip,
            "gue" => Tunnel::Gue,
            "gre" => Tunnel::Gre,
            _ => return Err(Usage::wrong("illegal tunnel type specified")),
        };
        Ok(())
    }

    /// Judges the tunnel options given with a server.
    pub(super) fn check(self, forward: Forward, seen: &[Opt]) -> Result<(), Usage> {
        let tunnelled = [Opt::TunType, Opt::TunPort, Opt::TunNocsum, Opt::TunCsum, Opt::TunRemcsum];
        if forward != Forward::Tun {
            return match seen.iter().any(|opt| tunnelled.contains(opt)) {
                true => Err(Usage::wrong("Tunnel options conflict with forward method")),
                false => Ok(()),
            };
        }
        let name = match self {
            Tunnel::Ipip => "ipip",
            Tunnel::Gue => "gue",
            Tunnel::Gre => "gre",
        };
        judge(seen, name, "tunnel type", |opt| match (self, opt) {
            (Tunnel::Gue, Opt::TunPort) => Rule::Needed,
            (Tunnel::Ipip | Tunnel::Gre, Opt::TunPort) => Rule::Illegal,
            (Tunnel::Gue, Opt::TunNocsum | Opt::TunCsum | Opt::TunRemcsum) => Rule::OneOf,
            (Tunnel::Gre, Opt::TunNocsum | Opt::TunCsum) => Rule::OneOf,
            (_, Opt::TunNocsum | Opt::TunCsum | Opt::TunRemcsum) => Rule::Illegal,
            _ => Rule::Allowed,
        })
    }

    /// Its name when it cannot be had.
    pub(super) const fn unavailable(self) -> Option<&'static str> {
        match self {
            Tunnel::Ipip => None,
            Tunnel::Gue => Some("gue"),
            Tunnel::Gre => Some("gre"),
        }
    }
}

/// Judges the flags of `-b`; whether there are any.
pub(super) fn check_flags(scheduler: &str, flags: &str) -> Result<bool, Usage> {
    let mut any = false;
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        any = true;
        let fits = match flag {
            "flag-1" | "flag-2" | "flag-3" => true,
            "sh-fallback" | "sh-port" => scheduler == "sh",
            "mh-fallback" | "mh-port" => scheduler == "mh",
            _ => return Err(Usage::wrong(format!("invalid scheduler flag `{flag}'"))),
        };
        if !fits {
            return Err(Usage::wrong(format!("incompatible scheduler flag `{flag}'")));
        }
    }
    Ok(any)
}
