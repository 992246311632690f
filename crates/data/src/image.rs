//! Decoding pictures to 8-bit RGB.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

use ::image::{DynamicImage, ImageError, ImageReader, RgbImage};

/// Why a picture could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// No file at that path, or a folder.
    #[error("{0}")]
    Missing(String),
    /// The bytes are not a picture that can be decoded.
    #[error("{0}")]
    Corrupt(String),
    /// The file is there but the system could not read it: not the sample's fault.
    #[error(transparent)]
    System(std::io::Error),
}

/// Reads a picture. The format is told from the bytes, not from the name.
///
/// # Errors
/// See [`ImageFault`].
pub fn open(path: &Path) -> Result<RgbImage, ImageFault> {
    let bytes = std::fs::read(path).map_err(|error| unread(path, error))?;
    decode(&bytes).map_err(|e| ImageFault::Corrupt(format!("{}: {e}", path.display())))
}

fn unread(path: &Path, error: std::io::Error) -> ImageFault {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            ImageFault::Missing(format!("no file {}", path.display()))
        }
        _ if path.is_dir() => ImageFault::Missing(format!("{} is a folder", path.display())),
        _ => ImageFault::System(error),
    }
}

/// What a picture's file says about itself before it is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its form, such as `PNG`.
    pub form: String,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// Reads a picture's form and size from the first bytes of its file.
///
/// # Errors
/// See [`ImageFault`].
pub fn header(path: &Path) -> Result<Header, ImageFault> {
    let file = File::open(path).map_err(|error| unread(path, error))?;
    let corrupt = |error: ImageError| ImageFault::Corrupt(format!("{}: {error}", path.display()));
    let reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(|error| unread(path, error))?;
    let form = reader
        .format()
        .map(|format| format!("{format:?}").to_uppercase());
    let (width, height) = reader.into_dimensions().map_err(corrupt)?;
    Ok(Header {
        form: form.unwrap_or_default(),
        width,
        height,
    })
}

/// Decodes a picture from memory, as Pillow's `convert("RGB")` would: alpha is dropped without blending, palettes are
/// looked up, EXIF orientation is ignored. 16-bit samples are scaled to 8 bits (Pillow clips them, which loses them).
///
/// # Errors
/// What the decoder says; also pictures that would take more memory than the decoder's limit (512 MiB).
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let picture = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()?
        .decode()?;
    Ok(match picture {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other => other.to_rgb8(),
    })
}
