//! What a Linux 6.1 kernel answered, byte for byte, against what is answered here.
//!
//! A recording is cases of a `#` name, the datagram that was sent (`>`, or `~` by somebody without privileges) and those
//! that came back (`<`). The cases of `kept.txt` follow one another in one state. Those of `differs.txt`, each after a
//! state of one service with one server, hold what is answered here (`=`) where that is something else, and why (`%`);
//! without these what the kernel answers is right, and what is listed afterwards differs.

use std::fmt::Write as _;

use fulcrum_ipvs::{Errno, Known, Message, Question, Record, Request, messages, proc};
use fulcrum_model::ipvsadm::list::ListedService;
use fulcrum_model::{Edit, Forward, Protocol, Server, ServerKey, Service, ServiceKey, State};

/// A director without traffic.
fn answer(state: &mut State, message: &Message<'_>, privileged: bool) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    match message.question(privileged).and_then(|question| respond(state, message, question, &mut out)) {
        Ok(true) if message.wants_ack() => out.push(message.ack()),
        Ok(_) => {}
        Err(why) => out.push(message.refusal(why)),
    }
    out
}

fn respond(
    state: &mut State,
    message: &Message<'_>,
    question: Question,
    out: &mut Vec<Vec<u8>>,
) -> Result<bool, Errno> {
    let listed: Vec<_> = state.services.iter().cloned().map(ListedService::idle).collect();
    let find = |name: Option<ServiceKey>| listed.iter().find(|s| Some(s.service.key) == name);
    let mut dump = |records: Vec<Record<'_>>| {
        out.extend(message.dump(records));
        Ok(false)
    };
    let record = match question {
        Question::Nothing => return Ok(true),
        Question::Families => return dump(Known::ALL.map(Record::Family).to_vec()),
        Question::Family(known) => Record::Family(known),
        Question::Ipvs(request) => match request {
            Request::Info => Record::Info(4096),
            Request::Timeouts => Record::Timeouts(&state.timeouts),
            Request::Service(name) => Record::Service(find(name).ok_or(Errno::ESRCH)?),
            Request::Services => return dump(proc::in_order(&listed).map(Record::Service).collect()),
            Request::Servers(name) => {
                let servers = find(name.flatten()).into_iter().flat_map(|s| s.servers.iter().rev());
                return dump(servers.map(Record::Server).collect());
            }
            Request::Daemons => return dump(Vec::new()),
            Request::Zero(None) => return Ok(true),
            Request::Zero(Some(name)) => return find(name).map(|_| true).ok_or(Errno::ESRCH),
            change => {
                let edits = change.edits(state)?;
                state.apply_all(&edits).map_err(|(_, error)| Errno::from(&error))?;
                return Ok(true);
            }
        },
    };
    out.push(message.reply(&record));
    Ok(true)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes everything");
        out
    })
}

/// The messages of datagrams. How many go into one depends on who reads, and the order of services on a kernel's hash.
fn parts(datagrams: &[Vec<u8>], sorted: bool) -> Vec<String> {
    let length = |bytes: &[u8]| u32::from_ne_bytes(bytes[..4].try_into().expect("four")) as usize;
    let mut out = Vec::new();
    for datagram in datagrams {
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let (first, others) = rest.split_at(length(rest).next_multiple_of(4).min(rest.len()));
            out.push(hex(first));
            rest = others;
        }
    }
    if sorted {
        out.sort();
    }
    out
}

struct Case {
    name: String,
    privileged: bool,
    sent: Vec<u8>,
    kernel: Vec<Vec<u8>>,
    ours: Vec<Vec<u8>>,
    why: String,
}

fn cases(text: &str) -> Vec<Case> {
    text.split("# ")
        .skip(1)
        .map(|case| {
            let mut lines = case.lines();
            let name = lines.next().expect("a name").to_owned();
            let mut found = Case {
                name,
                privileged: true,
                sent: Vec::new(),
                kernel: Vec::new(),
                ours: Vec::new(),
                why: String::new(),
            };
            for (mark, rest) in lines.filter_map(|line| line.split_once(' ')) {
                match mark {
                    "~" => (found.sent, found.privileged) = (bytes(rest), false),
                    ">" => found.sent = bytes(rest),
                    "<" => found.kernel.push(bytes(rest)),
                    "=" => found.ours.push(bytes(rest)),
                    _ => rest.clone_into(&mut found.why),
                }
            }
            found
        })
        .collect()
}

fn answers(state: &mut State, case: &Case) -> Vec<Vec<u8>> {
    messages(&case.sent).flat_map(|message| answer(state, &message, case.privileged)).collect()
}

#[test]
fn a_kernel_answers_the_same() {
    let cases = cases(include_str!("recordings/kept.txt"));
    assert!(cases.len() >= 158, "cases are lost: {}", cases.len());
    let mut state = State::default();
    for case in cases {
        let got = answers(&mut state, &case);
        let sorted = case.name.contains("service dump");
        let (got, wanted) = (parts(&got, sorted), parts(&case.kernel, sorted));
        assert_eq!(got.len(), wanted.len(), "{}", case.name);
        for (got, wanted) in got.iter().zip(&wanted) {
            assert_eq!(got, wanted, "{}", case.name);
        }
    }
}

#[test]
fn where_it_does_not_is_known() {
    let cases = cases(include_str!("recordings/differs.txt"));
    assert!(cases.len() >= 30, "cases are lost: {}", cases.len());
    let key = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1].into(), 80);
    let server = ServerKey { address: [10, 1, 0, 1].into(), port: 8080 };
    let mut fresh = State::default();
    let edits =
        [Edit::AddService(Service::new(key, "rr")), Edit::AddServer(key, Server::new(server, Forward::Nat))];
    fresh.apply_all(&edits).expect("right");
    let mut state = fresh.clone();
    for case in cases {
        if !case.name.ends_with("what is listed") {
            state = fresh.clone();
        }
        let got = answers(&mut state, &case);
        let (got, kernel, ours) = (parts(&got, false), parts(&case.kernel, false), parts(&case.ours, false));
        if case.why.is_empty() {
            assert_eq!(got, kernel, "{}", case.name);
        } else {
            assert_eq!(got, ours, "{}", case.name);
            assert_ne!(ours, kernel, "{} differs no more", case.name);
        }
    }
}
