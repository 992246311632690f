//! What Python's functions do where published scores depend on it.

/// White space as `str.strip` and `str.split` see it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.strip`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split`.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `float(text)`: blanks around it, digits of any script, single underscores between digits, infinities and nan.
pub(super) fn float(text: &str) -> Option<f64> {
    let text = strip(text);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '_' {
            let before = plain.ends_with(|c: char| c.is_ascii_digit());
            if !(before && chars.peek().is_some_and(|c| digit(*c).is_some())) {
                return None;
            }
        } else {
            plain.push(digit(c).unwrap_or(c));
        }
    }
    plain.parse().ok()
}

/// The value of a decimal digit of any script.
fn digit(c: char) -> Option<char> {
    if c.is_ascii_digit() {
        return Some(c);
    }
    if !decimal(c) {
        return None;
    }
    // The digits of a script stand in a row; only the mathematical alphabets follow each other without a gap.
    let code = c as u32;
    let value = match code {
        0x1d7ce..=0x1d7ff => (code - 0x1d7ce) % 10,
        _ => {
            let before = |back: &u32| char::from_u32(code - back).is_some_and(decimal);
            (1..=9).take_while(before).count() as u32
        }
    };
    char::from_digit(value, 10)
}

/// Whether a character is of the category Nd.
pub(super) fn decimal(c: char) -> bool {
    if !c.is_numeric() {
        return false;
    }
    static DIGIT: std::sync::LazyLock<Option<fancy_regex::Regex>> =
        std::sync::LazyLock::new(|| fancy_regex::Regex::new(r"^\d$").ok());
    let pattern = DIGIT.as_ref();
    pattern.is_some_and(|pattern| {
        pattern
            .is_match(c.encode_utf8(&mut [0; 4]))
            .unwrap_or(false)
    })
}

/// `round(value, 2)`: the nearest of two decimals, from the exact binary value.
pub(super) fn round2(value: f64) -> f64 {
    format!("{value:.2}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_python_reads_them() {
        for (text, value) in [
            (" 1_000 ", Some(1000.0)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("٣", Some(3.0)),
            ("𝟙𝟘", Some(10.0)),
            ("½", None),
            ("1e-2", Some(0.01)),
            (".", None),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0x10", None),
        ] {
            assert_eq!(float(text), value, "{text}");
        }
        assert!(float("NaN").is_some_and(f64::is_nan));
        assert_eq!(round2(2.675), 2.67);
    }
}
