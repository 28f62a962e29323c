//! What both daemons are to whoever starts them: a service that says when it is ready and that it lives, and a
//! program whose manual page and completions can be had from itself.
//!
//! Does not live here: what the daemons do, their arguments, their logs.

mod generate;
pub mod supervisor;

pub use generate::Generate;
