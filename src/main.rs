//! `fulcrum-lab`: the small programs that a lab runs inside its namespaces.

mod helper;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Small programs for labs, and the demo.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Balance real traffic in all forwarding modes.
    Demo {
        /// Leave everything running at the end.
        #[arg(long)]
        keep: bool,
    },
    /// Try a director with load, failures, edits and kills, and look for what is wrong or left over.
    Soak {
        /// How long
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// Repeats the choices of another run
        #[arg(long)]
        seed: Option<u64>,
    },
    /// The clients of `soak`.
    AskAll { services: Vec<String> },
    /// Remove what `demo --keep` has left, and what killed test runs have.
    Clean,
    /// Decapsulate IPIP, GRE and GUE; inner packets leave by DEVICE for the station MAC.
    Decap { device: String, mac: String },
    /// Move frames between a trunk and access devices given as VLAN:DEVICE.
    Trunk { device: String, access: Vec<String> },
    /// Answer datagrams with NAME.
    ServeUdp { name: String, listen: Vec<SocketAddr> },
    /// Ask COUNT times by UDP, from a new port each time.
    AskUdp {
        server: SocketAddr,
        count: u32,
        #[arg(long, default_value_t = 2000)]
        wait_ms: u64,
        #[arg(long)]
        from: Option<u16>,
    },
    /// Ask COUNT times by UDP with SIZE bytes in fragments.
    AskPieces {
        server: SocketAddr,
        size: usize,
        count: u32,
        order: helper::pieces::Order,
        #[arg(long, default_value_t = 2000)]
        wait_ms: u64,
    },
    /// Keep FLOWS UDP flows busy.
    LoadUdp { server: SocketAddr, flows: usize, gap_ms: u64, seconds: f64 },
    /// Answer SCTP messages with NAME.
    ServeSctp { listen: SocketAddr, name: String },
    /// Ask on COUNT SCTP associations, each from a port of its own, from FROM on.
    AskSctp {
        server: SocketAddr,
        count: u16,
        #[arg(long, default_value_t = 3000)]
        wait_ms: u64,
        #[arg(long, default_value_t = 30_000)]
        from: u16,
    },
    /// Hold COUNT TCP connections at once.
    Hold { server: SocketAddr, count: usize },
    /// Open TCP connections until one is not answered.
    Fill { server: SocketAddr, most: usize, wait_ms: u64 },
    /// Connect again and again from one local port.
    Reuse {
        from: u16,
        server: SocketAddr,
        count: usize,
        #[arg(long)]
        reset: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulcrum-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    let ms = Duration::from_millis;
    match command {
        Command::Demo { keep } => helper::demo::run(keep),
        Command::Soak { minutes, seed } => helper::soak::run(minutes, seed),
        Command::AskAll { services } => helper::soak::clients::ask(&services),
        Command::Clean => helper::demo::clean(),
        Command::Decap { device, mac } => helper::decap::run(&device, helper::parse_mac(&mac)?),
        Command::Trunk { device, access } => helper::trunk::run(&device, &helper::parse_access(&access)?),
        Command::ServeUdp { name, listen } => helper::datagrams::serve(&name, &listen),
        Command::AskUdp { server, count, wait_ms, from } => {
            helper::datagrams::ask(server, count, ms(wait_ms), from)
        }
        Command::AskPieces { server, size, count, order, wait_ms } => {
            helper::pieces::ask(server, size, count, order, ms(wait_ms))
        }
        Command::LoadUdp { server, flows, gap_ms, seconds } => {
            helper::datagrams::load(server, flows, ms(gap_ms), Duration::from_secs_f64(seconds))
        }
        Command::ServeSctp { listen, name } => helper::associations::serve(listen, &name),
        Command::AskSctp { server, count, wait_ms, from } => {
            helper::associations::ask(server, count, ms(wait_ms), from)
        }
        Command::Hold { server, count } => helper::connections::hold(server, count),
        Command::Fill { server, most, wait_ms } => helper::connections::fill(server, most, ms(wait_ms)),
        Command::Reuse { from, server, count, reset } => {
            helper::connections::reuse(from, server, count, reset)
        }
    }
}
