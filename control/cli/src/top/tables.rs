//! What is shown, as tables: the same cells for the screen, for plain text and for JSON.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;

use fulcrum_api::dataplane::{Counters, ServerCounters, ServiceCounters};
use fulcrum_model::{ServerKey, Service, ServiceKey};
use serde_json::{Map, Value};

use super::View;
use super::number::{percent, short};
use super::sample::{Shown, named, sum};
use crate::drops::meaning;
use crate::output::Output;
use crate::table::line;

/// A column: its head, its name in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) head: &'static str,
    key: &'static str,
    /// Words, which take what room there is; else a number.
    pub(super) text: bool,
}

/// What a cell says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Number(f64),
    Share(f64),
}

impl Cell {
    pub(super) fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => short(*number),
            Cell::Share(share) => percent(*share),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Text(text) => text.as_str().into(),
            // Whole numbers as such; what is not known as null.
            Cell::Number(number) if number.fract() == 0.0 && *number < 9e15 => (*number as u64).into(),
            Cell::Number(number) | Cell::Share(number) => (*number).into(),
        }
    }

    /// Numbers by size, what is not known last; words by letters.
    fn order(&self, other: &Cell) -> Ordering {
        match (self, other) {
            (Cell::Text(one), Cell::Text(two)) => one.cmp(two),
            (Cell::Number(one) | Cell::Share(one), Cell::Number(two) | Cell::Share(two)) => {
                let known = |number: &f64| if number.is_nan() { -1.0 } else { *number };
                known(one).total_cmp(&known(two))
            }
            (Cell::Text(_), _) => Ordering::Less,
            (_, Cell::Text(_)) => Ordering::Greater,
        }
    }
}

/// Rows under columns.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    /// The column that it is sorted by at first.
    pub(super) sorted_by: usize,
    pub(super) rows: Vec<Vec<Cell>>,
}

const fn words(head: &'static str, key: &'static str) -> Column {
    Column { head, key, text: true }
}

const fn number(head: &'static str, key: &'static str) -> Column {
    Column { head, key, text: false }
}

const SERVICES: &[Column] = &[
    words("SERVICE", "service"),
    number("SRV", "servers"),
    number("ACTIVE", "active"),
    number("CONN/s", "connections_per_second"),
    number("IN p/s", "in_packets_per_second"),
    number("OUT p/s", "out_packets_per_second"),
    number("IN B/s", "in_bytes_per_second"),
    number("OUT B/s", "out_bytes_per_second"),
    number("INACT", "inactive"),
];

const SERVERS: &[Column] = &[
    words("SERVER", "server"),
    words("SERVICE", "service"),
    words("STATE", "state"),
    number("WEIGHT", "weight"),
    number("ACTIVE", "active"),
    number("CONN/s", "connections_per_second"),
    number("IN p/s", "in_packets_per_second"),
    number("OUT p/s", "out_packets_per_second"),
    number("IN B/s", "in_bytes_per_second"),
    number("OUT B/s", "out_bytes_per_second"),
    number("INACT", "inactive"),
];

/// Of one service, whose name is not repeated.
const ITS_SERVERS: &[Column] = &[
    SERVERS[0],
    SERVERS[2],
    SERVERS[3],
    SERVERS[4],
    SERVERS[5],
    SERVERS[6],
    SERVERS[7],
    SERVERS[8],
    SERVERS[9],
    SERVERS[10],
];

const WORKERS: &[Column] = &[
    number("WORKER", "worker"),
    number("LCORE", "lcore"),
    number("BUSY", "busy"),
    number("RX p/s", "received_packets_per_second"),
    number("TX p/s", "sent_packets_per_second"),
    number("DROP/s", "dropped_packets_per_second"),
    number("SESS", "sessions"),
    number("FULL", "session_table_used"),
    number("CYCLES", "cycles_per_packet"),
    number("BURST", "burst_fill"),
    number("HAND/s", "handed_off_packets_per_second"),
    number("ASLEEP", "asleep"),
];

const PORTS: &[Column] = &[
    words("PORT", "port"),
    words("LINK", "link"),
    number("RX p/s", "received_packets_per_second"),
    number("TX p/s", "sent_packets_per_second"),
    number("RX B/s", "received_bytes_per_second"),
    number("TX B/s", "sent_bytes_per_second"),
    number("MISS/s", "missed_packets_per_second"),
    number("DROP/s", "dropped_packets_per_second"),
    number("ERR/s", "errors_per_second"),
];

