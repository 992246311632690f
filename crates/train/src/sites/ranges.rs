//! `calibration.json`: ranges of quantizers that several sites share, pooled from what each has measured.

use std::fs;
use std::io;
use std::path::Path;

use qtl_model::quant::Moments;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::files;

/// The file's name in a run's directory.
pub const FILE: &str = "calibration.json";

/// Ranges of the quantizers, as far as they have any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranges {
    /// Of image features.
    pub image: Option<Moments>,
    /// Of text features.
    pub text: Option<Moments>,
    /// Of hidden states, where the labels are the client's.
    pub hidden: Option<Moments>,
}

#[derive(Serialize, Deserialize)]
struct Part {
    mean: Vec<f32>,
    std: Vec<f32>,
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
        let parts: Parts = serde_json::from_slice(&bytes).map_err(|e| TrainError::Sites {
            path: path.to_owned(),
            what: e.to_string(),
        })?;
        let of = |part: Option<Part>| part.map(|Part { mean, std }| Moments { mean, std });
        Ok(Some(Self {
            image: of(parts.image),
            text: of(parts.text),
            hidden: of(parts.hidden),
        }))
    }

    /// Writes them; they are on disk when this returns.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let of = |moments: &Option<Moments>| {
            let moments = moments.as_ref()?;
            Some(Part {
                mean: moments.mean.clone(),
                std: moments.std.clone(),
            })
        };
        let parts = Parts {
            image: of(&self.image),
            text: of(&self.text),
            hidden: of(&self.hidden),
        };
        let write = || files::replace(path, &serde_json::to_vec(&parts)?);
        write().map_err(|e| TrainError::io(path, e))
    }
}

/// The moments of all rows together, from those of several sites and the number of rows behind each: the mean of the means
/// and the deviation about it, as if one had measured all rows. Of a single site it is what that site has measured, to the bit.
pub fn pool(of: &[(Moments, u64)]) -> Option<Moments> {
    let of: Vec<_> = of.iter().filter(|(_, rows)| *rows > 0).collect();
    let (first, rest) = of.split_first()?;
    if rest.is_empty() {
        return Some(first.0.clone());
    }
    let rows: f64 = of.iter().map(|(_, rows)| *rows as f64).sum();
    let (mut mean, mut std) = (Vec::new(), Vec::new());
    for channel in 0..first.0.mean.len() {
        let at = |values: &[f32]| f64::from(values.get(channel).copied().unwrap_or_default());
        let sum: f64 = of.iter().map(|(m, n)| at(&m.mean) * *n as f64).sum();
        let center = sum / rows;
        let squares: f64 = of
            .iter()
            .map(|(m, n)| {
                let (n, off) = (*n as f64, at(&m.mean) - center);
                at(&m.std).powi(2) * (n - 1.0) + off * off * n
            })
            .sum();
        mean.push(center as f32);
        std.push((squares / (rows - 1.0)).max(0.0).sqrt() as f32);
    }
    Some(Moments { mean, std })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use qtl_model::quant::Accumulator;

    use super::*;

    #[test]
    fn pooled_moments_are_those_of_all_rows() {
        let device = Device::default();
        let rows = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [values.len() / 2, 2]);
            Tensor::<2>::from_data(data, &device)
        };
        let sites = [
            rows(&[1.0, -3.0, 2.5, 4.0, 0.0, 1.0]),
            rows(&[100.0, 2.0, 90.0, 2.0]),
        ];
        let mut all = Accumulator::default();
        let mut parts = Vec::new();
        for site in sites {
            let mut one = Accumulator::default();
            let count = site.dims()[0] as u64;
            one.add(site.clone());
            all.add(site);
            parts.push((one.moments().unwrap(), count));
        }
        let (want, got) = (all.moments().unwrap(), pool(&parts).unwrap());
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(
            near(&want.mean, &got.mean) && near(&want.std, &got.std),
            "{want:?} {got:?}"
        );
        assert_eq!(pool(&parts[..1]).unwrap(), parts[0].0);
        assert_eq!(pool(&[]), None);
    }

    #[test]
    fn ranges_come_back_from_their_file_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(Ranges::read(&path).unwrap(), None);
        let ranges = Ranges {
            text: Some(Moments {
                mean: vec![0.1, -1.0e-7, 3.402_823_5e3],
                std: vec![1.0 / 3.0, f32::MIN_POSITIVE, 0.0],
            }),
            ..Ranges::default()
        };
        ranges.write(&path).unwrap();
        assert_eq!(Ranges::read(&path).unwrap(), Some(ranges));
        fs::write(&path, "{\"image\": 3}").unwrap();
        let error = Ranges::read(&path).unwrap_err().to_string();
        assert!(error.contains(FILE), "{error}");
    }
}
