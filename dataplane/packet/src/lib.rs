//! Checked views over network headers.
