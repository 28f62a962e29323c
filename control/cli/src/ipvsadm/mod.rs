//! ipvsadm's command line against fulcrum-control.
//!
//! Lives here: doing what a command line asks for, and ipvsadm's exit codes. Does not live here: the grammar
//! and the columns (fulcrum-model's `ipvsadm`).

mod face;
mod gather;
mod names;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use fulcrum_api::listing;
use fulcrum_model::ipvsadm::{
    self, Command, EXIT_LIST, EXIT_REFUSED, EXIT_USAGE, Numeric, RestoreError, Usage, list, sessions,
};
use fulcrum_model::{Edit, Forward, ServiceKey};

use crate::{Client, Door, Failure, Output};
pub use face::Face;
pub use names::SystemNames;

/// Where a command line reads and writes.
pub struct Streams<'a> {
    /// What `-R` reads.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub output: Output<'a>,
    /// Standard error.
    pub errors: &'a mut dyn Write,
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("output", &self.output).finish_non_exhaustive()
    }
}

/// Does what `args` (without the program's name) ask the program of that name for, on the process's own streams.
pub async fn run_on_stdio(face: Face, args: &[String], door: &Door) -> ExitCode {
    let streams = Streams { input: &mut io::stdin(), output: Output::stdout(), errors: &mut io::stderr() };
    ExitCode::from(run(face, args, door, streams).await)
}

/// Does what `args` (without the program's name) ask the program of that name for and gives the exit code.
pub async fn run(face: Face, args: &[String], door: &Door, mut streams: Streams<'_>) -> u8 {
    let names = SystemNames::default();
    let done = match command(face, args, &names) {
        Ok(Command::Restore) => restore(face == Face::Restore, door, &names, &mut streams).await,
        Ok(command) => perform(command, door, &names, &mut streams).await,
        Err(usage) => Err(usage),
    };
    let flushed = streams.output.flush();
    let outcome = done.and_then(|()| flushed.map_err(|error| cannot_write(&error)));
    match outcome {
        Ok(()) => 0,
        Err(Usage { message, code }) => {
            // Nowhere is left to complain about a closed standard error.
            let _ = writeln!(streams.errors, "{message}");
            code
        }
    }
}

/// What is asked for. The two scripts take less notice of their arguments than one would think, and old crontabs
/// count on it.
fn command(face: Face, args: &[String], names: &SystemNames) -> Result<Command, Usage> {
    let other = args.iter().any(|word| word.starts_with('-') && word != "-n");
    match face {
        Face::Ipvsadm => ipvsadm::parse_with(args, names),
        Face::Save if other => Err(Usage {
            message: "ipvsadm-save: prints the table as commands for ipvsadm-restore\n   -n  numbers instead of names"
                .to_owned(),
            code: EXIT_LIST,
        }),
        Face::Save => Ok(Command::Save { numeric: args.iter().any(|word| word == "-n") }),
        Face::Restore => Ok(Command::Restore),
    }
}

/// Does one command; `Command::Restore`, which is about more of them, is not among them.
async fn perform(
    command: Command,
    door: &Door,
    names: &SystemNames,
    streams: &mut Streams<'_>,
) -> Result<(), Usage> {
    match command {
        Command::Help => print(streams, format_args!("{}\n{}", ipvsadm::VERSION, ipvsadm::help())),
        Command::Version => print(streams, format_args!("{}\n", ipvsadm::VERSION)),
        Command::Edit(edits) => {
            let mut client = connect(door).await?;
            edit(&mut client, &edits, streams).await.map_err(|(at, failure)| match (failure, edits.get(at)) {
                (Failure::Refused(_, error), Some(edit)) => refused(ipvsadm::refusal(edit, &error)),
                (failure, _) => refused(failure.to_string()),
            })
        }
        Command::Restore => Err(refused("`-R' cannot stand in what -R reads".to_owned())),
        Command::Zero(service) => {
            let mut client = connect(door).await?;
            if let Some(key) = service {
                known_service(&mut client, key, EXIT_REFUSED).await?;
            }
            client.zero(service).await.map_err(|failure| refused(failure.to_string()))
        }
        Command::List(options) => {
            let mut client = connect(door).await?;
            let (services, missing) = gather::services(&mut client).await.map_err(cannot_list)?;
            let text = list::services(&services, &options, list::TABLE_SIZE, names)?;
            print(streams, format_args!("{text}"))?;
            if let Some(why) = missing {
                let _ = writeln!(streams.errors, "no counters: {why}");
            }
            Ok(())
        }
        Command::ListSessions { numeric, persistence_data } => {
            let mut client = connect(door).await?;
            match numeric {
                true => list_sessions(&mut client, persistence_data, &Numeric, streams).await,
                false => list_sessions(&mut client, persistence_data, names, streams).await,
            }
        }
        Command::ListTimeouts => {
            let state = connect(door).await?.state().await.map_err(cannot_list)?;
            print(streams, format_args!("{}", list::timeouts(&state.timeouts)))
        }
        Command::ListDaemons => connect(door).await.map(drop),
        Command::LocalAddresses { service, numeric } => {
            let mut client = connect(door).await?;
            if let Some(key) = service {
                known_service(&mut client, key, EXIT_LIST).await?;
            }
            let listed = gather::local_addresses(&mut client, service).await.map_err(cannot_list)?;
            print(streams, format_args!("{}", list::local_addresses(&listed, numeric, names)))
        }
        Command::Save { numeric } => {
            let state = connect(door).await?.state().await.map_err(cannot_list)?;
            print(streams, format_args!("{}", ipvsadm::save(&state.services, numeric, names)))
        }
    }
}

