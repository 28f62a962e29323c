//! The command line `fulcrum`, and ipvsadm's.
//!
//! Lives here: arguments, printing, exit codes; one module a noun. Does not live here: what the commands do
//! (fulcrum-manager does it), and what makes them valid (fulcrum-model).

#![cfg_attr(test, recursion_limit = "256")]

pub mod capture;
pub mod client;
pub mod command;
pub mod configuration;
pub mod doctor;
pub mod door;
pub mod drops;
pub mod events;
pub mod failure;
pub mod generate;
pub mod health;
pub mod import;
pub mod ipvsadm;
pub mod local_pool;
pub mod mark;
pub mod name;
pub mod neighbour;
pub mod output;
pub mod port;
pub mod probe;
pub mod reference;
pub mod route;
pub mod run;
pub mod server;
pub mod service;
pub mod session;
pub mod setting;
pub mod snat;
pub mod status;
pub mod table;
pub mod timeout;
pub mod top;
pub mod trace;
pub mod upgrade;
pub mod vip;
pub mod worker;

pub use client::Client;
pub use door::Door;
pub use failure::Failure;
pub use output::Output;
