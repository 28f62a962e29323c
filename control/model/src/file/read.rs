//! From TOML to a [`Config`]: shapes first, then the rules of `validate`, each mistake with its place.
//!
//! Ports to pools are in `network`, services and servers in `service`, what follows from checks in `health`, rules
//! that mark packets in `mark` and that masquerade in `snat`, checks in `check`, `overrides`, time-outs
//! and settings in `switches`.

use std::collections::HashMap;
use std::path::PathBuf;

use toml::de::DeTable;

use super::table::{Found, Places, Sink, Table};
use super::{Config, ControlSettings, Dataplane, HugePages, Idle, MAX_BYTES};
use crate::state::{State, VipOwner};
use crate::validate::{self, Place};

mod check;
mod health;
mod mark;
mod network;
mod overrides;
mod service;
mod snat;
mod switches;

use service::Part;

/// Reads a file's text. Mistakes of shape hide those of meaning, because these would often be mere echoes.
pub(super) fn config(text: &str) -> Result<Config, Vec<Found>> {
    if text.len() > MAX_BYTES {
        return Err(vec![(0, format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len()))]);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let found =
            errors.iter().map(|e| (e.span().map_or(0, |s| s.start), format!("not TOML: {}", e.message())));
        return Err(found.collect());
    }
    let sink = Sink::default();
    let mut places = HashMap::new();
    let config = shape(document.get_ref(), &sink, &mut places);
    let found = sink.take();
    if !found.is_empty() {
        return Err(found);
    }
    let broken = validate::state(&config.state);
    if broken.is_empty() {
        return Ok(config);
    }
    let offset =
        |place: &Place, p: &validate::Problem| places.get(place).map_or(0, |at| at.offset(p.key, p.item));
    Err(broken.into_iter().map(|(place, p)| (offset(&place, &p), p.message)).collect())
}

/// What the tables say, as far as they could be read; mistakes are in the sink.
pub(super) fn shape(document: &DeTable<'_>, sink: &Sink, places: &mut HashMap<Place, Places>) -> Config {
    let mut root = Table::new("the file", 0, document, sink);
    let dataplane = dataplane(&mut root);
    let (control, socket_at) = control(&mut root);
    let state = state(&mut root, places);
    if dataplane.socket() == control.socket {
        let path = control.socket.display();
        sink.put(socket_at, format!("socket {path} is the data plane's too; each process needs its own"));
    }
    root.finish();
    Config { dataplane, control, state }
}

fn dataplane(root: &mut Table<'_>) -> Dataplane {
    let default = Dataplane::default();
    let Some(mut table) = root.table("dataplane", "[dataplane]") else { return default };
    let read = Dataplane {
        lcores: table.text("lcores").unwrap_or(default.lcores),
        hugepages: table
            .word("hugepages", &[("auto", HugePages::Auto), ("off", HugePages::Off)])
            .unwrap_or(default.hugepages),
        sessions: table.number("sessions", 1024..=1u32 << 30).map_or(default.sessions, |n| n as usize),
        idle: table.word("idle", &Idle::WORDS).unwrap_or(default.idle),
        misdirect: table.flag("misdirect").unwrap_or(default.misdirect),
        socket: path(&mut table, "socket", super::DEFAULT_DATAPLANE_SOCKET),
        file_prefix: table.text("file-prefix"),
        translation_log: table.parsed("translation-log", "an address and a port, such as \"192.0.2.9:4739\""),
        observation_domain: table
            .number("observation-domain", 0..=u32::MAX)
            .unwrap_or(default.observation_domain),
    };
    if read.worker_lcores().is_none() {
        let message =
            format!("lcores `{}` is no list of lcores; such as \"1\", \"1-3\" or \"1,3\"", read.lcores);
        table.complain("lcores", message);
    }
    if read.file_prefix.as_ref().is_some_and(|p| p.is_empty() || p.contains('/')) {
        table.complain("file-prefix", "file-prefix must be a name without `/`, such as \"second\"");
    }
    table.finish();
    read
}

