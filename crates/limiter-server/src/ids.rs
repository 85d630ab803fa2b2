//! Random ids.

/// Draws an id that no other process draws: 128 random bits.
pub(crate) fn draw() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
