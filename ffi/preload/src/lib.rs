//! `libfulcrum_ipvs.so`, which `LD_PRELOAD` puts before a program that was written for the kernel's IPVS: its generic
//! netlink sockets become connections to fulcrum-control, and so do `/proc/net/ip_vs*`. Everything else goes to the C
//! library as it was meant. Where fulcrum-control is not, IPVS is not, whatever the kernel below may have.
//!
//! Hooks stand between a program and its C library: they allocate little, never panic, and call nothing that they hook.

// Its own test program would be hooked.
#[cfg(not(test))]
mod descriptor;
#[cfg(not(test))]
mod door;
#[cfg(not(test))]
mod errno;
#[cfg(not(test))]
mod files;
#[cfg(not(test))]
mod message;
#[cfg(not(test))]
mod next;
mod path;
#[cfg(not(test))]
mod socket;
#[cfg(not(test))]
mod table;
