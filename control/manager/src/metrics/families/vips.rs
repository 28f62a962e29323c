//! VIPs as a whole: which the director has, and where they are announced.

use super::{Family, gauge};

/// What is known of VIPs.
pub(super) const FAMILIES: &[Family] = &[
    gauge("vips", &[], "VIPs of all services.", |s, out| out.put(&[], s.vips.count)),
    gauge("vips_released", &[], "VIPs that the director does not have now.", |s, out| {
        out.put(&[], s.vips.released);
    }),
    gauge(
        "vips_withdrawal_left",
        &[],
        "Time for which all announcements stay withdrawn because somebody wants it, 0 when nobody does.",
        |s, out| out.put(&[], s.vips.withdrawn.as_secs_f64()),
    )
    .of("seconds"),
    gauge("vip_held", &["vip"], "1 when the director has the VIP, 0 when it is released.", |s, out| {
        s.vips.held.iter().for_each(|(vip, held)| out.put(&[vip], *held));
    }),
    gauge(
        "vip_announced",
        &["vip", "interface"],
        "1 when the VIP is on the interface of the host where it is to be, 0 when it is not.",
        |s, out| s.vips.places.iter().for_each(|(vip, name, is)| out.put(&[vip, name], *is)),
    ),
];
