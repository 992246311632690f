//! Decoding pictures to 8-bit RGB.

mod depth;
mod dicom;
mod header;
mod jpeg;
mod named;
mod palette;
mod rules;

pub use header::{Header, header};
pub use rules::{BurnedIn, Exif, PictureRules};

use std::io::Cursor;
use std::path::Path;

use ::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use crate::error::Fault;
use crate::names::in_other_form;
use palette::Palette;

/// Why a picture could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// The sample is at fault: what kind of fault, and what exactly is wrong.
    #[error("{1}")]
    Sample(Fault, String),
    /// The file is there but the system could not read it: not the sample's fault.
    #[error(transparent)]
    System(std::io::Error),
}

impl ImageFault {
    fn corrupt(problem: impl std::fmt::Display) -> Self {
        Self::Sample(Fault::CorruptImage, problem.to_string())
    }

    /// The same with the file's name in front.
    fn at(self, path: &Path) -> Self {
        match self {
            Self::Sample(fault, problem) => {
                Self::Sample(fault, format!("{}: {problem}", path.display()))
            }
            system @ Self::System(_) => system,
        }
    }
}

/// Reads a picture. The format is told from the bytes, not from the name; the name may be in Unicode's other form.
///
/// # Errors
/// See [`ImageFault`].
pub fn open(path: &Path, rules: &PictureRules) -> Result<RgbImage, ImageFault> {
    let parts = path.parent().zip(path.file_name());
    let other = parts.filter(|_| !path.exists());
    let other = other.and_then(|(folder, name)| in_other_form(folder, Path::new(name)));
    let path = other.as_deref().unwrap_or(path);
    admit_file(path, rules)?;
    let bytes = std::fs::read(path).map_err(ImageFault::System)?;
    decode(&bytes, rules).map_err(|fault| fault.at(path))
}

/// Decodes a picture from memory, as Pillow's `convert("RGB")` would: alpha is dropped without blending, palettes are
/// looked up. 16-bit samples are scaled to 8 bits (Pillow clips them, which loses them).
///
/// # Errors
/// What the decoder says, a file that is cut off, and what `rules` leave no place for.
pub fn decode(bytes: &[u8], rules: &PictureRules) -> Result<RgbImage, ImageFault> {
    let format = ::image::guess_format(bytes).ok();
    // The preamble may make it look like something else as well.
    if dicom::is_marked(bytes) || format.is_none() && dicom::begins_bare(bytes) {
        return dicom::decode(bytes, rules);
    }
    let palette = match format {
        Some(ImageFormat::Tiff) => Palette::of(bytes),
        _ => None,
    };
    let shown = palette.as_ref().map_or(bytes, |palette| &palette.greys);
    let mut reader = ImageReader::new(Cursor::new(shown))
        .with_guessed_format()
        .map_err(ImageFault::System)?;
    let failed = |error: ImageError| match named::unreadable(bytes) {
        Some(what) => ImageFault::corrupt(what),
        None => ImageFault::corrupt(error),
    };
    if format == Some(ImageFormat::Jpeg) && !jpeg::is_whole(bytes) {
        return Err(ImageFault::corrupt(
            "the JPEG is cut off: its end is missing",
        ));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(bytes_for(rules));
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    admit(decoder.dimensions(), rules)?;
    limits.reserve(decoder.total_bytes()).map_err(failed)?;
    decoder.set_limits(limits).map_err(failed)?;
    let orientation = match rules.exif {
        Exif::Ignore => None,
        Exif::Apply => Some(decoder.orientation().map_err(failed)?),
    };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    if let Some(palette) = palette {
        let coloured = palette.colours(&picture);
        let coloured =
            coloured.ok_or_else(|| ImageFault::corrupt("its table of colours does not fit"))?;
        return Ok(coloured);
    }
    depth::stretch(&mut picture, bytes, format, rules)?;
    Ok(match picture {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other => other.to_rgb8(),
    })
}

/// Refuses what is no file, or larger than a picture of the most pixels.
fn admit_file(path: &Path, rules: &PictureRules) -> Result<(), ImageFault> {
    use std::io::ErrorKind;
    let missing = |problem| ImageFault::Sample(Fault::MissingImage, problem);
    let about = std::fs::metadata(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            missing(format!("no file {}", path.display()))
        }
        // A name that no file can have: too long, or with a zero byte.
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => {
            missing(format!("no file {}: {e}", path.display()))
        }
        ErrorKind::PermissionDenied => ImageFault::System(e),
        _ if path.is_symlink() => missing(format!("{} leads nowhere: {e}", path.display())),
        _ => ImageFault::System(e),
    })?;
    if !about.is_file() {
        // Reading a pipe or a device might never end.
        let kind = if about.is_dir() {
            "a folder"
        } else {
            "no ordinary file"
        };
        return Err(missing(format!("{} is {kind}", path.display())));
    }
    let most = bytes_for(rules);
    if about.len() > most {
        let problem = format!(
            "{}: the file has {} bytes, and {most} are enough for the most pixels allowed ({})",
            path.display(),
            about.len(),
            rules.max_pixels
        );
        return Err(ImageFault::Sample(Fault::LargeImage, problem));
    }
    Ok(())
}

/// Refuses what has more pixels than it may.
fn admit((width, height): (u32, u32), rules: &PictureRules) -> Result<(), ImageFault> {
    if width == 0 || height == 0 {
        return Err(ImageFault::corrupt("it has no pixels"));
    }
    if u64::from(width) * u64::from(height) <= rules.max_pixels {
        return Ok(());
    }
    let problem = format!(
        "{width} x {height} are more than {} pixels",
        rules.max_pixels
    );
    Err(ImageFault::Sample(Fault::LargeImage, problem))
}

/// Four 32-bit channels and some: more than this neither a file nor its decoder needs.
fn bytes_for(rules: &PictureRules) -> u64 {
    rules.max_pixels.saturating_mul(16).saturating_add(64 << 20)
}
