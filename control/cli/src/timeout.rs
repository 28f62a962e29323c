//! `fulcrum timeout`: how long sessions live in each state.

use std::str::FromStr;

use clap::Subcommand;
use fulcrum_model::{Edit, TimeoutState, Timeouts};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// How long sessions live in each state.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the states with their time-outs; services may have others, see `fulcrum service show`
    List,
    /// Set time-outs for all services that have none of their own, all or none
    Set {
        /// A state and its seconds, such as tcp-established=3600; `=default` for IPVS's
        #[arg(required = true, value_name = "STATE=SECONDS")]
        timeouts: Vec<Assignment>,
    },
}

/// A state and its seconds; without seconds: the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The state.
    pub state: TimeoutState,
    /// Its seconds.
    pub seconds: Option<u32>,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Assignment, String> {
        let (state, seconds) = text.split_once('=').ok_or("such as tcp-established=3600")?;
        let state = state.parse::<TimeoutState>().map_err(|unknown| unknown.to_string())?;
        let seconds = match seconds {
            "default" => None,
            number => {
                Some(number.parse().map_err(|_| format!("`{number}` is neither seconds nor `default`"))?)
            }
        };
        Ok(Assignment { state, seconds })
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let timeouts = global.client().await?.state().await?.timeouts;
            let rows = TimeoutState::ALL.map(|state| TimeoutRow::of(state, &timeouts));
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Set { timeouts } => {
            let edits: Vec<Edit> =
                timeouts.iter().map(|set| Edit::SetStateTimeout(None, set.state, set.seconds)).collect();
            global.edit(&edits).await
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct TimeoutRow {
    state: &'static str,
    seconds: u32,
    default: u32,
}

impl TimeoutRow {
    fn of(state: TimeoutState, timeouts: &Timeouts) -> TimeoutRow {
        TimeoutRow { state: state.name(), seconds: timeouts.of(state), default: state.default_seconds() }
    }
}

impl Row for TimeoutRow {
    const HEAD: &'static [&'static str] = &["STATE", "SECONDS", "DEFAULT"];

    fn cells(&self) -> Vec<String> {
        vec![self.state.to_owned(), self.seconds.to_string(), self.default.to_string()]
    }
}
