//! A run: DPDK's environment, one row after the other on pinned threads, the report.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use fulcrum_dpdk::{Eal, EalConfig, EalError, Hugepages, LaunchError, Mempool, MempoolError, allowed_cpus};
use serde_json::Value;

use crate::args::Args;
use crate::change::{self, HoldUp};
use crate::connections::{self, Churn, Life};
use crate::cores::{self, Two};
use crate::feed::Stream;
use crate::flood::{self, Flood};
use crate::frames::Template;
use crate::goals::Goal;
use crate::machine;
use crate::measure::{self, Effort, Floor, Memory};
use crate::memif;
use crate::plan::{self, Direction, M, Row, picks};
use crate::quiet::{self, Quiet};
use crate::report::{Established, Report, connection_line, told};
use crate::restore::{self, Restore};
use crate::table::{self, Lost, Table};
use crate::wake::{self, Wake};
use crate::weather::Weather;
use crate::world::World;

/// Why a run ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// `--only` picks nothing.
    #[error("--only '{0}' picks no row: --list names them")]
    NothingPicked(String),
    /// DPDK did not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// No memory for frames.
    #[error(transparent)]
    Memory(#[from] MempoolError),
    /// The pinned thread did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The processes over memif did not do as they should.
    #[error("memif: {0}")]
    Memif(io::Error),
    /// The report cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Frames in memory: what bursts, rings and caches hold.
const FRAMES: u32 = 16_384;
/// Room of each: IMIX's largest, and outer headers.
const ROOM: u16 = 2048;
/// Memory whose latency is L.
const LATENCY_OVER: usize = 512 << 20;

/// How long a run waits for its processors at most: it is to take less than five minutes.
const PATIENCE: Duration = Duration::from_secs(80);

/// What is measured in a run.
#[derive(Debug)]
struct Chosen {
    established: Vec<Row>,
    connections: Vec<(World, Life)>,
    flood: bool,
    two: bool,
    quiet: bool,
    wake: bool,
    change: bool,
    restore: bool,
}

impl Chosen {
    fn new(args: &Args, two: bool) -> Chosen {
        let picked = |name: &str| picks(args.only.as_deref(), name);
        let established = plan::rows().into_iter();
        let large = |row: &Row| args.quick && row.sessions > M;
        Chosen {
            established: established.filter(|row| picked(&row.name()) && !large(row)).collect(),
            connections: connections::rows()
                .into_iter()
                .filter(|(world, life)| picked(&connections::name(world, *life)))
                .collect(),
            flood: picked(flood::NAME),
            two: two && picked(cores::NAME),
            quiet: picked(quiet::NAME),
            wake: picked(wake::NAME),
            change: picked(change::NAME),
            restore: picked(restore::NAME),
        }
    }

    /// How many rows look at the weather.
    fn watched(&self) -> usize {
        self.established.len() + self.connections.len() + usize::from(self.flood)
    }

    fn names(&self) -> Vec<String> {
        let single = [
            (self.flood, flood::NAME),
            (self.two, cores::NAME),
            (self.quiet, quiet::NAME),
            (self.wake, wake::NAME),
            (self.change, change::NAME),
            (self.restore, restore::NAME),
        ];
        let established = self.established.iter().map(Row::name);
        let connections = self.connections.iter().map(|(world, life)| connections::name(world, *life));
        let single = single.into_iter().filter(|(chosen, _)| *chosen).map(|(_, name)| name.to_owned());
        established.chain(connections).chain(single).collect()
    }
}

/// Measures what is asked for; false when a row is broken, or a goal was missed and that matters.
pub fn run(args: &Args) -> Result<bool, Failure> {
    if args.memif {
        return memif::run(args);
    }
    let cpus = allowed_cpus();
    let core = args.core.or(cpus.last().copied()).unwrap_or(0);
    let other = args.other_core.or(cpus.iter().rev().copied().find(|cpu| *cpu != core));
    let chosen = Chosen::new(args, other.is_some());
    if args.list {
        chosen.names().iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    if chosen.names().is_empty() {
        return Err(Failure::NothingPicked(args.only.clone().unwrap_or_default()));
    }
    let eal = Eal::start(&EalConfig {
        workers: std::iter::once(core).chain(other).collect(),
        file_prefix: format!("fulcrum-bench-{}", std::process::id()),
        hugepages: Hugepages::Auto,
        frames: FRAMES as usize,
        room: ROOM.into(),
        ..EalConfig::default()
    })?;
    let pool = Mempool::new(eal, "frames", FRAMES, ROOM)?;
    let facts = machine::facts(core, eal.hugepages());
    let effort = if args.quick {
        Effort { slices: 5, packets: 300_000 }
    } else {
        Effort { slices: 7, packets: 1_000_000 }
    };
    let steal = machine::steal();
    let patience = if args.quick { Duration::ZERO } else { PATIENCE };
    let weather = Weather::new(pool, patience, chosen.watched());
    let report = measure_all(eal, pool, chosen, effort, weather)?;

    let goals = report.goals();
    if !goals.is_empty() {
        println!("\n{}", Goal::head());
        goals.iter().for_each(|goal| println!("{}", goal.line()));
    }
    let mut json = report.json();
    json["machine"] = facts;
    json["steal_seconds"] = (machine::steal() - steal).into();
    write_json(&args.json, &json)?;
    Ok(report.broken.is_empty() && (!args.strict || goals.iter().all(Goal::reached)))
}

/// Writes what was measured where programs find it.
pub(crate) fn write_json(path: &Path, report: &Value) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        let _ = fs::create_dir_all(folder);
    }
    fs::write(path, format!("{report:#}\n"))
        .map_err(|source| Failure::Write { path: path.to_owned(), source })
}

