//! Whether a device hashes as it says: a sample of what comes in by a queue is compared with our own hash.

use std::sync::Arc;

use fulcrum_director::Buf;
use fulcrum_director::counters::Counter;
use fulcrum_director::rss::{KEY, Kinds, toeplitz};
use fulcrum_dpdk::{Mbuf, RxQueue, Spread};
use fulcrum_packet::{ethernet, ip};

use crate::ends::Ingress;

/// Of so many bursts the first packet of the last one is looked at: the first bursts, half as many when the queue was
/// full, may still be spread by the key and the table that the device had before.
const SAMPLE: u32 = 64;
/// Packets that tell whether a device does as it says: so many otherwise, and a share of all.
const ENOUGH: u64 = 8;
const SHARE: u64 = 8;

/// What came of one queue's sample. Written by the worker that polls it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    agreed: Counter,
    disagreed: Counter,
}

impl Told {
    /// Counts a packet. For the worker that polls the queue.
    pub(crate) fn count(&self, agreed: bool) {
        let counter = if agreed { &self.agreed } else { &self.disagreed };
        counter.add(1);
    }

    /// Packets where device and director agreed, and where not.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.agreed.get(), self.disagreed.get())
    }
}

/// Whether a sample says that the device does otherwise. A few packets may be of a kind that it sees more in than we.
pub(crate) fn is_wrong(compared: u64, disagreed: u64) -> bool {
    disagreed >= ENOUGH && disagreed * SHARE > compared
}

/// Compares.
#[derive(Debug)]
pub(crate) struct Gauge {
    key: [u8; KEY],
    by: Spread,
    kinds: Kinds,
    /// The device's queues by the lowest bits of the hash.
    table: Arc<[u16]>,
    queue: u16,
    told: Arc<Told>,
    bursts: u32,
}

impl Gauge {
    pub(crate) fn new(
        key: [u8; KEY],
        by: Spread,
        kinds: Kinds,
        table: Arc<[u16]>,
        queue: u16,
        told: Arc<Told>,
    ) -> Gauge {
        Gauge { key, by, kinds, table, queue, told, bursts: 0 }
    }

    /// Whether the next burst is of the sample.
    fn is_due(&self) -> bool {
        self.bursts % SAMPLE == SAMPLE - 1
    }

    /// Compares the hash that the device told of a frame, and the queue that it came by.
    fn compare(&self, hash: u32, frame: &[u8]) {
        let Some(ours) = self.hash(frame) else { return };
        let queue = self.table[hash as usize & (self.table.len() - 1)];
        self.told.count(hash == ours && queue == self.queue);
    }

