//! `fulcrum probe`: checks with names, which services share.

use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use fulcrum_model::file::{CHECK_KEYS, check_entries};
use fulcrum_model::{Check, CheckKind, Edit, State};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// Checks with names, which services share.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the checks
    List,
    /// Add a check
    Add {
        /// Its name
        name: String,
        /// What it asks
        #[arg(value_name = "TYPE", value_parser = CheckKind::NAMES)]
        kind: String,
        /// Keys of a [[check]] in the file and their values, such as path=/health interval=500ms; `answer` and
        /// `arguments` once for each
        #[arg(value_name = "KEY=VALUE")]
        words: Vec<Word>,
    },
    /// Change a check
    Set {
        /// Its name
        name: String,
        /// Keys and their values; `KEY=` for the default
        #[arg(required = true, value_name = "KEY=VALUE")]
        words: Vec<Word>,
    },
    /// Delete a check that no service uses
    Delete {
        /// Its name
        name: String,
    },
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String, String);

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Word, String> {
        let (key, value) = text.split_once('=').ok_or("such as interval=500ms")?;
        match key == "type" || CHECK_KEYS.contains(&key) {
            true => Ok(Word(key.to_owned(), value.to_owned())),
            false => Err(format!("`{key}` is no key of a check; one of {}", CHECK_KEYS.join(", "))),
        }
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let pairs =
        |words: Vec<Word>| -> Vec<_> { words.into_iter().map(|Word(key, value)| (key, value)).collect() };
    match command {
        Command::List => {
            let state = global.client().await?.state().await?;
            let rows: Vec<CheckRow> = state.checks.iter().map(|check| CheckRow::of(check, &state)).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add { name, kind, words } => {
            let check = Check::of_words(&name, &kind, &pairs(words)).map_err(Failure::Invalid)?;
            global.edit(&[Edit::AddCheck(check)]).await
        }
        Command::Set { name, words } => {
            let checks = global.client().await?.state().await?.checks;
            let missing = || Failure::Missing(format!("there is no check `{name}`; `fulcrum probe list`"));
            let check = checks.iter().find(|check| check.name == name).ok_or_else(missing)?;
            let check = check.with_words(&pairs(words)).map_err(Failure::Invalid)?;
            global.edit(&[Edit::UpdateCheck(check)]).await
        }
        Command::Delete { name } => global.edit(&[Edit::DeleteCheck(name)]).await,
    }
}

#[derive(Clone, Debug, Serialize)]
struct CheckRow {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    interval_seconds: f64,
    timeout_seconds: f64,
    rise: u32,
    fall: u32,
    /// Every key as the file has it.
    keys: toml::Table,
    services: Vec<String>,
}

/// Keys that have columns of their own.
const COLUMNS: [&str; 6] = ["name", "type", "interval", "timeout", "rise", "fall"];

impl CheckRow {
    fn of(check: &Check, state: &State) -> CheckRow {
        let named = |names: &[String]| names.contains(&check.name);
        let users = state.services.iter().filter(|service| {
            let own = |checks: &Option<Vec<String>>| checks.as_ref().is_some_and(|names| named(names));
            named(&service.health.checks) || service.servers.iter().any(|server| own(&server.health.checks))
        });
        CheckRow {
            name: check.name.clone(),
            kind: check.kind.name(),
            interval_seconds: check.interval.as_secs_f64(),
            timeout_seconds: check.timeout.as_secs_f64(),
            rise: check.rise,
            fall: check.fall,
            keys: keys(check),
            services: users.map(|service| service.key.to_string()).collect(),
        }
    }
}

impl Row for CheckRow {
    const HEAD: &'static [&'static str] =
        &["NAME", "TYPE", "INTERVAL", "TIMEOUT", "RISE", "FALL", "REST", "SERVICES"];

    fn cells(&self) -> Vec<String> {
        let rest = self.keys.iter().filter(|(key, _)| !COLUMNS.contains(&key.as_str()));
        let rest: Vec<String> = rest.map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            self.name.clone(),
            self.kind.to_owned(),
            time(self.interval_seconds),
            time(self.timeout_seconds),
            self.rise.to_string(),
            self.fall.to_string(),
            table::joined(&rest),
            if self.services.is_empty() { "-".to_owned() } else { self.services.join(", ") },
        ]
    }
}

fn keys(check: &Check) -> toml::Table {
    let lines: Vec<String> =
        check_entries(check).into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    lines.concat().parse().unwrap_or_default()
}

fn time(seconds: f64) -> String {
    format!("{:?}", Duration::from_secs_f64(seconds))
}
