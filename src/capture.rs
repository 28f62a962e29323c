//! Captures: tcpdump beside every lab, and what the tests ask of the frames it has written.
//!
//! The checksum checker shares no code with the director on purpose.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::net::Namespace;
use crate::process::{Process, wait_for};

/// A tcpdump that writes every frame of one device.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts to capture; returns when tcpdump listens.
    #[track_caller]
    pub fn start(inside: &Namespace, device: &str, directory: &Path, name: &str) -> Capture {
        let file = directory.join(format!("{name}.pcap"));
        let mut command = inside.command("tcpdump");
        // 64 MB of buffer in slots of one frame each: a download in full swing must not lose frames to a busy machine.
        command.args([
            "-Z",
            "root",
            "-U",
            "--immediate-mode",
            "-B",
            "65536",
            "-s",
            "2048",
            "-n",
            "-i",
            device,
            "-w",
        ]);
        command.arg(&file);
        let tcpdump = Process::start(&mut command, directory.join(format!("{name}.tcpdump.log")));
        wait_for("tcpdump", Duration::from_secs(30), || tcpdump.log().contains("listening on").then_some(()));
        Capture { tcpdump, file }
    }

    /// Ends the capture and reads it.
    #[track_caller]
    pub fn stop(self) -> Frames {
        settle();
        self.end()
    }

    /// The same at once: see [`settle`].
    #[track_caller]
    pub(crate) fn end(mut self) -> Frames {
        self.tcpdump.signal("INT");
        self.tcpdump.wait(Duration::from_secs(20));
        let log = self.tcpdump.log();
        let lost = log.lines().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        let lost = lost.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        Frames { frames: read_pcap(&self.file), lost, file: self.file }
    }
}

/// Waits for what is on its way through the kernel: it belongs to captures that end now.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

/// The frames of a capture.
#[derive(Debug)]
pub struct Frames {
    frames: Vec<Vec<u8>>,
    /// Frames that tcpdump was too slow for.
    pub lost: u64,
    file: PathBuf,
}

impl Frames {
    /// All frames, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().map(Vec::as_slice)
    }

    /// The IP packets with their headers read.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        self.iter().filter_map(Packet::of_frame)
    }

    /// How many packets fit, and their IP bytes.
    pub fn count(&self, fits: impl Fn(&Packet) -> bool) -> (u64, u64) {
        self.packets().filter(|p| fits(p)).fold((0, 0), |(n, bytes), p| (n + 1, bytes + p.total as u64))
    }

    /// Panics unless every checksum in every frame is right; returns how many frames carried some.
    #[track_caller]
    pub fn check_sums(&self) -> usize {
        let mut checked = 0;
        for (index, frame) in self.iter().enumerate() {
            match check_frame(frame) {
                Ok(true) => checked += 1,
                Ok(false) => {}
                Err(wrong) => panic!("{}: frame {}: {wrong}", self.file.display(), index + 1),
            }
        }
        checked
    }
}

/// An IP packet's addressing; ports are 0 where there are none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// VLAN id, 0 = untagged.
    pub vlan: u16,
    /// IP protocol, behind IPv6's extension headers.
    pub protocol: u8,
    /// Source address and port.
    pub source: (IpAddr, u16),
    /// Destination address and port.
    pub destination: (IpAddr, u16),
    /// Length of the whole packet.
    pub total: usize,
    /// Where in its datagram a fragment begins, and whether it is the last; `None` for a whole packet.
    pub fragment: Option<(u16, bool)>,
    /// What follows the IP headers.
    pub payload: &'a [u8],
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (SocketAddr::from(self.source), SocketAddr::from(self.destination));
        write!(f, "{from} > {to} proto {} len {}", self.protocol, self.total)
    }
}

