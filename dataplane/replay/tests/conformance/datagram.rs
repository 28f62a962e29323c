//! Fragments put together again: what a receiver has, however its datagrams were cut on the way.

use std::ops::Range;

/// What arrived at the other end of a port.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) port: u16,
    /// The frame that a sender without any MTU would have sent: headers of the first fragment, the whole payload.
    pub(crate) frame: Vec<u8>,
    /// Its bytes that are left to chance.
    pub(crate) masks: Vec<Range<usize>>,
}

/// A datagram of which some fragments are here.
#[derive(Debug)]
struct Queue {
    key: Vec<u8>,
    pieces: Vec<(Range<usize>, Vec<u8>)>,
    /// Ethernet header, IP header; of the first fragment.
    head: Option<Vec<u8>>,
    end: Option<usize>,
    traffic_class: u8,
}

/// Takes frames, gives whole datagrams.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    queues: Vec<Queue>,
    pub(crate) arrivals: Vec<Arrival>,
}

/// The fragment in a frame.
struct Fragment {
    key: Vec<u8>,
    offset: usize,
    more: bool,
    head: Vec<u8>,
    payload: Vec<u8>,
    traffic_class: u8,
}

const ETHERNET: usize = 14;

impl Receiver {
    /// A frame that was sent by `port`. Bytes in `masks` are left to chance.
    pub(crate) fn take(&mut self, port: u16, frame: &[u8], masks: &[Range<usize>]) {
        let fragment = fragment(port, frame);
        let whole = match fragment {
            Some(fragment) => self.put(fragment),
            None => Some(frame.to_vec()),
        };
        let Some(frame) = whole else { return };
        match tunnelled(&frame) {
            // A tunnel's own fragments are one thing, those of the packet inside another: its receiver sees both.
            Some(inner) => self.take(port, &inner, &[]),
            None => self.arrivals.push(Arrival { port, frame, masks: masks.to_vec() }),
        }
    }

    fn put(&mut self, fragment: Fragment) -> Option<Vec<u8>> {
        let at = self.queues.iter().position(|q| q.key == fragment.key).unwrap_or_else(|| {
            self.queues.push(Queue {
                key: fragment.key.clone(),
                pieces: Vec::new(),
                head: None,
                end: None,
                traffic_class: 0,
            });
            self.queues.len() - 1
        });
        let queue = &mut self.queues[at];
        let range = fragment.offset..fragment.offset + fragment.payload.len();
        if queue.pieces.iter().any(|(piece, bytes)| *piece == range && *bytes == fragment.payload) {
            return None;
        }
        if queue.pieces.iter().any(|(piece, _)| piece.start < range.end && range.start < piece.end) {
            // RFC 5722, and what the kernel does for IPv4 too.
            self.queues.remove(at);
            return None;
        }
        if !fragment.more {
            queue.end = Some(range.end);
        }
        if fragment.offset == 0 {
            queue.head = Some(fragment.head);
        }
        queue.traffic_class |= fragment.traffic_class;
        queue.pieces.push((range, fragment.payload));
        queue.pieces.sort_by_key(|(range, _)| range.start);
        let (head, end) = (queue.head.clone()?, queue.end?);
        let length: usize = queue.pieces.iter().map(|(range, _)| range.len()).sum();
        if length != end {
            return None;
        }
        let mut frame = head;
        frame.extend(queue.pieces.iter().flat_map(|(_, bytes)| bytes));
        finish(&mut frame, queue.traffic_class);
        self.queues.remove(at);
        Some(frame)
    }
}

fn fragment(port: u16, frame: &[u8]) -> Option<Fragment> {
    let word = |at: usize| frame.get(at..at + 2).map(|w| u16::from_be_bytes([w[0], w[1]]));
    let ip = frame.get(ETHERNET..)?;
    let mut key = port.to_be_bytes().to_vec();
    match word(12)? {
        0x0800 => {
            let header = usize::from(ip.first()? & 15) * 4;
            let place = word(ETHERNET + 6)?;
            if place & 0x3fff == 0 {
                return None;
            }
            let end = usize::from(word(ETHERNET + 2)?);
            key.extend([ip.get(4..6)?, ip.get(9..10)?, ip.get(12..20)?].concat());
            Some(Fragment {
                key,
                offset: usize::from(place & 0x1fff) * 8,
                more: place & 0x2000 != 0,
                head: frame.get(..ETHERNET + header)?.to_vec(),
                payload: ip.get(header..end)?.to_vec(),
                traffic_class: ip[1],
            })
        }
        0x86dd => {
            // Hop-by-hop options, routing and destination options may stand before the fragment header.
            let (mut next_at, mut at) = (6, 40);
            while let 0 | 43 | 60 = *ip.get(next_at)? {
                (next_at, at) = (at, at + 8 + 8 * usize::from(*ip.get(at + 1)?));
            }
            if *ip.get(next_at)? != 44 {
                return None;
            }
            let place = word(ETHERNET + at + 2)?;
            key.extend([ip.get(at + 4..at + 8)?, ip.get(8..40)?].concat());
            let mut head = frame.get(..ETHERNET + at)?.to_vec();
            head[ETHERNET + next_at] = *ip.get(at)?;
            Some(Fragment {
                key,
                offset: usize::from(place & 0xfff8),
                more: place & 1 != 0,
                head,
                payload: ip.get(at + 8..40 + usize::from(word(ETHERNET + 4)?))?.to_vec(),
                traffic_class: 0,
            })
        }
        _ => None,
    }
}

/// Makes the headers of a first fragment those of the whole datagram.
fn finish(frame: &mut [u8], traffic_class: u8) {
    let ip = &mut frame[ETHERNET..];
    if ip[0] >> 4 == 4 {
        let total = u16::try_from(ip.len()).unwrap_or(u16::MAX);
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[6] &= 0x40;
        ip[7] = 0;
        // RFC 3168: congestion that any fragment met.
        ip[1] |= traffic_class & 3;
        ip[10..12].fill(0);
        let header = usize::from(ip[0] & 15) * 4;
        let words = ip[..header].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let check = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
    } else {
        let length = u16::try_from(ip.len() - 40).unwrap_or(u16::MAX);
        ip[4..6].copy_from_slice(&length.to_be_bytes());
    }
}

/// The frame of a packet inside IP in IP, with the tunnel's ends for Ethernet addresses.
fn tunnelled(frame: &[u8]) -> Option<Vec<u8>> {
    let ip = frame.get(ETHERNET..)?;
    if frame.get(12..14)? != [8, 0] || !matches!(*ip.get(9)?, 4 | 41) {
        return None;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let kind: [u8; 2] = if ip[9] == 4 { [8, 0] } else { [0x86, 0xdd] };
    // The far end in front, then who made the tunnel: eight bytes for addresses of twelve, with TTL and TOS.
    let ends = [ip.get(16..20)?, ip.get(12..16)?, &[ip[8], ip[1], 0, 0]].concat();
    Some([&ends, &kind[..], ip.get(header..)?].concat())
}
