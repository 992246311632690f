//! What a model directory has and neither half holds: blocks of the vision tower behind the hidden state that the connector
//! reads, and what comes after the last. A model that is written again needs them, for Python's classes have them.

use std::collections::HashSet;

use burn::tensor::Device;

use super::{Blueprint, PretrainedError};
use crate::parts::VISION_TOWER;
use crate::vision::{FeatureSelect, VisionTower};
use crate::weights::{NamedTensor, initialize, parameters, unheld, visit_tensors};

impl Blueprint {
    /// The tensors of the vision tower that no half holds, under the names of a whole model. With random weights: blocks only.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file.
    pub fn unheld(&self, device: &Device) -> Result<Vec<NamedTensor>, PretrainedError> {
        let tower = |select| VisionTower::new(self.config.vision.clone(), select, device);
        let held = tower(self.config.select);
        let mut rest = Vec::new();
        if self.fresh {
            let last = FeatureSelect {
                layer: -1,
                ..self.config.select
            };
            let held = parameters(&held, VISION_TOWER.prefix);
            let held: HashSet<String> = held.into_iter().map(|p| p.name).collect();
            let whole = self.fresh_tower(tower(last));
            let unheld = |name: &str| !held.contains(name);
            visit_tensors(&whole, VISION_TOWER.prefix, &unheld, &mut |t| rest.push(t));
        } else {
            rest = unheld(&held, &self.open(VISION_TOWER.folder)?, &held.keys())?;
            for tensor in &mut rest {
                tensor.name.insert_str(0, VISION_TOWER.prefix);
            }
        }
        Ok(rest)
    }

    /// The tower with the values that training from nothing starts with.
    pub(super) fn fresh_tower(&self, tower: VisionTower) -> VisionTower {
        let fill = |name: &str, shape: &[usize]| self.config.vision.fill(name, shape);
        initialize(tower, VISION_TOWER.prefix, self.seed, fill)
    }
}