impl<'a> Packet<'a> {
    /// Reads a frame, `None` unless it is a whole IP packet.
    pub fn of_frame(frame: &'a [u8]) -> Option<Packet<'a>> {
        let (vlan, ip) = ip_of(frame)?;
        Packet::of_ip(ip).map(|packet| Packet { vlan, ..packet })
    }

    /// Reads an IP packet.
    pub fn of_ip(ip: &'a [u8]) -> Option<Packet<'a>> {
        match ip.first()? >> 4 {
            4 => Packet::of_ipv4(ip),
            6 => Packet::of_ipv6(ip),
            _ => None,
        }
    }

    fn of_ipv4(ip: &'a [u8]) -> Option<Packet<'a>> {
        let header = usize::from(ip.first()? & 15) * 4;
        let total = usize::from(be16(ip.get(2..4)?));
        let payload = ip.get(header..total)?;
        let cut = be16(ip.get(6..8)?);
        let fragment = (cut & 0x3fff != 0).then_some(((cut & 0x1fff) * 8, cut & 0x2000 == 0));
        let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        Some(Packet::new(*ip.get(9)?, (address(12)?, address(16)?), total, fragment, payload))
    }

    fn of_ipv6(ip: &'a [u8]) -> Option<Packet<'a>> {
        let total = 40 + usize::from(be16(ip.get(4..6)?));
        let (mut next, mut payload, mut fragment) = (*ip.get(6)?, ip.get(40..total)?, None);
        loop {
            let length = match next {
                0 | 43 | 60 => 8 + 8 * usize::from(*payload.get(1)?),
                44 => {
                    let cut = be16(payload.get(2..4)?);
                    fragment = Some((cut & !7, cut & 1 == 0));
                    8
                }
                _ => break,
            };
            (next, payload) = (payload[0], payload.get(length..)?);
        }
        let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
        Some(Packet::new(next, (address(8)?, address(24)?), total, fragment, payload))
    }

    fn new(
        protocol: u8,
        (source, destination): (IpAddr, IpAddr),
        total: usize,
        fragment: Option<(u16, bool)>,
        payload: &'a [u8],
    ) -> Packet<'a> {
        let first = fragment.is_none_or(|(offset, _)| offset == 0);
        let ports = match (protocol, payload) {
            (6 | 17 | 132, [a, b, c, d, ..]) if first => (be16(&[*a, *b]), be16(&[*c, *d])),
            _ => (0, 0),
        };
        let (source, destination) = ((source, ports.0), (destination, ports.1));
        Packet { vlan: 0, protocol, source, destination, total, fragment, payload }
    }

    /// The flags of a TCP segment.
    fn tcp_flags(&self) -> Option<u8> {
        (self.protocol == 6).then(|| self.payload.get(13).copied()).flatten()
    }

    /// Whether it is a TCP segment with SYN and without ACK.
    pub fn is_syn(&self) -> bool {
        self.tcp_flags().is_some_and(|flags| flags & 0x12 == 2)
    }

    /// What a TCP segment carries.
    pub fn tcp_payload(&self) -> &'a [u8] {
        let header = self.payload.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
        self.payload.get(header..).unwrap_or_default()
    }

    /// The options of a TCP segment: kind and content.
    pub fn tcp_options(&self) -> Vec<(u8, &'a [u8])> {
        let header = self.payload.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
        let mut rest = self.payload.get(20..header).unwrap_or_default();
        let mut options = Vec::new();
        while let Some(&kind) = rest.first().filter(|kind| **kind != 0) {
            let length = if kind == 1 { 1 } else { rest.get(1).map_or(0, |length| usize::from(*length)) };
            let Some((option, behind)) = rest.split_at_checked(length).filter(|_| length > 0) else { break };
            if kind != 1 {
                options.push((kind, option.get(2..).unwrap_or_default()));
            }
            rest = behind;
        }
        options
    }

    /// The packet inside an IP-in-IP packet.
    pub fn inner(&self) -> Option<Packet<'a>> {
        matches!(self.protocol, 4 | 41).then(|| Packet::of_ip(self.payload)).flatten()
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The VLAN and the IP packet of a frame.
fn ip_of(frame: &[u8]) -> Option<(u16, &[u8])> {
    const IP: [u16; 2] = [0x0800, 0x86dd];
    match be16(frame.get(12..14)?) {
        kind if IP.contains(&kind) => Some((0, &frame[14..])),
        0x8100 if IP.contains(&be16(frame.get(16..18)?)) => {
            Some((be16(&frame[14..16]) & 0xfff, &frame[18..]))
        }
        _ => None,
    }
}

/// Whether all sums of a frame are right; `Ok(false)` when it has none.
fn check_frame(frame: &[u8]) -> Result<bool, String> {
    match ip_of(frame) {
        Some((_, ip)) => check_ip(ip).map(|()| true),
        None => Ok(false),
    }
}

fn check_ip(ip: &[u8]) -> Result<(), String> {
    let packet = Packet::of_ip(ip).ok_or("an IP packet that is cut short")?;
    let wrong = |what: &str| Err(format!("wrong {what} checksum: {packet:?}"));
    if ip[0] >> 4 == 4 && sum(&ip[..usize::from(ip[0] & 15) * 4]) != 0xffff {
        return wrong("IPv4 header");
    }
    if packet.fragment.is_some_and(|fragment| fragment != (0, true)) {
        return Ok(()); // the sum covers what is not here
    }
    let body = packet.payload;
    let with_pseudo_header = |protocol: u8| {
        let mut all = match (packet.source.0, packet.destination.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (from, to) => [v6_octets(from), v6_octets(to)].concat(),
        };
        // RFC 8200's longer length and next header add up to the same as RFC 768's.
        all.extend([0, protocol]);
        all.extend((body.len() as u16).to_be_bytes());
        all.extend(body);
        sum(&all)
    };
    match packet.protocol {
        1 if sum(body) != 0xffff => wrong("ICMP"),
        4 | 41 => check_ip(body),
        // None was computed, which in IPv6 only tunnels may do (RFC 6935).
        17 if body.get(6..8) == Some(&[0, 0]) && (ip[0] >> 4 == 4 || packet.destination.1 == GUE) => Ok(()),
        protocol @ (6 | 17 | 58) if with_pseudo_header(protocol) != 0xffff => wrong("TCP, UDP or ICMPv6"),
        132 if body.get(8..12) != Some(&sctp_sum(body).to_le_bytes()) => wrong("SCTP"),
        _ => Ok(()),
    }
}

fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// CRC32c with the sum's own place taken for zero (RFC 9260, appendix A), bit by bit.
fn sctp_sum(body: &[u8]) -> u32 {
    let bytes = body.iter().enumerate().map(|(at, byte)| if (8..12).contains(&at) { 0 } else { *byte });
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc: u32, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
            },
        )
    })
}

