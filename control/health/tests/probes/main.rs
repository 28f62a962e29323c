//! Probes on real sockets over loopback, and the prober that makes them.

mod prober;
mod protocols;
mod support;
mod transports;
