//! Plays transcripts of ipvsadm's command line against the model.

use std::net::{IpAddr, Ipv4Addr};

use fulcrum_model::ipvsadm::{self, Command, Names, Usage, list, sessions};
use fulcrum_model::{Edit, Protocol, State};

/// The names that the recording machine knew.
struct Hosts;

const HOSTS: [(&str, [u8; 4]); 3] =
    [("vip.example", [10, 9, 0, 100]), ("rs1.example", [10, 0, 0, 11]), ("localhost", [127, 0, 0, 1])];

const PORTS: [(&str, u16, Protocol); 9] = [
    ("http", 80, Protocol::Tcp),
    ("www", 80, Protocol::Tcp),
    ("https", 443, Protocol::Tcp),
    ("http-alt", 8080, Protocol::Tcp),
    ("domain", 53, Protocol::Tcp),
    ("domain", 53, Protocol::Udp),
    ("tftp", 69, Protocol::Udp),
    ("sip", 5060, Protocol::Tcp),
    ("sip", 5060, Protocol::Udp),
];

impl Names for Hosts {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        HOSTS.iter().find(|(name, _)| *name == host).map(|(_, address)| (*address).into())
    }
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        PORTS.iter().find(|known| known.0 == name && known.2 == protocol).map(|known| known.1)
    }
    fn host(&self, address: IpAddr) -> Option<String> {
        let known = HOSTS.iter().find(|(_, known)| IpAddr::from(*known) == address);
        known.map(|(name, _)| (*name).to_owned())
    }
    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        PORTS.iter().find(|known| known.1 == port && known.2 == protocol).map(|known| known.0.to_owned())
    }
}

/// Output, errors and exit code.
type Answer = (String, String, u8);

fn run(state: &mut State, args: &[String], input: &str) -> Answer {
    match ipvsadm::parse_with(args, &Hosts) {
        Ok(Command::Restore) => restore(state, input),
        Ok(command) => obey(state, command),
        Err(Usage { message, code }) => (String::new(), message + "\n", code),
    }
}

fn obey(state: &mut State, command: Command) -> Answer {
    let done = |out: String| (out, String::new(), 0);
    match command {
        Command::Help => done(format!("{}\n{}", ipvsadm::VERSION, ipvsadm::help())),
        Command::Version => done(format!("{}\n", ipvsadm::VERSION)),
        Command::Edit(edits) => match state.apply_all(&edits) {
            Ok(()) => done(String::new()),
            Err((at, error)) => (String::new(), ipvsadm::refusal(&edits[at], &error) + "\n", 255),
        },
        Command::Zero(Some(key)) if state.service(key).is_none() => {
            (String::new(), "No such service\n".to_owned(), 255)
        }
        Command::Zero(_) | Command::ListDaemons | Command::Restore => done(String::new()),
        Command::List(options) => {
            let services: Vec<_> = state.services.iter().cloned().map(list::ListedService::idle).collect();
            match list::services(&services, &options, list::TABLE_SIZE, &Hosts) {
                Ok(out) => done(out),
                Err(Usage { message, code }) => (String::new(), message + "\n", code),
            }
        }
        Command::ListSessions { persistence_data, .. } => done(sessions::title(false, persistence_data)),
        Command::ListTimeouts => done(list::timeouts(&state.timeouts)),
        Command::LocalAddresses { numeric, .. } => done(list::local_addresses(&[], numeric, &Hosts)),
        Command::Save { numeric } => done(ipvsadm::save(&state.services, numeric, &Hosts)),
    }
}

fn restore(state: &mut State, input: &str) -> Answer {
    let lines = match ipvsadm::restore(input, &Hosts) {
        Ok(lines) => lines,
        Err(error) => return (String::new(), format!("{error}\n"), error.code),
    };
    let (mut numbered, mut others) = (Vec::new(), Vec::new());
    for line in lines {
        match line.command {
            Command::Edit(edits) => numbered.extend(edits.into_iter().map(|edit| (line.number, edit))),
            other => others.push(other),
        }
    }
    let edits: Vec<Edit> = numbered.iter().map(|(_, edit)| edit.clone()).collect();
    if let Err((at, error)) = state.apply_all(&edits) {
        let error = ipvsadm::RestoreError {
            line: numbered[at].0,
            message: ipvsadm::refusal(&edits[at], &error),
            code: ipvsadm::EXIT_REFUSED,
        };
        return (String::new(), format!("{error}\n"), error.code);
    }
    let mut all = (String::new(), String::new(), 0);
    for command in others {
        let (out, err, code) = obey(state, command);
        all = (all.0 + &out, all.1 + &err, code);
    }
    all
}

/// Plays a transcript and gives what it should have been, line by line.
pub(crate) fn play(transcript: &str) -> (String, usize) {
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
        let (out, err, code) = run(&mut state, &shlex::split(command).unwrap(), &input);
        for (mark, text) in [('|', &out), ('!', &err)] {
            text.lines().for_each(|line| played += &format!("{mark} {line}\n"));
        }
        if code != 0 {
            played += &format!("= {code}\n");
        }
    }
    (played, cases)
}
