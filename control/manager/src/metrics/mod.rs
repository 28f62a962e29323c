//! `/metrics` and `/healthz`: how the director is, for monitoring systems.
//!
//! In the order of a request: the HTTP server (`http`), what is asked of the data plane for it (`scrape`) and
//! known of services (`view`), what of
//! that is told under which name (`families`, the table that docs/monitoring.md repeats) and in which format (`text`);
//! beside it whether all is well (`health`).

pub mod families;
pub mod health;
pub mod http;
pub mod scrape;
pub mod text;
pub mod view;