const DROPS: &[Column] = &[
    words("REASON", "reason"),
    number("DROP/s", "per_second"),
    number("TOTAL", "total"),
    words("MEANING", "meaning"),
];

impl Table {
    /// The table of a view; of servers, those of one service where it is named.
    pub(super) fn of(view: View, shown: &Shown, service: Option<&str>) -> Table {
        let (columns, sorted_by, rows) = match view {
            View::Services => (SERVICES, 3, services(shown)),
            View::Servers if service.is_some() => {
                let mut rows = servers(shown, service);
                rows.iter_mut().for_each(|row| drop(row.remove(1)));
                (ITS_SERVERS, 4, rows)
            }
            View::Servers => (SERVERS, 5, servers(shown, None)),
            View::Workers => (WORKERS, 0, workers(shown)),
            View::Ports => (PORTS, 0, ports(shown)),
            View::Drops => (DROPS, 1, drops(shown)),
        };
        Table { columns, sorted_by, rows }
    }

    /// The rows that contain a text, whatever the case.
    pub(super) fn containing(mut self, text: &str) -> Table {
        let text = text.to_lowercase();
        self.rows.retain(|row| {
            row.iter().any(|cell| matches!(cell, Cell::Text(is) if is.to_lowercase().contains(&text)))
                || row.first().is_some_and(|cell| cell.text().contains(&text))
        });
        self
    }

    /// Sorted by a column: words from A, numbers from the largest, or the other way round.
    pub(super) fn sorted(mut self, column: usize, reverse: bool) -> Table {
        let from_largest = self.columns.get(column).is_some_and(|column| !column.text) && column > 0;
        self.rows.sort_by(|one, two| {
            let by = |one: &[Cell], two: &[Cell]| match (one.get(column), two.get(column)) {
                (Some(one), Some(two)) => one.order(two),
                _ => Ordering::Equal,
            };
            let order = if from_largest != reverse { by(two, one) } else { by(one, two) };
            // Of equal ones the first column decides, so that rows stand still.
            order.then_with(|| one[0].order(&two[0]))
        });
        self
    }

    /// As plain text.
    pub(super) fn print(self, out: &mut Output<'_>) -> io::Result<()> {
        let table = self.sorted_as_it_begins();
        let rows: Vec<Vec<String>> =
            table.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect();
        let width = |at: usize, column: &Column| {
            rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(column.head.len())
        };
        let widths: Vec<usize> =
            table.columns.iter().enumerate().map(|(at, column)| width(at, column)).collect();
        line(out, "", table.columns.iter().map(|column| column.head), &widths)?;
        rows.iter().try_for_each(|row| line(out, "", row.iter().map(String::as_str), &widths))
    }

    fn sorted_as_it_begins(self) -> Table {
        let column = self.sorted_by;
        self.sorted(column, false)
    }

