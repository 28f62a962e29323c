//! Whether the dynamic loader puts a library before a program: it does not for one that is linked statically, for one of
//! another kind of processor, and for one that gets rights which its caller has not.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{geteuid, getgid, getuid};

/// Why a library cannot be put before a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It has no dynamic loader.
    #[error("it is linked statically, so that nothing can be put before the system's calls")]
    Static,
    /// A 32-bit program, or one of another processor.
    #[error("it is for another kind of processor than the library")]
    Foreign,
    /// Set-uid, set-gid or with capabilities.
    #[error("it has rights that you have not ({0}), and takes no library from you; become root")]
    Privileged(&'static str),
}

/// A program that cannot be read is left to exec, which says what is wrong.
pub(super) fn check(program: &Path) -> Result<(), Unreachable> {
    let Ok((program, head, mut file)) = program_of(program, 0) else { return Ok(()) };
    if let Ok(metadata) = file.metadata() {
        let (user, group) = (getuid().as_raw(), getgid().as_raw());
        if metadata.mode() & 0o4000 != 0 && metadata.uid() != user {
            return Err(Unreachable::Privileged("set-uid"));
        }
        if metadata.mode() & 0o2000 != 0 && metadata.gid() != group {
            return Err(Unreachable::Privileged("set-gid"));
        }
    }
    let mut capabilities = [0; 64];
    let has = rustix::fs::getxattr(&program, "security.capability", &mut capabilities[..]).is_ok();
    if has && !geteuid().is_root() {
        return Err(Unreachable::Privileged("capabilities"));
    }
    match own().is_some_and(|own| own != kind(&head)) {
        true => Err(Unreachable::Foreign),
        false if is_static(&head, &mut file).unwrap_or(false) => Err(Unreachable::Static),
        false => Ok(()),
    }
}

/// The program behind a path: its interpreter for a script. With the head of its file.
fn program_of(path: &Path, depth: u8) -> io::Result<(PathBuf, [u8; 64], File)> {
    let mut file = File::open(path)?;
    let mut head = [0; 64];
    let length = file.read(&mut head)?;
    if let Some(line) = head[..length].strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
        let interpreter = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if depth < 4 && !interpreter.is_empty() {
            return program_of(Path::new(std::ffi::OsStr::from_bytes(interpreter)), depth + 1);
        }
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((path.to_owned(), head, file))
}

/// Class and byte order, machine.
fn kind(head: &[u8; 64]) -> ([u8; 2], [u8; 2]) {
    ([head[4], head[5]], [head[18], head[19]])
}

/// The kind that this program, and with it the library, is of.
fn own() -> Option<([u8; 2], [u8; 2])> {
    program_of(&std::env::current_exe().ok()?, 0).ok().map(|(_, head, _)| kind(&head))
}

/// Whether no program header names an interpreter (PT_INTERP), in a file of this machine's byte order with 64 bits.
fn is_static(head: &[u8; 64], file: &mut File) -> io::Result<bool> {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
    let mut offset = [0; 8];
    offset.copy_from_slice(&head[32..40]);
    let (offset, size, count) = (u64::from_ne_bytes(offset), half(54), half(56));
    for number in 0..u64::from(count) {
        file.seek(SeekFrom::Start(offset.saturating_add(number * u64::from(size))))?;
        let mut kind = [0; 4];
        file.read_exact(&mut kind)?;
        if u32::from_ne_bytes(kind) == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{Unreachable, check};

    /// A program of this machine, without program headers.
    fn made(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a new folder");
        let own = std::env::current_exe().expect("a test is a program");
        let mut bytes = fs::read(own).expect("it is read")[..64].to_vec();
        bytes[56..58].fill(0);
        change(&mut bytes);
        fs::write(folder.path().join(name), bytes).expect("a new file");
        folder
    }

    #[test]
    fn programs_and_scripts_are_told_apart() {
        assert_eq!(check(Path::new("/bin/sh")), Ok(()));
        assert_eq!(check(Path::new("/not/there")), Ok(()));
        let folder = made("static", |_| ());
        let program = folder.path().join("static");
        assert_eq!(check(&program), Err(Unreachable::Static));
        let script = folder.path().join("script");
        fs::write(&script, format!("#! {} -x\nhello\n", program.display())).expect("a new file");
        assert_eq!(check(&script), Err(Unreachable::Static));
        fs::write(&script, "#!/bin/sh\n").expect("it is ours");
        assert_eq!(check(&script), Ok(()));
        let folder = made("foreign", |bytes| bytes[18] ^= 1);
        assert_eq!(check(&folder.path().join("foreign")), Err(Unreachable::Foreign));
    }

    #[test]
    fn rights_that_the_caller_has_are_no_matter() {
        let folder = made("program", |_| ());
        let program = folder.path().join("program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("it is ours");
        // Who calls it owns it.
        assert_eq!(check(&program), Err(Unreachable::Static));
    }
}
