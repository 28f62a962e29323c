//! `fulcrum capture`: frames of the running data plane, as pcapng.

mod pcapng;

use std::fs::OpenOptions;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use fulcrum_api::dataplane::{CaptureChunk, CaptureRequest};
use fulcrum_director::Reason;
use serde::Serialize;
use tonic::Streaming;

use crate::command::Global;
use crate::failure::Failure;
use crate::name::{End, service};
use crate::output::Output;
use pcapng::Pcapng;

/// Which frames to copy, how many, and where to.
///
/// Frames are copied that are all that is named. In the file every port is an interface, every frame has its
/// direction, and a dropped one its reason as a comment. While nobody captures the data plane does not look; while
/// somebody does, it waits for nobody: what finds no room is counted and told at the end.
///
/// A capture ends at the first of its bounds, or with ^C. One at a time.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    fulcrum capture --service tcp 172.16.100.9:80 | tcpdump -nr -\n  \
    fulcrum capture --drop any --client 198.51.100.7 --count 10 -w drops.pcapng\n  \
    ssh director fulcrum capture --port wan | wireshark -ki -")]
pub struct Arguments {
    /// Of this port
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Of this service, such as `tcp 172.16.100.9:80` or `fwm 10`: to and from its address and its servers'
    #[arg(long, num_args = 2, value_names = ["PROTOCOL|fwm|fwm6", "ADDRESS[:PORT]|MARK"])]
    service: Vec<String>,
    /// From or to this client, or clients in this network; behind FULLNAT servers see a local address instead
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK|:PORT")]
    client: Option<End>,
    /// From or to this server
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK|:PORT")]
    server: Option<End>,
    /// What is dropped for this reason, or for `any`; several with commas. Nothing else unless --in, --out or --both
    #[arg(long, value_name = "REASON", value_delimiter = ',', hide_possible_values = true)]
    #[arg(value_parser = PossibleValuesParser::new(reasons()))]
    drop: Vec<String>,
    /// What comes in
    #[arg(long = "in", conflicts_with_all = ["outgoing", "both"])]
    incoming: bool,
    /// What goes out
    #[arg(long = "out", conflicts_with = "both")]
    outgoing: bool,
    /// What comes in and what goes out, the default without --drop
    #[arg(long)]
    both: bool,
    /// End after this many frames, 0 = never
    #[arg(long, short, value_name = "N", default_value_t = 0)]
    count: u64,
    /// End after this time, such as 30s or 5m, 0 = never
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// End after this many MiB of frames, 0 = never
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(..1 << 20))]
    megabytes: u64,
    /// Bytes of each frame at most, 0 = all
    #[arg(long, short, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u16))]
    snaplen: u16,
    /// Write to this file, `-` for standard output, which is the default unless that is a terminal
    #[arg(long, short, value_name = "FILE|-")]
    write: Option<PathBuf>,
}

/// How it went.
#[derive(Clone, Debug, Default, Serialize)]
struct Summary {
    frames: u64,
    bytes: u64,
    lost: u64,
    end: String,
}

