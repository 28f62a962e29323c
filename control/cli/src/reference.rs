//! `fulcrum reference`: what the configuration file may hold, and the same as a manual page.

use std::io::Write as _;

use clap_mangen::roff::{Roff, bold, roman};
use fulcrum_model::file::reference::{self, KeyReference, TableReference};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;

/// Which part, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Table, such as `port` or `service.server` [default: all]
    pub table: Option<String>,
    /// Print the page of the documentation
    #[arg(long, conflicts_with_all = ["table", "json"])]
    pub markdown: bool,
}

#[derive(Debug, Serialize)]
struct Table {
    table: &'static str,
    about: &'static str,
    keys: Vec<Key>,
}

#[derive(Debug, Serialize)]
struct Key {
    key: &'static str,
    value: String,
    required: bool,
    default: String,
    only_with: String,
    meaning: String,
}

/// `fulcrum reference`.
pub fn run(global: &Global, arguments: &Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    if arguments.markdown {
        return Ok(out.write_all(reference::markdown().as_bytes())?);
    }
    let mut tables = reference::tables();
    if let Some(name) = &arguments.table {
        let bare = |title: &str| title.trim_matches(['[', ']']).to_owned();
        let known: Vec<String> = tables.iter().map(|table| bare(table.title)).collect();
        tables.retain(|table| bare(table.title) == bare(name));
        if tables.is_empty() {
            return Err(Failure::Invalid(format!("there is no table `{name}`; known: {}", known.join(", "))));
        }
    }
    if global.json {
        return Ok(out.json(&tables.into_iter().map(Table::from).collect::<Vec<_>>())?);
    }
    for (number, table) in tables.iter().enumerate() {
        writeln!(out, "{}{}\n  {}", if number == 0 { "" } else { "\n" }, table.title, table.about)?;
        for key in &table.keys {
            writeln!(out, "\n  {} = {}\n      {}", key.name, key.value, sentences(key).join(" "))?;
        }
    }
    Ok(())
}

impl From<TableReference> for Table {
    fn from(table: TableReference) -> Table {
        let key = |key: KeyReference| Key {
            key: key.name,
            value: key.value,
            required: key.required,
            default: key.default,
            only_with: key.with,
            meaning: key.meaning,
        };
        Table { table: table.title, about: table.about, keys: table.keys.into_iter().map(key).collect() }
    }
}

/// What is said of a key: its meaning, where it may stand, what it is when left away.
fn sentences(key: &KeyReference) -> Vec<String> {
    let mut said = vec![key.meaning.clone()];
    if !key.with.is_empty() {
        said.push(format!("Only with {}.", key.with));
    }
    match (key.required, key.default.as_str()) {
        (true, _) => said.push("Has to be given.".to_owned()),
        (false, "") => {}
        (false, default) => said.push(format!("By default {default}.")),
    }
    said
}

/// The manual page fulcrum.toml(5).
pub fn man_page() -> String {
    let mut page = Roff::new();
    let version = concat!("fulcrum ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["fulcrum.toml", "5", "", version]);
    page.control("SH", ["NAME"]);
    page.text([roman("fulcrum.toml - configuration file of Fulcrum, a layer-4 load balancer")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "TOML, read by fulcrum-dataplane and fulcrum-control at their start, from /etc/fulcrum/fulcrum.toml unless told \
         otherwise; by fulcrum-control again at SIGHUP. `fulcrum check FILE` names every mistake in one.",
    )]);
    for table in reference::tables() {
        page.control("SH", [table.title]);
        page.text([roman(table.about)]);
        for key in &table.keys {
            page.control("TP", []);
            page.text([bold(key.name), roman(format!(" = {}", key.value))]);
            page.text([roman(sentences(key).join(" "))]);
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("fulcrum(1), fulcrum-check(1), fulcrum-dataplane(8), fulcrum-control(8)")]);
    page.render()
}
