//! Rules for the announcement of VIPs.

use super::{Problem, add};
use crate::state::{Announce, Announcement, Service};

/// The longest warm-up in seconds.
pub const MAX_ANNOUNCE_AFTER: u32 = 3600;

/// What is wrong with the name of an interface of the host, `None` for nothing.
pub fn host_interface(name: &str) -> Option<String> {
    // linux/if.h: IFNAMSIZ with the zero byte at its end; net/core/dev.c: dev_valid_name
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let valid = (1..=15).contains(&name.len()) && !name.contains(wrong) && name != "." && name != "..";
    (!valid).then(|| {
        format!("`{name}` is not the name of an interface of the host, such as \"lo\" or \"dummy0\"")
    })
}

/// Rules for how the VIP of a service is announced.
pub(super) fn announcement(found: &mut Vec<Problem>, service: &Service) {
    let Announcement { when, on, after } = &service.announcement;
    if *when != Announce::Never && service.key.address().is_none() {
        add(found, "announce", "a service by mark has no VIP that could be announced; leave announce away");
    }
    if let Some(problem) = on.as_deref().and_then(host_interface) {
        add(found, "announce-on", problem);
    }
    if *after > MAX_ANNOUNCE_AFTER {
        let message = format!("announce-after of {after} s is out of range; 0 to {MAX_ANNOUNCE_AFTER}");
        add(found, "announce-after", message);
    }
}
