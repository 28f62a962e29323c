//! fulcrum-dataplane: the engine on DPDK lcores.
