//! Translations as IPFIX messages: RFC 7011, with the elements of RFC 8158 for address translation.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulcrum_director::Translation;

/// The longest message, so that it fits a datagram on any path.
const LONGEST: usize = 1400;
const VERSION: u16 = 10;
const MESSAGE_HEADER: usize = 16;
const SET_HEADER: usize = 4;
/// The set that templates are in.
const TEMPLATES: u16 = 2;
/// The first number of a template.
const FIRST: u16 = 256;

// Numbers and lengths of information elements, from IANA's registry.
const TIME: (u16, u16) = (323, 8); // observationTimeMilliseconds
const EVENT: (u16, u16) = (230, 1); // natEvent
const PROTOCOL: (u16, u16) = (4, 1);
const SOURCE_PORT: (u16, u16) = (7, 2);
const DESTINATION_PORT: (u16, u16) = (11, 2);
const POST_SOURCE_PORT: (u16, u16) = (227, 2);
const POST_DESTINATION_PORT: (u16, u16) = (228, 2);
const SOURCE: [(u16, u16); 2] = [(8, 4), (27, 16)];
const DESTINATION: [(u16, u16); 2] = [(12, 4), (28, 16)];
const POST_SOURCE: [(u16, u16); 2] = [(225, 4), (281, 16)];
const POST_DESTINATION: [(u16, u16); 2] = [(226, 4), (282, 16)];

/// natEvent: what begins and ends between addresses of IPv4, and what where IPv6 is on a side.
const EVENTS: [[u8; 2]; 2] = [[4, 5], [6, 7]];

/// The fields of a template: whether clients, and whether servers, are of IPv6.
fn fields(client: usize, server: usize) -> [(u16, u16); 11] {
    [
        TIME,
        EVENT,
        PROTOCOL,
        SOURCE[client],
        SOURCE_PORT,
        DESTINATION[client],
        DESTINATION_PORT,
        POST_SOURCE[server],
        POST_SOURCE_PORT,
        POST_DESTINATION[server],
        POST_DESTINATION_PORT,
    ]
}

/// The families of a translation: of the client's side and of the server's, 1 for IPv6.
fn families(translation: &Translation) -> (usize, usize) {
    (usize::from(translation.client.0.is_ipv6()), usize::from(translation.server.0.is_ipv6()))
}

const fn template(client: usize, server: usize) -> u16 {
    FIRST + (client * 2 + server) as u16
}

/// Makes messages out of translations.
#[derive(Debug)]
pub(super) struct Encoder {
    domain: u32,
    /// Data records sent before.
    sequence: u32,
    message: Vec<u8>,
    /// Where the set in work begins, and its number.
    set: Option<(usize, u16)>,
    records: u32,
}

impl Encoder {
    pub(super) fn new(domain: u32) -> Encoder {
        Encoder { domain, sequence: 0, message: Vec::with_capacity(LONGEST), set: None, records: 0 }
    }

