//! The command tree and who does what in it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fulcrum_api::control::Delivery;
use fulcrum_model::Edit;

use crate::client::Client;
use crate::door::Door;
use crate::failure::Failure;
use crate::output::Output;
use crate::{
    capture, configuration, doctor, events, generate, import, ipvsadm, local_pool, mark, neighbour, port,
    probe, reference, route, run, server, service, session, setting, snat, status, timeout, top, trace,
    upgrade, vip, worker,
};

/// Operates Fulcrum, a layer-4 load balancer.
///
/// Changes are all or nothing and survive a restart of fulcrum-control. Exit codes: 0 done, 1 the operation
/// failed, 2 the command line makes no sense.
#[derive(Clone, Debug, Parser)]
#[command(name = "fulcrum", version, max_term_width = 110)]
pub struct Arguments {
    /// What every command needs
    #[command(flatten)]
    pub global: Global,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Where fulcrum-control is
    #[command(flatten)]
    pub door: Door,
    /// Print listings as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// What the environment alone says.
#[derive(Clone, Debug, Parser)]
struct Environment {
    #[command(flatten)]
    door: Door,
}

/// What can be done.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show how both processes are, their workers and ports, and what was dropped
    Status(status::Arguments),
    /// Watch services, servers, workers, ports and drops as they are now
    Top(top::Arguments),
    /// Virtual services
    #[command(subcommand)]
    Service(service::Command),
    /// Real servers of services
    #[command(subcommand)]
    Server(server::Command),
    /// What happened to servers and services: up, down, drained, quorum lost
    Events(events::Arguments),
    /// Sessions under way
    #[command(subcommand)]
    Session(session::Command),
    /// Devices of the data plane
    #[command(subcommand)]
    Port(port::Command),
    /// Workers of the data plane, and how busy they are
    #[command(subcommand)]
    Worker(worker::Command),
    /// Static routes
    #[command(subcommand)]
    Route(route::Command),
    /// Neighbours, static and learned
    #[command(subcommand)]
    Neighbour(neighbour::Command),
    /// VIPs as a whole: which the director has, and where they are announced
    #[command(subcommand)]
    Vip(vip::Command),
    /// Pools of local addresses for FULLNAT
    #[command(subcommand)]
    LocalPool(local_pool::Command),
    /// Rules that mark packets for services by mark
    #[command(subcommand)]
    Mark(mark::Command),
    /// Checks of servers that have names ([[check]])
    #[command(subcommand)]
    Probe(probe::Command),
    /// Rules that masquerade what servers start themselves
    #[command(subcommand)]
    Snat(snat::Command),
    /// How long sessions live in each state
    #[command(subcommand)]
    Timeout(timeout::Command),
    /// Show the settings of behaviour: value, default and meaning
    Settings(setting::ListArguments),
    /// Change settings of behaviour, all or none
    Set(setting::SetArguments),
    /// Copy frames of the running data plane into a capture
    Capture(capture::Arguments),
    /// Tell step by step what the director does, or would do, with a flow, and why
    Trace(trace::Arguments),
    /// Look over the set-up as it runs, and say what is wrong and what would be right
    Doctor(doctor::Arguments),
    /// Put a configuration file into effect, all or nothing
    Apply(configuration::FileArguments),
    /// Start the data plane again without losing connections, or fulcrum-control, as an upgrade of packages asks for
    Upgrade(upgrade::Arguments),
    /// Have fulcrum-control read its own configuration file and certificates again, as SIGHUP does
    Reload,
    /// Show what applying a configuration file would change
    Diff(configuration::FileArguments),
    /// Write the state now as a configuration file
    Save(configuration::SaveArguments),
    /// Check a configuration file; needs no running process
    Check(configuration::FileArguments),
    /// Write another director's configuration as one of Fulcrum's; needs no running process
    #[command(subcommand)]
    Import(import::Command),
    /// Describe the tables and keys of the configuration file; needs no running process
    Reference(reference::Arguments),
    /// Show what the director would do with a capture; needs no running process
    Replay(fulcrum_replay::Args),
    /// Run a program that was written for the kernel's IPVS (ipvsadm, keepalived, ldirectord) with Fulcrum in its place
    ///
    /// `fulcrum run -- ipvsadm -Ln`, `fulcrum run -- keepalived -n`: the program, and what it starts, find Fulcrum's
    /// services where they look for the kernel's. The exit code is the program's; 126 and 127 say that there is none to
    /// run, as in a shell.
    Run(run::Arguments),
    /// ipvsadm's command line, as it is when this program is called `ipvsadm`
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// ipvsadm's arguments, such as -Ln
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print a shell's completions for `fulcrum`, or for `ipvsadm`
    Completion(generate::CompletionArguments),
    /// Print the manual page of `fulcrum` or `ipvsadm`, or write all of them to a directory
    Man(generate::ManArguments),
}

