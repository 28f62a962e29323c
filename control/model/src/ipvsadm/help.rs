//! The texts of `-h` and `-v`, and the descriptions that help, manual page and completions are made of.

use std::fmt::Write as _;

/// The answer to `-v`, without the line end. Scripts look at the first two words.
pub const VERSION: &str = concat!(
    "ipvsadm v1.31 2019/12/24 (compiled with Fulcrum ",
    env!("CARGO_PKG_VERSION"),
    " and IPVS v1.2.1)"
);

/// What an option is called and good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its long form, without the dashes.
    pub long: &'static str,
    /// Its short form.
    pub short: Option<char>,
    /// The name of its value; empty when it has none, in brackets when it may have one.
    pub value: &'static str,
    /// What it does.
    pub text: &'static str,
}

const fn described(long: &'static str, short: char, value: &'static str, text: &'static str) -> Description {
    let short = if short == '\0' { None } else { Some(short) };
    Description { long, short, value, text }
}

const NO: char = '\0';

const USAGE: &str = "\
Usage:
  ipvsadm -A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [--pe persistence_engine] [-b sched-flags]
               [-o] [--local-pool name] [--vip-interface name]
  ipvsadm -D virtual-service
  ipvsadm -C
  ipvsadm -R
  ipvsadm -S [-n]
  ipvsadm -a|e virtual-service -r server-address [options]
  ipvsadm -d virtual-service -r server-address
  ipvsadm -L|l [virtual-service] [options]
  ipvsadm -Z [virtual-service]
  ipvsadm -P|Q virtual-service -z local-address
  ipvsadm -G [virtual-service] [-n]
  ipvsadm --set tcp tcpfin udp
  ipvsadm -h
";

/// The commands: the first option of a line is one of them. What there is no use for here (the synchronization
/// daemons) is not described.
pub const COMMANDS: &[Description] = &[
    described("add-service", 'A', "", "make a virtual service"),
    described("edit-service", 'E', "", "change a virtual service, its servers stay"),
    described("delete-service", 'D', "", "remove a virtual service"),
    described("clear", 'C', "", "remove all virtual services"),
    described("restore", 'R', "", "apply the commands on stdin, all of them or none"),
    described("save", 'S', "", "print the table as commands for -R"),
    described("add-server", 'a', "", "add a real server to a virtual service"),
    described("edit-server", 'e', "", "change a real server"),
    described("delete-server", 'd', "", "remove a real server"),
    described("list", 'L', "", "show the table; -l is the same"),
    described("zero", 'Z', "", "set counters to zero, of one service or of all"),
    described("add-laddr", 'P', "", "give a virtual service a local address (fullnat)"),
    described("del-laddr", 'Q', "", "take a local address away"),
    described("get-laddr", 'G', "", "show local addresses"),
    described("set", NO, "tcp tcpfin udp", "set the session time-outs in seconds, 0 keeps"),
    described("version", 'v', "", "show the version"),
    described("help", 'h', "", "show this text"),
];

/// The ways to name a virtual service.
pub const SERVICES: &[Description] = &[
    described("tcp-service", 't', "service-address", "host[:port]"),
    described("udp-service", 'u', "service-address", "host[:port]"),
    described("sctp-service", NO, "service-address", "host[:port]"),
    described("fwmark-service", 'f', "mark", "packets with this mark, 1 or more"),
    described("ipv6", '6', "", "the mark is of IPv6 packets"),
];

/// All other options.
pub const OPTIONS: &[Description] = &[
    described(
        "scheduler",
        's',
        "scheduler",
        "one of rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh|twos,\nwlc when none is named",
    ),
    described(
        "persistent",
        'p',
        "[timeout]",
        "keep a client on its server, 360 seconds when no number is given",
    ),
    described(
        "netmask",
        'M',
        "netmask",
        "clients that agree under this mask count as one;\na prefix length for IPv6",
    ),
    described("pe", NO, "engine", "keep by what the engine (sip) finds, not by the client's address"),
    described("ops", 'o', "", "schedule every datagram by itself"),
    described(
        "sched-flags",
        'b',
        "flags",
        "flags of the scheduler, joined by commas: sh-fallback, sh-port,\nmh-fallback, mh-port, flag-1, flag-2, flag-3",
    ),
    described("local-pool", NO, "name", "pool of local addresses for fullnat, '' for none"),
    described("vip-interface", NO, "name", "interface on which the address answers, '' for none"),
    described("real-server", 'r', "server-address", "host[:port]"),
    described("gatewaying", 'g', "", "direct routing, used when none is named"),
    described("ipip", 'i', "", "tunnel"),
    described("masquerading", 'm', "", "NAT"),
    described("fullnat", NO, "", "NAT of both ends, with a local address; -b with -a and -e"),
    described("tun-type", NO, "type", "one of ipip|gue|gre, ipip when none is named"),
    described("tun-port", NO, "port", "UDP port that a gue tunnel goes to"),
    described("tun-nocsum", NO, "", "tunnel without a checksum (gue, gre)"),
    described("tun-csum", NO, "", "tunnel with a checksum (gue, gre)"),
    described("tun-remcsum", NO, "", "tunnel with remote checksum offload (gue)"),
    described("weight", 'w', "weight", "share of the real server, 0 for no new connections"),
    described("u-threshold", 'x', "connections", "so many and it gets no more"),
    described("l-threshold", 'y', "connections", "fewer and it gets some again"),
    described("laddr", 'z', "local-address", "address for -P and -Q"),
    described("connection", 'c', "", "show the current sessions"),
    described("timeout", NO, "", "show the time-outs (tcp tcpfin udp)"),
    described("daemon", NO, "", "show the synchronization daemons"),
    described("stats", NO, "", "show what was counted"),
    described("rate", NO, "", "show rates per second"),
    described("exact", 'X', "", "show all digits of large numbers"),
    described("thresholds", NO, "", "show thresholds"),
    described("persistent-conn", NO, "", "show numbers of persistent clients"),
    described("tun-info", NO, "", "show tunnel types"),
    described("nosort", NO, "", "newest first instead of by address"),
    described("sort", NO, "", "accepted, does nothing"),
    described("numeric", 'n', "", "show numbers instead of names"),
];

/// The answer to `-h` below [`VERSION`].
pub fn help() -> String {
    let mut out = USAGE.to_owned();
    let parts = [("Commands", COMMANDS), ("virtual-service", SERVICES), ("Options", OPTIONS)];
    for (title, descriptions) in parts {
        let _ = write!(out, "\n{title}:\n");
        for Description { long, short, value, text } in descriptions {
            let short = short.map_or(String::new(), |letter| format!("-{letter}"));
            let text = text.replace('\n', &format!("\n{:40}", ""));
            let _ = writeln!(out, "  --{long:<15} {short:<2} {value:<16} {text}");
        }
    }
    out
}
