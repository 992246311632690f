//! Where the weights of a model directory lie and in which types, without reading them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::{Blueprint, PretrainedError};
use crate::llm::Decoder as LanguageModel;
use crate::parts::{BLOCKS, CONNECTOR, EMBED_TOKENS, Row, VISION_TOWER};
use crate::vision::{FeatureSelect, Strategy, VisionSpec, VisionTower};
use crate::weights::{
    Checkpoint, Dtype, KeyMap, LoadError, Parameter, parameters, sources, unheld_names,
};

/// Parameters by the names of a whole model, and the types that their files have them in.
pub(crate) type Types = Vec<(String, Dtype)>;

/// Of one module, whose names start with `prefix` in a whole model.
///
/// # Errors
///
/// As [`sources`].
pub(crate) fn types<M: Module>(
    module: &M,
    prefix: &str,
    file: &Checkpoint,
    keys: &KeyMap,
) -> Result<Types, LoadError> {
    let typed = |(parameter, source): (Parameter, String)| {
        let dtype = file.entry(&source)?.dtype;
        Ok((format!("{prefix}{}", parameter.name), dtype))
    };
    sources(module, file, keys)?
        .into_iter()
        .map(typed)
        .collect()
}

/// Compares names and shapes of the weights in `dir` with a vision tower that stands alone; no value is read.
///
/// # Errors
///
/// [`PretrainedError`] naming the file and the tensors that do not fit.
pub fn compare_tower(
    dir: &Path,
    spec: &VisionSpec,
    device: &Device,
) -> Result<(), PretrainedError> {
    let whole = FeatureSelect {
        layer: -1,
        strategy: Strategy::Patch,
    };
    let tower = VisionTower::new(spec.clone(), whole, device);
    types(&tower, "", &Checkpoint::open(dir)?, &tower.keys())?;
    Ok(())
}

impl Blueprint {
    /// The types that the directory's files have parameters in, by the names of a whole model. Of quantizers nothing is
    /// said.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file and the tensors that do not fit.
    pub fn stored(&self, device: &Device) -> Result<BTreeMap<String, Dtype>, PretrainedError> {
        let mut stored = BTreeMap::new();
        for part in self.places(device) {
            stored.extend(part?);
        }
        let file = self.open(VISION_TOWER.folder)?;
        let tower = VisionTower::new(self.config.vision.clone(), self.config.select, device);
        for (name, source) in unheld_names(&tower, &file, &tower.keys()) {
            let dtype = file.entry(&source)?.dtype;
            stored.insert(format!("{}{name}", VISION_TOWER.prefix), dtype);
        }
        Ok(stored)
    }

    /// The same, for each part or why it does not fit.
    pub(super) fn places(&self, device: &Device) -> Vec<Result<Types, PretrainedError>> {
        let text = &self.config.text;
        let server = self.server_without_values(device);
        // Each as it is loaded: together with the top where it has one.
        let trunk = self.placement.trunk(text.layers.len());
        let rest = || match self.placement.top_at_client() {
            true => self.types_of(&BLOCKS, &*server.trunk, &text.blocks_keys(trunk.clone())),
            false => {
                let model = LanguageModel::behind(trunk.start, text.clone(), device);
                self.types_of(&BLOCKS, &model, &text.rest_keys(trunk.start))
            }
        };
        let (client, top) = match self.client_without_values(device) {
            Ok(client) => (client.bottom, client.top),
            Err(error) => return vec![Err(error), rest()],
        };
        let tower = || {
            let tower = &*client.vision_tower;
            self.types_of(&VISION_TOWER, tower, &tower.keys())
        };
        let connector = || {
            let connector = server.uplink.connector.as_ref();
            let connector = connector.unwrap_or(&client.connector);
            if parameters(&**connector, "").is_empty() {
                return Ok(Vec::new());
            }
            self.types_of(&CONNECTOR, &**connector, &KeyMap::connector())
        };
        let embedding = || {
            let (module, keys) = (&*client.embed_tokens, text.embedding_keys());
            self.types_of(&EMBED_TOKENS, module, &keys)
        };
        let blocks = || match client.blocks.is_empty() {
            true => Ok(Vec::new()),
            false => {
                let keys = text.blocks_keys(self.placement.bottom());
                self.types_of(&BLOCKS, &*client.blocks, &keys)
            }
        };
        let top = || match &top {
            None => Ok(Vec::new()),
            Some(top) => self.types_of(&BLOCKS, &*top.stage, &text.rest_keys(trunk.end)),
        };
        vec![tower(), connector(), embedding(), blocks(), rest(), top()]
    }

    fn types_of<M: Module>(
        &self,
        row: &Row,
        module: &M,
        keys: &KeyMap,
    ) -> Result<Types, PretrainedError> {
        let file = self.open(row.folder)?;
        Ok(types(module, row.prefix, &file, keys)?)
    }
}
