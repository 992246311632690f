//! Reading `preprocessor_config.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Processor, Resize};
use crate::error::DataError;
use crate::text::without_mark;

/// Processors whose steps are the ones implemented here; they differ in their numbers only.
const KNOWN: [&str; 6] = [
    "SiglipImageProcessor",
    "CLIPImageProcessor",
    "BitImageProcessor",
    "SiglipFeatureExtractor",
    "CLIPFeatureExtractor",
    "BitFeatureExtractor",
];
/// Pillow's number for bicubic.
const BICUBIC: u64 = 3;

impl Processor {
    /// Reads `preprocessor_config.json`, or the file of that name in a folder.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or asks for steps that are not implemented.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let path = if path.is_dir() {
            path.join("preprocessor_config.json")
        } else {
            path.to_path_buf()
        };
        let bytes = std::fs::read(&path).map_err(|source| DataError::Read {
            path: path.clone(),
            source,
        })?;
        Self::from_json(&bytes, &path)
    }

    /// The same from memory; `name` is what errors call it.
    ///
    /// # Errors
    /// Not JSON, or steps that are not implemented.
    pub fn from_json(bytes: &[u8], name: &Path) -> Result<Self, DataError> {
        let fields: Map<String, Value> =
            serde_json::from_slice(without_mark(bytes)).map_err(|e| DataError::NotJson {
                path: name.to_path_buf(),
                reason: e.to_string(),
                cure: "fetch the file again",
            })?;
        Config { name, fields }.processor()
    }
}

impl Processor {
    /// What a `preprocessor_config.json` for it holds, as transformers writes it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let square = |side: usize| json!({"height": side, "width": side});
        let (class, size) = match (self.resize, self.crop) {
            (Resize::Stretch(side), _) => ("SiglipImageProcessor", square(side)),
            (Resize::Shortest(side), Some(crop)) if crop == side => {
                ("CLIPImageProcessor", json!({"shortest_edge": side}))
            }
            (Resize::Shortest(side), _) => ("BitImageProcessor", json!({"shortest_edge": side})),
        };
        let mut fields = json!({
            "image_processor_type": class,
            "do_convert_rgb": true,
            "do_resize": true,
            "size": size,
            "resample": BICUBIC,
            "do_rescale": true,
            "rescale_factor": self.rescale,
            "do_normalize": true,
            "image_mean": self.mean,
            "image_std": self.std,
        });
        if let Some(crop) = self.crop {
            fields["do_center_crop"] = json!(true);
            fields["crop_size"] = square(crop);
        }
        fields
    }
}

struct Config<'a> {
    name: &'a Path,
    fields: Map<String, Value>,
}

impl Config<'_> {
    fn wrong(&self, field: &str, cure: &str) -> DataError {
        let value = self
            .fields
            .get(field)
            .map_or_else(|| "missing".to_owned(), Value::to_string);
        DataError::Field {
            path: self.name.to_path_buf(),
            field: field.to_owned(),
            value,
            cure: cure.to_owned(),
        }
    }

    fn processor(&self) -> Result<Processor, DataError> {
        for key in ["image_processor_type", "feature_extractor_type"] {
            if self
                .fields
                .get(key)
                .is_some_and(|v| !KNOWN.iter().any(|known| v == known))
            {
                return Err(self.wrong(key, &format!("known ones are {}", KNOWN.join(", "))));
            }
        }
        for step in ["do_resize", "do_rescale", "do_normalize"] {
            if self.fields.get(step).is_some_and(|v| v != true) {
                return Err(self.wrong(
                    step,
                    "only processors that resize, rescale and normalise are implemented",
                ));
            }
        }
        if self.fields.get("resample").is_some_and(|v| *v != BICUBIC) {
            return Err(self.wrong("resample", "only 3 (bicubic) is implemented"));
        }
        let rescale = match self.fields.get("rescale_factor") {
            None => 1.0 / 255.0,
            Some(v) => v
                .as_f64()
                .ok_or_else(|| self.wrong("rescale_factor", "it must be a number"))?,
        };
        let (mean, std) = (self.three("image_mean")?, self.three("image_std")?);
        if std.contains(&0.0) {
            return Err(self.wrong("image_std", "no value may be 0"));
        }
        let resize = self.resize()?;
        let cuts = self
            .fields
            .get("do_center_crop")
            .map_or(self.fields.contains_key("crop_size"), |v| v == true);
        let crop = if cuts {
            Some(self.square("crop_size")?)
        } else {
            None
        };
        let side = match (resize, crop) {
            (Resize::Stretch(side) | Resize::Shortest(side), Some(crop)) if crop <= side => crop,
            (Resize::Stretch(side), None) => side,
            (_, Some(_)) => return Err(self.wrong("crop_size", "it may not be larger than `size`")),
            (Resize::Shortest(_), None) => {
                return Err(
                    self.wrong("crop_size", "without it pictures would not come out square")
                );
            }
        };
        Ok(Processor {
            resize,
            crop,
            rescale,
            mean,
            std,
            side,
        })
    }

    fn resize(&self) -> Result<Resize, DataError> {
        let size = self.fields.get("size");
        let shortest = size.and_then(|v| v.get("shortest_edge"));
        // Older files give a bare number, which then means the shorter side.
        match shortest.or(size).and_then(Value::as_u64).filter(|&n| n > 0) {
            Some(n) => Ok(Resize::Shortest(n as usize)),
            None => Ok(Resize::Stretch(self.square("size")?)),
        }
    }

    fn square(&self, field: &str) -> Result<usize, DataError> {
        let value = self.fields.get(field);
        let side = |name: &str| value.and_then(|v| v.get(name)).and_then(Value::as_u64);
        let side = match value.and_then(Value::as_u64) {
            Some(n) => Some(n),
            None => side("height").filter(|&h| side("width") == Some(h)),
        };
        side.filter(|&n| (1..=1 << 14).contains(&n))
            .map(|n| n as usize)
            .ok_or_else(|| self.wrong(field, "it must give equal height and width, at most 16384"))
    }

    fn three(&self, field: &str) -> Result<[f64; 3], DataError> {
        let list = self.fields.get(field).and_then(Value::as_array);
        let numbers: Vec<f64> = list
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect();
        numbers
            .try_into()
            .map_err(|_| self.wrong(field, "it must be a list of three numbers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut all = vec![Processor::dinov2(224), Processor::dinov2(64)];
        all.extend([Processor::siglip(64), Processor::clip(56)]);
        for processor in all {
            let text = processor.to_json().to_string();
            let read = Processor::from_json(text.as_bytes(), Path::new("memory"));
            assert_eq!(read.expect("our own file"), processor, "{text}");
        }
    }
}
