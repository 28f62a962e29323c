//! Bindings to the installed DPDK headers.
