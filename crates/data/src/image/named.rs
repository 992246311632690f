//! Files that are no picture that can be read here, by what they are.

/// Where a file is told by: place, bytes, what it is and what to do.
const KNOWN: [(usize, &[u8], &str); 17] = [
    (4, b"ftypheic", HEIC),
    (4, b"ftypheix", HEIC),
    (4, b"ftyphevc", HEIC),
    (4, b"ftypheim", HEIC),
    (4, b"ftypmif1", HEIC),
    (4, b"ftypmsf1", HEIC),
    (4, b"ftypavif", AVIF),
    (4, b"ftypavis", AVIF),
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the picture itself: fetch it with `git lfs pull`",
    ),
    (0, b"%PDF", "a PDF: export its pictures"),
    (0, b"8BPS", "a Photoshop file: export a PNG"),
    (
        0,
        b"\0\0\0\x0cjP  ",
        "JPEG 2000, which is read inside DICOM only: convert it (opj_decompress -i a.jp2 -o a.png)",
    ),
    (
        0,
        b"\0\0\0\x0cJXL ",
        "JPEG XL: convert it (djxl a.jxl a.png)",
    ),
    (0, b"\xff\x0a", "JPEG XL: convert it (djxl a.jxl a.png)"),
    (0, b"P5", PNM),
    (0, b"P6", PNM),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
];
const HEIC: &str = "HEIC, as phones write it: convert it (heif-convert a.heic a.jpg, or sips -s format jpeg a.heic --out a.jpg)";
const AVIF: &str = "AVIF: convert it (avifdec a.avif a.png)";
const PNM: &str = "a Netpbm picture: convert it (magick a.ppm a.png)";

/// What the bytes are; `None` if they give nothing away.
pub(super) fn unreadable(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("the file is empty");
    }
    let known = KNOWN
        .iter()
        .find(|(at, mark, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(mark)));
    if let Some((_, _, what)) = known {
        return Some(what);
    }
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).to_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        Some("a web page, perhaps of a download that failed: fetch the picture again")
    } else if start.starts_with("<svg") || (start.starts_with("<?xml") && start.contains("<svg")) {
        Some("an SVG drawing: export a PNG")
    } else {
        None
    }
}
