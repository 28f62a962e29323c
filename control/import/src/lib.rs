//! Configurations of other directors, read as ours.
//!
//! Lives here: keepalived's and ldirectord's grammar, and what each of their words is here. Does not live here: our
//! own file format (`fulcrum-model`), and what is printed (`fulcrum import`). Files that a configuration includes are
//! read by [`Files`]; nothing else is touched.

pub mod keepalived;
pub mod ldirectord;

mod draft;
mod files;
mod left_out;
mod words;

use fulcrum_model::State;

pub use files::{Disk, Files};
pub use left_out::{LeftOut, Place};

/// What came of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Services with their servers, checks, pools and time-outs. It names interfaces that it does not have.
    pub state: State,
    /// What has no equivalent or means something else, in the order of the files.
    pub left_out: Vec<LeftOut>,
}

/// Why a configuration cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct ImportError {
    /// Where.
    pub place: Place,
    /// What is wrong there.
    pub why: String,
}
