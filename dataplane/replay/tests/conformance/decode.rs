//! A frame in words, for the reader of a failed test.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One line about a frame.
pub(crate) fn decode(frame: &[u8]) -> String {
    let mac = |at: usize| {
        let bytes = frame.get(at..at + 6).unwrap_or_default();
        bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
    };
    let payload = frame.get(14..).unwrap_or_default();
    let rest = match word(frame, 12) {
        0x0806 => arp(payload),
        0x0800 | 0x86dd => packet(payload),
        other => format!("Ethernet type {other:04x}, {} bytes", frame.len()),
    };
    format!("{rest} [to {} from {}]", mac(0), mac(6))
}

/// Two bytes, zero where there are none.
fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |w| u16::from_be_bytes([w[0], w[1]]))
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

fn v4(bytes: &[u8], at: usize) -> Ipv4Addr {
    let four: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    four.unwrap_or_default().into()
}

fn v6(bytes: &[u8], at: usize) -> Ipv6Addr {
    let sixteen: Option<[u8; 16]> = bytes.get(at..at + 16).and_then(|b| b.try_into().ok());
    sixteen.unwrap_or_default().into()
}

fn arp(payload: &[u8]) -> String {
    let operation = payload.get(7).copied().unwrap_or_default();
    let (sender, target) = (v4(payload, 14), v4(payload, 24));
    match operation {
        1 => format!("ARP who has {target}, tell {sender}"),
        2 => format!("ARP {sender} is here, to {target}"),
        other => format!("ARP operation {other}"),
    }
}

/// An IP packet, from its first byte.
fn packet(bytes: &[u8]) -> String {
    match bytes.first().map(|b| b >> 4) {
        Some(4) if bytes.len() >= 20 => ipv4(bytes),
        Some(6) if bytes.len() >= 40 => ipv6(bytes),
        _ => format!("{} bytes that are no IP packet", bytes.len()),
    }
}

fn ipv4(packet: &[u8]) -> String {
    let header = usize::from(packet[0] & 15) * 4;
    let ends = (v4(packet, 12).to_string(), v4(packet, 16).to_string());
    let (ttl, tos) = (packet[8], packet[1]);
    let (total, id, fragment, checksum) =
        (word(packet, 2), word(packet, 4), word(packet, 6), word(packet, 10));
    let body = packet.get(header..).unwrap_or_default();
    let what = transport(packet[9], body, fragment & 0x1fff != 0, &ends);
    let options = if header > 20 { format!(" {} bytes of options", header - 20) } else { String::new() };
    format!(
        "{what}, TTL {ttl} TOS {tos:02x} id {id:04x} fragment {fragment:04x} header sum {checksum:04x} length {total}{options}"
    )
}

fn ipv6(packet: &[u8]) -> String {
    let ends = (v6(packet, 8).to_string(), v6(packet, 24).to_string());
    let (label, length, limit) = (long(packet, 0) & 0x0fff_ffff, word(packet, 4), packet[7]);
    let (mut next, mut at, mut later, mut extensions) = (packet[6], 40, false, String::new());
    while let 0 | 43 | 44 | 60 = next
        && let Some(&[following, units]) = packet.get(at..at + 2)
    {
        let size = if next == 44 { 8 } else { 8 + 8 * usize::from(units) };
        if next == 44 {
            let fragment = word(packet, at + 2);
            later |= fragment & 0xfff8 != 0;
            extensions += &format!(" fragment {fragment:04x} id {:08x}", long(packet, at + 4));
        } else {
            extensions += &format!(" header {next} of {size} bytes");
        }
        (next, at) = (following, at + size);
    }
    let what = transport(next, packet.get(at..).unwrap_or_default(), later, &ends);
    format!("{what}, hop limit {limit} class and label {label:07x} length {length}{extensions}")
}

/// What an IP packet carries; of a later fragment nothing can be said.
fn transport(protocol: u8, body: &[u8], later: bool, (src, dst): &(String, String)) -> String {
    let ports = format!("{src}:{} > {dst}:{}", word(body, 0), word(body, 2));
    match protocol {
        _ if later => format!("protocol {protocol} {src} > {dst}"),
        6 => {
            let flags: Vec<_> = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"]
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| body.get(13).is_some_and(|flags| flags >> bit & 1 == 1))
                .map(|(_, name)| name)
                .collect();
            format!(
                "TCP {ports} {} seq {} ack {} window {} checksum {:04x}",
                flags.join("+"),
                long(body, 4),
                long(body, 8),
                word(body, 14),
                word(body, 16)
            )
        }
        17 => {
            let inner = match word(body, 2) {
                // The recordings' port of GUE.
                6080 => format!(" GUE {:08x} {{{}}}", long(body, 8), packet(gue_payload(body))),
                _ => String::new(),
            };
            format!("UDP {ports} length {} checksum {:04x}{inner}", word(body, 4), word(body, 6))
        }
        132 => {
            format!("SCTP {ports} tag {:08x} checksum {:08x} chunk {}", long(body, 4), long(body, 8), {
                body.get(12).copied().unwrap_or_default()
            })
        }
        1 => icmp("ICMP", body, |kind| matches!(kind, 3 | 4 | 5 | 11 | 12), src, dst),
        58 => icmp("ICMPv6", body, |kind| kind < 128, src, dst),
        4 | 41 => format!("IP in IP {src} > {dst} {{{}}}", packet(body)),
        47 => {
            let header = if word(body, 0) & 0x8000 != 0 { 8 } else { 4 };
            let inner = packet(body.get(header..).unwrap_or_default());
            format!("GRE {src} > {dst} flags {:04x} {{{inner}}}", word(body, 0))
        }
        other => format!("protocol {other} {src} > {dst}"),
    }
}

fn gue_payload(body: &[u8]) -> &[u8] {
    let options = usize::from(body.get(8).copied().unwrap_or_default() & 31) * 4;
    body.get(12 + options..).unwrap_or_default()
}

fn icmp(name: &str, body: &[u8], quotes: fn(u8) -> bool, src: &str, dst: &str) -> String {
    let (kind, code) = (body.first().copied().unwrap_or_default(), body.get(1).unwrap_or(&0));
    let quoted = match body.get(8..) {
        Some(quote) if quotes(kind) => format!(" about {{{}}}", packet(quote)),
        _ => String::new(),
    };
    let (checksum, rest) = (word(body, 2), long(body, 4));
    format!("{name} {src} > {dst} type {kind} code {code} checksum {checksum:04x} word {rest:x}{quoted}")
}
