//! How pictures are read: what a recipe may choose.

use serde::{Deserialize, Serialize};

/// The choices, with what holds where nothing is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PictureRules {
    /// A picture may have so many pixels, and resizing it may take so many at a time; asked before either is done.
    pub max_pixels: u64,
    /// What a camera's note that it was held askew does.
    pub exif: Exif,
    /// Bits that the samples of a 16-bit file use. Left out: 16, or fewer where the file says so; and a file that says
    /// nothing and uses at most 12 is refused, since it would come out almost black.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_bits: Option<u32>,
    /// The frame to take of a DICOM file with several, from 1. Left out: such a file is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<u32>,
    /// What happens to a DICOM file that says there is text in the picture, which may name the patient.
    pub burned_in: BurnedIn,
}

/// EXIF's orientation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exif {
    /// Pixels stay as they are stored, as in LLaVA.
    #[default]
    Ignore,
    /// Pixels are turned as the note says, as picture viewers do.
    Apply,
}

/// DICOM's `BurnedInAnnotation = YES`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BurnedIn {
    /// The file is not used.
    #[default]
    Refuse,
    /// It is used all the same.
    Accept,
}

impl Default for PictureRules {
    fn default() -> Self {
        Self {
            max_pixels: 50_000_000,
            exif: Exif::default(),
            sample_bits: None,
            frame: None,
            burned_in: BurnedIn::default(),
        }
    }
}

impl PictureRules {
    /// Whether nothing was chosen.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The first field with a value that makes no sense: its name, its value and what may stand there.
    #[must_use]
    pub fn wrong(&self) -> Option<(&'static str, String, &'static str)> {
        match *self {
            Self { max_pixels, .. } if !(1..=1 << 32).contains(&max_pixels) => Some((
                "data.pictures.max_pixels",
                max_pixels.to_string(),
                "1 to 4294967296",
            )),
            Self {
                sample_bits: Some(bits),
                ..
            } if !(8..=16).contains(&bits) => {
                Some(("data.pictures.sample_bits", bits.to_string(), "8 to 16"))
            }
            Self { frame: Some(0), .. } => {
                Some(("data.pictures.frame", "0".to_owned(), "1 or more"))
            }
            _ => None,
        }
    }
}
