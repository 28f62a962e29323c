//! Inputs that the fuzz targets once found wanting, and a few that reach far: each must end quietly.

// Public for the fuzz package, which this is not.
#[allow(unreachable_pub)]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// Runs a target over every file kept for it.
fn each(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds nothing", folder.display());
    for file in files {
        // Shown when the test fails.
        println!("{}", file.display());
        run(&fs::read(&file).unwrap());
    }
}

#[test]
fn netlink() {
    each("netlink", targets::netlink::run);
}

#[test]
fn packet() {
    each("packet", targets::packet::run);
}

#[test]
fn pipeline() {
    each("pipeline", targets::pipeline::run);
}

#[test]
fn stream() {
    each("stream", targets::stream::run);
}

#[test]
fn protocols() {
    each("protocols", targets::protocols::run);
}

#[test]
fn text() {
    each("text", targets::text::run);
}
