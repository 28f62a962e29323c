//! No line floods the log: what is said over and over is written a few times, then counted and told once a while.
//!
//! Two bounds in each [`WINDOW`]: [`SAME`] lines with the same text, and [`PLACE`] lines from the same place of the
//! program whatever they say. Memory is bounded: the places of a program are, and so are the texts that are known.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How long lines are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one text that are written in a window.
pub(crate) const SAME: u32 = 3;
/// Lines of one place that are written in a window.
const PLACE: u32 = 300;
/// Texts that are known at a time.
const TEXTS: usize = 512;
/// Bytes of a text that are told when it was repeated.
const TOLD: usize = 400;
/// Between two looks at what is held.
const LOOK: Duration = Duration::from_secs(1);

/// Lines of this target are written however often they come: who changed what.
pub const AUDIT: &str = "fulcrum_audit";

/// Lines like this are the limit's own.
const TARGET: &str = "fulcrum_log";

/// Stands between what is logged and who writes it; clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    held: Condvar,
}

impl Limit {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Has a thread tell what was not written, which sleeps while nothing is held back.
    pub(crate) fn tell_what_is_held(&self) {
        let limit = self.clone();
        // Without the thread, lines are held back all the same.
        let _ = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let holds = limit.0.held.wait_while(limit.known(), |known| !known.holds);
                drop(holds);
                std::thread::sleep(LOOK);
                let due = limit.known().due(Instant::now());
                due.iter().for_each(Held::tell);
            }
        });
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if [TARGET, AUDIT].contains(&metadata.target()) {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let mut known = self.known();
        let written = known.takes(Instant::now(), metadata.callsite(), *metadata.level(), &text.0);
        if known.holds {
            self.0.held.notify_one();
        }
        written
    }
}

/// What was written and held back in the windows that are open.
#[derive(Debug, Default)]
struct Known {
    texts: HashMap<u64, Lines>,
    places: HashMap<Identifier, Lines>,
    /// Whether anything is held back.
    holds: bool,
}

/// Lines that are counted together.
#[derive(Debug)]
struct Lines {
    since: Instant,
    written: u32,
    held: u64,
    level: Level,
    /// The last one held back.
    text: String,
}

/// Lines that were not written.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    count: u64,
    level: Level,
    text: String,
    same: bool,
}

impl Known {
    /// Whether a line is to be written; else it is counted.
    fn takes(&mut self, now: Instant, place: Identifier, level: Level, text: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (place.clone(), text).hash(&mut hasher);
        let hash = hasher.finish();
        if self.texts.len() >= TEXTS && !self.texts.contains_key(&hash) {
            // Those that are over and were told; when all are busy, the place bounds this one.
            self.texts.retain(|_, lines| lines.held > 0 || !lines.is_over(now));
        }
        let room = self.texts.len() < TEXTS || self.texts.contains_key(&hash);
        let written = (!room
            || self.texts.entry(hash).or_insert_with(|| Lines::new(now)).takes(now, SAME, level, text))
            && self.places.entry(place).or_insert_with(|| Lines::new(now)).takes(now, PLACE, level, text);
        self.holds |= !written;
        written
    }

    /// What was held back in windows that are over; while it goes on, nothing but this is written of it.
    fn due(&mut self, now: Instant) -> Vec<Held> {
        let mut due = Vec::new();
        let mut look = |lines: &mut Lines, same| {
            if !lines.is_over(now) {
                return true;
            }
            let go_on = lines.held > 0;
            if go_on {
                let text = std::mem::take(&mut lines.text);
                due.push(Held { count: lines.held, level: lines.level, text, same });
                (lines.since, lines.held) = (now, 0);
            }
            go_on
        };
        self.texts.retain(|_, lines| look(lines, true));
        self.places.retain(|_, lines| look(lines, false));
        self.holds = self.texts.values().chain(self.places.values()).any(|lines| lines.held > 0);
        due
    }
}

