//! Capture in, capture out, through the engine.