fn measure_all(
    eal: &'static Eal,
    pool: Mempool,
    chosen: Chosen,
    effort: Effort,
    mut weather: Weather,
) -> Result<Report, Failure> {
    let Chosen { established, connections, flood, two, quiet, wake, change, restore } = chosen;
    let mut report = Report::default();
    if !established.is_empty() {
        let (rows, broken, after) =
            on_lcore(eal, move || measure_established(pool, &established, effort, weather))?;
        (report.established, report.broken, weather) = (rows, broken, after);
    }
    for (world, life) in connections {
        let name = connections::name(&world, life);
        let (measured, after) = on_lcore(eal, move || {
            let measured = Churn::start(pool, world, life).and_then(|mut churn| {
                weather.begin();
                churn.measure(effort, &mut weather)
            });
            (measured, weather)
        })?;
        weather = after;
        if let Some(measured) = measured_or_broken(&mut report, &name, measured) {
            println!("{}", connection_line(&world, life, &measured));
            report.connections.push((world, life, measured));
        }
    }
    if flood {
        let measured = on_lcore(eal, move || flood::measure(pool, effort, &mut weather))?;
        report.flood = measured_or_broken(&mut report, flood::NAME, measured);
        if let Some(measured) = &report.flood {
            let Flood { syn, calm, foul, .. } = measured;
            let (name, foul) = (flood::NAME, told(*foul));
            println!("{name:<48} {syn:>8.1} ns a SYN; established packets {calm:.1} ns without it{foul}");
        }
    }
    if two {
        let measured = cores::measure(eal, pool, effort);
        report.two = measured_or_broken(&mut report, cores::NAME, measured);
        if let Some(Two { ours, ceilings, handed_off }) = report.two {
            println!(
                "{:<48} {ours:>8.2} × one; two ceilings {ceilings:.2} × one; half handed off: {handed_off:.2} of that",
                cores::NAME
            );
        }
    }
    if quiet {
        let measured = on_lcore(eal, move || quiet::measure(pool))?;
        report.quiet = measured_or_broken(&mut report, quiet::NAME, measured);
        if let Some(Quiet { packets, allocations, syscall }) = report.quiet {
            let call = match syscall {
                Some(None) => "no system call".to_owned(),
                Some(Some(number)) => format!("system call {number}"),
                None => "system calls cannot be told by this kernel".to_owned(),
            };
            println!("{:<48} {allocations:>8} allocations, {call}, over {packets} packets", quiet::NAME);
        }
    }
    if wake {
        let measured = wake::measure(eal, pool);
        report.wake = measured_or_broken(&mut report, wake::NAME, measured);
        if let Some(Wake { median, most }) = report.wake {
            println!("{:<48} {median:>8.1} µs; nine of ten {most:.1} µs at most", wake::NAME);
        }
    }
    if change {
        let measured = on_lcore(eal, move || change::measure(pool))?;
        report.hold_up = measured_or_broken(&mut report, change::NAME, measured);
        if let Some(HoldUp { turn, longest, change }) = report.hold_up {
            println!("{:<48} {longest:>8.1} µs more than a turn's {turn:.1} µs, when {change}", change::NAME);
        }
    }
    if restore {
        let measured = restore::measure(eal.workers()[0]);
        report.restore = measured_or_broken(&mut report, restore::NAME, measured);
        if let Some(Restore { seconds }) = report.restore {
            println!("{:<48} {seconds:>8.2} s", restore::NAME);
        }
    }
    Ok(report)
}

