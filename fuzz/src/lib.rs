//! What the fuzz targets do with arbitrary bytes. Each ends quietly or panics.
//!
//! Compiled twice: for libFuzzer by this package, and into a test of the main workspace that runs the kept inputs.

pub mod packet;
pub mod pipeline;
pub mod protocols;
pub mod stream;
pub mod text;
