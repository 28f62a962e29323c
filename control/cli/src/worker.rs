//! `fulcrum worker`: the data plane's workers, and how busy they are.

use std::io::Write as _;

use clap::Subcommand;
use fulcrum_api::dataplane::{DataplaneStatus, Worker};
use serde::Serialize;

use crate::command::Global;
use crate::drops::DropRow;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// Workers of the data plane.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the workers
    List,
    /// Show a worker: its queues, how busy it is, and why it dropped packets; without a number, all of them
    Show {
        /// Its number
        worker: Option<u32>,
    },
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let dataplane = global.client().await?.dataplane().await?;
    let rows = WorkerRow::all(&dataplane);
    match command {
        Command::List => Ok(table::print(out, global.json, &rows)?),
        Command::Show { worker: None } if global.json => Ok(out.json(&rows)?),
        Command::Show { worker: None } => {
            for (at, row) in rows.iter().enumerate() {
                if at > 0 {
                    writeln!(out)?;
                }
                show(&row.0, out)?;
            }
            Ok(())
        }
        Command::Show { worker: Some(id) } => {
            let known: Vec<u32> = rows.iter().map(|row| row.0.id).collect();
            let row = rows.iter().find(|row| row.0.id == id).ok_or_else(|| {
                Failure::Missing(format!("there is no worker {id}; known: {}", table::joined(&known)))
            })?;
            if global.json { Ok(out.json(row)?) } else { show(&row.0, out) }
        }
    }
}

/// A worker as the data plane tells of it.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct WorkerRow(pub Worker);

impl WorkerRow {
    /// All workers.
    pub fn all(dataplane: &DataplaneStatus) -> Vec<WorkerRow> {
        dataplane.workers.iter().cloned().map(WorkerRow).collect()
    }
}

impl Row for WorkerRow {
    const HEAD: &'static [&'static str] = &[
        "WORKER",
        "LCORE",
        "SESSIONS",
        "LIMIT",
        "RX-PACKETS",
        "TX-PACKETS",
        "HANDED-OFF",
        "BUSY",
        "CYCLES",
        "BURST",
        "DROPPED",
    ];

    fn cells(&self) -> Vec<String> {
        let worker = &self.0;
        vec![
            worker.id.to_string(),
            worker.lcore.to_string(),
            worker.sessions.to_string(),
            worker.session_limit.to_string(),
            worker.rx_packets.to_string(),
            worker.tx_packets.to_string(),
            worker.handed_off.to_string(),
            percent(worker.busy),
            unless_none(worker.cycles_per_packet, 0),
            unless_none(worker.burst_fill, 1),
            dropped(worker).to_string(),
        ]
    }
}

fn dropped(worker: &Worker) -> u64 {
    worker.drops.iter().map(|drop| drop.count).sum()
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// A number of something that was measured, or `-`.
fn unless_none(number: f64, digits: usize) -> String {
    if number > 0.0 { format!("{number:.digits$}") } else { "-".to_owned() }
}

fn show(worker: &Worker, out: &mut Output<'_>) -> Result<(), Failure> {
    writeln!(out, "worker    {} on lcore {}", worker.id, worker.lcore)?;
    let queues = if worker.queues.is_empty() { "none".to_owned() } else { worker.queues.join(", ") };
    writeln!(out, "polls     {queues}")?;
    writeln!(out, "busy      {}, asleep {}", percent(worker.busy), percent(worker.asleep))?;
    if worker.cycles_per_packet > 0.0 {
        writeln!(out, "packet    {:.0} cycles, {:.0} ns", worker.cycles_per_packet, worker.ns_per_packet)?;
    } else {
        writeln!(out, "packet    none in the last second")?;
    }
    writeln!(out, "burst     {} of 64 frames", unless_none(worker.burst_fill, 1))?;
    writeln!(out, "received  {} packets, {}/s", worker.rx_packets, worker.rx_pps)?;
    writeln!(out, "sent      {} packets, {}/s", worker.tx_packets, worker.tx_pps)?;
    writeln!(out, "short way {} of these", worker.short_way)?;
    writeln!(out, "handed    {} packets to other workers", worker.handed_off)?;
    writeln!(out, "sessions  {} of {}", worker.sessions, worker.session_limit)?;
    let drops = DropRow::all(&worker.drops);
    if !drops.is_empty() {
        writeln!(out, "\ndropped")?;
        table::print_indented(out, "  ", &drops)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fulcrum_api::dataplane::NamedCount;

    use super::*;

    fn worker() -> Worker {
        Worker {
            id: 1,
            lcore: 3,
            sessions: 7,
            session_limit: 4096,
            rx_packets: 1000,
            tx_packets: 990,
            handed_off: 12,
            busy: 0.254,
            asleep: 0.5,
            cycles_per_packet: 312.4,
            ns_per_packet: 111.5,
            burst_fill: 17.25,
            rx_pps: 500,
            tx_pps: 495,
            queues: vec!["wan 1".into(), "lan 1".into()],
            short_way: 870,
            drops: vec![NamedCount { name: "no-service".into(), count: 3 }],
        }
    }

    fn shown(worker: &Worker) -> String {
        let mut text = Vec::new();
        show(worker, &mut Output::new(&mut text)).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_worker_in_lines() {
        let text = shown(&worker());
        let expected = "worker    1 on lcore 3\npolls     wan 1, lan 1\nbusy      25%, asleep 50%\n\
                        packet    312 cycles, 112 ns\nburst     17.2 of 64 frames\n\
                        received  1000 packets, 500/s\nsent      990 packets, 495/s\n\
                        short way 870 of these\n\
                        handed    12 packets to other workers\nsessions  7 of 4096\n\ndropped\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("  no-service  3 "), "{text}");
    }

    #[test]
    fn one_without_a_packet() {
        let idle = Worker { id: 2, ..Worker::default() };
        let text = shown(&idle);
        assert!(text.contains("polls     none\n") && text.contains("packet    none in the last second\n"));
        assert!(text.contains("burst     - of 64 frames\n") && !text.contains("dropped"), "{text}");
        assert_eq!(WorkerRow(idle).cells()[8..], ["-", "-", "0"]);
        assert_eq!(WorkerRow(worker()).cells()[7..], ["25%", "312", "17.2", "3"]);
    }
}