impl Arguments {
    fn asked(&self) -> Result<CaptureRequest, Failure> {
        let service = match self.service.as_slice() {
            [first, second] => Some(service(first, second)?),
            _ => None,
        };
        let both = self.both || !self.incoming && !self.outgoing && self.drop.is_empty();
        Ok(CaptureRequest {
            port: self.port.clone().unwrap_or_default(),
            service: service.as_ref().map(Into::into),
            client: self.client.map(Into::into),
            server: self.server.map(Into::into),
            incoming: self.incoming || both,
            outgoing: self.outgoing || both,
            drops: self.drop.clone(),
            snap_length: self.snaplen.into(),
            frames: self.count,
            bytes: self.megabytes << 20,
            duration_ms: u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Does it.
pub async fn run(global: &Global, arguments: Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let asked = arguments.asked()?;
    let file = arguments.write.as_deref().filter(|path| *path != Path::new("-"));
    if file.is_none() && io::stdout().is_terminal() {
        let say = "a capture is nothing for a terminal: name a file by --write, or pipe it: | tcpdump -nr -";
        return Err(Failure::Usage(say.to_owned()));
    }
    let mut stream = global.client().await?.capture(asked).await?;
    // Only now: what was refused leaves the file as it is.
    let target: Box<dyn Write> = match file {
        Some(path) => {
            let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            Box::new(options.map_err(|source| Failure::file(path, source))?)
        }
        None => Box::new(&mut *out),
    };
    let summary = copy(&mut stream, BufWriter::new(target), arguments.snaplen).await?;
    tell(global.json, file.is_some(), &summary, out)
}

/// Writes what comes until it ends.
async fn copy(
    stream: &mut Streaming<CaptureChunk>,
    target: impl Write,
    snap_length: u16,
) -> Result<Summary, Failure> {
    let mut summary = Summary::default();
    // The first chunk names the ports.
    let Some(first) = stream.message().await? else { return Ok(summary) };
    let mut pcapng = Pcapng::begin(target, &first.ports, snap_length)?;
    eprintln!("fulcrum: capturing");
    let mut next = Some(first);
    while let Some(chunk) = next {
        for frame in &chunk.frames {
            summary.frames += 1;
            summary.bytes += frame.data.len() as u64;
            pcapng.add(frame)?;
        }
        (summary.lost, summary.end) = (chunk.lost, chunk.end);
        // Whoever reads along wants to see it now.
        match pcapng.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            flushed => flushed?,
        }
        next = tokio::select! {
            chunk = stream.message() => chunk?,
            _ = tokio::signal::ctrl_c() => {
                summary.end = "interrupted".to_owned();
                None
            }
        };
    }
    Ok(summary)
}

/// Says how it went: beside the capture where that goes to standard output.
fn tell(json: bool, to_file: bool, summary: &Summary, out: &mut Output<'_>) -> Result<(), Failure> {
    if json && to_file {
        return Ok(out.json(summary)?);
    }
    let Summary { frames, lost, end, .. } = summary;
    let end = if end.is_empty() { "the data plane ended it" } else { end };
    eprintln!("fulcrum: {frames} frames captured, {lost} found no room; {end}");
    Ok(())
}

fn reasons() -> Vec<&'static str> {
    std::iter::once("any").chain(Reason::ALL.iter().map(|reason| reason.name())).collect()
}

/// Reads a time: seconds, or a number with `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a time such as 30s, 5m or 500ms".to_owned()),
    };
    let number: u32 = digits.parse().map_err(|_| "a time such as 30s, 5m or 500ms".to_owned())?;
    Ok(Duration::from_millis(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::command::{Arguments as All, Command};

    fn asked(line: &str) -> Result<CaptureRequest, String> {
        let words = ["fulcrum", "capture"].into_iter().chain(line.split_whitespace());
        let Command::Capture(arguments) = All::try_parse_from(words).map_err(|e| e.to_string())?.command
        else {
            return Err("another command".to_owned());
        };
        arguments.asked().map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_is_copied() {
        let all = asked("").unwrap();
        assert!(all.incoming && all.outgoing && all.drops.is_empty());
        assert_eq!((all.frames, all.bytes, all.duration_ms), (0, 256 << 20, 60_000));
        let drops = asked("--drop no-route,too-big --count 5 --duration 500ms").unwrap();
        assert!(!drops.incoming && !drops.outgoing);
        assert_eq!(
            (&drops.drops[..], drops.frames, drops.duration_ms),
            (&["no-route".to_owned(), "too-big".to_owned()][..], 5, 500)
        );
        let drops_and_more = asked("--drop any --out --client 10.0.0.2:4000").unwrap();
        assert!(!drops_and_more.incoming && drops_and_more.outgoing);
        assert_eq!(drops_and_more.client.unwrap().port, Some(4000));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (line, why) in [
            ("--drop no-rout", "invalid value 'no-rout' for '--drop <REASON>'"),
            ("--in --out", "cannot be used with"),
            ("--duration 5d", "a time such as 30s"),
            ("--service tcp nowhere", "`nowhere` names no service"),
            ("--client nobody", "no end of a session"),
        ] {
            let said = asked(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
