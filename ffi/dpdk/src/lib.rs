//! Safe face of DPDK for Fulcrum.
