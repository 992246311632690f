//! `calibration.json`: what the quantizers of several sites start from, pooled from what each has measured: ranges, or more.

use std::fs;
use std::io;
use std::path::Path;

use qtl_codec::{Code, Limits, Options};
use qtl_model::quant::Moments;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::files;

/// The file's name in a run's directory.
pub const FILE: &str = "calibration.json";

/// What both halves of the quantizers start from, as far as they start from anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranges {
    /// Of image features.
    pub image: Option<Code>,
    /// Of text features.
    pub text: Option<Code>,
    /// Of hidden states, where the labels are the client's.
    pub hidden: Option<Code>,
}

/// Means and deviations, or what else a start is, as the container that crosses.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Part {
    Ranges { mean: Vec<f32>, std: Vec<f32> },
    Told { container: Vec<u8> },
}

impl Part {
    fn of(told: &Code) -> Self {
        match Moments::read(told) {
            Some(Moments { mean, std }) => Self::Ranges { mean, std },
            None => Self::Told {
                container: qtl_codec::encode(told, &Options::default()),
            },
        }
    }

    fn told(self) -> Result<Code, String> {
        match self {
            Self::Ranges { mean, std } if mean.len() == std.len() => {
                Ok(Moments { mean, std }.code())
            }
            Self::Ranges { mean, std } => Err(format!(
                "means of {} and deviations of {} channels",
                mean.len(),
                std.len()
            )),
            Self::Told { container } => qtl_codec::decode(&container, &Limits::default())
                .map(|(code, _)| code)
                .map_err(|e| e.to_string()),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hidden: Option<Part>,
}

impl Ranges {
    /// Reads them from a file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TrainError::Sites`] naming the file.
    pub fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainError::io(path, error)),
        };
        let wrong = |what: String| TrainError::Sites {
            path: path.to_owned(),
            what,
        };
        let parts: Parts = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let of = |name, part: Option<Part>| {
            let told = part.map(Part::told).transpose();
            told.map_err(|what| wrong(format!("{name}: {what}")))
        };
        Ok(Some(Self {
            image: of("image", parts.image)?,
            text: of("text", parts.text)?,
            hidden: of("hidden", parts.hidden)?,
        }))
    }

    /// Writes them; they are on disk when this returns.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let parts = Parts {
            image: self.image.as_ref().map(Part::of),
            text: self.text.as_ref().map(Part::of),
            hidden: self.hidden.as_ref().map(Part::of),
        };
        let write = || files::replace(path, &serde_json::to_vec(&parts)?);
        write().map_err(|e| TrainError::io(path, e))
    }
}

#[cfg(test)]
mod tests {
    use qtl_codec::{Plane, Symbols};

    use super::*;

    #[test]
    fn ranges_come_back_from_their_file_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(Ranges::read(&path).unwrap(), None);
        let ranges = Ranges {
            text: Some(
                Moments {
                    mean: vec![0.1, -1.0e-7, 3.402_823_5e3],
                    std: vec![1.0 / 3.0, f32::MIN_POSITIVE, 0.0],
                }
                .code(),
            ),
            hidden: Some(Code::new(vec![Plane::from(
                Symbols::from_u32(5, 2, 2, vec![4, 0, 1, 3]).unwrap(),
            )])),
            ..Ranges::default()
        };
        ranges.write(&path).unwrap();
        assert_eq!(Ranges::read(&path).unwrap(), Some(ranges));
        for text in [
            "{\"image\": 3}",
            "{\"image\": {\"mean\": [1.0], \"std\": []}}",
            "{\"image\": {\"container\": [81, 84]}}",
        ] {
            fs::write(&path, text).unwrap();
            let error = Ranges::read(&path).unwrap_err().to_string();
            assert!(error.contains(FILE), "{error}");
        }
    }
}
