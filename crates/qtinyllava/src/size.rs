//! Sizes on the command line.

/// A size as Hugging Face's programs take it: a number of bytes, or one with a unit, `500MB` (decimal) or `2GiB` (binary).
///
/// # Errors
///
/// A sentence that says what is accepted.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "KIB" => 1 << 10,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        _ => 0,
    };
    let size = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale));
    size.filter(|size| *size > 0).ok_or_else(|| {
        "expected a number of bytes above 0, or one with a unit, such as 500MB, 5GB or 2GiB"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_decimal_or_binary_and_rubbish_is_refused() {
        assert_eq!(parse("123"), Ok(123));
        assert_eq!(parse("5GB"), Ok(5_000_000_000));
        assert_eq!(parse("2 gib"), Ok(2 << 30));
        assert_eq!(parse("10kB"), Ok(10_000));
        for wrong in [
            "",
            "0",
            "0GB",
            "GB",
            "-1",
            "1.5GB",
            "5TB",
            "5 G B",
            "99999999999GB",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
