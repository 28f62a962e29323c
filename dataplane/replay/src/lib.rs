//! Capture in, capture out, through the engine: the director without a network.
//!
//! Lives here: the `replay` command ([`Args`], [`run`]), captures (`capture`), set-up files (`setup`), verdicts as
//! JSON (`verdict`), and the director in memory that they drive ([`Bench`]), which tests use too.
//! Does not live here: anything that decides about a packet (fulcrum-director). No DPDK, no privileges; the same
//! input gives the same bytes.

#![forbid(unsafe_code)]

mod bench;
pub mod capture;
pub mod setup;
pub mod trace;
mod verdict;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::iter::Peekable;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::vec;

use fulcrum_director::SECOND;
use fulcrum_model::Config;
use fulcrum_model::file::FileErrors;
use fulcrum_model::file::read_text;

pub use bench::{Bench, BenchConfig, Outcome, Sent, mac};
pub use verdict::{Line, service_text};

use capture::{CaptureError, Frame, Reader, Writer};
use setup::{Command, SetupError};

/// `fulcrum replay`: what the director would do with a capture.
///
/// Every frame goes into the engine at the capture's own time. Frames that the director sends go to OUT, what
/// it decided about each input frame to the verdicts. A frame comes in by the port that is called like its
/// pcapng interface; frames of plain pcap by --port. OUT is of the same kind as IN, in pcapng with one interface
/// a port. A port without `mac` in the configuration has 02:00:00:00:00:01, the next one …:02, and so on.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Lines in ipvsadm's grammar, applied on top; `@N` before a line: just before frame N. Also
    /// `sysctl -w net.ipv4.vs.NAME=VALUE`, and `iptables` or `ip6tables` rules that mark packets
    #[arg(long, value_name = "SETUP")]
    pub ipvsadm: Option<PathBuf>,
    /// Capture to read, pcap or pcapng
    #[arg(long = "in", value_name = "IN.pcap")]
    pub input: PathBuf,
    /// Capture to write
    #[arg(long = "out", value_name = "OUT.pcap")]
    pub output: PathBuf,
    /// One JSON object per input frame
    #[arg(long, value_name = "OUT.jsonl")]
    pub verdicts: Option<PathBuf>,
    /// Port of frames whose capture does not name one of ours; the first port for plain pcap
    #[arg(long, value_name = "NAME")]
    pub port: Option<String>,
    /// Workers; frame k arrives at worker k mod N
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub workers: u16,
    /// Seed of every choice by chance
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The configuration has mistakes.
    #[error("{0}")]
    Config(#[from] FileErrors),
    /// The set-up file has one.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A capture is not what it should be.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The configuration has no port.
    #[error("{}: there is no [[port]]; frames need one to come in by", config.display())]
    NoPort {
        /// The configuration file.
        config: PathBuf,
    },
    /// `--port` names none.
    #[error("--port {name}: there is no such port; known: {known}")]
    UnknownPort {
        /// What was given.
        name: String,
        /// The configured ports.
        known: String,
    },
    /// A frame's interface is not a port.
    #[error("{}: frame {frame} was captured on {interface}, which is no port of the configuration (known: {known}); --port NAME says by which port such frames come in", path.display())]
    UnknownInterface {
        /// The capture.
        path: PathBuf,
        /// 1-based frame number.
        frame: u64,
        /// Its interface.
        interface: String,
        /// The configured ports.
        known: String,
    },
    /// Output would overwrite input, or other output.
    #[error("{}: is used by this replay already and cannot be written at the same time", path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
    },
}

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames read.
    pub frames_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// What the user should know: parts of the configuration that are not used, cut frames, time running backwards.
    pub notes: Vec<String>,
}

/// Replays a capture.
pub fn run(args: &Args) -> Result<Summary, Error> {
    let config = Config::parse(&args.config.display().to_string(), &read(&args.config)?)?;
    let mut commands = match &args.ipvsadm {
        Some(path) => setup::parse(path, &read(path)?, &config.state)?,
        None => Vec::new(),
    }
    .into_iter()
    .peekable();
    let ports = Ports::new(args, &config)?;
    let mut reader = Reader::open(&args.input)?;
    for output in [Some(&args.output), args.verdicts.as_ref()].into_iter().flatten() {
        for input in [Some(&args.input), Some(&args.config), args.ipvsadm.as_ref()].into_iter().flatten() {
            refuse_same(input, output)?;
        }
    }
    let mut writer =
        Writer::create(&args.output, reader.format(), config.state.ports.iter().map(|p| p.name.as_str()))?;
    if let Some(verdicts) = &args.verdicts {
        refuse_same(&args.output, verdicts)?;
    }
    let mut verdicts = args.verdicts.as_deref().map(Verdicts::create).transpose()?;

    let mut summary = Summary::default();
    let mut clock: Option<Clock> = None;
    let bench_config = BenchConfig {
        workers: args.workers,
        sessions: config.dataplane.sessions,
        seed: args.seed,
        misdirect: config.dataplane.misdirect,
        start: START,
    };
    let mut bench = Bench::new(bench_config, config.state);
    summary.notes.append(&mut bench.take_warnings());

    // Lines without a frame number are checked even if no frame comes.
    apply_until(1, &mut commands, args, &mut bench)?;
    while let Some(frame) = reader.next_frame()? {
        summary.frames_in += 1;
        let number = summary.frames_in;
        let clock = clock.get_or_insert(Clock { first: frame.time, last: frame.time });
        summary.note_about(number, &frame, frame.time < clock.last);
        clock.last = clock.last.max(frame.time);
        let port = ports.of(&frame, number)?;

        let idle = bench.advance(clock.at(frame.time));
        let write =
            |writer: &mut Writer, sent: Sent| writer.write(clock.back(sent.time), sent.port, &sent.bytes);
        for sent in idle {
            summary.frames_out = write(&mut writer, sent)?;
        }
        apply_until(number, &mut commands, args, &mut bench)?;
        let worker = usize::try_from(number).unwrap_or(0);
        let outcome = bench.receive(port, worker, &frame.bytes);
        let mut out = Vec::with_capacity(outcome.sent.len());
        for sent in outcome.sent {
            summary.frames_out = write(&mut writer, sent)?;
            out.push(summary.frames_out);
        }
        if let Some(verdicts) = &mut verdicts {
            verdicts.put(&Line::new(number, outcome.verdict, out, bench.program()))?;
        }
    }
    writer.finish()?;
    if let Some(verdicts) = verdicts {
        verdicts.finish()?;
    }
    if let (Some(left), Some(path)) = (commands.next(), &args.ipvsadm) {
        let (line, before) = (left.line, left.before);
        summary.notes.push(format!(
            "{}:{line}: never applied: the capture ends before frame {before}",
            path.display()
        ));
    }
    summary.notes.append(&mut bench.take_warnings());
    Ok(summary)
}

