//! Generates the messages and services from `proto/` (needs protoc).

/// Messages that people see as JSON just as they are.
const SHOWN: &[&str] = &[
    "fulcrum.dataplane.v1.TranslationLog",
    "fulcrum.control.v1.Status",
    "fulcrum.control.v1.ControlStatus",
    "fulcrum.control.v1.Link",
    "fulcrum.dataplane.v1.DataplaneStatus",
    "fulcrum.dataplane.v1.Worker",
    "fulcrum.dataplane.v1.PortStatus",
    "fulcrum.dataplane.v1.PortSteering",
    "fulcrum.dataplane.v1.ExceptionStatus",
    "fulcrum.dataplane.v1.ExceptionClass",
    "fulcrum.dataplane.v1.BondStatus",
    "fulcrum.dataplane.v1.BondMember",
    "fulcrum.dataplane.v1.LocalPoolUse",
    "fulcrum.dataplane.v1.SnatUse",
    "fulcrum.dataplane.v1.FramePool",
    "fulcrum.dataplane.v1.GatewayStatus",
    "fulcrum.dataplane.v1.NamedCount",
    "fulcrum.dataplane.v1.Counters",
    "fulcrum.dataplane.v1.ProcessUse",
];

fn main() -> std::io::Result<()> {
    let serialize = |config: tonic_prost_build::Builder, name: &&str| {
        config.type_attribute(*name, "#[derive(serde::Serialize)]")
    };
    SHOWN
        .iter()
        .fold(tonic_prost_build::configure(), serialize)
        .build_transport(false)
        .compile_protos(&["proto/state.proto", "proto/dataplane.proto", "proto/control.proto"], &["proto"])
}
