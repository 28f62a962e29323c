//! What a row of outcomes means: a pure function of (state, outcome, now).

use std::time::{Duration, SystemTime};

use fulcrum_model::Check;

use crate::target::{Outcome, Verdict};

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the prober began; never goes back.
    pub elapsed: Duration,
    /// The wall's clock.
    pub wall: SystemTime,
}

/// What makes a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Good answers in a row that make a server up that was down.
    pub rise: u32,
    /// Bad answers in a row that make a server down that was not.
    pub fall: u32,
    /// How long bad answers do not count at first.
    pub warm_up: Duration,
}

impl From<&Check> for Rules {
    fn from(check: &Check) -> Rules {
        Rules { rise: check.rise, fall: check.fall, warm_up: check.warm_up }
    }
}

/// What is known of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// When the target came.
    pub begun: Moment,
    /// What is known.
    pub verdict: Verdict,
    /// Since when.
    pub since: Moment,
    /// Why it is not up, or why the last answer was bad though it still is.
    pub last_error: Option<String>,
    /// The last verdict that was one.
    known: Verdict,
    /// Equal answers in a row: whether good, and how many.
    row: (bool, u32),
}

impl State {
    /// A new target: nothing is known.
    pub const fn new(now: Moment) -> State {
        State {
            begun: now,
            verdict: Verdict::Unknown,
            since: now,
            last_error: None,
            known: Verdict::Unknown,
            row: (true, 0),
        }
    }

    /// What is known after one more outcome.
    ///
    /// Of a server of which nothing was ever known, the first good answer makes it up. What could not be asked leaves
    /// nothing known; then one answer is enough to go back to what was known before.
    #[must_use]
    pub fn after(&self, rules: Rules, outcome: Outcome, now: Moment) -> State {
        let warming = now.elapsed.saturating_sub(self.begun.elapsed) < rules.warm_up;
        match outcome {
            Outcome::Good => {
                let row = (true, self.in_a_row(true));
                let enough = if self.known == Verdict::Down { rules.rise } else { 1 };
                match row.1 >= enough {
                    true => State { row, last_error: None, ..self.becoming(Verdict::Up, now) },
                    false => State { row, ..self.back_to(Verdict::Down, now) },
                }
            }
            Outcome::Bad(why) if warming => State { row: (false, 0), last_error: Some(why), ..self.clone() },
            Outcome::Bad(why) => {
                let (row, last_error) = ((false, self.in_a_row(false)), Some(why));
                let enough = if self.known == Verdict::Down { 1 } else { rules.fall };
                match row.1 >= enough {
                    true => State { row, last_error, ..self.becoming(Verdict::Down, now) },
                    false => State { row, last_error, ..self.back_to(Verdict::Up, now) },
                }
            }
            Outcome::Unasked(why) => State {
                row: (true, 0),
                last_error: Some(why),
                known: self.known,
                ..self.becoming(Verdict::Unknown, now)
            },
        }
    }

    /// How many equal answers there are with one more of this kind.
    const fn in_a_row(&self, good: bool) -> u32 {
        match self.row {
            (before, count) if before == good => count.saturating_add(1),
            _ => 1,
        }
    }

    fn becoming(&self, verdict: Verdict, now: Moment) -> State {
        let since = if verdict == self.verdict { self.since } else { now };
        State { verdict, since, known: verdict, ..self.clone() }
    }

