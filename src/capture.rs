//! Captures: tcpdump beside every lab, and what the tests ask of the frames it has written.
//!
//! The checksum checker shares no code with the director on purpose.

use std::fmt;
use std::net::Ipv4Addr;
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
        wait_for("tcpdump", Duration::from_secs(5), || tcpdump.log().contains("listening on").then_some(()));
        Capture { tcpdump, file }
    }

    /// Ends the capture and reads it.
    #[track_caller]
    pub fn stop(mut self) -> Frames {
        // What is on its way through the kernel belongs to the capture.
        std::thread::sleep(Duration::from_millis(300));
        self.tcpdump.signal("INT");
        self.tcpdump.wait(Duration::from_secs(20));
        let log = self.tcpdump.log();
        let lost = log.lines().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        let lost = lost.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        Frames { frames: read_pcap(&self.file), lost, file: self.file }
    }
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

    /// The IPv4 packets with their headers read.
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

/// An IPv4 packet's addressing; ports are 0 where there are none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// VLAN id, 0 = untagged.
    pub vlan: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Source address and port.
    pub source: (Ipv4Addr, u16),
    /// Destination address and port.
    pub destination: (Ipv4Addr, u16),
    /// IP total length.
    pub total: u16,
    /// What follows the IP header.
    pub payload: &'a [u8],
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.source, self.destination);
        write!(f, "{}:{} > {}:{} proto {} len {}", from.0, from.1, to.0, to.1, self.protocol, self.total)
    }
}

impl<'a> Packet<'a> {
    /// Reads a frame, `None` unless it is a whole IPv4 packet.
    pub fn of_frame(frame: &'a [u8]) -> Option<Packet<'a>> {
        let (vlan, ip) = ip_of(frame)?;
        Packet::of_ip(ip).map(|packet| Packet { vlan, ..packet })
    }

    /// Reads an IPv4 packet.
    pub fn of_ip(ip: &'a [u8]) -> Option<Packet<'a>> {
        let header = usize::from(ip.first()? & 15) * 4;
        let total = be16(ip.get(2..4)?);
        let payload = ip.get(header..usize::from(total))?;
        let (protocol, first) = (*ip.get(9)?, be16(&ip[6..8]) & 0x1fff == 0);
        let ports = match (protocol, payload) {
            (6 | 17, [a, b, c, d, ..]) if first => (be16(&[*a, *b]), be16(&[*c, *d])),
            _ => (0, 0),
        };
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        Some(Packet {
            vlan: 0,
            protocol,
            source: (address(12), ports.0),
            destination: (address(16), ports.1),
            total,
            payload,
        })
    }

    /// Whether it is a TCP segment with SYN and without ACK.
    pub fn is_syn(&self) -> bool {
        self.protocol == 6 && self.payload.get(13).is_some_and(|flags| flags & 0x12 == 2)
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The VLAN and the IPv4 packet of a frame.
fn ip_of(frame: &[u8]) -> Option<(u16, &[u8])> {
    match be16(frame.get(12..14)?) {
        0x0800 => Some((0, &frame[14..])),
        0x8100 if be16(frame.get(16..18)?) == 0x0800 => Some((be16(&frame[14..16]) & 0xfff, &frame[18..])),
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
    let packet = Packet::of_ip(ip).ok_or("an IPv4 packet that is cut short")?;
    let header = &ip[..usize::from(ip[0] & 15) * 4];
    let wrong = |what: &str| Err(format!("wrong {what} checksum: {packet:?}"));
    if sum(header) != 0xffff {
        return wrong("IPv4 header");
    }
    if be16(&ip[6..8]) & 0x3fff != 0 {
        return Ok(()); // a fragment: the sum covers what is not here
    }
    let body = packet.payload;
    match packet.protocol {
        1 if sum(body) != 0xffff => wrong("ICMP"),
        4 => check_ip(body),
        17 if body.get(6..8) == Some(&[0, 0]) => Ok(()), // none was computed
        6 | 17 => {
            let mut pseudo = ip[12..20].to_vec();
            pseudo.extend([0, packet.protocol]);
            pseudo.extend((body.len() as u16).to_be_bytes());
            pseudo.extend(body);
            if sum(&pseudo) == 0xffff { Ok(()) } else { wrong("TCP or UDP") }
        }
        _ => Ok(()),
    }
}

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
    fn packets_tell_vlan_addresses_and_ports() {
        let mut frame = udp_frame();
        frame.splice(12..12, [0x81, 0, 0x20, 7]);
        let packet = Packet::of_frame(&frame).expect("IPv4");
        assert_eq!((packet.vlan, packet.source.1, packet.destination.1), (7, 12345, 53));
    }
}