/// Connects, or says what ipvsadm says when there is no IPVS.
async fn connect(door: &Door) -> Result<Client, Usage> {
    Client::connect(door).await.map_err(|failure| {
        let why = match failure {
            Failure::Forbidden(_) => "Permission denied (you must be root)".to_owned(),
            other => other.to_string(),
        };
        let message = format!("Can't initialize ipvs: {why}\nAre you sure that fulcrum-control is running?");
        Usage { message, code: EXIT_USAGE }
    })
}

/// Sends a transaction; the number that comes with a failure is the edit's that was refused.
async fn edit(
    client: &mut Client,
    edits: &[Edit],
    streams: &mut Streams<'_>,
) -> Result<(), (usize, Failure)> {
    match client.edit(edits).await {
        Ok(delivery) => {
            if !delivery.delivered {
                let _ = writeln!(streams.errors, "{}", delivery.note);
            }
            Ok(())
        }
        Err(Failure::Refused(at, error)) => Err((at, Failure::Refused(at, error))),
        Err(failure) => Err((0, failure)),
    }
}

/// Applies what standard input holds, all of it or nothing, to the table or, with `anew`, in place of it; then
/// does what else it asks for.
async fn restore(
    anew: bool,
    door: &Door,
    names: &SystemNames,
    streams: &mut Streams<'_>,
) -> Result<(), Usage> {
    let mut input = Vec::new();
    streams
        .input
        .read_to_end(&mut input)
        .map_err(|error| refused(format!("cannot read the input: {error}")))?;
    let input = String::from_utf8(input).map_err(|_| refused("the input is not text".to_owned()))?;
    let wrong = |error: RestoreError| Usage { message: error.to_string(), code: error.code };
    // The first edit has no line of its own; it cannot be refused.
    let mut edits = if anew { vec![Edit::ClearServices] } else { Vec::new() };
    let (mut lines, mut others) = (vec![0; edits.len()], Vec::new());
    for line in ipvsadm::restore(&input, names).map_err(wrong)? {
        match line.command {
            Command::Edit(of_line) => {
                lines.extend(std::iter::repeat_n(line.number, of_line.len()));
                edits.extend(of_line);
            }
            other => others.push(other),
        }
    }
    let mut client = connect(door).await?;
    if !edits.is_empty() {
        let done = edit(&mut client, &edits, streams).await;
        done.map_err(|(at, failure)| match (failure, lines.get(at).zip(edits.get(at))) {
            (Failure::Refused(_, error), Some((line, edit))) => {
                let message = ipvsadm::refusal(edit, &error);
                wrong(RestoreError { line: *line, message, code: EXIT_REFUSED })
            }
            (failure, _) => refused(failure.to_string()),
        })?;
    }
    for command in others {
        perform(command, door, names, streams).await?;
    }
    Ok(())
}

async fn list_sessions(
    client: &mut Client,
    persistence_data: bool,
    names: &dyn ipvsadm::Names,
    streams: &mut Streams<'_>,
) -> Result<(), Usage> {
    let state = client.state().await.map_err(cannot_list)?;
    let locals = state.services.iter().flat_map(|s| &s.servers).any(|s| s.forward == Forward::FullNat);
    let mut chunks = client.sessions(Default::default()).await.map_err(cannot_list)?;
    print(streams, format_args!("{}", sessions::title(locals, persistence_data)))?;
    while let Some(chunk) = chunks.message().await.map_err(|status| cannot_list(status.into()))? {
        // What is masqueraded is no connection of IPVS's.
        for session in chunk.sessions.into_iter().filter(|session| session.snat.is_empty()) {
            let session = listing::session(session).map_err(|bad| cannot_list(bad.into()))?;
            print(streams, format_args!("{}", sessions::row(&session, persistence_data, names)))?;
        }
        if streams.output.closed() {
            break;
        }
    }
    Ok(())
}

async fn known_service(client: &mut Client, key: ServiceKey, code: u8) -> Result<(), Usage> {
    let state = client.state().await.map_err(cannot_list)?;
    match state.service(key) {
        Some(_) => Ok(()),
        None => Err(Usage { message: "No such service".to_owned(), code }),
    }
}

fn print(streams: &mut Streams<'_>, text: std::fmt::Arguments<'_>) -> Result<(), Usage> {
    streams.output.write_fmt(text).map_err(|error| cannot_write(&error))
}

fn refused(message: String) -> Usage {
    Usage { message, code: EXIT_REFUSED }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn cannot_list(failure: Failure) -> Usage {
    Usage { message: failure.to_string(), code: EXIT_LIST }
}

fn cannot_write(error: &io::Error) -> Usage {
    Usage { message: format!("cannot write: {error}"), code: EXIT_LIST }
}
