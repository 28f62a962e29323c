//! The two text formats: OpenMetrics, and Prometheus' older one (version 0.0.4).

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::families::{Family, Kind};
use super::scrape::Scrape;

/// What every name begins with.
pub const PREFIX: &str = "fulcrum";

/// A scrape in OpenMetrics' text format.
pub fn open_metrics(
    scrape: Scrape,
    families: impl Iterator<Item = &'static Family>,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    let families = families.collect();
    registry.register_collector(Box::new(Collector { scrape, families }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The same in the older format, where the name of a counter ends in `_total` everywhere, and of an info in `_info`.
pub fn plain(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        match line.strip_prefix("# ").and_then(|line| line.split_once(' ')) {
            Some(("HELP", rest)) => help = rest,
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                let (end, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    other => ("", other),
                };
                let said = help.strip_prefix(name).unwrap_or_default();
                text.push_str(&format!("# HELP {name}{end}{said}\n# TYPE {name}{end} {kind}\n"));
            }
            _ if line.starts_with('#') => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[derive(Debug)]
struct Collector {
    scrape: Scrape,
    families: Vec<&'static Family>,
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let unit = family.unit.map(|unit| Unit::Other(unit.to_owned()));
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Info => MetricType::Info,
            };
            let encoder = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            let mut samples = Samples { encoder, family, done: Ok(()) };
            (family.samples)(&self.scrape, &mut samples);
            samples.done?;
        }
        Ok(())
    }
}

/// Takes the samples of one family.
#[derive(Debug)]
pub struct Samples<'a> {
    encoder: MetricEncoder<'a>,
    family: &'static Family,
    done: fmt::Result,
}

impl Samples<'_> {
    /// A sample: the values of the family's labels, and what was measured.
    pub fn put(&mut self, labels: &[&str], value: impl Into<Value>) {
        if self.done.is_ok() {
            self.done = self.encode(labels, value.into());
        }
    }

    /// A sample of an info: the values of its labels are what it tells.
    pub fn info(&mut self, labels: &[&str]) {
        self.put(labels, 1u64);
    }

    fn encode(&mut self, labels: &[&str], value: Value) -> fmt::Result {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let pairs: Vec<(&str, &str)> =
            std::iter::zip(self.family.labels.iter().copied(), labels.iter().copied()).collect();
        let pairs = pairs.as_slice();
        match self.family.kind {
            Kind::Info => self.encoder.encode_info(&pairs),
            kind if pairs.is_empty() => number(&mut self.encoder, kind, value),
            kind => number(&mut self.encoder.encode_family(&pairs)?, kind, value),
        }
    }
}

fn number(encoder: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => encoder.encode_counter::<NoLabelSet, _, u64>(&n, None),
        (Kind::Counter, Value::Real(n)) => encoder.encode_counter::<NoLabelSet, _, u64>(&n, None),
        (_, Value::Whole(n)) => encoder.encode_gauge(&n),
        (_, Value::Real(n)) => encoder.encode_gauge(&n),
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any other.
    Real(f64),
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Whole(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Whole(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Whole(number as u64)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Value {
        Value::Whole(yes.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Real(number)
    }
}