/// Port of GUE.
const GUE: u16 = 6080;

/// One's complement sum over 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum = words.fold(0u64, |sum, word| sum + u64::from(word));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn read_pcap(file: &Path) -> Vec<Vec<u8>> {
    let mut capture = pcap::Capture::from_file(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    // The last frame may be cut short where tcpdump stopped writing.
    std::iter::from_fn(|| capture.next_packet().ok().map(|packet| packet.data.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DNS query as tcpdump showed it, sums and all.
    fn udp_frame() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x30, 0x39, 0, 53, 0, 12, 0, 0, b'p', b'i', b'n', b'g']);
        let header = !sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 17, 0, 12]);
        pseudo.extend(&frame[34..]);
        let body = !sum(&pseudo);
        frame[40..42].copy_from_slice(&body.to_be_bytes());
        frame
    }

    #[test]
    fn right_sums_pass_and_any_flipped_byte_is_found() {
        let good = udp_frame();
        assert_eq!(check_frame(&good), Ok(true));
        for at in 26..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // A changed UDP length is not a checksum's business, everything else is.
            assert!(check_frame(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_tunnelled_packet_is_checked_inside() {
        let inner = udp_frame()[14..].to_vec();
        let mut frame = udp_frame()[..34].to_vec();
        frame[16..18].copy_from_slice(&(20 + inner.len() as u16).to_be_bytes());
        frame[23] = 4;
        frame[24..26].fill(0);
        let header = !sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        frame.extend(&inner);
        assert_eq!(check_frame(&frame), Ok(true));
        *frame.last_mut().expect("not empty") ^= 1;
        assert!(check_frame(&frame).is_err());
    }

    #[test]
    fn ipv6_is_checked_behind_its_extension_headers() {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 0, 64];
        frame.extend((0..32).map(|n| n * 7));
        frame.extend([17, 0, 1, 4, 0, 0, 0, 0]); // hop-by-hop options: padding
        frame.extend([0x30, 0x39, 0, 53, 0, 12, 0, 0, b'p', b'i', b'n', b'g']);
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend([0, 17, 0, 12]);
        pseudo.extend(&frame[62..]);
        let body = !sum(&pseudo);
        frame[68..70].copy_from_slice(&body.to_be_bytes());
        assert_eq!(check_frame(&frame), Ok(true));
        let packet = Packet::of_frame(&frame).expect("IPv6");
        assert_eq!((packet.protocol, packet.source.1, packet.destination.1), (17, 12345, 53));
        assert_eq!((packet.total, packet.payload.len(), packet.fragment), (60, 12, None));
        for at in (22..54).chain(62..66).chain(68..frame.len()) {
            let mut bad = frame.clone();
            bad[at] ^= 0x10;
            assert!(check_frame(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn sctp_sums_are_those_of_the_rfc() {
        assert_eq!(sctp_sum(b"12345678"), 0x6087_809a);
        assert_eq!(sctp_sum(b"123456789"), sctp_sum(b"12345678\0"), "its own place does not count");
    }

    #[test]
    fn options_of_a_segment_are_told() {
        let mut segment = vec![0; 12];
        segment.extend([0x80, 0x10, 0, 0, 0, 0, 0, 0]);
        segment.extend([1, 1, 254, 8, 0x9c, 0x40, 10, 0, 0, 1, 0, 0]);
        let packet = Packet::new(6, ([0; 4].into(), [0; 4].into()), 52, None, &segment);
        assert_eq!(packet.tcp_options(), [(254, &[0x9c, 0x40, 10, 0, 0, 1][..])]);
        assert!(packet.tcp_payload().is_empty());
    }

    #[test]
    fn packets_tell_vlan_addresses_and_ports() {
        let mut frame = udp_frame();
        frame.splice(12..12, [0x81, 0, 0x20, 7]);
        let packet = Packet::of_frame(&frame).expect("IPv4");
        assert_eq!((packet.vlan, packet.source.1, packet.destination.1), (7, 12345, 53));
    }
}
