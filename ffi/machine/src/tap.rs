//! A TAP interface: a Linux interface whose frames a process reads and writes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Makes the TAP interface `name`; it goes away when the file is closed. Each read of the file gives one frame that
/// Linux sends, each write one that it receives; neither waits.
pub fn open_tap(name: &str) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name for an interface"));
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;
    // SAFETY: the descriptor is open, and the request is a live ifreq that ends its name with a zero.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_linux_would_cut_are_refused() {
        for name in ["", "sixteen-letters-", "a\0b"] {
            match open_tap(name) {
                Err(error) => assert!(
                    error.kind() == io::ErrorKind::InvalidInput
                        || error.kind() == io::ErrorKind::PermissionDenied
                        || error.kind() == io::ErrorKind::NotFound
                ),
                Ok(_) => panic!("{name:?} is no name"),
            }
        }
    }
}
