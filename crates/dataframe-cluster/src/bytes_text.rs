//! Numbers of bytes as people write them.

/// Parses `512MB`, `2GiB` or `1000000`. A unit without `i` counts in thousands.
///
/// # Errors
/// Fails with a text for people.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "k" => 1000,
        "mb" | "m" => 1_000_000,
        "gb" | "g" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        unit => return Err(format!("{unit} is no unit: write kB, MB, GB, KiB, MiB or GiB")),
    };
    let number: u64 =
        digits.parse().map_err(|_| "a whole number is expected, for example 512MB".to_owned())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(|| "from 1 byte to 16 EB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood_and_others_refused() {
        assert_eq!(parse_bytes("512MB"), Ok(512_000_000));
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert!(parse_bytes("2 parsecs").is_err() && parse_bytes("0").is_err() && parse_bytes("").is_err());
    }
}