/// The engine's time at the first frame: late enough that "long ago" can be said.
const START: u64 = 3600 * SECOND;

/// Capture time to engine time and back.
#[derive(Clone, Copy)]
struct Clock {
    /// Time of the first frame.
    first: u64,
    /// The latest time so far.
    last: u64,
}

impl Clock {
    fn at(&self, time: u64) -> u64 {
        START.saturating_add(time.saturating_sub(self.first))
    }

    fn back(&self, now: u64) -> u64 {
        self.first.saturating_add(now.saturating_sub(START))
    }
}

impl Summary {
    fn note_about(&mut self, number: u64, frame: &Frame, backwards: bool) {
        if (frame.bytes.len() as u64) < u64::from(frame.original_length) {
            let (kept, whole) = (frame.bytes.len(), frame.original_length);
            self.note(format!("frame {number} was cut by the capture: {kept} of {whole} bytes"));
        }
        if backwards {
            self.note(format!("frame {number} is older than the one before; it is taken at that one's time"));
        }
    }

    /// Keeps the first few notes: a capture may be wrong throughout.
    fn note(&mut self, text: String) {
        const KEPT: usize = 20;
        match self.notes.len() {
            n if n < KEPT => self.notes.push(text),
            KEPT => self.notes.push("more such notes are left out".to_owned()),
            _ => {}
        }
    }
}

/// Applies the commands that are due before frame `number`.
fn apply_until(
    number: u64,
    commands: &mut Peekable<vec::IntoIter<Command>>,
    args: &Args,
    bench: &mut Bench,
) -> Result<(), SetupError> {
    while let Some(command) = commands.next_if(|command| command.before <= number) {
        bench.apply(&command.edits).map_err(|error| SetupError {
            path: args.ipvsadm.clone().unwrap_or_default(),
            line: command.line,
            message: error.to_string(),
        })?;
    }
    Ok(())
}

/// Which port a frame comes in by.
struct Ports {
    numbers: HashMap<String, u16>,
    /// For frames without a name of ours.
    fallback: Option<u16>,
    /// For frames without any name.
    nameless: u16,
    known: String,
    path: PathBuf,
}

impl Ports {
    fn new(args: &Args, config: &Config) -> Result<Ports, Error> {
        let names = || config.state.ports.iter().map(|port| port.name.clone());
        let known = names().collect::<Vec<_>>().join(", ");
        let numbers: HashMap<String, u16> = names().zip(0..).collect();
        if numbers.is_empty() {
            return Err(Error::NoPort { config: args.config.clone() });
        }
        let fallback = match &args.port {
            None => None,
            Some(name) => match numbers.get(name) {
                Some(number) => Some(*number),
                None => return Err(Error::UnknownPort { name: name.clone(), known }),
            },
        };
        Ok(Ports { numbers, fallback, nameless: fallback.unwrap_or(0), known, path: args.input.clone() })
    }

    fn of(&self, frame: &Frame, number: u64) -> Result<u16, Error> {
        let Some(interface) = &frame.interface else { return Ok(self.nameless) };
        self.numbers.get(interface).copied().or(self.fallback).ok_or_else(|| Error::UnknownInterface {
            path: self.path.clone(),
            frame: number,
            interface: format!("`{interface}`"),
            known: self.known.clone(),
        })
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::File::open(path).and_then(read_text).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// By what they are, not by name: a link is the same file. What is no file (/dev/null) may be used often.
fn refuse_same(used: &Path, output: &Path) -> Result<(), Error> {
    let file = |path: &Path| {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some((meta.dev(), meta.ino()))
    };
    match file(output) {
        Some(id) if file(used) == Some(id) => Err(Error::SameFile { path: output.to_owned() }),
        _ => Ok(()),
    }
}

/// The file of verdicts.
struct Verdicts {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Verdicts {
    fn create(path: &Path) -> Result<Verdicts, Error> {
        let file = File::create(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Ok(Verdicts { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn put(&mut self, line: &Line) -> Result<(), Error> {
        writeln!(self.file, "{line}").map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    fn finish(mut self) -> Result<(), Error> {
        self.file.flush().map_err(|source| Error::Io { path: self.path, source })
    }
}