/// Does what the process was called for, under the name that it was called by.
pub async fn main() -> ExitCode {
    let called = std::env::args_os().next().map(PathBuf::from);
    if let Some(face) = called.as_deref().and_then(ipvsadm::Face::of) {
        // ipvsadm has no options for it: the environment says where fulcrum-control is.
        let Environment { door } = Environment::parse_from(["ipvsadm"]);
        let arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        return ipvsadm::run_on_stdio(face, &arguments.collect::<Vec<_>>(), &door).await;
    }
    let mut out = Output::stdout();
    let done = run(Arguments::parse(), &mut out).await;
    let flushed = out.flush().map_err(Failure::from);
    match done.and_then(|code| flushed.map(|()| code)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("fulcrum: {failure}");
            failure.exit_code()
        }
    }
}

/// Does what `fulcrum` was asked.
async fn run(arguments: Arguments, out: &mut Output<'_>) -> Result<ExitCode, Failure> {
    let global = &arguments.global;
    let done = match arguments.command {
        Command::Status(arguments) => status::run(global, arguments, out).await,
        Command::Top(arguments) => top::run(global, arguments, out).await,
        Command::Service(command) => service::run(global, command, out).await,
        Command::Server(command) => server::run(global, command, out).await,
        Command::Events(arguments) => events::run(global, arguments, out).await,
        Command::Session(command) => session::run(global, command, out).await,
        Command::Port(command) => port::run(global, command, out).await,
        Command::Worker(command) => worker::run(global, command, out).await,
        Command::Route(command) => route::run(global, command, out).await,
        Command::Neighbour(command) => neighbour::run(global, command, out).await,
        Command::Vip(command) => vip::run(global, command, out).await,
        Command::LocalPool(command) => local_pool::run(global, command, out).await,
        Command::Mark(command) => mark::run(global, command, out).await,
        Command::Probe(command) => probe::run(global, command, out).await,
        Command::Snat(command) => snat::run(global, command, out).await,
        Command::Timeout(command) => timeout::run(global, command, out).await,
        Command::Settings(arguments) => setting::list(global, arguments, out).await,
        Command::Set(arguments) => setting::set(global, arguments).await,
        Command::Capture(arguments) => capture::run(global, arguments, out).await,
        Command::Doctor(arguments) => return doctor::run(global, arguments, out).await,
        Command::Trace(arguments) => trace::run(global, arguments, out).await,
        Command::Apply(arguments) => configuration::apply(global, &arguments, out).await,
        Command::Upgrade(arguments) => upgrade::run(global, arguments, out).await,
        Command::Reload => configuration::reload(global).await,
        Command::Diff(arguments) => configuration::diff(global, &arguments, out).await,
        Command::Save(arguments) => configuration::save(global, arguments, out).await,
        Command::Check(arguments) => configuration::check(global, &arguments, out),
        Command::Import(command) => import::run(global, command, out),
        Command::Reference(arguments) => reference::run(global, &arguments, out),
        Command::Run(arguments) => return Err(run::run(global, &arguments).into()),
        Command::Replay(arguments) => configuration::replay(&arguments, out),
        Command::Ipvsadm { arguments } => {
            let face = ipvsadm::Face::Ipvsadm;
            return Ok(ipvsadm::run_on_stdio(face, &arguments, &global.door).await);
        }
        Command::Completion(arguments) => generate::completion(&arguments, out),
        Command::Man(arguments) => generate::man(&arguments, out),
    };
    done.map(|()| ExitCode::SUCCESS)
}

impl Global {
    /// A connection to fulcrum-control.
    pub async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.door).await
    }

    /// Applies edits, and tells when they are not in effect at once.
    pub async fn edit(&self, edits: &[Edit]) -> Result<(), Failure> {
        note(&self.client().await?.edit(edits).await?);
        Ok(())
    }
}

/// Tells why something accepted is not in effect yet.
pub fn note(delivery: &Delivery) {
    if !delivery.note.is_empty() {
        eprintln!("fulcrum: {}", delivery.note);
    }
}
