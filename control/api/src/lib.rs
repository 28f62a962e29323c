//! How Fulcrum's programs talk to each other: gRPC over Unix sockets.
//!
//! Lives here: the generated messages and services (`state`, `dataplane`, `control`), their conversion from
//! and to fulcrum-model (`convert`, `edit`), states as streams of changes (`change`), statuses (`status`), which versions go together (`version`), rows of lists (`listing`),
//! what a process tells of itself (`process`) and sockets (`socket`).
//! Does not live here: what the services do (fulcrum-manager, fulcrum-runtime).

pub mod change;
pub mod convert;
pub mod edit;
pub mod listing;
pub mod process;
pub mod socket;
pub mod status;
pub mod version;

pub use change::{apply_change, apply_changes, changes, difference, fingerprint};
pub use convert::BadMessage;
pub use generated::control::v1 as control;
pub use generated::dataplane::v1 as dataplane;
pub use generated::v1 as state;

/// Nested as their packages are, since generated code refers to its neighbours by relative paths.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    pub mod v1 {
        tonic::include_proto!("fulcrum.v1");
    }
    pub mod control {
        pub mod v1 {
            tonic::include_proto!("fulcrum.control.v1");
        }
    }
    pub mod dataplane {
        pub mod v1 {
            tonic::include_proto!("fulcrum.dataplane.v1");
        }
    }
}
