//! `fulcrum import`: what goes where, and its exit codes. What becomes of each word is tested in fulcrum-import.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const KEEPALIVED: &str =
    "virtual_server 10.0.0.1 80 {\n  omega\n  real_server 10.1.0.1 80 {\n    TCP_CHECK {\n    }\n  }\n}\n";

fn import(words: &str, text: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fulcrum"))
        .arg("import")
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_file_goes_to_standard_output_and_the_rest_to_standard_error() {
    let done = import("keepalived -", KEEPALIVED);
    let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert!(done.status.success());
    assert!(out.contains("[[check]]") && out.contains("address = \"10.0.0.1:80\""), "{out}");
    assert!(err.starts_with("-:2: `omega`: "), "{err}");
    assert!(
        err.ends_with("fulcrum: 1 service and 1 check imported, 1 line without an equivalent\n"),
        "{err}"
    );
}

#[test]
fn strict_imports_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fulcrum.toml");
    let words = format!("keepalived - --strict --to {}", file.display());
    let done = import(&words, KEEPALIVED);
    assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(!file.exists());
    assert!(import(&words, &KEEPALIVED.replace("omega", "")).status.success());
    assert!(std::fs::read_to_string(file).unwrap().contains("[[service]]"));
}

#[test]
fn json_has_both() {
    let done = import("ldirectord - --json", "fork=yes\nvirtual=10.0.0.1:80\n\treal=10.1.0.1:80 gate\n");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(told["toml"].as_str().unwrap().contains("[[service]]"));
    let left = json!([{ "file": "-", "line": 1, "last_line": 1, "text": "fork=yes", "why": told["left_out"][0]["why"] }]);
    assert_eq!(told["left_out"], left);
}

#[test]
fn what_cannot_be_read_is_named() {
    let done = import("keepalived -", "virtual_server 10.0.0.1 80 {\n");
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(err.contains("-:1: this block has no end") && err.contains("nothing imported"), "{err}");
    assert_eq!(import("keepalived /nowhere/at/all", "").status.code(), Some(1));
    assert_eq!(import("nobody -", "").status.code(), Some(2));
}
