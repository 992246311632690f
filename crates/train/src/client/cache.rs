//! What a tower that does not learn makes of pictures, kept on disk: the second time a picture comes, the tower does not run.
//!
//! A file per picture, called by the digest of its pixels as the tower takes them, in a folder called by the digest of the
//! tower; the values as the tower computed them, and their digest at the end. So whatever is read is to the bit what would be computed.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor, TensorData};
use qtl_data::Example;
use qtl_data::example::Pixels;
use qtl_model::Device;
use qtl_model::device::Kind;
use qtl_model::partition::ClientPartition;
use qtl_model::parts::{Parts, VISION_TOWER};
use qtl_model::weights::NamedTensor;

use crate::checkpoint::ARITHMETIC;
use crate::error::TrainError;
use crate::files;
use crate::recipe::Recipe;

/// Bytes of a digest.
const DIGEST: usize = 32;

/// Features of pictures on disk.
pub(super) struct FeatureCache {
    dir: PathBuf,
    device: Device,
    /// Of a picture's features.
    tokens: usize,
    width: usize,
    dtype: DType,
    /// Bytes that may still be written.
    room: u64,
}

impl FeatureCache {
    /// The cache in the folder that the recipe names, if it names one, for the tower of this half.
    pub(super) fn open(
        recipe: &Recipe,
        half: &ClientPartition,
        device: &Device,
    ) -> Result<Option<Self>, TrainError> {
        let Some(dir) = &recipe.data.cache_features else {
            return Ok(None);
        };
        let dtype = recipe.train.activation.dtype();
        let dir = dir.join(format!("tower-{}", tower(half, dtype, Kind::of(device))));
        // Features tell about pictures nearly what pictures do.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| TrainError::io(&dir, e))?;
        let held = size(&dir).map_err(|e| TrainError::io(&dir, e))?;
        let most = recipe.data.cache_megabytes.saturating_mul(1_000_000);
        Ok(Some(Self {
            room: most.saturating_sub(held),
            dir,
            device: device.clone(),
            tokens: half.bottom.vision_tower.feature_tokens(),
            width: half.bottom.vision_tower.width(),
            dtype,
        }))
    }

    /// Features of the pictures in examples, [pictures, tokens, width]: those that are not known are computed by `look`, all at
    /// once, and kept while there is room. `None` without pictures.
    pub(super) fn features(
        &mut self,
        examples: &[Example],
        look: &dyn Fn(&[&Pixels]) -> Tensor<3>,
    ) -> Result<Option<Tensor<3>>, TrainError> {
        let pictures: Vec<&Pixels> = examples.iter().filter_map(|e| e.pixels.as_ref()).collect();
        if pictures.is_empty() {
            return Ok(None);
        }
        let paths: Vec<PathBuf> = pictures.iter().map(|p| self.path(p)).collect();
        let mut known: Vec<Option<Tensor<3>>> = paths.iter().map(|path| self.read(path)).collect();
        // A picture that comes twice is looked at once.
        let mut missing: BTreeMap<&Path, usize> = BTreeMap::new();
        for (number, path) in paths.iter().enumerate() {
            if known[number].is_none() {
                missing.entry(path).or_insert(number);
            }
        }
        let unseen: Vec<&Pixels> = missing.values().map(|number| pictures[*number]).collect();
        if !unseen.is_empty() {
            let seen = look(&unseen);
            for (at, (path, _)) in missing.iter().enumerate() {
                let features = seen.clone().narrow(0, at, 1);
                self.keep(path, &features)?;
                for (number, own) in paths.iter().enumerate() {
                    if own == path {
                        known[number] = Some(features.clone());
                    }
                }
            }
        }
        Ok(Some(Tensor::cat(known.into_iter().flatten().collect(), 0)))
    }

    fn path(&self, picture: &Pixels) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        for value in &picture.data {
            hasher.update(&value.to_le_bytes());
        }
        self.dir.join(hasher.finalize().to_hex().as_str())
    }

    /// What a file holds; nothing if it is not there or not what was written.
    fn read(&self, path: &Path) -> Option<Tensor<3>> {
        let bytes = fs::read(path).ok()?;
        let (values, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
        let whole = values.len() == self.tokens * self.width * self.dtype.size();
        if !whole || blake3::hash(values).as_bytes() != digest {
            tracing::warn!("{} is damaged, and is made anew", path.display());
            return None;
        }
        let shape = [1, self.tokens, self.width];
        let data = TensorData::from_bytes_vec(values.to_vec(), shape, self.dtype);
        Some(Tensor::from_data(data, (&self.device, self.dtype)))
    }

    fn keep(&mut self, path: &Path, features: &Tensor<3>) -> Result<(), TrainError> {
        let data = features.to_data();
        let values = data.as_bytes();
        let size = (values.len() + DIGEST) as u64;
        if size > self.room {
            if self.room > 0 {
                tracing::warn!(
                    "{} is full: further pictures are looked at each time (data.cache_megabytes)",
                    self.dir.display()
                );
            }
            self.room = 0;
            return Ok(());
        }
        self.room -= size;
        let bytes = [values, blake3::hash(values).as_bytes()].concat();
        files::replace_soon(path, &bytes).map_err(|e| TrainError::io(path, e))
    }
}

/// A digest of all that a tower's features follow from beside the pixels.
fn tower(half: &ClientPartition, dtype: DType, kind: Kind) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{ARITHMETIC} {dtype:?}").as_bytes());
    // Caches are older than other devices.
    if kind != Kind::Cpu {
        hasher.update(kind.name().as_bytes());
    }
    for vit in half.bottom.vision_tower.vits() {
        hasher.update(format!("{:?} {:?}", vit.spec(), vit.selected()).as_bytes());
    }
    let own = |name: &str| name.starts_with(VISION_TOWER.prefix);
    half.visit_tensors(&own, &mut |tensor: NamedTensor| {
        hasher.update(format!("{} {:?}", tensor.name, tensor.shape).as_bytes());
        for value in &tensor.data {
            hasher.update(&value.to_le_bytes());
        }
    });
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Bytes of all files.
fn size(dir: &Path) -> std::io::Result<u64> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum()
}
