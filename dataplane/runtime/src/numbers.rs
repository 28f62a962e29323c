//! Initial sequence numbers over restarts: a file beside the socket keeps their secret, the machine's time since its
//! start is their clock. Servers remember connections of a data plane that has ended, and take new ones from the same
//! local address and port when their numbers are higher.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use fulcrum_director::InitialNumbers;
use nix::time::{ClockId, clock_gettime};

/// What the numbers of the data plane that serves `socket` follow from; the workers' clock begins now.
pub(crate) fn begin(socket: &Path) -> InitialNumbers {
    let mut path = OsString::from(socket);
    path.push(".secret");
    let secret = secret(Path::new(&path)).unwrap_or_else(|error| {
        let path = path.display();
        tracing::warn!("{path}: {error}; servers may refuse connections for a moment after a restart");
        [super::process::random(), super::process::random()]
    });
    let epoch = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    InitialNumbers { secret, epoch: epoch.as_nanos() as u64 }
}

/// The secret that a predecessor has left, else a new one. Only its owner may read it: who knows it may guess numbers.
fn secret(path: &Path) -> io::Result<[u64; 2]> {
    let left = fs::read(path).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    let bytes = match left {
        Some(bytes) => bytes,
        None => {
            let mut bytes = [0; 16];
            File::open("/dev/urandom")?.read_exact(&mut bytes)?;
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(&bytes)?;
            bytes
        }
    };
    let (low, high) = bytes.split_at(8);
    Ok([low, high].map(|half| half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_has_the_same_secret_and_a_later_time() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("dataplane.sock");
        let first = begin(&socket);
        let next = begin(&socket);
        assert_eq!(first.secret, next.secret);
        assert!(first.epoch > 0 && next.epoch > first.epoch);
        let kept = directory.path().join("dataplane.sock.secret");
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&kept, "half").unwrap();
        let other = begin(&socket);
        assert_ne!(other.secret, first.secret);
        assert_eq!(begin(&socket).secret, other.secret);
        assert_ne!(begin(Path::new("/nowhere/dataplane.sock")).secret, begin(&socket).secret);
    }
}
