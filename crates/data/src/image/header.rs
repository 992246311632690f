//! What a picture's file says about itself before it is decoded.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ::image::{ImageDecoder, ImageReader};

use super::{ImageFault, PictureRules, admit, admit_file, open};

/// Form and size of a picture.
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
pub fn header(path: &Path, rules: &PictureRules) -> Result<Header, ImageFault> {
    admit_file(path, rules)?;
    let Some(header) = quick(path) else {
        // A form that has to be read as a whole, or no picture, and then reading says what it is instead.
        let picture = open(path, rules)?;
        return Ok(Header {
            form: "DICOM".to_owned(),
            width: picture.width(),
            height: picture.height(),
        });
    };
    admit((header.width, header.height), rules).map_err(|fault| fault.at(path))?;
    Ok(header)
}

fn quick(path: &Path) -> Option<Header> {
    let reader = ImageReader::new(BufReader::new(File::open(path).ok()?));
    let reader = reader.with_guessed_format().ok()?;
    let form = format!("{:?}", reader.format()?).to_uppercase();
    let (width, height) = reader.into_decoder().ok()?.dimensions();
    Some(Header {
        form,
        width,
        height,
    })
}
