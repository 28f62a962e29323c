//! The values of checks that have a spelling of their own.

use std::fmt;
use std::str::FromStr;

/// A text that spells none of the values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {right}")]
pub struct UnknownWord {
    /// The text.
    pub text: String,
    /// What would be right.
    pub right: &'static str,
}

impl UnknownWord {
    fn new(text: &str, right: &'static str) -> UnknownWord {
        UnknownWord { text: text.to_owned(), right }
    }
}

/// The method of an HTTP request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpMethod {
    /// GET
    #[default]
    Get,
    /// HEAD: there is no body.
    Head,
    /// OPTIONS
    Options,
}

impl HttpMethod {
    /// All of them with their names.
    pub const WORDS: [(&'static str, HttpMethod); 3] =
        [("GET", HttpMethod::Get), ("HEAD", HttpMethod::Head), ("OPTIONS", HttpMethod::Options)];

    /// Its name.
    pub const fn name(self) -> &'static str {
        HttpMethod::WORDS[self as usize].0
    }
}

/// Status codes from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusRange {
    /// First code.
    pub first: u16,
    /// Last code, not before the first.
    pub last: u16,
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Status codes of HTTP, such as `200-299,301`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusSet(pub Vec<StatusRange>);

impl StatusSet {
    /// Whether `code` is one of them.
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| (range.first..=range.last).contains(&code))
    }
}

impl Default for StatusSet {
    /// Those of success.
    fn default() -> StatusSet {
        StatusSet(vec![StatusRange { first: 200, last: 299 }])
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

impl FromStr for StatusSet {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<StatusSet, UnknownWord> {
        let code = |text: &str| {
            text.trim().parse::<u16>().map_err(|_| UnknownWord::new(text, "a status code, such as 200"))
        };
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Ok(StatusRange { first: code(first)?, last: code(last)? })
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(StatusSet)
    }
}

/// The digest of an HTTP answer's body, such as `sha256:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyDigest {
    /// MD5, as keepalived's `genhash` prints it.
    Md5([u8; 16]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes): (_, &[u8]) = match self {
            BodyDigest::Md5(bytes) => ("md5", bytes),
            BodyDigest::Sha256(bytes) => ("sha256", bytes),
        };
        write!(f, "{name}:{}", hex(bytes))
    }
}

impl FromStr for BodyDigest {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<BodyDigest, UnknownWord> {
        let read = |text: &str| {
            let (name, digits) = text.split_once(':')?;
            let bytes = from_hex(digits)?;
            match name {
                "md5" => Some(BodyDigest::Md5(bytes.try_into().ok()?)),
                "sha256" => Some(BodyDigest::Sha256(bytes.try_into().ok()?)),
                _ => None,
            }
        };
        let right = "a digest: \"sha256:\" and 64 hexadecimal digits, or \"md5:\" and 32";
        read(text).ok_or_else(|| UnknownWord::new(text, right))
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hexadecimal digits are.
pub(crate) fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

/// A type of DNS record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsRecord {
    /// A
    #[default]
    A,
    /// AAAA
    Aaaa,
    /// CNAME
    Cname,
    /// MX
    Mx,
    /// NS
    Ns,
    /// PTR
    Ptr,
    /// SOA
    Soa,
    /// SRV
    Srv,
    /// TXT
    Txt,
}

impl DnsRecord {
    /// All of them with their names.
    pub const WORDS: [(&'static str, DnsRecord); 9] = [
        ("A", DnsRecord::A),
        ("AAAA", DnsRecord::Aaaa),
        ("CNAME", DnsRecord::Cname),
        ("MX", DnsRecord::Mx),
        ("NS", DnsRecord::Ns),
        ("PTR", DnsRecord::Ptr),
        ("SOA", DnsRecord::Soa),
        ("SRV", DnsRecord::Srv),
        ("TXT", DnsRecord::Txt),
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        DnsRecord::WORDS[self as usize].0
    }
}

impl FromStr for DnsRecord {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<DnsRecord, UnknownWord> {
        let found = DnsRecord::WORDS.iter().find(|(word, _)| *word == text);
        let right = "a type of DNS record; one of A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT";
        found.map(|(_, record)| *record).ok_or_else(|| UnknownWord::new(text, right))
    }
}

/// The response code of a DNS answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsRcode {
    /// No error.
    #[default]
    NoError,
    /// The question was not understood.
    FormErr,
    /// The server cannot answer now.
    ServFail,
    /// There is no such name.
    NxDomain,
    /// The server does not know such questions.
    NotImp,
    /// The server does not want to.
    Refused,
}

impl DnsRcode {
    /// All of them with their names, in the order of their numbers.
    pub const WORDS: [(&'static str, DnsRcode); 6] = [
        ("noerror", DnsRcode::NoError),
        ("formerr", DnsRcode::FormErr),
        ("servfail", DnsRcode::ServFail),
        ("nxdomain", DnsRcode::NxDomain),
        ("notimp", DnsRcode::NotImp),
        ("refused", DnsRcode::Refused),
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        DnsRcode::WORDS[self as usize].0
    }

    /// Its number (RFC 1035, 4.1.1).
    pub const fn number(self) -> u8 {
        self as u8
    }
}
