//! How many probes may be under way.

use rustix::process::{Resource, getrlimit, setrlimit};

/// How many probes may be under way at once; others wait for their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// With sockets.
    pub sockets: usize,
    /// With programs.
    pub programs: usize,
}

impl Limits {
    /// Most open files that are asked for; more would not be used.
    const FILES: u64 = 1 << 16;

    /// What the process may open, after its limit was raised as far as it may be: a quarter is left for others.
    pub fn of_process() -> Limits {
        let mut limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.map_or(Limits::FILES, |maximum| maximum.min(Limits::FILES));
        if limit.current.is_some_and(|current| current < wanted) {
            let before = limit.current.replace(wanted);
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::warn!("the limit of open files cannot be raised to {wanted}: {error}");
                limit.current = before;
            }
        }
        let files = limit.current.map_or(Limits::FILES, |current| current.min(Limits::FILES));
        let sockets = usize::try_from(files / 4 * 3).unwrap_or(usize::MAX).max(1);
        // A program has its pipes open beside the file that tells its end.
        Limits { sockets, programs: (sockets / 16).clamp(1, 128) }
    }
}
