//! Named counters with what they mean.

use fulcrum_api::dataplane::NamedCount;
use fulcrum_director::reason::{Event, Reason};
use serde::Serialize;

use crate::table::Row;

/// A reason for drops, how often it occurred and what it means.
#[derive(Clone, Debug, Serialize)]
pub struct DropRow {
    reason: String,
    count: u64,
    meaning: &'static str,
}

impl DropRow {
    /// The reasons that occurred, most frequent first.
    pub fn all(drops: &[NamedCount]) -> Vec<DropRow> {
        let mut rows: Vec<DropRow> = drops
            .iter()
            .filter(|drop| drop.count != 0)
            .map(|drop| DropRow {
                reason: drop.name.clone(),
                count: drop.count,
                meaning: meaning(&drop.name),
            })
            .collect();
        rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        rows
    }
}

impl Row for DropRow {
    const HEAD: &'static [&'static str] = &["REASON", "PACKETS", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![self.reason.clone(), self.count.to_string(), self.meaning.to_owned()]
    }
}

/// Something else that is counted.
#[derive(Clone, Debug, Serialize)]
pub struct EventRow {
    event: String,
    count: u64,
    meaning: &'static str,
}

impl EventRow {
    /// The events that occurred, as the data plane orders them.
    pub fn all(events: &[NamedCount]) -> Vec<EventRow> {
        events
            .iter()
            .filter(|event| event.count != 0)
            .map(|event| EventRow {
                event: event.name.clone(),
                count: event.count,
                meaning: meaning(&event.name),
            })
            .collect()
    }
}

impl Row for EventRow {
    const HEAD: &'static [&'static str] = &["EVENT", "COUNT", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![self.event.clone(), self.count.to_string(), self.meaning.to_owned()]
    }
}

/// What a counter of that name counts; empty for a name of another version.
pub(crate) fn meaning(name: &str) -> &'static str {
    let reason = Reason::ALL.iter().find(|reason| reason.name() == name).map(|reason| reason.meaning());
    let event = || Event::ALL.iter().find(|event| event.name() == name).map(|event| event.meaning());
    reason.or_else(event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurred_is_listed_with_its_meaning() {
        let count = |name: &str, count| NamedCount { name: name.into(), count };
        let rows = DropRow::all(&[
            count("no-route", 1),
            count("ttl-expired", 0),
            count("no-service", 7),
            count("new", 1),
        ]);
        let names: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
        assert_eq!(names, ["no-service", "new", "no-route"]);
        assert_eq!(rows[2].meaning, "No route.");
        assert_eq!(rows[1].meaning, "");
        assert_eq!(EventRow::all(&[count("replied.arp", 3)])[0].meaning, "ARP request answered.");
    }
}
