//! A frame in words, for the reader of a failed test.

use std::net::Ipv4Addr;

/// One line about a frame.
pub(crate) fn decode(frame: &[u8]) -> String {
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 2).map_or(0, |w| u16::from_be_bytes([w[0], w[1]]));
    let mac = |at: usize| {
        let bytes = frame.get(at..at + 6).unwrap_or_default();
        bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
    };
    let ethernet = format!("to {} from {}", mac(0), mac(6));
    let payload = frame.get(14..).unwrap_or_default();
    let rest = match word(frame, 12) {
        0x0806 => arp(payload),
        0x0800 if payload.len() >= 20 => ipv4(payload, &word),
        other => format!("Ethernet type {other:04x}, {} bytes", frame.len()),
    };
    format!("{rest} [{ethernet}]")
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    let four: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    four.unwrap_or_default().into()
}

fn arp(payload: &[u8]) -> String {
    let operation = payload.get(7).copied().unwrap_or_default();
    let (sender, target) = (address(payload, 14), address(payload, 24));
    match operation {
        1 => format!("ARP who has {target}, tell {sender}"),
        2 => format!("ARP {sender} is here, to {target}"),
        other => format!("ARP operation {other}"),
    }
}

fn ipv4(packet: &[u8], word: &dyn Fn(&[u8], usize) -> u16) -> String {
    let header = usize::from(packet[0] & 15) * 4;
    let (src, dst, ttl, tos) = (address(packet, 12), address(packet, 16), packet[8], packet[1]);
    let (total, id, fragment, checksum) =
        (word(packet, 2), word(packet, 4), word(packet, 6), word(packet, 10));
    let body = packet.get(header..).unwrap_or_default();
    let what = match packet[9] {
        6 => {
            let flags: Vec<_> = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"]
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| body.get(13).is_some_and(|flags| flags >> bit & 1 == 1))
                .map(|(_, name)| name)
                .collect();
            let long = |at| u32::from(word(body, at)) << 16 | u32::from(word(body, at + 2));
            format!(
                "TCP {src}:{} > {dst}:{} {} seq {} ack {} window {} checksum {:04x}",
                word(body, 0),
                word(body, 2),
                flags.join("+"),
                long(4),
                long(8),
                word(body, 14),
                word(body, 16)
            )
        }
        17 => format!(
            "UDP {src}:{} > {dst}:{} length {} checksum {:04x}",
            word(body, 0),
            word(body, 2),
            word(body, 4),
            word(body, 6)
        ),
        1 => {
            let (kind, code) = (body.first().unwrap_or(&0), body.get(1).unwrap_or(&0));
            let quoted = match kind {
                3 | 4 | 5 | 11 | 12 if body.len() >= 28 => format!(" about {{{}}}", ipv4(&body[8..], word)),
                _ => String::new(),
            };
            let (checksum, unused) = (word(body, 2), word(body, 6));
            format!(
                "ICMP {src} > {dst} type {kind} code {code} checksum {checksum:04x} word {unused}{quoted}"
            )
        }
        4 if body.len() >= 20 => format!("IPIP {src} > {dst} {{{}}}", ipv4(body, word)),
        other => format!("protocol {other} {src} > {dst}"),
    };
    let options = if header > 20 { format!(" {} bytes of options", header - 20) } else { String::new() };
    format!(
        "{what}, TTL {ttl} TOS {tos:02x} id {id:04x} fragment {fragment:04x} header sum {checksum:04x} length {total}{options}"
    )
}
