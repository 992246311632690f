//! Text files as people save them: a byte order mark is taken off, other encodings are named.

use std::path::Path;

use crate::error::DataError;

/// UTF-8's byte order mark, which editors on Windows write.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes without a byte order mark in front.
#[must_use]
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(MARK).unwrap_or(bytes)
}

/// The text of a file that was read from `path`.
///
/// # Errors
/// It is not UTF-8; the encoding is named where the bytes give it away.
pub fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, DataError> {
    let bytes = without_mark(bytes);
    // JSON and TOML hold no zero bytes, and UTF-16 has one in every ASCII character.
    let wide = bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.iter().take(4).any(|&byte| byte == 0);
    let text = if wide {
        Err(0)
    } else {
        std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())
    };
    text.map_err(|at| DataError::NotUtf8 {
        path: path.to_owned(),
        at,
        line: 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count(),
        encoding: if wide {
            "it is UTF-16, which PowerShell and Notepad write (iconv -f UTF-16 -t UTF-8 turns it into UTF-8)"
        } else {
            "it may be GBK, Shift JIS or Windows-1252 (iconv -f GBK -t UTF-8 turns it into UTF-8)"
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_off_and_encodings_named() {
        let path = Path::new("d.json");
        assert_eq!(utf8(path, b"\xef\xbb\xbf[]").unwrap(), "[]");
        assert_eq!(utf8(path, "[\"ä\"]".as_bytes()).unwrap(), "[\"ä\"]");
        let wide: Vec<u8> = "[1]".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [b"\xff\xfe", &wide[..]].concat();
        for bytes in [&wide[..], &marked] {
            let error = utf8(path, bytes).unwrap_err().to_string();
            assert!(
                error.contains("UTF-16") && error.contains("d.json"),
                "{error}"
            );
        }
        // "ä" in GBK and in Latin-1.
        let error = utf8(path, b"[\n\"\xa8\xa2\"]").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("GBK"), "{error}");
    }
}
