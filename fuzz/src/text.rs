//! What people write: configuration files, ipvsadm's lines, set-up files of replay, iptables' rules.

use std::path::Path;

use fulcrum_model::{Config, Edit, Family, Settings, State, file, iptables, ipvsadm, validate};
use fulcrum_replay::setup;

/// A state that ipvsadm's lines can work on.
const CONFIG: &str = r#"
[[port]]
name = "wan"
device = "eth0"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24", "fd00::1/64"]
[[local-pool]]
name = "inside"
interface = "wan"
addresses = ["10.0.0.200", "fd00::200"]
"#;

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind % 5 {
        0 => configuration(text),
        1 => lines(text),
        2 => _ = setup::parse(Path::new("setup"), text, &State::default()),
        3 => rules(text),
        _ => settings(text),
    }
}

/// A state that the lines of ipvsadm and iptables work on.
fn base() -> State {
    match Config::parse("base", CONFIG) {
        Ok(config) => config.state,
        Err(errors) => panic!("{errors}"),
    }
}

/// Rules that are accepted can be written down and read.
fn rules(text: &str) {
    for family in [Family::V4, Family::V6] {
        let Ok(mut import) = iptables::parse(family, text) else { continue };
        let mut state = base();
        import.name_interfaces(&state);
        for rule in import.rules {
            let _ = state.apply(&Edit::AddMark(rule, None));
        }
        configuration(&file::state_to_toml(&state));
    }
}

/// `NAME=VALUE` lines: what is taken is in range and told as it was given.
fn settings(text: &str) {
    let mut settings = Settings::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        if settings.set(name, value).is_ok() {
            assert!(settings.get(name).is_some(), "{name}");
        }
    }
    assert_eq!(settings.check(), []);
}

/// What is accepted is valid, and reads back the same after it was written.
fn configuration(text: &str) {
    let Ok(config) = Config::parse("file", text) else { return };
    assert_eq!(validate::state(&config.state), []);
    let written = file::to_toml(&config);
    match Config::parse("written", &written) {
        Ok(again) => assert_eq!(again, config, "{written}"),
        Err(errors) => panic!("{errors}\n{written}"),
    }
}

/// Lines that are accepted leave a valid state, whose saved form is accepted too.
fn lines(text: &str) {
    let mut state = base();
    for line in text.lines().take(64) {
        let Ok(edits) = ipvsadm::edits(line) else { continue };
        let before = state.clone();
        if state.apply_all(&edits).is_err() {
            assert_eq!(state, before, "a refused edit changes nothing: {line}");
        }
    }
    assert_eq!(validate::state(&state), []);
    let saved = ipvsadm::save(&state.services, true, &ipvsadm::Numeric);
    let mut restored = State { services: Vec::new(), ..state.clone() };
    match ipvsadm::restore(&saved, &ipvsadm::Numeric) {
        Ok(lines) => {
            let edits: Vec<_> = lines.into_iter().flat_map(ipvsadm::Line::into_edits).collect();
            // Local addresses are not part of ipvsadm's saved form: FULLNAT servers may miss theirs.
            let _ = restored.apply_all(&edits);
        }
        Err(error) => panic!("{error}\n{saved}"),
    }
}
