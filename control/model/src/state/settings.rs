//! Behaviour switches under the names that IPVS gives them, `net.ipv4.vs.…`.

/// One kind of setting's value, as text and back.
trait Value: Sized + PartialEq {
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
}

impl Value for bool {
    fn read(text: &str) -> Option<bool> {
        match text {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }

    fn write(&self) -> String {
        u8::from(*self).to_string()
    }
}

impl Value for u32 {
    fn read(text: &str) -> Option<u32> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// Why a setting was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// No setting of this name.
    #[error("there is no setting `{0}`; known: {known}", known = Settings::names().collect::<Vec<_>>().join(", "))]
    Unknown(String),
    /// A value that the setting cannot have.
    #[error("{name} of {value} is out of range; {range}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        range: String,
    },
    /// A setting that means nothing here has another value than its default.
    #[error("{name} {can} here: {why}", can = match *default {
        "" => "cannot be set".to_owned(),
        default => format!("can only be {default}"),
    })]
    Fixed {
        /// The setting.
        name: &'static str,
        /// Its default.
        default: &'static str,
        /// Why nothing else is possible.
        why: &'static str,
    },
}

impl BadSetting {
    /// The name of the setting, empty of one that does not exist.
    pub const fn name(&self) -> &'static str {
        match self {
            BadSetting::Unknown(_) => "",
            BadSetting::Range { name, .. } | BadSetting::Fixed { name, .. } => name,
        }
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:literal, $range:expr;)*) => {
        /// The settings that IPVS keeps under `net.ipv4.vs`, as far as they mean something here, and the director's
        /// own; names and defaults are the kernel's.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings { $($(#[doc = $doc])+ pub $name: $kind,)* }

        impl Default for Settings {
            fn default() -> Settings {
                Settings { $($name: $default,)* }
            }
        }

        impl Settings {
            /// The settings that can be changed, by name, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// The value of a setting; also of one that cannot be changed.
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(self.$name.write()),)*
                    _ => fixed(name).map(|fixed| fixed.default.to_owned()),
                }
            }

            /// What a setting does, in a sentence; of one that cannot be changed, why.
            pub fn meaning(name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(concat!($($doc),+).trim().to_owned()),)*
                    _ => fixed(name).map(|fixed| format!("Cannot be changed: {}.", fixed.why)),
                }
            }

            /// Sets one by its name. On error nothing is changed.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadSetting> {
                match name {
                    $(stringify!($name) => {
                        let read = <$kind as Value>::read(value.trim())
                            .filter(|read| ($range).contains(&u32::from(*read)));
                        self.$name = read.ok_or_else(|| out_of_range(stringify!($name), value, $range))?;
                        Ok(())
                    })*
                    _ => {
                        let fixed = fixed(name).ok_or_else(|| BadSetting::Unknown(name.to_owned()))?;
                        fixed.check(value)
                    }
                }
            }

            /// What of it is out of range.
            pub fn check(&self) -> Vec<BadSetting> {
                let mut found = Vec::new();
                $(if !($range).contains(&u32::from(self.$name)) {
                    found.push(out_of_range(stringify!($name), &self.$name.write(), $range));
                })*
                found
            }
        }
    };
}

settings! {
    /// Free sessions of a worker below which the defences in automatic mode begin (the kernel counts pages of
    /// memory).
    amemthresh: u32 = 1024, 0..=i32::MAX as u32;
    /// With `drop_packet` 3, every so many-th packet that would open a session is dropped.
    am_droprate: u32 = 10, 1..=i32::MAX as u32;
    /// Whether a packet with a mark, whose service has no server, goes on to where it was sent.
    cache_bypass: bool = false, 0..=1;
    /// What happens to a SYN on a closing session: 0 it stays with it; 1 it is scheduled anew; 2 also in FIN_WAIT
    /// where the server's side is not seen.
    conn_reuse_mode: u32 = 1, 0..=3;
    /// Random sessions that nobody misses are dropped: 0 never, 1 and 2 when memory is short, 3 always.
    drop_entry: u32 = 0, 0..=3;
    /// Some packets that would open sessions are dropped: 0 never, 1 and 2 when memory is short, 3 always.
    drop_packet: u32 = 0, 0..=3;
    /// 1: a packet of a session whose server was deleted ends the session; 0: such packets are dropped.
    expire_nodest_conn: bool = false, 0..=1;
    /// Whether a template of a server of weight 0 is left.
    expire_quiescent_template: bool = false, 0..=1;
    /// Whether what comes out of a tunnel that ends here is left alone. Nothing to decide: no tunnel ends here.
    ignore_tunneled: bool = false, 0..=1;
    /// Seconds after which the lblc scheduler forgets where an address went.
    lblc_expiration: u32 = 86400, 1..=i32::MAX as u32;
    /// Seconds after which the lblcr scheduler shrinks an address's set of servers.
    lblcr_expiration: u32 = 86400, 1..=i32::MAX as u32;
    /// Whether a NAT server's packet that fits no session is answered with port unreachable.
    nat_icmp_send: bool = false, 0..=1;
    /// Whether packets in tunnels may not be cut, so that the path's MTU is found out.
    pmtu_disc: bool = true, 0..=1;
    /// Whether ICMP errors may open sessions.
    schedule_icmp: bool = false, 0..=1;
    /// The table of states that holds half-open sessions short: 0 never, 1 and 2 when memory is short, 3 always.
    secure_tcp: u32 = 0, 0..=3;
    /// Whether an SCTP packet other than INIT may open a session.
    sloppy_sctp: bool = false, 0..=1;
    /// Whether a segment other than SYN (never RST) may open a session.
    sloppy_tcp: bool = false, 0..=1;
    /// Whether packets that are for nobody here are routed on (the host's `ip_forward`).
    ip_forward: bool = true, 0..=1;
}

