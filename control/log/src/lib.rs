//! How Fulcrum's daemons log: one way for both, to standard error.
//!
//! Lives here: the arguments that say how, what journald is told (`journal`), and that the same line over and over
//! is written a few times and then counted (`limit`). Does not live here: what is logged, and the traffic: of a
//! packet there is never a line.

mod journal;
mod limit;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use journal::{Journal, is_journal};
use limit::Limit;

pub use limit::AUDIT;

/// The environment's word on how much is logged, of which part.
const VARIABLE: &str = "RUST_LOG";

/// DPDK's own lines are for who asks for them.
const QUIET: &str = "dpdk=off";

/// How to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct LogArguments {
    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// How much to log; RUST_LOG says it more finely, and goes before, such as RUST_LOG=warn,dpdk=debug
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged: this and what is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What does not work.
    Error,
    /// What an operator should look at.
    Warn,
    /// What changed.
    #[default]
    Info,
    /// Why.
    Debug,
    /// Everything.
    Trace,
}

/// Logs from now on. A log that is set up already stays as it is.
pub fn start(arguments: LogArguments) {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let (filter, wrong) = match filter(arguments.log_level, &asked) {
        Ok(filter) => (filter, None),
        Err(why) => (EnvFilter::new(word(arguments.log_level)), Some(why)),
    };
    let look = if is_journal() {
        Look::Journal
    } else if std::io::stderr().is_terminal() {
        Look::Colours
    } else {
        Look::Plain
    };
    let limit = Limit::default();
    let lines = lines(arguments.log_format, look, std::io::stderr);
    if tracing_subscriber::registry().with(filter).with(limit.clone()).with(lines).try_init().is_ok() {
        limit.tell_what_is_held();
    }
    if let Some(why) = wrong {
        tracing::warn!("{VARIABLE}=`{asked}` is left aside: {why}; right is such as warn,dpdk=debug");
    }
}

/// What is let through, or what is wrong with the environment's word.
fn filter(level: LogLevel, asked: &str) -> Result<EnvFilter, String> {
    let asked = if asked.trim().is_empty() { String::new() } else { format!(",{asked}") };
    // Of two directives for the same, the later one holds.
    EnvFilter::try_new(format!("{},{QUIET}{asked}", word(level))).map_err(|error| error.to_string())
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Colours,
    Plain,
    Journal,
}

/// The layer that writes lines.
fn lines<S, W>(format: LogFormat, look: Look, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(look == Look::Colours);
    match (format, look) {
        (LogFormat::Text, Look::Journal) => layer.without_time().map_event_format(Journal).boxed(),
        (LogFormat::Text, _) => layer.boxed(),
        (LogFormat::Json, Look::Journal) => layer.json().without_time().map_event_format(Journal).boxed(),
        (LogFormat::Json, _) => layer.json().boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, look: Look, asked: &str, log: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter(LogLevel::Info, asked).unwrap())
            .with(Limit::default())
            .with(lines(format, look, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn journald_gets_a_priority_for_every_line_and_no_time() {
        let text = written(LogFormat::Text, Look::Journal, "trace", || {
            tracing::error!(server = "192.168.20.7", "two\nlines");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
        });
        let here = module_path!();
        assert_eq!(
            text,
            format!(
                "<3>ERROR {here}: two\n<3>lines server=\"192.168.20.7\"\n<4> WARN {here}: w\n\
                 <6> INFO {here}: i\n<7>DEBUG {here}: d\n"
            )
        );
    }

    #[test]
    fn json_is_an_object_a_line_for_journald_too() {
        let log = || tracing::warn!(server = "192.168.20.7", "two\nlines");
        let plain = written(LogFormat::Json, Look::Plain, "", log);
        let object: serde_json::Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(object["fields"]["message"], "two\nlines");
        assert_eq!(object["fields"]["server"], "192.168.20.7");
        assert!(object["timestamp"].is_string());
        let journal = written(LogFormat::Json, Look::Journal, "", log);
        let object: serde_json::Value = serde_json::from_str(journal.strip_prefix("<4>").unwrap()).unwrap();
        assert_eq!(object["level"], "WARN");
        assert!(object.get("timestamp").is_none());
    }

    #[test]
    fn the_environment_refines_the_level() {
        let log = || {
            tracing::debug!(target: "dpdk", "deep");
            tracing::info!("high");
            tracing::debug!("low");
        };
        let told = |asked| written(LogFormat::Text, Look::Plain, asked, log);
        let has = |text: &str| ["deep", "high", "low"].map(|word| text.contains(word));
        assert_eq!(has(&told("")), [false, true, false]);
        assert_eq!(has(&told("dpdk=debug")), [true, true, false]);
        assert_eq!(has(&told("warn,dpdk=debug")), [true, false, false]);
        assert_eq!(has(&told("debug")), [false, true, true]);
        assert!(filter(LogLevel::Info, "dpdk=loud").is_err());
    }

    #[test]
    fn a_line_over_and_over_is_written_a_few_times() {
        let text = written(LogFormat::Text, Look::Plain, "", || {
            for _ in 0..1000 {
                tracing::info!("again");
            }
            tracing::info!("another");
        });
        assert_eq!(text.matches("again").count(), limit::SAME as usize);
        assert_eq!(text.matches("another").count(), 1);
    }
}