    /// Our hash of a frame, when it is one of which ports are hashed.
    fn hash(&self, frame: &[u8]) -> Option<u32> {
        let header = ethernet::Frame::new_checked(frame).ok()?.header_len();
        let packet = frame.get(header..)?;
        let mut input = [0; 36];
        let (addresses, ports, protocol, v6) = match ip::Packet::new_checked(packet).ok()? {
            ip::Packet::V4(ip) if ip.is_fragment() => return None,
            ip::Packet::V4(ip) => (packet.get(12..20)?, ip.header_len(), ip.protocol(), false),
            // Devices differ in what they see behind other headers.
            ip::Packet::V6(_) => (packet.get(8..40)?, 40, *packet.get(6)?, true),
        };
        if !self.kinds.has(protocol.into(), v6) {
            return None;
        }
        let (half, ports) = (addresses.len() / 2, packet.get(ports..ports + 4)?);
        let parts = match self.by {
            Spread::Both => [addresses, ports],
            Spread::Source => [&addresses[..half], &ports[..2]],
            Spread::Destination => [&addresses[half..], &ports[2..]],
        };
        let mut length = 0;
        for part in parts {
            input[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        Some(toeplitz(&self.key, &input[..length]))
    }
}

/// A receive queue, and what looks at it.
#[derive(Debug)]
pub(crate) struct Inlet {
    pub(crate) queue: RxQueue,
    pub(crate) gauge: Option<Gauge>,
}

impl Ingress for Inlet {
    #[inline]
    fn poll(&mut self, limit: usize, mut each: impl FnMut(Mbuf)) -> usize {
        let Some(gauge) = &mut self.gauge else { return self.queue.poll(limit, each) };
        let mut due = gauge.is_due();
        let count = self.queue.poll(limit, |frame| {
            if due && let Some(hash) = frame.rss_hash() {
                gauge.compare(hash, frame.bytes());
                due = false;
            }
            each(frame);
        });
        gauge.bursts = gauge.bursts.wrapping_add(u32::from(count > 0));
        count
    }

    fn watch(&mut self) -> bool {
        self.queue.watch()
    }

    fn tend(&mut self) {
        self.queue.tend();
    }

    fn arm(&mut self) {
        self.queue.arm();
    }

    fn disarm(&mut self) {
        self.queue.disarm();
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_packet::{ipv4, ipv6};

    use super::*;

    const ALL: Kinds = Kinds { tcp4: true, udp4: true, tcp6: true, udp6: true };
    /// The published suite's. // Microsoft: Verifying the RSS hash calculation
    const KEY_OF_SUITE: [u8; KEY] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    const HASH4: u32 = 0x51cc_c178;
    const HASH6: u32 = 0x4020_7d3d;
    /// From port 2794 to port 1766, and what else a TCP header has.
    const SEGMENT: [u8; 20] = [0x0a, 0xea, 0x06, 0xe6, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0];

    fn frame4(vlan: u16, options: usize, fragment: u16) -> Vec<u8> {
        let header = ipv4::Header {
            tos: 0,
            total_len: (20 + options + SEGMENT.len()) as u16,
            id: 1,
            fragment,
            ttl: 64,
            protocol: 6,
            src: [66, 9, 149, 187].into(),
            dst: [161, 142, 100, 80].into(),
        };
        let start = if vlan == 0 { 14 } else { 18 };
        let mut frame = vec![0; start + 20];
        ethernet::emit(&mut frame, [2; 6], [4; 6], vlan, ethernet::IPV4);
        header.emit(&mut frame[start..]);
        frame[start] = 0x45 + (options / 4) as u8;
        frame.extend(vec![1; options]);
        frame.extend(SEGMENT);
        frame
    }

    fn frame6() -> Vec<u8> {
        let mut frame = vec![0; 14 + ipv6::HEADER];
        ethernet::emit(&mut frame, [2; 6], [4; 6], 0, ethernet::IPV6);
        frame[14] = 0x60;
        frame[14 + 5] = SEGMENT.len() as u8;
        frame[14 + 6] = 6;
        let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        frame[22..38].copy_from_slice(&address("3ffe:2501:200:1fff::7"));
        frame[38..54].copy_from_slice(&address("3ffe:2501:200:3::1"));
        frame.extend(SEGMENT);
        frame
    }

    fn gauge(by: Spread, kinds: Kinds, queue: u16) -> Gauge {
        let table = (0..128).map(|entry| entry % 4).collect();
        Gauge::new(KEY_OF_SUITE, by, kinds, table, queue, Arc::default())
    }

    #[test]
    fn frames_hash_as_the_published_suite_says() {
        let gauge = gauge(Spread::Both, ALL, 0);
        for (vlan, options) in [(0, 0), (100, 0), (0, 8), (100, 40)] {
            assert_eq!(gauge.hash(&frame4(vlan, options, 0)), Some(HASH4), "{vlan} {options}");
        }
        assert_eq!(gauge.hash(&frame6()), Some(HASH6));
        assert_eq!(gauge.hash(&frame4(0, 0, ipv4::MF)), None, "fragments have their addresses alone");
        let few = Kinds { udp4: true, tcp6: true, ..Kinds::default() };
        assert_eq!(super::tests::gauge(Spread::Both, few, 0).hash(&frame4(0, 0, 0)), None);
    }

    #[test]
    fn one_end_is_hashed_as_if_it_were_all() {
        let (source, destination) = (gauge(Spread::Source, ALL, 0), gauge(Spread::Destination, ALL, 0));
        let of = |input: &[u8]| Some(toeplitz(&KEY_OF_SUITE, input));
        assert_eq!(source.hash(&frame4(0, 0, 0)), of(&[66, 9, 149, 187, 0x0a, 0xea]));
        assert_eq!(destination.hash(&frame4(0, 0, 0)), of(&[161, 142, 100, 80, 0x06, 0xe6]));
    }

    #[test]
    fn no_cut_frame_is_read_beyond_its_end() {
        let gauge = gauge(Spread::Both, ALL, 0);
        for frame in [frame4(100, 8, 0), frame6()] {
            for length in 0..frame.len() {
                gauge.hash(&frame[..length]);
            }
        }
        assert_eq!(gauge.hash(&frame4(0, 0, 0)[..36]), None);
    }

    #[test]
    fn a_wrong_hash_and_a_wrong_queue_are_noticed() {
        let gauge = gauge(Spread::Both, ALL, (HASH4 % 4) as u16);
        let frame = frame4(0, 0, 0);
        gauge.compare(HASH4, &frame);
        assert_eq!(gauge.told.so_far(), (1, 0));
        gauge.compare(HASH4 ^ 1 << 31, &frame);
        assert_eq!(gauge.told.so_far(), (1, 1));
        gauge.compare(HASH6, &frame6());
        assert_eq!(gauge.told.so_far(), (1, 2), "this is another queue's");
        gauge.compare(1, &frame4(0, 0, ipv4::MF));
        gauge.compare(1, &[0; 10]);
        assert_eq!(gauge.told.so_far(), (1, 2), "nothing is known of these");
    }

    #[test]
    fn what_came_before_the_key_was_set_is_no_sample() {
        let due = |bursts: &u32| Gauge { bursts: *bursts, ..gauge(Spread::Both, ALL, 0) }.is_due();
        assert_eq!((0..192).filter(due).collect::<Vec<_>>(), [63, 127, 191]);
    }

    #[test]
    fn few_or_rare_disagreements_are_suffered() {
        assert!(!is_wrong(0, 0) && !is_wrong(7, 7) && !is_wrong(1000, 100));
        assert!(is_wrong(8, 8) && is_wrong(1000, 200));
    }
}
