//! What FTP says on its control connection about the data connections to come (RFC 959, RFC 2428), as far as the
//! kernel's helper listens: whole lines, each at the beginning of a segment.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

/// How a data connection is about to be made, by what the client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In a way that needs no answer of the server.
    #[default]
    Active,
    /// By PASV: the server names its address and port.
    Passive,
    /// By EPSV: the server names its port.
    ExtendedPassive,
}

/// An end of a data connection, as a line tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its address, where the line tells one.
    pub(crate) address: Option<IpAddr>,
    /// Its port.
    pub(crate) port: u16,
    /// Where what tells it begins and ends in the segment's data.
    start: u16,
    end: u16,
    /// Which of the two forms it has.
    pub(crate) extended: bool,
}

impl End {
    fn at(place: Range<usize>, address: Option<IpAddr>, port: u16, extended: bool) -> Option<End> {
        let (start, end) = (u16::try_from(place.start).ok()?, u16::try_from(place.end).ok()?);
        Some(End { address, port, start, end, extended })
    }

    /// Which bytes of the segment's data tell it.
    pub(crate) fn place(&self) -> Range<usize> {
        self.start.into()..self.end.into()
    }
}

/// Whether a client's segment asks for a passive data connection, anywhere in it.
pub(crate) fn asks_passive(data: &[u8], v6: bool) -> Option<Mode> {
    (0..data.len()).find_map(|at| {
        let rest = &data[at..];
        if !v6 && begins(rest, b"PASV\r\n") {
            return Some(Mode::Passive);
        }
        let family: &[u8] = if v6 { b"EPSV 2\r" } else { b"EPSV 1\r" };
        // The kernel wants six bytes in all of it, whichever form it has.
        let plain = begins(rest, b"EPSV\r") && rest.len() >= 6;
        (plain || begins(rest, family)).then_some(Mode::ExtendedPassive)
    })
}

/// The end that a client's PORT or EPRT names.
pub(crate) fn active(data: &[u8], v6: bool) -> Option<End> {
    let line = |word| after_word(data, word).map(|at| skip(data, at, |byte| byte.is_ascii_whitespace()));
    match (line(b"PORT"), line(b"EPRT")) {
        (Some(at), _) if !v6 => numbers(data, at),
        (_, Some(at)) => fields(data, at, v6).filter(|end| end.address.is_some()),
        _ => None,
    }
}

/// The end that a server's answer names to a client that asked for `mode`.
pub(crate) fn passive(data: &[u8], mode: Mode, v6: bool) -> Option<End> {
    match mode {
        Mode::Active => None,
        Mode::Passive => {
            let at = after_word(data, b"227 ")?;
            // In parentheses, or without (RFC 1123, 4.1.2.6).
            let at = skip(data, at, |byte| byte != b'(' && !byte.is_ascii_digit());
            numbers(data, at + usize::from(data.get(at) == Some(&b'(')))
        }
        Mode::ExtendedPassive => {
            let at = after_word(data, b"229 ")?;
            fields(data, skip(data, at, |byte| byte != b'(') + 1, v6)
        }
    }
}

/// "h1,h2,h3,h4,p1,p2" at `at`, with something behind it.
fn numbers(data: &[u8], at: usize) -> Option<End> {
    let mut six = [0u8; 6];
    let mut next = at;
    for (nth, number) in six.iter_mut().enumerate() {
        if nth > 0 {
            next = after_word_at(data, next, b",")?;
        }
        let start = next;
        next = skip(data, start, |byte| byte.is_ascii_digit());
        *number = decimal(data.get(start..next)?)?;
    }
    let [a, b, c, d, high, low] = six;
    // A number that the segment cuts off may go on in the next.
    data.get(next)?;
    let address = Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    End::at(at..next, address, u16::from_be_bytes([high, low]), false)
}

