//! Attributes: read as leniently as the kernel reads them, and written where they will stand.

use netlink_packet_core::{NLA_HEADER_SIZE, NlaBuffer, NlasIterator};

use crate::Errno;

/// What the value of an attribute must be. Integers may be longer than they are, which the kernel warns of only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// At least so many bytes.
    AtLeast(usize),
    /// At most so many bytes.
    AtMost(usize),
    /// Text of at most so many bytes and the one that ends it.
    Text(usize),
    /// Other attributes.
    Nest,
}

/// Attributes of one nest by their numbers; of several with the same number the last.
#[derive(Debug)]
pub(crate) struct Attributes<'a, const N: usize> {
    values: [Option<&'a [u8]>; N],
}

impl<'a, const N: usize> Attributes<'a, N> {
    /// Reads a nest. `policy` is of the attributes from number 1; others are passed over, and so is what follows an
    /// attribute that does not fit.
    pub(crate) fn read(bytes: &'a [u8], policy: &[Policy; N]) -> Result<Attributes<'a, N>, Errno> {
        let mut values = [None; N];
        let mut at = 0;
        for attribute in NlasIterator::new(bytes).map_while(Result::ok) {
            let value = &bytes[at + NLA_HEADER_SIZE..][..attribute.value_length()];
            at += NLA_HEADER_SIZE + attribute.value_length().next_multiple_of(4);
            let Some(place) = usize::from(attribute.kind()).checked_sub(1).filter(|place| *place < N) else {
                continue;
            };
            policy[place].judge(value)?;
            values[place] = Some(value);
        }
        Ok(Attributes { values })
    }

    /// The value of an attribute.
    pub(crate) fn get(&self, number: u16) -> Option<&'a [u8]> {
        *self.values.get(usize::from(number).checked_sub(1)?)?
    }

    pub(crate) fn u8(&self, number: u16) -> Option<u8> {
        self.get(number)?.first().copied()
    }

    pub(crate) fn u16(&self, number: u16) -> Option<u16> {
        self.get(number)?.first_chunk().copied().map(u16::from_ne_bytes)
    }

    pub(crate) fn be16(&self, number: u16) -> Option<u16> {
        self.get(number)?.first_chunk().copied().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&self, number: u16) -> Option<u32> {
        self.get(number)?.first_chunk().copied().map(u32::from_ne_bytes)
    }

    /// Text up to the byte that ends it.
    pub(crate) fn text(&self, number: u16) -> Option<String> {
        let bytes = self.get(number)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Policy {
    // Linux: lib/nlattr.c, validate_nla() for attributes that are not validated strictly.
    fn judge(self, value: &[u8]) -> Result<(), Errno> {
        match self {
            Policy::AtLeast(least) if value.len() < least => Err(Errno::ERANGE),
            Policy::AtMost(most) if value.len() > most => Err(Errno::ERANGE),
            Policy::Text(most) if !value.iter().take(most + 1).any(|byte| *byte == 0) => Err(Errno::EINVAL),
            Policy::Text(most) if value.len() > most + 1 => Err(Errno::ERANGE),
            Policy::Nest if (1..NLA_HEADER_SIZE).contains(&value.len()) => Err(Errno::ERANGE),
            _ => Ok(()),
        }
    }
}

/// Attributes behind one another, at the end of a datagram.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Goes on behind what is there, which begins at an even eight bytes.
    pub(crate) fn new(out: &mut Vec<u8>) -> Writer<'_> {
        Writer { out }
    }

    pub(crate) fn bytes(&mut self, number: u16, value: &[u8]) {
        let at = self.out.len();
        self.out.resize(at + NLA_HEADER_SIZE, 0);
        self.out.extend_from_slice(value);
        self.end(at, number);
    }

    pub(crate) fn u8(&mut self, number: u16, value: u8) {
        self.bytes(number, &[value]);
    }

    pub(crate) fn u16(&mut self, number: u16, value: u16) {
        self.bytes(number, &value.to_ne_bytes());
    }

    pub(crate) fn be16(&mut self, number: u16, value: u16) {
        self.bytes(number, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, number: u16, value: u32) {
        self.bytes(number, &value.to_ne_bytes());
    }

    /// A number whose eight bytes stand where such a number may: `pad` is an empty attribute before it, where needed.
    pub(crate) fn u64(&mut self, number: u16, pad: u16, value: u64) {
        if self.out.len().is_multiple_of(8) {
            self.bytes(pad, &[]);
        }
        self.bytes(number, &value.to_ne_bytes());
    }

    pub(crate) fn text(&mut self, number: u16, value: &str) {
        let at = self.out.len();
        self.out.resize(at + NLA_HEADER_SIZE, 0);
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(0);
        self.end(at, number);
    }

    pub(crate) fn nest(&mut self, number: u16, write: impl FnOnce(&mut Writer<'_>)) {
        let at = self.out.len();
        self.out.resize(at + NLA_HEADER_SIZE, 0);
        write(self);
        self.end(at, number);
    }

    /// Ends the attribute that begins at `at`.
    fn end(&mut self, at: usize, number: u16) {
        let length = self.out.len() - at;
        let mut attribute = NlaBuffer::new(&mut self.out[at..]);
        attribute.set_length(u16::try_from(length).expect("no answer is as long as that"));
        attribute.set_kind(number);
        self.out.resize(at + length.next_multiple_of(4), 0);
    }
}