impl Lines {
    fn new(now: Instant) -> Lines {
        Lines { since: now, written: 0, held: 0, level: Level::INFO, text: String::new() }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    fn takes(&mut self, now: Instant, most: u32, level: Level, text: &str) -> bool {
        if self.held == 0 && self.is_over(now) {
            *self = Lines::new(now);
        }
        if self.written < most {
            self.written += 1;
            return true;
        }
        if self.held == 0 {
            text.clone_into(&mut self.text);
        }
        self.held += 1;
        self.level = level;
        false
    }
}

impl Held {
    /// The line about them, at the level of theirs.
    fn tell(&self) {
        let line = self.line();
        match self.level {
            Level::ERROR => tracing::error!(target: TARGET, "{line}"),
            Level::WARN => tracing::warn!(target: TARGET, "{line}"),
            Level::INFO => tracing::info!(target: TARGET, "{line}"),
            Level::DEBUG => tracing::debug!(target: TARGET, "{line}"),
            Level::TRACE => tracing::trace!(target: TARGET, "{line}"),
        }
    }

    fn line(&self) -> String {
        let Held { count, text, .. } = self;
        let seconds = WINDOW.as_secs();
        match self.same {
            true => format!("{count} more in {seconds} s: {text}"),
            false => format!("{count} more in {seconds} s, each a little different: {text}"),
        }
    }
}

/// A line's text as it is compared and told: the message, then the fields.
#[derive(Debug, Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Clipped(&mut self.0);
        let _ = match field.name() {
            "message" => fmt::write(&mut text, format_args!("{value:?}")),
            name => fmt::write(&mut text, format_args!(" {name}={value:?}")),
        };
    }
}

/// Takes as much as is told.
struct Clipped<'a>(&'a mut String);

impl fmt::Write for Clipped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TOLD.saturating_sub(self.0.len());
        let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Metadata;
    use tracing::callsite::Callsite;
    use tracing::subscriber::Interest;

    use std::fmt::Write as _;

    use super::*;

    struct Place(&'static str);

    impl Callsite for Place {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("only the identity is asked for: {}", self.0)
        }
    }

    static HERE: Place = Place("here");
    static THERE: Place = Place("there");

    fn place(place: &'static Place) -> Identifier {
        Identifier(place)
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_that_goes_on_is_told_once_a_window() {
        let start = Instant::now();
        let mut known = Known::default();
        let say =
            |known: &mut Known, second, text| known.takes(at(start, second), place(&HERE), Level::WARN, text);
        let written = (0..100).filter(|_| say(&mut known, 0, "lost")).count();
        assert_eq!(written, SAME as usize);
        assert!(say(&mut known, 1, "found") && known.takes(at(start, 1), place(&THERE), Level::WARN, "lost"));
        assert_eq!(known.due(at(start, 9)), []);
        let told = |count| Held { count, level: Level::WARN, text: "lost".into(), same: true };
        assert_eq!(known.due(at(start, 10)), [told(97)]);
        assert!(!known.holds);
        assert!(!say(&mut known, 12, "lost"), "it goes on");
        assert_eq!(known.due(at(start, 20)), [told(1)]);
        assert_eq!(known.due(at(start, 30)), []);
        assert!(say(&mut known, 31, "lost"), "a window without it has passed");
        assert_eq!(told(97).line(), "97 more in 10 s: lost");
    }

    #[test]
    fn a_place_is_bounded_whatever_it_says_and_so_is_memory() {
        let start = Instant::now();
        let mut known = Known::default();
        let say =
            |known: &mut Known, n: u32| known.takes(start, place(&HERE), Level::INFO, &format!("server {n}"));
        let written = (0..100_000).filter(|n| say(&mut known, *n)).count();
        assert_eq!(written, PLACE as usize);
        assert!(known.texts.len() <= TEXTS, "{}", known.texts.len());
        let due = known.due(at(start, 10));
        assert_eq!(due.iter().map(|held| held.count).sum::<u64>(), 100_000 - u64::from(PLACE));
        assert!(due.iter().all(|held| !held.same) && due[0].text == "server 300", "{due:?}");
        assert_eq!(known.due(at(start, 20)), []);
        assert!(known.texts.is_empty() && known.places.is_empty());
    }

    #[test]
    fn long_texts_are_clipped_between_characters() {
        let mut text = String::new();
        let _ = write!(Clipped(&mut text), "x{}", "ä".repeat(TOLD));
        assert_eq!(text.len(), TOLD - 1);
    }
}
