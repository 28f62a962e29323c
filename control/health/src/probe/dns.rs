//! `dns`: a question over UDP, and what the answer says.

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name, Question};
use domain::rdata::AllRecordData;
use fulcrum_model::{DnsRcode, DnsRecord};

use super::udp::{refused, send, socket};
use super::{Asked, Tools, Trouble, bad, random};
use crate::target::Target;

pub(super) async fn ask(
    tools: &Tools,
    target: &Target,
    (name, record): (&str, DnsRecord),
    rcode: DnsRcode,
    expected: &[String],
) -> Asked {
    let socket = socket(tools, target).await?;
    let (id, question) = question(name, record)?;
    send(&socket, &question).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(refused)?;
        // Answers to somebody else's question, or late ones, are passed over.
        let Ok(message) = Message::from_slice(&buffer[..length]) else { continue };
        if message.header().id() == id && message.header().qr() {
            return judge(message, rcode, expected);
        }
    }
}

fn question(name: &str, record: DnsRecord) -> Result<(u16, Vec<u8>), Trouble> {
    let no_name = |_| Trouble::Here(format!("`{name}` is no domain name"));
    let name: Name<Vec<u8>> =
        name.parse().map_err(|error: domain::base::name::FromStrError| no_name(error))?;
    let rtype = match record {
        DnsRecord::A => Rtype::A,
        DnsRecord::Aaaa => Rtype::AAAA,
        DnsRecord::Cname => Rtype::CNAME,
        DnsRecord::Mx => Rtype::MX,
        DnsRecord::Ns => Rtype::NS,
        DnsRecord::Ptr => Rtype::PTR,
        DnsRecord::Soa => Rtype::SOA,
        DnsRecord::Srv => Rtype::SRV,
        DnsRecord::Txt => Rtype::TXT,
    };
    let id = (random() & 0xffff) as u16;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id);
    message.header_mut().set_rd(true);
    let mut message = message.question();
    let pushed = message.push(Question::new(name, rtype, Class::IN));
    pushed.map_err(|_| Trouble::Here("the question does not fit in a datagram".to_owned()))?;
    Ok((id, message.finish()))
}

fn judge(message: &Message<[u8]>, rcode: DnsRcode, expected: &[String]) -> Asked {
    let given = message.header().rcode();
    if given != Rcode::checked_from_int(rcode.number()).unwrap_or(Rcode::NOERROR) {
        let given = given.to_string().to_lowercase();
        return bad(format!("response code {given}, expected {}", rcode.name()));
    }
    if expected.is_empty() {
        return Ok(());
    }
    let broken = || Trouble::Server("the answer cannot be understood".to_owned());
    let mut found = Vec::new();
    for record in message.answer().map_err(|_| broken())?.limit_to::<AllRecordData<_, _>>() {
        found.push(plain(&record.map_err(|_| broken())?.data().to_string()));
    }
    match expected.iter().find(|data| !found.contains(&plain(data))) {
        None => Ok(()),
        Some(missing) if found.is_empty() => bad(format!("no answer, expected {missing}")),
        Some(missing) => {
            let found = super::quoted(found.join(", ").as_bytes());
            bad(format!("answer {found}, expected {missing}"))
        }
    }
}

/// Data as it is compared: names have no case and no last dot, texts no quotes.
fn plain(data: &str) -> String {
    data.to_lowercase().replace('"', "").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in vec(any::<u8>(), 0..80), mut counted in vec(any::<u8>(), 12..80)) {
            // Answers that claim a record or two get further.
            counted[4..12].copy_from_slice(&[0, 0, 0, 2, 0, 0, 0, 0]);
            counted[3] = 0;
            for bytes in [bytes, counted] {
                if let Ok(message) = Message::from_slice(&bytes) {
                    let _ = judge(message, DnsRcode::NoError, &["192.0.2.1".to_owned()]);
                }
            }
        }

        #[test]
        fn every_name_of_a_file_can_be_asked_for(name in "[a-z0-9_*-]{1,63}(\\.[!-\\[\\]-~&&[^.]]{1,9}){0,9}\\.?") {
            prop_assert!(question(&name, DnsRecord::A).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_root_can_be_asked_for() {
        let (id, question) = question(".", DnsRecord::Soa).unwrap();
        let [high, low] = id.to_be_bytes();
        assert_eq!(question, [high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1]);
    }
}
