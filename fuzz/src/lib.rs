//! What the fuzz targets do with arbitrary bytes. Each ends quietly or panics.
//!
//! Compiled twice: for libFuzzer by this package, and into a test of the main workspace that runs the kept inputs.

pub mod netlink;
pub mod packet;
pub mod pipeline;
pub mod protocols;
pub mod stream;
pub mod text;

/// Clients on one side and servers on the other, both families on both.
const LINKS: &str = r#"
[[port]]
name = "wan"
device = "eth0"
mac = "02:00:00:00:01:01"
[[port]]
name = "lan"
device = "eth1"
mac = "02:00:00:00:02:01"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24", "fd00:1::1/64"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["10.1.0.1/24", "fd00:2::1/64"]
"#;