/// `[control]`, and where its socket is named.
fn control(root: &mut Table<'_>) -> (ControlSettings, usize) {
    let default = ControlSettings::default();
    let Some(mut table) = root.table("control", "[control]") else { return (default, 0) };
    let read = ControlSettings {
        socket: path(&mut table, "socket", super::DEFAULT_CONTROL_SOCKET).unwrap_or(default.socket),
        ipvs_socket: path(&mut table, "ipvs-socket", "/run/fulcrum/ipvs.sock"),
        state_file: path(&mut table, "state-file", super::DEFAULT_STATE_FILE).unwrap_or(default.state_file),
        metrics: table.parsed("metrics", "an address and a port, such as \"127.0.0.1:9559\""),
        announce_interface: table
            .read("announce-interface", |text| match validate::host_interface(text) {
                Some(problem) => Err(problem),
                None => Ok(text.to_owned()),
            })
            .unwrap_or(default.announce_interface),
        vips: table.word("vips", &VipOwner::ALL.map(|owner| (owner.name(), owner))).unwrap_or_default(),
        metrics_limit: table.number("metrics-limit", 0..=1_000_000u32).unwrap_or(default.metrics_limit),
        remote: super::remote::read(&mut table),
    };
    (read, table.finish().offset("socket", None))
}

pub(super) fn path(table: &mut Table<'_>, key: &'static str, example: &str) -> Option<PathBuf> {
    table.read(key, |text| match text.trim().is_empty() {
        true => Err(format!("{key} is empty; give a path, such as \"{example}\"")),
        false => Ok(PathBuf::from(text)),
    })
}

fn state(root: &mut Table<'_>, places: &mut HashMap<Place, Places>) -> State {
    let mut state = State::default();
    for mut table in root.tables("port", "[[port]]") {
        let read = network::port(&mut table);
        keep(&mut state.ports, read, Place::Port, table.finish(), places);
    }
    for mut table in root.tables("interface", "[[interface]]") {
        let read = network::interface(&mut table);
        keep(&mut state.interfaces, read, Place::Interface, table.finish(), places);
    }
    for mut table in root.tables("route", "[[route]]") {
        let read = network::route(&mut table);
        keep(&mut state.routes, read, Place::Route, table.finish(), places);
    }
    for mut table in root.tables("neighbour", "[[neighbour]]") {
        let read = network::neighbour(&mut table);
        keep(&mut state.neighbours, read, Place::Neighbour, table.finish(), places);
    }
    for mut table in root.tables("local-pool", "[[local-pool]]") {
        let read = network::local_pool(&mut table);
        keep(&mut state.local_pools, read, Place::LocalPool, table.finish(), places);
    }
    for mut table in root.tables("mark", "[[mark]]") {
        let read = mark::mark(&mut table);
        keep(&mut state.marks, read, Place::Mark, table.finish(), places);
    }
    for mut table in root.tables("snat", "[[snat]]") {
        let read = snat::snat(&mut table);
        keep(&mut state.snat, read, Place::Snat, table.finish(), places);
    }
    for mut table in root.tables("check", "[[check]]") {
        let read = check::check(&mut table);
        keep(&mut state.checks, read, Place::Check, table.finish(), places);
    }
    for mut table in root.tables("override", "[[override]]") {
        let read = overrides::over(&mut table);
        keep(&mut state.overrides, read, Place::Override, table.finish(), places);
    }
    for mut table in root.tables("service", "[[service]]") {
        let at = state.services.len();
        let read = service::service(&mut table, |part, at_part| {
            let place = match part {
                Part::Server(nth) => Place::Server(at, nth),
                Part::SorryServer => Place::SorryServer(at),
                Part::Check(nth) => Place::OwnCheck(at, nth),
            };
            places.insert(place, at_part);
        });
        keep(&mut state.services, read, Place::Service, table.finish(), places);
    }
    if let Some(mut table) = root.table("timeouts", "[timeouts]") {
        state.timeouts = switches::timeouts(&mut table);
        places.insert(Place::Timeouts, table.finish());
    }
    if let Some(mut table) = root.table("exception", "[exception]") {
        state.exception = network::exception(&mut table);
        places.insert(Place::Exception, table.finish());
    }
    if let Some(mut table) = root.table("ipvs", "[ipvs]") {
        state.settings = switches::settings(&mut table);
        places.insert(Place::Settings, table.finish());
    }
    state
}

/// Keeps an object that could be read, with its places.
fn keep<T>(
    list: &mut Vec<T>,
    read: Option<T>,
    place: impl Fn(usize) -> Place,
    at: Places,
    places: &mut HashMap<Place, Places>,
) {
    if let Some(read) = read {
        places.insert(place(list.len()), at);
        list.push(read);
    }
}
