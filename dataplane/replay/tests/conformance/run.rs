//! A case run on a director in memory, and what does not hold, in words.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use fulcrum_director::SECOND;
use fulcrum_director::counters::DestinationCells;
use fulcrum_director::export::SessionView;
use fulcrum_program::totals;
use fulcrum_replay::capture::{Format, Writer};
use fulcrum_replay::{Bench, BenchConfig, Sent, service_text};

use crate::case::{self, Case, Expected, PORTS, SessionLine, Step};
use crate::datagram::Receiver;
use crate::decode::decode;

/// The recordings waited for 40 ms of silence after each frame.
const PAUSE: u64 = SECOND / 20;
/// How much the remaining time of a session may differ, in seconds: the recordings took their time.
const SLACK: u64 = 3;

/// Runs a case, perhaps with owners by the hash of devices; what does not hold, in words.
pub(crate) fn run(case: &Case, workers: u16, by_hash: bool) -> String {
    let config =
        BenchConfig { workers, sessions: 4096, seed: 7, misdirect: workers > 1, start: 1000 * SECOND };
    let mut bench = Bench::new(config, case.state.clone());
    if by_hash {
        bench.steer_by_hash();
    }
    let mut faults = String::new();
    for text in &case.setup {
        if let Err(e) = apply(&mut bench, text) {
            let _ = writeln!(faults, "  `{text}`: {e}");
        }
    }
    let mut seen: Vec<Sent> = Vec::new();
    let mut frames = 0;
    for step in &case.steps {
        match step {
            Step::Do(text) => {
                if let Err(e) = apply(&mut bench, text) {
                    let _ = writeln!(faults, "  `{text}`: {e}");
                }
                bench.advance(bench.now() + PAUSE);
            }
            Step::Refused(text) => {
                if apply(&mut bench, text).is_ok() {
                    let _ = writeln!(faults, "  `{text}` is not refused");
                }
            }
            Step::Wait { milliseconds } => {
                bench.advance(bench.now() + milliseconds * (SECOND / 1000));
            }
            Step::Frame { port, bytes, out } => {
                frames += 1;
                let outcome = bench.receive(*port, frames, bytes);
                let mut sent = outcome.sent;
                sent.extend(bench.advance(bench.now() + PAUSE));
                if !case.datagrams && !agree(out, &sent) {
                    let verdict = outcome.verdict.map(|v| format!("{:?}, {}", v.kind, v.reason));
                    let _ = writeln!(faults, "  frame {frames}: {}", decode(bytes));
                    let _ = writeln!(faults, "    verdict: {}", verdict.as_deref().unwrap_or("none"));
                    describe(&mut faults, out, &sent);
                }
                if outcome.verdict.is_none() {
                    let _ = writeln!(faults, "  frame {frames}: no verdict");
                }
                seen.extend(sent);
            }
        }
    }
    compare_sessions(&mut faults, case, &bench);
    compare_load(&mut faults, case, &bench);
    if case.datagrams {
        compare_datagrams(&mut faults, case, &seen);
    } else {
        compare_traffic(&mut faults, case, &bench);
    }
    if !faults.is_empty() {
        let folder = write_captures(case, workers, &seen);
        let _ = writeln!(faults, "  captures: {}", folder.display());
        faults = format!("{} ({}), {workers} worker(s):\n{faults}", case.name, case.about);
    }
    faults
}

fn apply(bench: &mut Bench, text: &str) -> Result<(), String> {
    let edits = case::command(text, bench.state())?;
    bench.apply(&edits).map_err(|e| e.to_string())
}

fn agree(expected: &[Expected], sent: &[Sent]) -> bool {
    expected.len() == sent.len() && expected.iter().zip(sent).all(|(e, s)| e.fits(s.port, &s.bytes))
}

fn describe(faults: &mut String, expected: &[Expected], sent: &[Sent]) {
    let name = |port: u16| PORTS[usize::from(port)];
    for at in 0..expected.len().max(sent.len()) {
        let (expected, sent) = (expected.get(at), sent.get(at));
        if let (Some(e), Some(s)) = (expected, sent)
            && e.fits(s.port, &s.bytes)
        {
            let _ = writeln!(faults, "    as expected: {}: {}", name(s.port), decode(&s.bytes));
            continue;
        }
        match expected {
            Some(e) => writeln!(faults, "    expected {}: {}", name(e.port), decode(&e.bytes)),
            None => writeln!(faults, "    expected nothing more"),
        }
        .unwrap_or_default();
        match sent {
            Some(s) => writeln!(faults, "    came     {}: {}", name(s.port), decode(&s.bytes)),
            None => writeln!(faults, "    came     nothing more"),
        }
        .unwrap_or_default();
        if let (Some(e), Some(s)) = (expected, sent) {
            let _ =
                write!(faults, "    {} bytes expected, {} came; different at", e.bytes.len(), s.bytes.len());
            for at in e.differences(&s.bytes) {
                let _ = write!(faults, " {at}:{:02x}/{:02x}", e.bytes[at], s.bytes[at]);
            }
            faults.push('\n');
        }
    }
}