    /// As an array of objects.
    pub(super) fn json(self) -> Value {
        let table = self.sorted_as_it_begins();
        let object = |row: &Vec<Cell>| {
            let pairs =
                std::iter::zip(table.columns, row).map(|(column, cell)| (column.key.to_owned(), cell.json()));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        table.rows.iter().map(object).collect()
    }
}

fn services(shown: &Shown) -> Vec<Vec<Cell>> {
    let row = |(service, counted): (&Service, Option<&ServiceCounters>)| {
        let servers = counted.map_or(&[][..], |counted| &counted.servers);
        let total =
            |count: fn(&ServerCounters) -> u64| Cell::Number(servers.iter().map(count).sum::<u64>() as f64);
        let [cps, rates @ ..] = rates(counted.and_then(|counted| counted.counters.as_ref()));
        let mut row = vec![
            Cell::Text(service.key.to_string()),
            Cell::Number(service.servers.len() as f64),
            total(|server| server.active),
            cps,
        ];
        row.extend(rates);
        row.push(total(|server| server.inactive));
        row
    };
    each(shown).map(row).collect()
}

fn servers(shown: &Shown, only: Option<&str>) -> Vec<Vec<Cell>> {
    let Some(now) = &shown.now else { return Vec::new() };
    let mut rows = Vec::new();
    for (service, counted) in each(shown) {
        let name = service.key.to_string();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let counted: HashMap<ServerKey, &ServerCounters> = counted
            .iter()
            .flat_map(|counted| &counted.servers)
            .filter_map(|server| Some((ServerKey::try_from(server.key.clone()?).ok()?, server)))
            .collect();
        for server in &service.servers {
            let counted = counted.get(&server.key).copied();
            let count = |count: fn(&ServerCounters) -> u64| Cell::Number(counted.map_or(0, count) as f64);
            let state = now.states.get(&(service.key, server.key)).map_or("ok", String::as_str);
            let mut row = vec![
                Cell::Text(server.key.to_string()),
                Cell::Text(name.clone()),
                Cell::Text(if matches!(state, "up" | "unchecked") { "ok" } else { state }.to_owned()),
                Cell::Number(server.weight.into()),
                count(|server| server.active),
            ];
            row.extend(rates(counted.and_then(|counted| counted.counters.as_ref())));
            row.push(count(|server| server.inactive));
            rows.push(row);
        }
    }
    rows
}

/// Services of the desired state, with what was counted of them.
fn each(shown: &Shown) -> impl Iterator<Item = (&Service, Option<&ServiceCounters>)> {
    let counted = shown.now.iter().flat_map(|now| &now.counters.services);
    let by_key: HashMap<ServiceKey, &ServiceCounters> = counted
        .filter_map(|service| Some((ServiceKey::try_from(service.key.clone()?).ok()?, service)))
        .collect();
    let services = shown.now.iter().flat_map(|now| &now.state.services);
    services.map(move |service| (service, by_key.get(&service.key).copied()))
}

/// The data plane's estimates: connections, packets in and out, bytes in and out.
fn rates(counters: Option<&Counters>) -> [Cell; 5] {
    let counters = counters.copied().unwrap_or_default();
    let Counters { cps, in_pps, out_pps, in_bps, out_bps, .. } = counters;
    [cps, in_pps, out_pps, in_bps, out_bps].map(|rate| Cell::Number(rate as f64))
}

fn workers(shown: &Shown) -> Vec<Vec<Cell>> {
    let workers = shown.dataplane().map_or(&[][..], |dataplane| &dataplane.workers);
    let row = |(at, worker): (usize, &fulcrum_api::dataplane::Worker)| {
        let measured = |number: f64| if number > 0.0 { number } else { f64::NAN };
        let used = worker.sessions as f64 / worker.session_limit.max(1) as f64;
        vec![
            Cell::Number(worker.id.into()),
            Cell::Number(worker.lcore.into()),
            Cell::Share(worker.busy),
            Cell::Number(worker.rx_pps as f64),
            Cell::Number(worker.tx_pps as f64),
            Cell::Number(shown.rate(|dataplane| Some(sum(&dataplane.workers.get(at)?.drops)))),
            Cell::Number(worker.sessions as f64),
            Cell::Share(used),
            Cell::Number(measured(worker.cycles_per_packet)),
            Cell::Number(measured(worker.burst_fill)),
            Cell::Number(shown.rate(|dataplane| Some(dataplane.workers.get(at)?.handed_off))),
            Cell::Share(worker.asleep),
        ]
    };
    workers.iter().enumerate().map(row).collect()
}

fn ports(shown: &Shown) -> Vec<Vec<Cell>> {
    let ports = shown.dataplane().map_or(&[][..], |dataplane| &dataplane.ports);
    let row = |(at, port): (usize, &fulcrum_api::dataplane::PortStatus)| {
        type Count = fn(&fulcrum_api::dataplane::PortStatus) -> u64;
        let rate = |count: Count| Cell::Number(shown.rate(|dataplane| dataplane.ports.get(at).map(count)));
        vec![
            Cell::Text(port.name.clone()),
            Cell::Text(if port.link { "up" } else { "down" }.to_owned()),
            rate(|port| port.rx_packets),
            rate(|port| port.tx_packets),
            rate(|port| port.rx_bytes),
            rate(|port| port.tx_bytes),
            rate(|port| port.rx_missed),
            rate(|port| sum(&port.drops)),
            rate(|port| port.rx_errors + port.tx_errors),
        ]
    };
    ports.iter().enumerate().map(row).collect()
}

fn drops(shown: &Shown) -> Vec<Vec<Cell>> {
    let drops = shown.dataplane().map_or(&[][..], |dataplane| &dataplane.drops);
    let row = |drop: &fulcrum_api::dataplane::NamedCount| {
        vec![
            Cell::Text(drop.name.clone()),
            Cell::Number(shown.rate(|dataplane| Some(named(&dataplane.drops, &drop.name)))),
            Cell::Number(drop.count as f64),
            Cell::Text(meaning(&drop.name).to_owned()),
        ]
    };
    drops.iter().filter(|drop| drop.count > 0).map(row).collect()
}
