//! `make demo`.
pub(crate) fn run(_keep: bool) -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}
pub(crate) fn clean() -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}
