//! What `deploy/` has for Prometheus and Grafana: promtool has no complaint, and every metric that is named exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fulcrum_manager::metrics::families::{Family, families};
use serde_json::Value;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

#[track_caller]
fn promtool(words: &[&str], file: &Path) {
    let mut command = Command::new("promtool");
    let output =
        command.args(words).arg(file).output().expect("promtool is there: Debian's package prometheus");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} {}:\n{said}", file.display());
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("fulcrum_")).map(str::to_owned).collect()
}

/// The queries of the dashboard, with what Grafana puts in for its variables.
fn queries() -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    match value {
                        Value::String(text) if key == "expr" => into.push(text.clone()),
                        _ => collect(value, into),
                    }
                }
            }
            Value::Array(array) => array.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut queries = Vec::new();
    collect(&serde_json::from_str(&read("grafana/fulcrum.json")).unwrap(), &mut queries);
    let fill = |query: String| {
        query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$service", ".*")
    };
    queries.into_iter().map(fill).collect()
}

#[test]
fn alerts_are_right_and_come_when_they_should() {
    promtool(&["check", "rules"], &deploy("prometheus/alerts.yml"));
    promtool(&["test", "rules"], &deploy("prometheus/alerts.test.yml"));
}

#[test]
fn the_dashboards_queries_are_right() {
    let queries = queries();
    assert!(queries.len() > 30, "{}", queries.len());
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(n, query)| serde_json::json!({"record": format!("panel:{n}"), "expr": query}))
        .collect();
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("rules.yml");
    // JSON is YAML.
    let text = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string();
    std::fs::write(&file, text).unwrap();
    promtool(&["check", "rules"], &file);
}

#[test]
fn every_metric_that_is_named_exists() {
    let known: BTreeSet<String> = families().map(Family::full_name).collect();
    let texts =
        [read("prometheus/alerts.yml"), read("prometheus/alerts.test.yml"), read("grafana/fulcrum.json")];
    for text in texts {
        let unknown: Vec<String> = named(&text).into_iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
