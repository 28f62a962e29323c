//! The configuration files and ipvsadm lines of the documentation are ones that work.

use fulcrum_model::file::CHECK_KEYS;
use fulcrum_model::validate::SCHEDULERS;
use fulcrum_model::{CheckKind, ClientAddress, Config, PortSteering, State, TimeoutState, ipvsadm};

fn pages() -> Vec<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let docs = std::fs::read_dir(format!("{root}/docs")).unwrap().map(|entry| entry.unwrap().path());
    let paths = docs.chain([format!("{root}/README.md").into()]);
    let markdown = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    markdown.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The fenced blocks of a page in one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    page.split(&open).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn every_configuration_file_is_valid() {
    let mut seen = 0;
    for (name, page) in pages() {
        for block in blocks(&page, "toml") {
            Config::parse(&name, block).unwrap_or_else(|errors| panic!("{errors}\nin:\n{block}"));
            seen += 1;
        }
    }
    assert!(seen >= 2, "the documentation has configuration files");
}

#[test]
fn the_reference_names_everything_that_has_a_name() {
    let page = pages().into_iter().find(|(name, _)| name.ends_with("configuration.md")).unwrap().1;
    for state in TimeoutState::ALL {
        let (long, short) = (format!("`{state}` {}", state.default_seconds()), format!("`{state}` ("));
        assert!(page.contains(&long) || page.contains(&short), "{state}");
    }
    let words =
        |text: &str| page.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == text);
    let clients = ClientAddress::ALL.map(ClientAddress::name);
    let steering = PortSteering::WORDS.map(|(word, _)| word);
    for name in SCHEDULERS.into_iter().chain(clients).chain(steering) {
        assert!(words(name), "{name}");
    }
    for name in CheckKind::NAMES.into_iter().chain(CHECK_KEYS) {
        assert!(words(name), "{name}");
    }
    let block = blocks(&page, "toml").into_iter().max_by_key(|block| block.len()).unwrap();
    let state = Config::parse("page", block).unwrap().state;
    let written = fulcrum_model::file::state_to_toml(&state);
    let keys = written.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    keys.for_each(|key| assert!(words(key), "{key}"));
}

#[test]
fn every_ipvsadm_line_is_understood() {
    let mut seen = 0;
    for (name, page) in pages() {
        for block in blocks(&page, "sh") {
            let mut state = State::default();
            for line in block.lines().filter(|line| line.starts_with("ipvsadm ")) {
                let words = line.split(" #").next().unwrap().split(['<', '>']).next().unwrap();
                let words: Vec<String> = words.split_whitespace().skip(1).map(str::to_owned).collect();
                let understood = ipvsadm::parse(&words);
                let command =
                    understood.unwrap_or_else(|usage| panic!("{name}: `{line}`: {}", usage.message));
                if let ipvsadm::Command::Edit(edits) = command {
                    state.apply_all(&edits).unwrap_or_else(|(_, error)| panic!("{name}: `{line}`: {error}"));
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "the documentation has ipvsadm lines");
}