    /// An answer that is not enough for a change: what was known before, if it was `before`, holds again.
    fn back_to(&self, before: Verdict, now: Moment) -> State {
        match self.known == before {
            true => self.becoming(before, now),
            false => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        let elapsed = Duration::from_secs(seconds);
        Moment { elapsed, wall: SystemTime::UNIX_EPOCH + elapsed }
    }

    fn outcome(letter: char) -> Outcome {
        match letter {
            '+' => Outcome::Good,
            '-' => Outcome::Bad("refused".into()),
            _ => Outcome::Unasked("no route".into()),
        }
    }

    /// The verdicts after each outcome, one a second: `+` good, `-` bad, `?` unasked.
    fn verdicts(rules: Rules, outcomes: &str) -> String {
        let mut state = State::new(at(0));
        let step = |(second, letter)| {
            state = state.after(rules, outcome(letter), at(second));
            match state.verdict {
                Verdict::Up => 'U',
                Verdict::Down => 'D',
                Verdict::Unknown => '.',
            }
        };
        (0..).zip(outcomes.chars()).map(step).collect()
    }

    const RULES: Rules = Rules { rise: 2, fall: 3, warm_up: Duration::ZERO };

    #[test]
    fn a_row_makes_a_verdict() {
        assert_eq!(verdicts(RULES, "+--+---+-++"), "UUUUUUDDDDU");
        assert_eq!(verdicts(RULES, "---"), "..D", "a new server is down after as many as any");
        assert_eq!(verdicts(RULES, "--+"), "..U", "a new server is up with its first good answer");
    }

    #[test]
    fn what_was_not_asked_says_nothing() {
        assert_eq!(verdicts(RULES, "+?-"), "U.U", "one bad answer does not take an up server out");
        assert_eq!(verdicts(RULES, "+--?-"), "UUU.U", "a row ends where nothing was asked");
        assert_eq!(verdicts(RULES, "---?+-"), "..D.DD");
        assert_eq!(verdicts(RULES, "---?++"), "..D.DU");
        assert_eq!(verdicts(RULES, "????"), "....");
    }

    #[test]
    fn bad_answers_of_a_new_server_do_not_count() {
        let rules = Rules { warm_up: Duration::from_secs(5), ..RULES };
        assert_eq!(verdicts(rules, "--------"), ".......D");
        assert_eq!(verdicts(rules, "+-------"), "UUUUUUUD");
        let state = State::new(at(0)).after(rules, outcome('-'), at(1));
        assert_eq!((state.verdict, state.last_error.as_deref()), (Verdict::Unknown, Some("refused")));
    }

    #[test]
    fn an_error_stays_until_the_server_is_up() {
        let mut state = State::new(at(0));
        let mut errors = Vec::new();
        for (second, letter) in (0..).zip("+---++".chars()) {
            state = state.after(RULES, outcome(letter), at(second));
            errors.push(state.last_error.is_some());
        }
        assert_eq!(errors, [false, true, true, true, true, false]);
        assert_eq!(state.since, at(5));
    }

    /// The verdict by looking back at everything that was ever answered.
    fn looking_back(rules: Rules, past: &[(u64, char)]) -> Verdict {
        let counts = |entry: &&(u64, char)| entry.1 != '-' || entry.0 >= rules.warm_up.as_secs();
        let Some((last, before)) = past.split_last() else { return Verdict::Unknown };
        let known = (0..past.len()).rev().map(|end| looking_back(rules, &past[..end]));
        let known = known.into_iter().find(|verdict| *verdict != Verdict::Unknown);
        let row = past.iter().rev().take_while(|entry| entry.1 == last.1 && counts(entry)).count();
        let now = if before.is_empty() { Verdict::Unknown } else { looking_back(rules, before) };
        match (last.1, known) {
            ('?', _) => Verdict::Unknown,
            ('-', _) if !counts(&last) => now,
            ('+', Some(Verdict::Down)) if row < rules.rise as usize => Verdict::Down,
            ('+', _) => Verdict::Up,
            ('-', Some(Verdict::Down)) => Verdict::Down,
            (_, known) if row < rules.fall as usize => known.unwrap_or_default(),
            _ => Verdict::Down,
        }
    }

    proptest! {
        #[test]
        fn counting_forward_is_looking_back(
            letters in vec(prop_oneof![4 => Just('+'), 5 => Just('-'), 1 => Just('?')], 0..12),
            rise in 1..4u32, fall in 1..4u32, warm_up in 0..6u64,
        ) {
            let rules = Rules { rise, fall, warm_up: Duration::from_secs(warm_up) };
            let past: Vec<(u64, char)> = (0..).zip(letters).collect();
            let mut state = State::new(at(0));
            for (end, (second, letter)) in past.iter().enumerate() {
                let before = state.clone();
                state = state.after(rules, outcome(*letter), at(*second));
                prop_assert_eq!(state.verdict, looking_back(rules, &past[..=end]), "{:?}", &past[..=end]);
                let since = if state.verdict == before.verdict { before.since } else { at(*second) };
                prop_assert_eq!(state.since, since);
                prop_assert!(state.verdict == Verdict::Up || state.last_error.is_some());
            }
        }
    }
}
