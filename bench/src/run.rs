//! A run: DPDK's environment, one row after the other on a pinned thread, the report.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;

use fulcrum_dpdk::{Eal, EalConfig, EalError, Hugepages, LaunchError, Mempool, MempoolError, allowed_cpus};
use serde_json::{Value, json};

use crate::args::Args;
use crate::feed::Stream;
use crate::frames::Template;
use crate::measure::{self, Effort, Memory};
use crate::plan::{self, Direction, M, Row};
use crate::report::Established;
use crate::table::{self, Lost, Table};
use crate::{machine, plan::picks};

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
    /// Packets were not forwarded as they should have been.
    #[error("{name}: {lost}")]
    Lost {
        /// The row.
        name: String,
        /// What went wrong.
        lost: String,
    },
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

/// Measures what is asked for; whether all is well enough for a status of 0.
pub fn run(args: &Args) -> Result<bool, Failure> {
    let filter = args.only.as_deref();
    let rows: Vec<Row> = plan::rows()
        .into_iter()
        .filter(|row| picks(filter, &row.name()) && !(args.quick && row.sessions > M))
        .collect();
    if args.list {
        rows.iter().for_each(|row| println!("{}", row.name()));
        return Ok(true);
    }
    if rows.is_empty() {
        return Err(Failure::NothingPicked(filter.unwrap_or_default().to_owned()));
    }
    let core = args.core.or(allowed_cpus().last().copied()).unwrap_or(0);
    let eal = Eal::start(&EalConfig {
        workers: vec![core],
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
    let (say, said) = mpsc::channel();
    let lcore = eal.launch(0, move || {
        let _ = say.send(measure_all(pool, &rows, effort));
    })?;
    let measured = said.recv().unwrap_or_else(|_| Err(Failure::NothingPicked(String::new())));
    drop(lcore);
    let measured = measured?;
    let report = json!({
        "machine": facts,
        "steal_seconds": machine::steal() - steal,
        "established": measured.iter().map(Established::json).collect::<Vec<Value>>(),
    });
    if let Some(folder) = args.json.parent() {
        let _ = fs::create_dir_all(folder);
    }
    fs::write(&args.json, format!("{report:#}\n"))
        .map_err(|source| Failure::Write { path: args.json.clone(), source })?;
    Ok(true)
}

fn measure_all(pool: Mempool, rows: &[Row], effort: Effort) -> Result<Vec<Established>, Failure> {
    let mut memory = Memory::new(LATENCY_OVER);
    let mut ceiling = table::ceiling(pool);
    let mut measured = Vec::new();
    println!("{}", Established::head());
    for rows in rows.chunk_by(|a, b| (a.world, a.sessions) == (b.world, b.sessions)) {
        let lost = |row: &Row| {
            let name = row.name();
            |lost: Lost| Failure::Lost { name, lost: lost.0 }
        };
        let mut table = Table::open(pool, rows[0].world, rows[0].sessions).map_err(lost(&rows[0]))?;
        for row in rows {
            let flows = match (row.direction, &table.replies) {
                (Direction::Reply, Some(replies)) => replies.clone(),
                _ => table.requests.clone(),
            };
            let sizes = row.size.wires().iter().map(|&wire| Template::new(row.world.family, wire));
            let stream = Stream::new(flows, sizes.collect());
            let latency = memory.latency(200_000);
            let cost = measure::established(&mut table, &mut ceiling, &stream, effort).map_err(lost(row))?;
            let row = Established { row: *row, cost, latency };
            println!("{}", row.line());
            measured.push(row);
        }
    }
    Ok(measured)
}
