//! End-to-end tests on real traffic, in network namespaces (as root).
//!
//! A lab takes its turn to send traffic, beside others where the machine has processors for it (`FULCRUM_LABS`), and
//! gives it up while it waits for time-outs, so many threads are welcome: `--test-threads` decides how many labs rest
//! side by side.

mod announce;
mod bond;
mod client_address;
mod configuration;
mod continuity;
mod crews;
mod devices;
mod door;
mod exception;
mod exception6;
mod failures;
mod fragments;
mod ftp;
mod gateway;
mod guides;
mod harness;
mod health;
mod load;
mod modes;
mod next_hops;
mod persistence;
mod pmtu;
mod pools;
mod recovery;
mod schedule;
mod sctp;
mod services;
mod throughput;
mod tools;
mod tor;
mod translation;
mod translation_log;
mod tunnels;
mod upgrade;
mod vlan;
mod watching;
