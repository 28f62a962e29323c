//! What a kernel was seen to do, done by the director: byte for byte where bytes are not left to chance.
//!
//! Every case runs with one worker and with three. When one does not hold, the test prints what was expected
//! and what came, decoded, and leaves both as captures.

mod case;
mod decode;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use fulcrum_director::SECOND;
use fulcrum_replay::capture::{Format, Writer};
use fulcrum_replay::{Bench, BenchConfig, Sent};

use case::{Case, Expected, PORTS, SessionLine, Step};
use decode::decode;

/// The recordings waited for 40 ms of silence after each frame.
const PAUSE: u64 = SECOND / 20;
/// How much the remaining time of a session may differ, in seconds: the recordings took their time.
const SLACK: u64 = 3;

/// Runs a case; what does not hold, in words.
fn run(case: &Case, workers: u16) -> String {
    let config =
        BenchConfig { workers, sessions: 4096, seed: 7, misdirect: workers > 1, start: 1000 * SECOND };
    let mut bench = Bench::new(config, case.state.clone());
    for text in &case.setup {
        let edits = case::command(text, bench.state());
        bench.apply(&edits).unwrap_or_else(|e| panic!("{}: `{text}`: {e}", case.name));
    }
    let mut faults = String::new();
    let mut seen: Vec<Sent> = Vec::new();
    let mut frames = 0;
    for step in &case.steps {
        match step {
            Step::Do(text) => {
                let edits = case::command(text, bench.state());
                bench.apply(&edits).unwrap_or_else(|e| panic!("{}: `{text}`: {e}", case.name));
                bench.advance(bench.now() + PAUSE);
            }
            Step::Frame { port, bytes, out } => {
                frames += 1;
                let outcome = bench.receive(*port, frames, bytes);
                let mut sent = outcome.sent;
                sent.extend(bench.advance(bench.now() + PAUSE));
                if !agree(out, &sent) {
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
    compare_traffic(&mut faults, case, &bench);
    if !faults.is_empty() {
        let folder = write_captures(case, workers, &seen);
        let _ = writeln!(faults, "  captures: {}", folder.display());
        faults = format!("{} ({}), {workers} worker(s):\n{faults}", case.name, case.about);
    }
    faults
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

fn compare_sessions(faults: &mut String, case: &Case, bench: &Bench) {
    let line = |s: fulcrum_director::export::SessionView| {
        let end = |(address, port)| format!("{address}:{port}");
        let protocol = if s.protocol == 6 { "TCP" } else { "UDP" };
        let text = format!("{protocol} {} {} {} {}", s.state, end(s.client), end(s.vip), end(s.server));
        SessionLine { text, left: s.expires_in / SECOND }
    };
    let mut came: Vec<SessionLine> = bench.sessions().into_iter().map(line).collect();
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
        let protocol = service.key.protocol.to_string().to_uppercase();
        let name = format!("{protocol} {}:{}", service.key.address, service.key.port);
        let sums = |sum: &dyn Fn(fn(&fulcrum_director::counters::Traffic) -> u64) -> u64| {
            [
                sum(|t| t.connections.get()),
                sum(|t| t.in_packets.get()),
                sum(|t| t.out_packets.get()),
                sum(|t| t.in_bytes.get()),
                sum(|t| t.out_bytes.get()),
            ]
        };
        came.push(format!("{name} {}", numbers(&sums(&|field| service.traffic.iter().map(field).sum()))));
        for server in &service.servers {
            let of = sums(&|field| server.cells.iter().map(|cell| field(&cell.traffic)).sum());
            came.push(format!("{name} -> {} {}", server.key, numbers(&of)));
        }
    }
    let mut expected = case.traffic.clone();
    came.sort();
    expected.sort();
    if came != expected {
        let _ = writeln!(faults, "  traffic expected:\n      {}", expected.join("\n      "));
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

/// One test a case and number of workers, and one that no case of the file is missing here.
macro_rules! recorded {
    ($($module:ident, $file:literal: $($case:literal as $name:ident),* $(,)?;)*) => {$(
        mod $module {
            $(mod $name {
                #[test]
                fn one_worker() {
                    crate::holds($file, $case, 1);
                }

                #[test]
                fn three_workers() {
                    crate::holds($file, $case, 3);
                }
            })*

            #[test]
            fn every_case_is_a_test() {
                let names: Vec<String> = crate::case::load($file).into_iter().map(|case| case.name).collect();
                assert_eq!(names, [$($case),*]);
            }
        }
    )*};
}

fn holds(file: &str, name: &str, workers: u16) {
    let case = case::load(file).into_iter().find(|case| case.name == name).unwrap();
    let faults = run(&case, workers);
    assert!(faults.is_empty(), "\n{faults}");
}

include!("list.rs");