/// "|family|address|port|" at `at`, whatever the delimiter; family and address may be left out together.
fn fields(data: &[u8], at: usize, v6: bool) -> Option<End> {
    let &delimiter = data.get(at)?;
    // A digit could not be told from what it delimits.
    if delimiter.is_ascii_digit() || !delimiter.is_ascii_graphic() {
        return None;
    }
    let mut next = at + 1;
    let mut field = || {
        let start = next.min(data.len());
        let end = skip(data, start, |byte| byte != delimiter);
        next = end + 1;
        data.get(end).map(|_| &data[start..end])
    };
    let (family, address, port) = (field()?, field()?, field()?);
    let address = match (family, address) {
        (b"", b"") => None,
        (b"1", address) if !v6 => Some(IpAddr::V4(dotted(address)?)),
        (b"2", address) if v6 => Some(std::str::from_utf8(address).ok()?.parse().map(IpAddr::V6).ok()?),
        _ => return None,
    };
    End::at(at..next, address, decimal(port).filter(|&port| port != 0)?, true)
}

/// An address with leading zeros in its parts, too.
fn dotted(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split(|&byte| byte == b'.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn decimal<T: TryFrom<u32>>(digits: &[u8]) -> Option<T> {
    let digit = |byte: &u8| byte.is_ascii_digit();
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
    T::try_from(value).ok()
}

fn begins(data: &[u8], word: &[u8]) -> bool {
    data.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn after_word(data: &[u8], word: &[u8]) -> Option<usize> {
    after_word_at(data, 0, word)
}

fn after_word_at(data: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    begins(data.get(at..)?, word).then_some(at + word.len())
}

/// The first offset from `at` on whose byte is not of a kind.
fn skip(data: &[u8], at: usize, kind: impl Fn(u8) -> bool) -> usize {
    let rest = data.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|&&byte| kind(byte)).count()
}

/// An end as a line tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    bytes: [u8; Written::LONGEST],
    len: usize,
}

impl Written {
    /// "|2|" and an IPv6 address of 39 characters, "|65535|".
    const LONGEST: usize = 49;

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// "h1,h2,h3,h4,p1,p2".
    pub(crate) fn numbers(address: Ipv4Addr, port: u16) -> Written {
        let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
        Written::format(format_args!("{a},{b},{c},{d},{high},{low}"))
    }

    /// "|||port|", as an answer.
    pub(crate) fn port(port: u16) -> Written {
        Written::format(format_args!("|||{port}|"))
    }

    /// "|family|address|port|", as a command.
    pub(crate) fn fields(address: IpAddr, port: u16) -> Written {
        let family = if address.is_ipv6() { 2 } else { 1 };
        Written::format(format_args!("|{family}|{address}|{port}|"))
    }