    /// The message that tells what the others are made of.
    pub(super) fn templates(&mut self, now: SystemTime) -> Vec<u8> {
        self.begin();
        self.open(TEMPLATES);
        for (client, server) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let fields = fields(client, server);
            self.put(&template(client, server).to_be_bytes());
            self.put(&(fields.len() as u16).to_be_bytes());
            for (element, length) in fields {
                self.put(&element.to_be_bytes());
                self.put(&length.to_be_bytes());
            }
        }
        self.finish(now)
    }

    /// Adds a translation that was at `at`; a message comes out when there was no room any more.
    pub(super) fn add(
        &mut self,
        translation: &Translation,
        at: SystemTime,
        now: SystemTime,
    ) -> Option<Vec<u8>> {
        let (client, server) = families(translation);
        let number = template(client, server);
        let length: u16 = fields(client, server).iter().map(|(_, length)| length).sum();
        let needed =
            usize::from(length) + if self.set.is_some_and(|(_, set)| set == number) { 0 } else { SET_HEADER };
        let full = self.records > 0 && self.message.len() + needed > LONGEST;
        let done = full.then(|| self.finish(now));
        if self.message.is_empty() {
            self.begin();
        }
        self.open(number);
        let Translation { begins, protocol, client: from, asked, local, server: to, .. } = *translation;
        let millis = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        self.put(&u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes());
        self.put(&[EVENTS[client | server][usize::from(!begins)], protocol]);
        for (address, port) in [from, asked, local, to] {
            match address {
                IpAddr::V4(address) => self.put(&address.octets()),
                IpAddr::V6(address) => self.put(&address.octets()),
            }
            self.put(&port.to_be_bytes());
        }
        self.records += 1;
        done
    }

    /// What is left.
    pub(super) fn rest(&mut self, now: SystemTime) -> Option<Vec<u8>> {
        (self.records > 0).then(|| self.finish(now))
    }

    fn begin(&mut self) {
        self.message.clear();
        self.message.resize(MESSAGE_HEADER, 0);
    }

    /// Opens a set of that number, unless it is the one in work.
    fn open(&mut self, number: u16) {
        if self.set.is_some_and(|(_, set)| set == number) {
            return;
        }
        self.close();
        self.set = Some((self.message.len(), number));
        self.put(&number.to_be_bytes());
        self.put(&[0, 0]);
    }

    fn close(&mut self) {
        if let Some((start, _)) = self.set.take() {
            let length = (self.message.len() - start) as u16;
            self.message[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    }

    fn finish(&mut self, now: SystemTime) -> Vec<u8> {
        self.close();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as u32;
        let length = self.message.len() as u16;
        let head = &mut self.message[..MESSAGE_HEADER];
        head[..2].copy_from_slice(&VERSION.to_be_bytes());
        head[2..4].copy_from_slice(&length.to_be_bytes());
        head[4..8].copy_from_slice(&seconds.to_be_bytes());
        head[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        head[12..16].copy_from_slice(&self.domain.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(std::mem::take(&mut self.records));
        std::mem::replace(&mut self.message, Vec::with_capacity(LONGEST))
    }

    fn put(&mut self, bytes: &[u8]) {
        self.message.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translation(client: &str, server: &str, begins: bool) -> Translation {
        let end = |text: &str, port| (text.parse().unwrap(), port);
        let local = if server.contains(':') { "fd00::200" } else { "10.1.0.200" };
        let asked = if client.contains(':') { "fd00:1::9" } else { "172.16.0.9" };
        Translation {
            at: 0,
            begins,
            protocol: 6,
            client: end(client, 40000),
            asked: end(asked, 80),
            local: end(local, 2000),
            server: end(server, 8080),
        }
    }

    fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    }

    /// Reads messages by their templates, as a collector does; gives each record's fields.
    fn collect(messages: &[Vec<u8>]) -> Vec<Vec<(u16, Vec<u8>)>> {
        let mut templates = std::collections::HashMap::new();
        let (mut records, mut expected) = (Vec::new(), 0);
        for message in messages {
            assert_eq!((u16_at(message, 0), usize::from(u16_at(message, 2))), (10, message.len()));
            assert!(message.len() <= LONGEST);
            assert_eq!(u32::from_be_bytes(message[8..12].try_into().unwrap()), expected);
            assert_eq!(u32::from_be_bytes(message[12..16].try_into().unwrap()), 7);
            let mut at = MESSAGE_HEADER;
            while at < message.len() {
                let (number, end) = (u16_at(message, at), at + usize::from(u16_at(message, at + 2)));
                at += SET_HEADER;
                while at < end {
                    if number == TEMPLATES {
                        let (id, count) = (u16_at(message, at), usize::from(u16_at(message, at + 2)));
                        let field = |n| (u16_at(message, at + 4 + n * 4), u16_at(message, at + 6 + n * 4));
                        templates.insert(id, (0..count).map(field).collect::<Vec<_>>());
                        at += 4 + count * 4;
                        continue;
                    }
                    let mut record = Vec::new();
                    for (element, length) in &templates[&number] {
                        record.push((*element, message[at..at + usize::from(*length)].to_vec()));
                        at += usize::from(*length);
                    }
                    records.push(record);
                    expected += 1;
                }
                assert_eq!(at, end);
            }
        }
        records
    }

    #[test]
    fn a_collector_reads_what_was_written() {
        let mut encoder = Encoder::new(7);
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let mut messages = vec![encoder.templates(now)];
        for translation in [
            translation("198.51.100.7", "10.1.0.7", true),
            translation("fd00:2::7", "10.1.0.7", true),
            translation("fd00:2::7", "fd00::7", false),
            translation("198.51.100.7", "10.1.0.7", false),
        ] {
            messages.extend(encoder.add(&translation, now, now));
        }
        messages.extend(encoder.rest(now));
        assert_eq!((messages.len(), encoder.rest(now)), (2, None));
        let records = collect(&messages);
        let field = |record: usize, element: u16| {
            records[record]
                .iter()
                .find(|(found, _)| *found == element)
                .map(|(_, bytes)| bytes.clone())
                .unwrap()
        };
        assert_eq!(field(0, 323), 1_700_000_000_123u64.to_be_bytes());
        assert_eq!([field(0, 230), field(1, 230), field(2, 230), field(3, 230)], [[4], [6], [7], [5]]);
        assert_eq!((field(0, 8), field(0, 7)), (vec![198, 51, 100, 7], 40000u16.to_be_bytes().to_vec()));
        assert_eq!((field(0, 12), field(0, 11)), (vec![172, 16, 0, 9], 80u16.to_be_bytes().to_vec()));
        assert_eq!((field(0, 225), field(0, 227)), (vec![10, 1, 0, 200], 2000u16.to_be_bytes().to_vec()));
        assert_eq!((field(0, 226), field(0, 228)), (vec![10, 1, 0, 7], 8080u16.to_be_bytes().to_vec()));
        assert_eq!((field(1, 27).len(), field(1, 226).len(), field(2, 282).len()), (16, 4, 16));
    }

    #[test]
    fn many_records_are_many_messages_that_fit() {
        let mut encoder = Encoder::new(7);
        let now = UNIX_EPOCH;
        let mut messages = vec![encoder.templates(now)];
        for n in 0..1000 {
            let client = if n % 3 == 0 { "fd00:2::7" } else { "198.51.100.7" };
            messages.extend(encoder.add(&translation(client, "10.1.0.7", n % 2 == 0), now, now));
        }
        messages.extend(encoder.rest(now));
        assert!(messages.len() > 20);
        assert_eq!(collect(&messages).len(), 1000);
    }
}
