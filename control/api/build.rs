//! Generates the messages and services from `proto/` (needs protoc).

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_protos(&["proto/state.proto", "proto/dataplane.proto", "proto/control.proto"], &["proto"])
}
