//! Whether a piece of code calls the kernel: every system call of a thread is caught, by the kernel's Syscall User
//! Dispatch (Linux 5.11). Calls that the vDSO answers, such as reading a clock, are none.

use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

// linux/prctl.h
const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
const PR_SYS_DISPATCH_OFF: usize = 0;
const PR_SYS_DISPATCH_ON: usize = 1;
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;
/// No call.
const NONE: i32 = -1;

/// What the kernel looks at before each call of the watched thread.
static SELECTOR: AtomicU8 = AtomicU8::new(ALLOW);
static CAUGHT: AtomicI32 = AtomicI32::new(NONE);
/// One thread is watched at a time.
static WATCHING: Mutex<()> = Mutex::new(());

/// Runs `work`; gives the number of the first system call that it made, if it made one. An error when the kernel
/// cannot watch threads.
pub fn first_syscall(work: impl FnOnce()) -> io::Result<Option<i32>> {
    let _one = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    CAUGHT.store(NONE, Relaxed);
    catch_signal()?;
    dispatch(PR_SYS_DISPATCH_ON, SELECTOR.as_ptr())?;
    SELECTOR.store(BLOCK, Relaxed);
    work();
    SELECTOR.store(ALLOW, Relaxed);
    dispatch(PR_SYS_DISPATCH_OFF, ptr::null_mut())?;
    let caught = CAUGHT.load(Relaxed);
    Ok((caught != NONE).then_some(caught))
}

fn dispatch(mode: usize, selector: *mut u8) -> io::Result<()> {
    // SAFETY: the selector, if there is one, is a static byte that the kernel only reads.
    let result = unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, 0usize, 0usize, selector) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(target_arch = "x86_64")]
fn catch_signal() -> io::Result<()> {
    // SAFETY: zeroes are a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_call as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler only touches atomics and the context that it is given.
    let result = unsafe { libc::sigaction(libc::SIGSYS, &action, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn catch_signal() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The first call is noted; it and all that follow are then carried out.
#[cfg(target_arch = "x86_64")]
extern "C" fn on_call(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut std::ffi::c_void) {
    // First of all: leaving a handler is a system call, too.
    SELECTOR.store(ALLOW, Relaxed);
    // SAFETY: the kernel gives a handler with SA_SIGINFO the interrupted thread's context.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = |register: c_int| registers[register as usize];
    CAUGHT.store(at(libc::REG_RAX) as i32, Relaxed);
    // SAFETY: the call that the thread was about to make, with its own arguments.
    let result = unsafe {
        libc::syscall(
            at(libc::REG_RAX),
            at(libc::REG_RDI),
            at(libc::REG_RSI),
            at(libc::REG_RDX),
            at(libc::REG_R10),
            at(libc::REG_R8),
            at(libc::REG_R9),
        )
    };
    // As the kernel itself would answer.
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(0);
    registers[libc::REG_RAX as usize] = if result == -1 { -i64::from(errno()) } else { result };
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_seen_and_carried_out() {
        let mut id = 0;
        // SAFETY: asks for nothing but the process's number.
        let caught = first_syscall(|| id = unsafe { libc::syscall(libc::SYS_getppid) });
        // SAFETY: as above.
        let right = unsafe { libc::syscall(libc::SYS_getppid) };
        match caught {
            Ok(caught) => assert_eq!((caught, id), (Some(libc::SYS_getppid as i32), right)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "a kernel before 5.11"),
        }
    }

    #[test]
    fn work_that_keeps_to_itself_makes_none() {
        let caught = first_syscall(|| _ = std::hint::black_box((0..1000u64).sum::<u64>()));
        assert!(matches!(caught, Ok(None) | Err(_)), "{caught:?}");
    }
}
