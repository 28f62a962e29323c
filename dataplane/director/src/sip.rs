//! The call that a SIP message belongs to: the value of its Call-ID header (RFC 3261, 20.8), by which services with
//! the persistence engine `sip` keep templates.
//!
//! Reads what IPVS reads: any line after the first, also of the body; the first such header decides.

use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher13};

/// Longest value. // IPVS: IP_VS_PEDATA_MAXLEN
const LONGEST: usize = 255;

/// The Call-ID of a message.
pub(crate) fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        at += message[at..].iter().position(|byte| is_end(*byte))?;
        at += end(&message[at..]);
        let line = &message[at..];
        let name = match line {
            [a, b, c, d, e, f, g, ..] if [*a, *b, *c, *d, *e, *f, *g].eq_ignore_ascii_case(b"Call-ID") => 7,
            // The compact form.
            [b'i' | b'I', next, ..] if !next.is_ascii_alphabetic() => 1,
            _ => continue,
        };
        let value = unfolded(line.get(name..)?)?.strip_prefix(b":")?;
        let value = unfolded(value)?;
        return Some(&value[..value_length(value)?]);
    }
}

/// How a template of a call is known: an address that no client has, drawn from client and call.
pub(crate) fn template_address(seed: u64, client: IpAddr, call: &[u8]) -> IpAddr {
    use std::hash::{Hash, Hasher};
    let mut hasher = SipHasher13::new_with_keys(seed, seed.rotate_left(32));
    client.hash(&mut hasher);
    hasher.write(call);
    IpAddr::V6(hasher.finish128().as_u128().into())
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Length of a line's end; lines may end with CR, LF or both.
fn end(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\r\n") { 2 } else { 1 }
}

/// What follows white space, which may go on in the next line.
fn unfolded(text: &[u8]) -> Option<&[u8]> {
    let text = trimmed(text);
    match text.first() {
        Some(&byte) if is_end(byte) => {
            let next = &text[end(text)..];
            matches!(next.first(), Some(b' ' | b'\t')).then(|| trimmed(next))
        }
        _ => Some(text),
    }
}

/// Length of `word [ "@" word ]`, behind which the line has to end.
fn value_length(text: &[u8]) -> Option<usize> {
    let word = |text: &[u8]| text.iter().take_while(|byte| is_word(**byte)).count();
    let mut length = word(text);
    if text.get(length) == Some(&b'@') {
        let domain = word(&text[length + 1..]);
        if domain == 0 {
            return None;
        }
        length += 1 + domain;
    }
    let ends = text.get(length).is_some_and(|byte| is_end(*byte));
    (ends && (1..=LONGEST).contains(&length)).then_some(length)
}

/// Letters are those of Latin-1. // IPVS: nf_conntrack_sip's word_len
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || b"-.!%*_+`'~()<>:\\\"/[]?{}".contains(&byte)
        || (byte >= 0xc0 && !matches!(byte, 0xd7 | 0xf7))
}

/// Without spaces and tabs in front.
fn trimmed(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_header(header: &str) -> Option<Vec<u8>> {
        let message =
            format!("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n{header}CSeq: 1 INVITE\r\n\r\n");
        call_id(message.as_bytes()).map(<[u8]>::to_vec)
    }

    /// As a Linux 6.1 kernel was seen to read them.
    #[test]
    fn calls_are_found_where_the_kernel_finds_them() {
        for header in [
            "Call-ID: k@x\r\n",
            "call-id: k@x\r\n",
            "i: k@x\r\n",
            "Call-ID:k@x\r\n",
            "Call-ID : k@x\r\n",
            "Call-ID:\t k@x\r\n",
            "Call-ID: k@x\n",
            "Call-ID: k@x\r",
            "Call-ID: \r\n k@x\r\n",
            "Call-ID: k@x\r\nCall-ID: z@x\r\n",
            "\r\nCall-ID: k@x\r\n",
        ] {
            assert_eq!(of_header(header).as_deref(), Some(&b"k@x"[..]), "{header:?}");
        }
        let odd = "a-.!%*_+`'~()<>:\\\"/[]?{}@b";
        assert_eq!(of_header(&format!("Call-ID: {odd}\r\n")).as_deref(), Some(odd.as_bytes()));
        assert_eq!(call_id(b"\0\x01\nCall-ID: \xff\r"), Some(&b"\xff"[..]));
        assert_eq!(of_header("Call-ID: k\r\n").as_deref(), Some(&b"k"[..]));
        assert_eq!(of_header(&format!("i: {}\r\n", "k".repeat(255))).map(|call| call.len()), Some(255));
        assert_eq!(
            of_header(&format!("i: {}@{}\r\n", "k".repeat(200), "y".repeat(54))).map(|c| c.len()),
            Some(255)
        );
    }

    #[test]
    fn what_the_kernel_refuses_is_no_call() {
        for header in [
            "",
            "Call-ID: k@x;foo\r\n",
            "Call-ID: k@x \r\n",
            "Call-ID: k@\r\n",
            "Call-ID: k@x@y\r\n",
            "Call-ID: k=1@x\r\n",
            "Call-ID: \r\nCall-ID: k@x\r\n",
            "X: y\r\n Call-ID: k@x\r\n",
            "ix: k@x\r\n",
            "i\r\nCall-ID: k@x\r\n",
        ] {
            assert_eq!(of_header(header), None, "{header:?}");
        }
        assert_eq!(of_header(&format!("i: {}\r\n", "k".repeat(256))), None);
        // Not in the first line, and not without an end.
        for message in [
            &b"Call-ID: k@x\r\n\r\n"[..],
            b"x\r\nCall-ID: k@x",
            b"x\r\nCall-ID",
            b"x\r\ni",
            b"x\r\n",
            b"x\r",
            b"",
        ] {
            assert_eq!(call_id(message), None, "{message:?}");
        }
    }

    #[test]
    fn no_message_is_too_odd() {
        let whole = b"x\r\nCall-ID \r\n : \r\n k@x\r\ni: z\r\n";
        for start in 0..whole.len() {
            for end in start..whole.len() {
                _ = call_id(&whole[start..end]);
            }
        }
    }
}
