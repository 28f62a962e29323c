//! Tells the lab where the programs under test are, and which version they must say they are.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // target/<profile>/build/<package>-<hash>/out
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let programs = Path::new(&out).ancestors().nth(3).expect("OUT_DIR lies in the target directory");
    println!("cargo::rustc-env=FULCRUM_PROGRAMS={}", programs.display());
    println!("cargo::rustc-env=FULCRUM_VERSION={}", env::var("CARGO_PKG_VERSION").expect("cargo sets it"));
}
