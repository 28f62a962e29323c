//! gRPC interfaces of Fulcrum.
