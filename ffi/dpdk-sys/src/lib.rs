//! Bindings to the installed DPDK headers and to the shim beside them, for fulcrum-dpdk alone.
//!
//! Generated at build time from `shim.h`: only what fulcrum-dpdk calls is let through. Nothing safe lives here.

#![allow(
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals
)]
#![allow(unreachable_pub, clippy::all, clippy::undocumented_unsafe_blocks)]
#![no_std]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
