//! fulcrum-control: keeps the data plane in its desired state.