    fn format(text: std::fmt::Arguments<'_>) -> Written {
        let mut written = Written { bytes: [0; Written::LONGEST], len: 0 };
        let mut rest = &mut written.bytes[..];
        // It fits: see LONGEST.
        let _ = rest.write_fmt(text);
        written.len = Written::LONGEST - rest.len();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(end: Option<End>, data: &str) -> Option<(Option<String>, u16, String)> {
        end.map(|end| {
            (end.address.map(|address| address.to_string()), end.port, data[end.place()].to_owned())
        })
    }

    /// Answers that the kernel takes and leaves, seen there one by one.
    #[test]
    fn an_answer_to_pasv_names_address_and_port() {
        let named = |line: &str| told(passive(line.as_bytes(), Mode::Passive, false), line);
        let end = Some((Some("10.1.0.11".to_owned()), 40000, "10,1,0,11,156,64".to_owned()));
        for line in [
            "227 Entering Passive Mode (10,1,0,11,156,64).\r\n",
            "227 Entering Passive Mode 10,1,0,11,156,64\r\n",
            "227 (10,1,0,11,156,64)",
            "227 =10,1,0,11,156,64\r\n",
            "227 (10,1,0,11,156,64,5)\r\n",
            "227 (10,1,0,11,156,64)\r\n150 hello\r\n",
        ] {
            assert_eq!(named(line), end, "{line}");
        }
        let zeros = named("227 (010,001,000,011,156,064)\r\n").unwrap();
        assert_eq!((zeros.0.as_deref(), zeros.1), (Some("10.1.0.11"), 40000));
        for line in [
            "227 Entering Passive Mode (10,1,0,11,156",
            "227 Entering (10,1,0,11,156,64",
            "220 x\r\n227 Entering Passive Mode (10,1,0,11,156,64).\r\n",
            "227-Entering (10,1,0,11,1,1)\r\n",
            "227 (10, 1,0,11,156,64)\r\n",
            "227 Mode 7 (10,1,0,11,156,64)\r\n",
            "227 a (b (10,1,0,11,156,64)\r\n",
            "227Entering (10,1,0,11,156,64)\r\n",
            "227 (1,1,1,1,1\r\n(10,1,0,11,156,64)\r\n",
            "227 ",
            "227 (",
            "",
        ] {
            assert_eq!(named(line), None, "{line}");
        }
    }

    #[test]
    fn numbers_that_are_none_name_nothing() {
        let named = |line: &str| passive(line.as_bytes(), Mode::Passive, false);
        for line in ["227 (300,1,0,11,156,64)\r\n", "227 (10,1,0,11,1560,64)\r\n", "227 (,,,,1,1)\r\n"] {
            assert_eq!(named(line), None, "{line}");
        }
        assert_eq!(named("227 (10,1,0,11,99999999999999999999,64)\r\n"), None);
    }

    #[test]
    fn an_answer_to_epsv_names_a_port() {
        let named = |line: &str| told(passive(line.as_bytes(), Mode::ExtendedPassive, false), line);
        for (line, place) in [
            ("229 Ext (|||40000|)\r\n", "|||40000|"),
            ("229 Ext (|||40000|)", "|||40000|"),
            ("229 (|||40000|", "|||40000|"),
            ("229 (!!!40000!)\r\n", "!!!40000!"),
            ("229 Ext 5 (|||40000|)\r\n", "|||40000|"),
            ("229 (aaa40000a)\r\n", "aaa40000a"),
            ("229 (|||40000|x)\r\n", "|||40000|"),
        ] {
            assert_eq!(named(line), Some((None, 40000, place.to_owned())), "{line}");
        }
        assert_eq!(named("229 (|||04000|)\r\n"), Some((None, 4000, "|||04000|".to_owned())));
        let whole = Some((Some("10.1.0.11".to_owned()), 40000, "|1|10.1.0.11|40000|".to_owned()));
        assert_eq!(named("229 (|1|10.1.0.11|40000|)\r\n"), whole);
        for line in [
            "229 (|1||40000|)\r\n",
            "229 (|||0|)\r\n",
            "229 (|||70000|)\r\n",
            "229 |||40000|\r\n",
            "229 (|||40000)\r\n",
            "229 (|||40000",
            "229 (||40000|)\r\n",
            "229 (||||)\r\n",
            "229 (|2|::1|40000|)\r\n",
            "229 (   40000 )\r\n",
            "229 (1114000011)\r\n",
            "227 (10,1,0,11,156,64)\r\n",
            "229 (",
        ] {
            assert_eq!(named(line), None, "{line}");
        }
    }

    #[test]
    fn a_client_asks_for_passive_connections_anywhere_in_a_segment() {
        let asked = |line: &str| asks_passive(line.as_bytes(), false);
        for line in
            ["PASV\r\n", "pasv\r\n", "  PASV\r\n", "NOOP\r\nPASV\r\n", "PASV\r\nNOOP\r\n", "XPASV\r\n"]
        {
            assert_eq!(asked(line), Some(Mode::Passive), "{line}");
        }
        for line in ["EPSV\r\n", "EPSV 1\r\n", "epsv 1\r\n", "EPSV 1\r", "NOOP\r\nEPSV\r\n"] {
            assert_eq!(asked(line), Some(Mode::ExtendedPassive), "{line}");
        }
        for line in ["PASV\n", "PASV \r\n", "PASV\r", "NOOP\r\n", "EPSV 2\r\n", "EPSV ALL\r\n", "EPSV\n", ""]
        {
            assert_eq!(asked(line), None, "{line}");
        }
        for line in ["EPSV 1\n", "EPSV 1", "EPSV", "EPSV\r"] {
            assert_eq!(asked(line), None, "{line}");
        }
        assert_eq!(asks_passive(b"EPSV 2\r\n", true), Some(Mode::ExtendedPassive));
        assert_eq!(asks_passive(b"PASV\r\n", true), None, "IPv4's");
    }

    #[test]
    fn a_client_names_its_own_end() {
        let named = |line: &str| told(active(line.as_bytes(), false), line);
        let end = |place: &str| Some((Some("10.0.0.2".to_owned()), 40001, place.to_owned()));
        for line in [
            "PORT 10,0,0,2,156,65\r\n",
            "port 10,0,0,2,156,65\r\n",
            "PORT 10,0,0,2,156,65\n",
            "PORT  10,0,0,2,156,65\r\n",
            "PORT\t10,0,0,2,156,65\r\n",
            "PORT 10,0,0,2,156,65,1\r\n",
        ] {
            assert_eq!(named(line), end("10,0,0,2,156,65"), "{line}");
        }
        for (line, place) in [
            ("EPRT |1|10.0.0.2|40001|\r\n", "|1|10.0.0.2|40001|"),
            ("eprt |1|10.0.0.2|40001|\r\n", "|1|10.0.0.2|40001|"),
            ("EPRT !1!10.0.0.2!40001!\r\n", "!1!10.0.0.2!40001!"),
            ("EPRT  |1|10.0.0.2|40001|\r\n", "|1|10.0.0.2|40001|"),
            ("EPRT |1|010.0.0.2|40001|\r\n", "|1|010.0.0.2|40001|"),
            ("EPRT |1|10.0.0.2|40001|", "|1|10.0.0.2|40001|"),
        ] {
            assert_eq!(named(line), end(place), "{line}");
        }
        for line in [
            " PORT 10,0,0,2,156,65\r\n",
            "PORT 10,0,0,2,156,65",
            "NOOP\r\nPORT 10,0,0,2,156,65\r\n",
            "PORT 10,0,0,2,156\r\n",
            "PORT 10.0.0.2.156.65\r\n",
            "PORT (10,0,0,2,156,65)\r\n",
            "EPRT |2|::1|40001|\r\n",
            "EPRT |1|10.0.0.2|40001\r\n",
            "EPRT |1|10.0.0.9|0|\r\n",
            "EPRT 1|10.0.0.2|40001|\r\n",
            "EPRT |1|10.0.2|40001|\r\n",
            "EPRT |1|10.0.0.300|40001|\r\n",
            "EPRT |3|10.0.0.2|40001|\r\n",
            "EPRT |||40001|\r\n",
        ] {
            assert_eq!(named(line), None, "{line}");
        }
        let line = "EPRT |2|2001:db8::2|40001|\r\n";
        let end = Some((Some("2001:db8::2".to_owned()), 40001, "|2|2001:db8::2|40001|".to_owned()));
        assert_eq!(told(active(line.as_bytes(), true), line), end);
        assert_eq!(active(b"PORT 10,0,0,2,156,65\r\n", true), None, "IPv4's");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let v4 = Ipv4Addr::new(255, 255, 255, 255);
        let line = [b"PORT ", Written::numbers(v4, 65535).bytes(), b"\r\n"].concat();
        assert_eq!(active(&line, false).map(|end| (end.address, end.port)), Some((Some(v4.into()), 65535)));
        let v6: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0".parse().unwrap();
        let line = [b"EPRT ", Written::fields(v6, 65535).bytes(), b"\r\n"].concat();
        assert_eq!(active(&line, true).map(|end| (end.address, end.port)), Some((Some(v6), 65535)));
        let line = [b"229 (", Written::port(65535).bytes(), b")\r\n"].concat();
        assert_eq!(passive(&line, Mode::ExtendedPassive, true).map(|end| end.port), Some(65535));
    }
}
