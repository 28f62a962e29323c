//! The kit for owners of a TRex, as far as it works without one: `make trex-check` does the same.

use std::process::Command;

use fulcrum_e2e::process::program;

#[test]
fn profiles_search_and_director_files_of_the_trex_kit_are_in_order() {
    let programs = program("fulcrum");
    for daemon in ["fulcrum-dataplane", "fulcrum-control"] {
        program(daemon);
    }
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/trex"))
        .env("FULCRUM_PROGRAMS", programs.parent().expect("a program is in a folder"))
        .env_remove("TREX_HOME")
        .output()
        .expect("python3 is installed (scripts/setup)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // What needs TRex is skipped, and nothing else.
    assert!(said.contains("OK (skipped=3)"), "{said}");
}
