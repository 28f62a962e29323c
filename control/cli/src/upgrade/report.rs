//! What is told of an upgrade while it goes on: a line a step, as text or as JSON.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::health::time;
use crate::output::Output;

/// Tells.
#[derive(Debug)]
pub(super) struct Report<'a, 'b> {
    out: &'a mut Output<'b>,
    json: bool,
    last: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    step: &'a str,
    text: &'a str,
    #[serde(flatten)]
    facts: Map<String, Value>,
}

impl<'a, 'b> Report<'a, 'b> {
    pub(super) fn new(out: &'a mut Output<'b>, json: bool) -> Report<'a, 'b> {
        Report { out, json, last: String::new() }
    }

    /// Tells of a step; the same thing once in a row. `facts` are for programs.
    pub(super) fn say(&mut self, step: &str, text: &str, facts: Value) -> Result<(), Failure> {
        let line = format!("{step}\0{text}");
        if line == self.last {
            return Ok(());
        }
        self.last = line;
        if self.json {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let time = time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            let facts = facts.as_object().cloned().unwrap_or_default();
            let line = Line { time, step, text, facts };
            writeln!(self.out, "{}", serde_json::to_string(&line).map_err(std::io::Error::from)?)?;
        } else {
            writeln!(self.out, "{step:<11} {}", text.replace('\n', "\n            "))?;
        }
        // Somebody watches.
        Ok(self.out.flush()?)
    }

    /// The same without facts.
    pub(super) fn tell(&mut self, step: &str, text: &str) -> Result<(), Failure> {
        self.say(step, text, json!({}))
    }
}
