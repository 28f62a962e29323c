//! Giving up what a process may do and no longer needs: capabilities, and the gaining of any by a program that is
//! executed. The kernel keeps both for each thread, so that every thread has to give up its own: it is asked to by a
//! signal, also threads of libraries that know nothing of it.

use std::ffi::{c_int, c_ulong};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, io, mem, ptr, thread};

/// What a thread may do (linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Capability {
    /// Interfaces, their XDP programs and offloads, nftables.
    NetAdmin = 12,
    /// Raw and packet sockets.
    NetRaw = 13,
}

/// Threads that have kept more than they were to, by name.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The kernel said no.
    #[error("capabilities cannot be given up: {0}")]
    Refused(#[from] io::Error),
    /// These threads did not hear of it.
    #[error("threads that keep capabilities: {}", .0.join(", "))]
    Kept(Vec<String>),
}

// linux/capability.h
const VERSION_3: u32 = 0x2008_0522;
const LAST: u32 = 63;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// The sets of a thread, lower and upper halves.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// A bit for each capability that is kept.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// From now on no thread of this process may do more than `keep` says, as far as it may now, and no program that it
/// executes more than that. What cannot be given up any more is not an error. Threads that are made later begin as the
/// one that made them.
pub fn keep_only(keep: &[Capability]) -> Result<(), PrivilegeError> {
    KEPT.store(keep.iter().fold(0, |bits, capability| bits | 1 << *capability as u32), Relaxed);
    let signal = libc::SIGRTMAX() - 3;
    catch(signal)?;
    give_up();
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut asked: Vec<i32> = Vec::new();
    loop {
        let having = having_more(KEPT.load(Relaxed))?;
        if having.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(PrivilegeError::Kept(having.into_iter().map(|(_, name)| name).collect()));
        }
        for (id, _) in having {
            if !asked.contains(&id) {
                // SAFETY: a signal of ours, whose handler stays, to a thread of this process; one that is gone gets none.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, signal) };
                asked.push(id);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Threads that have more than they are to, with their names.
fn having_more(kept: u64) -> io::Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let Ok(id) = task?.file_name().to_string_lossy().parse() else { continue };
        // One that is gone has nothing.
        let Ok(status) = fs::read_to_string(format!("/proc/self/task/{id}/status")) else { continue };
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
        let permitted = u64::from_str_radix(field("CapPrm:"), 16).unwrap_or(u64::MAX);
        if permitted & !kept != 0 || field("NoNewPrivs:") != "1" {
            found.push((id, format!("{} ({id})", field("Name:"))));
        }
    }
    Ok(found)
}

fn catch(signal: c_int) -> io::Result<()> {
    // SAFETY: zeroes are a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler makes system calls only, and leaves errno as it was.
    let result = unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_signal(_signal: c_int) {
    // SAFETY: the address of this thread's own variable.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    give_up();
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// What the calling thread gives up. Only system calls: it runs in a signal's handler.
fn give_up() {
    let kept = KEPT.load(Relaxed);
    let none: c_ulong = 0;
    // SAFETY: changes this thread's flag alone.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, c_ulong::from(1u8), none, none, none) };
    // SAFETY: changes this thread's set alone.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, none, none, none) };
    for capability in (0..=LAST).filter(|capability| kept & 1 << capability == 0) {
        // SAFETY: changes this thread's set alone; a number that the kernel does not know is refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), none, none, none) };
    }
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: version 3 writes two structures, which are there.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) } != 0 {
        return;
    }
    for (half, sets) in sets.iter_mut().enumerate() {
        let permitted = sets.permitted & (kept >> (32 * half)) as u32;
        *sets = Sets { effective: permitted, permitted, inheritable: 0 };
    }
    // SAFETY: version 3 reads two structures, which are there; a thread may always have less.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// In a process of its own: what it gives up, other tests may need.
    #[test]
    fn every_thread_gives_up_what_is_not_kept() {
        let name = "privileges::tests::every_thread_gives_up_what_is_not_kept";
        if std::env::var_os("FULCRUM_GIVE_UP").is_none() {
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            let output =
                again.env("FULCRUM_GIVE_UP", "1").args([name, "--exact", "--nocapture"]).output().unwrap();
            return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        // One thread waits in the kernel, one turns in circles, both made before.
        let (end, ended) = mpsc::channel::<()>();
        let waits = thread::spawn(move || ended.recv().is_err());
        let turning = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let turns = thread::spawn({
            let turning = turning.clone();
            move || while turning.load(Relaxed) {}
        });
        keep_only(&[Capability::NetAdmin]).unwrap();
        let threads = fs::read_dir("/proc/self/task").unwrap().count();
        assert!(threads >= 4, "{threads}");
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            for line in status.lines().filter(|line| line.starts_with("Cap")) {
                let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
                assert_eq!(bits & !(1 << 12), 0, "{status}");
            }
        }
        // It is no error twice, and nothing comes back.
        keep_only(&[Capability::NetAdmin, Capability::NetRaw]).unwrap();
        assert!(having_more(1 << 12).unwrap().is_empty());
        turning.store(false, Relaxed);
        turns.join().unwrap();
        drop(end);
        assert!(waits.join().unwrap());
    }
}