/// A setting of IPVS that means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedSetting {
    /// Its name.
    pub name: &'static str,
    /// Its default, the only value that is taken; empty where the kernel's depends on the machine.
    pub default: &'static str,
    /// Why there is nothing to set.
    pub why: &'static str,
}

const NO_SYNC: &str = "sessions are not synchronised between directors";

/// Settings of IPVS that are taken at their default only.
pub const FIXED_SETTINGS: &[FixedSetting] = &[
    FixedSetting { name: "backup_only", default: "0", why: NO_SYNC },
    FixedSetting {
        name: "conn_lfactor",
        default: "-4",
        why: "the session table has a fixed size, `sessions` of [dataplane]",
    },
    FixedSetting {
        name: "conn_max",
        default: "",
        why: "the session table has a fixed size, `sessions` of [dataplane]",
    },
    FixedSetting { name: "conntrack", default: "0", why: "there is no netfilter connection tracking" },
    FixedSetting {
        name: "debug_level",
        default: "0",
        why: "the engine writes no log; look at `fulcrum status`",
    },
    FixedSetting { name: "est_cpulist", default: "", why: "rates are estimated by no thread of their own" },
    FixedSetting { name: "est_nice", default: "0", why: "rates are estimated by no thread of their own" },
    FixedSetting { name: "run_estimation", default: "1", why: "rates cost nothing and are always estimated" },
    FixedSetting {
        name: "snat_reroute",
        default: "1",
        why: "answers of servers are always routed by their new source",
    },
    FixedSetting { name: "svc_lfactor", default: "-3", why: "the table of services grows by itself" },
    FixedSetting { name: "sync_persist_mode", default: "0", why: NO_SYNC },
    FixedSetting { name: "sync_ports", default: "1", why: NO_SYNC },
    FixedSetting { name: "sync_qlen_max", default: "", why: NO_SYNC },
    FixedSetting { name: "sync_refresh_period", default: "0", why: NO_SYNC },
    FixedSetting { name: "sync_retries", default: "0", why: NO_SYNC },
    FixedSetting { name: "sync_sock_size", default: "0", why: NO_SYNC },
    FixedSetting { name: "sync_threshold", default: "3 50", why: NO_SYNC },
    FixedSetting { name: "sync_version", default: "1", why: NO_SYNC },
];

impl FixedSetting {
    fn check(&self, value: &str) -> Result<(), BadSetting> {
        match value.split_whitespace().eq(self.default.split_whitespace()) {
            true => Ok(()),
            false => Err(BadSetting::Fixed { name: self.name, default: self.default, why: self.why }),
        }
    }
}

impl Settings {
    /// All names, of those too that cannot be changed.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Settings::NAMES.iter().copied().chain(FIXED_SETTINGS.iter().map(|fixed| fixed.name))
    }
}

fn fixed(name: &str) -> Option<&'static FixedSetting> {
    FIXED_SETTINGS.iter().find(|fixed| fixed.name == name)
}

fn out_of_range(name: &'static str, value: &str, range: std::ops::RangeInclusive<u32>) -> BadSetting {
    let (first, last) = range.into_inner();
    let range = match last - first {
        1 => format!("{first} or {last}"),
        _ => format!("{first} to {last}"),
    };
    BadSetting::Range { name, value: value.to_owned(), range }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_set_by_its_name_and_bounded() {
        let mut settings = Settings::default();
        for name in Settings::names() {
            let before = settings.get(name).unwrap();
            settings.set(name, &before).unwrap();
            assert_eq!(settings, Settings::default(), "{name}");
            assert!(settings.set(name, "4294967295").is_err(), "{name}");
            assert!(settings.set(name, "yes").is_err(), "{name}");
        }
        settings.set("drop_entry", "3").unwrap();
        settings.set("sloppy_tcp", "true").unwrap();
        assert_eq!((settings.drop_entry, settings.sloppy_tcp), (3, true));
        assert_eq!(settings.check(), []);
        settings.conn_reuse_mode = 9;
        assert_eq!(settings.check()[0].to_string(), "conn_reuse_mode of 9 is out of range; 0 to 3");
    }

    #[test]
    fn what_means_nothing_here_says_why() {
        let mut settings = Settings::default();
        settings.set("sync_threshold", " 3\t50 ").unwrap();
        let why = settings.set("conntrack", "1").unwrap_err().to_string();
        assert_eq!(why, "conntrack can only be 0 here: there is no netfilter connection tracking");
        let why = settings.set("sync_qlen_max", "7786").unwrap_err().to_string();
        assert_eq!(why, "sync_qlen_max cannot be set here: sessions are not synchronised between directors");
        assert!(settings.set("best", "1").unwrap_err().to_string().starts_with("there is no setting `best`"));
    }
}