/// Compares what the receivers behind the ports have, over the whole case: fragments come and go one at a time.
fn compare_datagrams(faults: &mut String, case: &Case, seen: &[Sent]) {
    let (mut expected, mut came) = (Receiver::default(), Receiver::default());
    for step in &case.steps {
        if let Step::Frame { out, .. } = step {
            out.iter().for_each(|frame| expected.take(frame.port, &frame.bytes, &frame.masks));
        }
    }
    seen.iter().for_each(|frame| came.take(frame.port, &frame.bytes, &[]));
    let whole = |arrival: crate::datagram::Arrival| Expected {
        port: arrival.port,
        bytes: arrival.frame,
        masks: arrival.masks,
    };
    let expected: Vec<Expected> = expected.arrivals.into_iter().map(whole).collect();
    let came: Vec<Sent> = came
        .arrivals
        .into_iter()
        .map(|arrival| Sent { time: 0, port: arrival.port, bytes: arrival.frame })
        .collect();
    if !agree(&expected, &came) {
        let _ = writeln!(faults, "  datagrams:");
        describe(faults, &expected, &came);
    }
}

fn session_line(view: SessionView) -> SessionLine {
    let end = |(address, port): (std::net::IpAddr, u16)| std::net::SocketAddr::new(address, port);
    let protocol = match view.protocol {
        0 => "IP",
        6 => "TCP",
        17 => "UDP",
        _ => "SCTP",
    };
    let ends = [view.client, view.vip, view.server].map(|(address, port)| end((address, port)).to_string());
    SessionLine {
        text: format!("{protocol} {} {}", view.state, ends.join(" ")),
        left: view.expires_in / SECOND,
    }
}

fn compare_sessions(faults: &mut String, case: &Case, bench: &Bench) {
    let mut came: Vec<SessionLine> = bench.sessions().into_iter().map(session_line).collect();
    let mut expected = case.sessions.clone();
    came.sort();
    expected.sort();
    let same = |(a, b): (&SessionLine, &SessionLine)| a.text == b.text && a.left.abs_diff(b.left) <= SLACK;
    if came.len() != expected.len() || !came.iter().zip(&expected).all(same) {
        let show = |list: &[SessionLine]| {
            let lines = list.iter().map(|s| format!("\n      {} {} s", s.text, s.left));
            lines.collect::<String>()
        };
        let _ = writeln!(faults, "  sessions expected:{}\n    came:{}", show(&expected), show(&came));
    }
}

fn compare_traffic(faults: &mut String, case: &Case, bench: &Bench) {
    let numbers = |counters: &[u64; 5]| counters.map(|n| n.to_string()).join(" ");
    let mut came = Vec::new();
    for service in bench.program().counters() {
        let name = service_text(service.key);
        came.push(format!("{name} {}", numbers(&service.traffic.totals())));
        for server in &service.servers {
            came.push(format!("{name} -> {} {}", server.key, numbers(&totals(&server.cells))));
        }
    }
    compare_lines(faults, "traffic", &case.traffic, came);
}

/// Compares what servers count of sessions, where the case says anything of it.
fn compare_load(faults: &mut String, case: &Case, bench: &Bench) {
    let mut came = Vec::new();
    for service in bench.program().counters() {
        for server in &service.servers {
            let sum =
                |of: fn(&DestinationCells) -> u64| server.cells.iter().map(of).fold(0, u64::wrapping_add);
            let counts = [
                sum(|cells| cells.active.get()),
                sum(|cells| cells.inactive.get()),
                sum(|cells| cells.persistent.get()),
            ];
            let counts = counts.map(|n| n.to_string()).join(" ");
            came.push(format!("{} -> {} {counts}", service_text(service.key), server.key));
        }
    }
    if !case.load.is_empty() {
        compare_lines(faults, "load", &case.load, came);
    }
}

fn compare_lines(faults: &mut String, what: &str, expected: &[String], mut came: Vec<String>) {
    let mut expected = expected.to_vec();
    came.sort();
    expected.sort();
    if came != expected {
        let _ = writeln!(faults, "  {what} expected:\n      {}", expected.join("\n      "));
        let _ = writeln!(faults, "    came:\n      {}", came.join("\n      "));
    }
}

/// Leaves what was expected and what came as captures.
fn write_captures(case: &Case, workers: u16, seen: &[Sent]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{workers}", case.name));
    std::fs::create_dir_all(&folder).unwrap();
    let create = |name: &str| {
        let format = Format::PcapNg { big_endian: false };
        Writer::create(&folder.join(name), format, PORTS.into_iter()).unwrap()
    };
    let (mut input, mut expected, mut came) =
        (create("in.pcapng"), create("expected.pcapng"), create("came.pcapng"));
    let mut time = 0;
    for step in &case.steps {
        if let Step::Frame { port, bytes, out } = step {
            input.write(time, *port, bytes).unwrap();
            for frame in out {
                expected.write(time, frame.port, &frame.bytes).unwrap();
            }
            time += PAUSE;
        }
    }
    for sent in seen {
        came.write(sent.time, sent.port, &sent.bytes).unwrap();
    }
    for file in [input, expected, came] {
        file.finish().unwrap();
    }
    folder
}