/// What was measured, or a note that the row is broken.
fn measured_or_broken<T>(report: &mut Report, name: &str, measured: Result<T, Lost>) -> Option<T> {
    measured.map_err(|Lost(lost)| report.broken.push(broken(name, &lost))).ok()
}

fn broken(name: &str, lost: &str) -> String {
    let line = format!("{name}: BROKEN: {lost}");
    println!("{line}");
    line
}

/// Runs `work` on the pinned thread and gives what it gives.
fn on_lcore<T: Send + 'static>(
    eal: &'static Eal,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LaunchError> {
    let (say, said) = mpsc::channel();
    let lcore = eal.launch(0, move || _ = say.send(work()))?;
    // DPDK itself waits in circles, which the measured core would feel.
    let result = said.recv().expect("work that panics aborts the process");
    drop(lcore);
    Ok(result)
}

fn measure_established(
    pool: Mempool,
    rows: &[Row],
    effort: Effort,
    mut weather: Weather,
) -> (Vec<Established>, Vec<String>, Weather) {
    let mut memory = Memory::new(LATENCY_OVER);
    let mut ceiling = table::ceiling(pool);
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    println!("{}", Established::head());
    for rows in rows.chunk_by(|a, b| (a.world, a.sessions) == (b.world, b.sessions)) {
        let mut table = match Table::open(pool, rows[0].world, rows[0].sessions) {
            Ok(table) => table,
            Err(Lost(lost)) => {
                failed.push(broken(&rows[0].name(), &lost));
                continue;
            }
        };
        let mut floor = Floor::new(rows[0].sessions);
        for row in rows {
            let flows = match (row.direction, &table.replies) {
                (Direction::Reply, Some(replies)) => replies.clone(),
                _ => table.requests.clone(),
            };
            let sizes = row.size.wires().iter().map(|&wire| Template::new(row.world.family, wire));
            let stream = Stream::new(flows, sizes.collect());
            weather.begin();
            let (latency, floor) = (memory.latency(200_000), floor.least(4_000));
            match measure::established(&mut table, &mut ceiling, &stream, effort, &mut weather) {
                Ok(cost) => {
                    let session_bytes = table.session_bytes;
                    let row = Established { row: *row, cost, latency, floor, session_bytes };
                    println!("{}", row.line());
                    measured.push(row);
                }
                Err(Lost(lost)) => failed.push(broken(&row.name(), &lost)),
            }
        }
    }
    (measured, failed, weather)
}
