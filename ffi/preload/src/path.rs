//! Which files of `/proc` are IPVS's.

use std::ffi::CStr;

/// What a path of IPVS leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// A listing that fulcrum-control writes.
    Listing(&'static CStr),
    /// Something that is the kernel's alone. It is not there: neither read nor written by mistake.
    Absent,
}

/// What fulcrum-control is asked for, by name and with the end of the line.
const LISTINGS: [&CStr; 5] =
    [c"ip_vs\n", c"ip_vs_conn\n", c"ip_vs_conn_sync\n", c"ip_vs_stats\n", c"ip_vs_stats_percpu\n"];

/// What a path is, when it is IPVS's.
pub(crate) fn ours(path: &[u8]) -> Option<Ours> {
    let rest = path.strip_prefix(b"/proc/")?;
    if let Some(setting) = rest.strip_prefix(b"sys/net/ipv4/vs") {
        return matches!(setting.first(), None | Some(b'/')).then_some(Ours::Absent);
    }
    let name = of_network(rest)?;
    if !name.starts_with(b"ip_vs") {
        return None;
    }
    let listing = LISTINGS.into_iter().find(|line| line.to_bytes().strip_suffix(b"\n") == Some(name));
    Some(listing.map_or(Ours::Absent, Ours::Listing))
}

/// What comes after `net/`, for this process, this thread or another process.
fn of_network(path: &[u8]) -> Option<&[u8]> {
    if let Some(name) = path.strip_prefix(b"net/") {
        return Some(name);
    }
    let slash = path.iter().position(|&byte| byte == b'/')?;
    let (whose, rest) = path.split_at(slash);
    let number = !whose.is_empty() && whose.iter().all(u8::is_ascii_digit);
    let known = number || whose == b"self" || whose == b"thread-self";
    rest.strip_prefix(b"/net/").filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::{Ours, ours};

    #[test]
    fn listings_are_found_by_all_their_names() {
        for place in ["net", "self/net", "thread-self/net", "4711/net"] {
            let path = |name: &str| format!("/proc/{place}/{name}");
            assert_eq!(ours(path("ip_vs").as_bytes()), Some(Ours::Listing(c"ip_vs\n")));
            assert_eq!(ours(path("ip_vs_conn").as_bytes()), Some(Ours::Listing(c"ip_vs_conn\n")));
            assert_eq!(ours(path("ip_vs_stats").as_bytes()), Some(Ours::Listing(c"ip_vs_stats\n")));
        }
    }

    #[test]
    fn what_only_the_kernel_has_is_not_there() {
        for path in ["/proc/net/ip_vs_app", "/proc/sys/net/ipv4/vs", "/proc/sys/net/ipv4/vs/conntrack"] {
            assert_eq!(ours(path.as_bytes()), Some(Ours::Absent), "{path}");
        }
    }

    #[test]
    fn everything_else_is_left_alone() {
        for path in [
            "",
            "/proc",
            "/proc/net",
            "/proc/net/dev",
            "/proc/net/ip_conntrack",
            "/proc/self/ip_vs",
            "/proc/x/net/ip_vs",
            "/proc//net/ip_vs",
            "/proc/sys/net/ipv4/vsx",
            "/proc/sys/net/ipv4/ip_forward",
            "/tmp/proc/net/ip_vs",
        ] {
            assert_eq!(ours(path.as_bytes()), None, "{path}");
        }
    }
}
