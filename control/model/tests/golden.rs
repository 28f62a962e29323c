//! ipvsadm 1.31 on a Linux 6.1 kernel, recorded, against the model: the same words, byte for byte.
//!
//! A transcript is cases of `$` command, `<` lines of its input, `|` lines of its output, `!` lines of its
//! errors and `=` its exit code when not 0. `golden/kept.txt` holds what the real one said and we say;
//! `golden/differs.txt` what we say instead, each case with its reason.

use std::net::{IpAddr, Ipv4Addr};

use fulcrum_model::ipvsadm::{self, Command, Names, Usage, list};
use fulcrum_model::{Edit, Protocol, State};

/// The names that the recording machine knew.
struct Hosts;

const HOSTS: [(&str, [u8; 4]); 2] = [("vip.example", [10, 9, 0, 100]), ("rs1.example", [10, 0, 0, 11])];

impl Names for Hosts {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        HOSTS.iter().find(|(name, _)| *name == host).map(|(_, address)| (*address).into())
    }
    fn port(&self, name: &str, _: Protocol) -> Option<u16> {
        match name {
            "http" => Some(80),
            "domain" => Some(53),
            "https" => Some(443),
            _ => None,
        }
    }
    fn host(&self, address: IpAddr) -> Option<String> {
        HOSTS.iter().find(|(_, known)| IpAddr::from(*known) == address).map(|(name, _)| (*name).to_owned())
    }
    fn service(&self, port: u16, _: Protocol) -> Option<String> {
        match port {
            80 => Some("http".to_owned()),
            53 => Some("domain".to_owned()),
            443 => Some("https".to_owned()),
            _ => None,
        }
    }
}

/// Output, errors and exit code.
type Answer = (String, String, u8);

fn run(state: &mut State, args: &[String], input: &str) -> Answer {
    let done = |out: String| (out, String::new(), 0);
    let command = match ipvsadm::parse_with(args, &Hosts) {
        Ok(command) => command,
        Err(Usage { message, code }) => return (String::new(), message + "\n", code),
    };
    match command {
        Command::Help => done(format!("{}\n{}", ipvsadm::VERSION, ipvsadm::HELP)),
        Command::Version => done(format!("{}\n", ipvsadm::VERSION)),
        Command::Edit(edits) => match state.apply_all(&edits) {
            Ok(()) => done(String::new()),
            Err((at, error)) => (String::new(), ipvsadm::refusal(&edits[at], &error) + "\n", 255),
        },
        Command::Zero(Some(key)) if state.service(key).is_none() => {
            (String::new(), "No such service\n".to_owned(), 255)
        }
        Command::Zero(_) | Command::ListDaemons => done(String::new()),
        Command::List(options) => {
            let services: Vec<_> = state.services.iter().cloned().map(list::ListedService::idle).collect();
            match list::services(&services, &options, list::TABLE_SIZE, &Hosts) {
                Ok(out) => done(out),
                Err(Usage { message, code }) => (String::new(), message + "\n", code),
            }
        }
        Command::ListSessions { persistence_data, .. } => done(list::session_title(false, persistence_data)),
        Command::ListTimeouts => done(list::timeouts(&state.timeouts)),
        Command::LocalAddresses { numeric, .. } => done(list::local_addresses(&[], numeric, &Hosts)),
        Command::Save { numeric } => done(ipvsadm::save(&state.services, numeric, &Hosts)),
        Command::Restore => restore(state, input),
    }
}

fn restore(state: &mut State, input: &str) -> Answer {
    let lines = match ipvsadm::restore(input, &Hosts) {
        Ok(lines) => lines,
        Err(error) => return (String::new(), format!("{error}\n"), error.code),
    };
    let numbered: Vec<(usize, Edit)> =
        lines.into_iter().flat_map(|l| l.edits.into_iter().map(move |e| (l.number, e))).collect();
    let edits: Vec<Edit> = numbered.iter().map(|(_, edit)| edit.clone()).collect();
    match state.apply_all(&edits) {
        Ok(()) => (String::new(), String::new(), 0),
        Err((at, error)) => {
            let error = ipvsadm::RestoreError {
                line: numbered[at].0,
                message: ipvsadm::refusal(&edits[at], &error),
                code: ipvsadm::EXIT_REFUSED,
            };
            (String::new(), format!("{error}\n"), error.code)
        }
    }
}

/// Words as a shell cuts them, as far as the transcripts need it.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Plays a transcript and gives what it should have been, line by line.
fn play(transcript: &str) -> (String, usize) {
    let mut played = String::new();
    let mut state = State::default();
    let mut cases = 0;
    let mut lines = transcript.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("=== ") {
            state = State::default();
            cases += 1;
        }
        let Some(command) = line.strip_prefix("$ ipvsadm") else {
            if !line.starts_with(['|', '!', '=']) || line.starts_with("===") {
                played += &format!("{line}\n");
            }
            continue;
        };
        played += &format!("{line}\n");
        let mut input = String::new();
        while let Some(text) = lines.peek().and_then(|line| line.strip_prefix("< ")) {
            input += &format!("{text}\n");
            played += &format!("< {text}\n");
            lines.next();
        }
        let (out, err, code) = run(&mut state, &words(command), &input);
        for (mark, text) in [('|', &out), ('!', &err)] {
            text.lines().for_each(|line| played += &format!("{mark} {line}\n"));
        }
        if code != 0 {
            played += &format!("= {code}\n");
        }
    }
    (played, cases)
}

fn check(name: &str, transcript: &str, least: usize) {
    let (played, cases) = play(transcript);
    assert!(cases >= least, "{name} has lost cases: {cases}");
    let mut case = "";
    for (wanted, got) in transcript.lines().zip(played.lines()) {
        if wanted.starts_with("===") {
            case = wanted;
        }
        assert_eq!(got, wanted, "{name}: {case}");
    }
    assert_eq!(played.lines().count(), transcript.lines().count(), "{name}");
}

#[test]
fn words_are_ipvsadms() {
    check("kept.txt", include_str!("golden/kept.txt"), 112);
}

#[test]
fn differences_are_these_and_no_others() {
    check("differs.txt", include_str!("golden/differs.txt"), 16);
}
