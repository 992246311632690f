//! What a run or a conversation starts from: a model directory and, where there is one, an adapter that goes on it.

use std::path::Path;
use std::sync::Arc;

use qtl_model::Device;
use qtl_model::device::as_stored;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::pretrained::{Blueprint, Loaded};
use qtl_model::text::TextModel;
use qtl_model::weights::Checkpoint;

use crate::adapt::{self, Fingerprint};
use crate::adapter::Adapter;
use crate::assumed;
use crate::checkpoint::Side;
use crate::error::TrainError;
use crate::half::Stages;
use crate::peft;
use crate::recipe::{Recipe, in_one_piece};
use crate::tune::Part;

/// Where they lie.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The model's directory.
    pub model: &'a Path,
    /// The adapter's; see [`Adapter::open`].
    pub adapter: Option<&'a Path>,
}

impl<'a, P: AsRef<Path>> From<&'a P> for Base<'a> {
    fn from(model: &'a P) -> Self {
        Self {
            model: model.as_ref(),
            adapter: None,
        }
    }
}

impl<'a> Base<'a> {
    /// The directory whose recipe counts where no other is given: the adapter's if it carries one, or else the model's.
    ///
    /// # Errors
    ///
    /// [`TrainError`] if the adapter's `config.json` cannot be read; as [`Base::resolved`].
    pub fn carrier(self) -> Result<&'a Path, TrainError> {
        match self.adapter {
            Some(adapter) if assumed::carries(adapter)? => Ok(adapter),
            _ => Ok(self.resolved()?.model),
        }
    }

    /// TinyLLaVA's own training writes an adapter and the model that it belongs to into one directory: whichever of the two
    /// it is given as, both are taken from there.
    ///
    /// # Errors
    ///
    /// [`TrainError::Halves`] if an adapter lies beside another kind of model and nothing says whether it counts.
    pub fn resolved(self) -> Result<Self, TrainError> {
        let both = |dir: &Path| peft::is_in(dir) && dir.join("language_model").is_dir();
        match self.adapter {
            None if both(self.model) => Ok(Self {
                adapter: Some(self.model),
                ..self
            }),
            None if peft::is_in(self.model) && Checkpoint::is_in(self.model) => {
                let dir = self.model.display();
                Err(TrainError::Halves(format!(
                    "{dir} holds a model and an adapter beside it: give the directory as --from-adapter as well, or move \
                     adapter_config.json away if the adapter is part of the weights already"
                )))
            }
            Some(adapter) if both(adapter) => Ok(Self {
                model: adapter,
                ..self
            }),
            _ => Ok(self),
        }
    }
}

/// A model and the adapter on it.
#[derive(Debug, Clone)]
pub struct Start {
    /// The model.
    pub blueprint: Blueprint,
    /// The adapter.
    pub adapter: Option<Arc<Adapter>>,
}

impl From<&Blueprint> for Start {
    fn from(blueprint: &Blueprint) -> Self {
        Self {
            blueprint: blueprint.clone(),
            adapter: None,
        }
    }
}

impl From<&Self> for Start {
    fn from(start: &Self) -> Self {
        start.clone()
    }
}

impl Start {
    /// Reads the model's configuration and the adapter.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file and the field.
    pub fn open(base: Base<'_>, recipe: &Recipe) -> Result<Self, TrainError> {
        Self::new(base, &|dir| recipe.blueprint(dir))
    }

    /// Reads the adapter, and the model's configuration by `blueprint`.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file and the field.
    pub fn new(
        base: Base<'_>,
        blueprint: &dyn Fn(&Path) -> Result<Blueprint, TrainError>,
    ) -> Result<Self, TrainError> {
        let base = base.resolved()?;
        Ok(Self {
            blueprint: blueprint(base.model)?,
            adapter: base.adapter.map(Adapter::open).transpose()?.map(Arc::new),
        })
    }

    /// Whether the model or the adapter has the quantizers' weights, or they have nothing to learn.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file.
    pub fn has_quantizers(&self, device: &Device) -> Result<bool, TrainError> {
        let adapted = |adapter: &Arc<Adapter>| adapter.has_part(Part::Quantizer);
        Ok(self.adapter.as_ref().is_some_and(adapted) || self.blueprint.has_quantizers(device)?)
    }

    /// Whether the model's head is its token embedding.
    fn tied(&self) -> bool {
        self.blueprint.config.text.tied_head
    }

    /// A half before the recipe tunes it, whole tensors of the adapter in their places.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file and the tensors, or the base that the adapter does not belong to.
    pub fn read<S: Stages>(
        &self,
        recipe: &Recipe,
        device: &Device,
    ) -> Result<Loaded<S>, TrainError> {
        let mut loaded = adapt::read::<S>(&self.blueprint, recipe, device)?;
        if let Some(adapter) = &self.adapter {
            self.in_one_piece()?;
            stands_on(&loaded.partition, adapter)?;
            loaded.partition =
                adapter.put_whole(loaded.partition, &self.parts::<S>(), self.tied())?;
            loaded.quantizers_found |= adapter.has_part(Part::Quantizer);
            loaded.hidden_found |= adapter.has_part(Part::Quantizer);
        }
        Ok(loaded)
    }

    /// A half as the recipe tunes it, with the adapter's branches.
    ///
    /// # Errors
    ///
    /// [`TrainError`] if the recipe trains what the part or the adapter does not have.
    pub fn tune<S: Stages>(&self, half: S, recipe: &Recipe) -> Result<S, TrainError> {
        let half = adapt::tuned(half, recipe)?;
        let Some(adapter) = &self.adapter else {
            return Ok(half);
        };
        let parts = self.parts::<S>();
        adapter.agrees(&recipe.tune, &parts, &half.parameters())?;
        Ok(adapter.put_branches(half, &parts)?)
    }

    /// The client's half for answering: the adapter is part of the weights.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file and the tensors.
    pub fn client(&self, device: &Device) -> Result<ClientPartition, TrainError> {
        self.answering(device)
    }

    /// The server's half for answering: the adapter is part of the weights.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file and the tensors, or the base that the adapter does not belong to.
    pub fn server(&self, device: &Device) -> Result<ServerPartition, TrainError> {
        self.answering(device)
    }

    fn answering<S: Stages>(&self, device: &Device) -> Result<S, TrainError> {
        let half = S::read(&self.blueprint, device, &|_, _| as_stored(device))?.partition;
        match &self.adapter {
            Some(adapter) => {
                self.in_one_piece()?;
                stands_on(&half, adapter)?;
                Ok(adapter.fold(half, &self.parts::<S>(), self.tied())?)
            }
            None => Ok(half),
        }
    }

    fn parts<S: Stages>(&self) -> Vec<Part> {
        S::parts(&self.blueprint.placement)
    }

    /// An adapter of the language model is put on by its one half.
    fn in_one_piece(&self) -> Result<(), TrainError> {
        let cure = "where there is an adapter; fold it into the model first, with `qtinyllava merge --from-adapter`";
        Ok(in_one_piece(&self.blueprint.placement, cure)?)
    }
}

/// Whether a half with a language model is the one that the adapter was trained on.
fn stands_on<S: Stages>(half: &S, adapter: &Adapter) -> Result<(), TrainError> {
    if S::SIDE == Side::Client {
        return Ok(());
    }
    Ok(adapter.stands_on(&|| Fingerprint::of_language_model(half))?)
}

/// The language model in `base` alone, the adapter part of its weights.
///
/// # Errors
///
/// [`TrainError`] naming the file and the field or tensors.
pub fn text_model(base: Base<'_>, device: &Device) -> Result<TextModel, TrainError> {
    Ok(folded_text(base, device)?.0)
}

/// The same, and how many branches were folded.
pub(crate) fn folded_text(
    base: Base<'_>,
    device: &Device,
) -> Result<(TextModel, usize), TrainError> {
    let base = base.resolved()?;
    let model = TextModel::open(base.model, device)?;
    let Some(dir) = base.adapter else {
        return Ok((model, 0));
    };
    let (tied, adapter) = (model.spec().tied_head, Adapter::open(dir)?);
    Ok((
        adapter.fold(model, &[Part::Llm, Part::EmbedTokens], tied)?,
        adapter.count(),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_model_s_recipe_counts_where_the_adapter_carries_none() {
        let dir = tempfile::tempdir().unwrap();
        let [model, adapter] = ["model", "adapter"].map(|name| dir.path().join(name));
        fs::create_dir_all(&model).unwrap();
        fs::create_dir_all(&adapter).unwrap();
        let base = Base {
            model: &model,
            adapter: Some(&adapter),
        };
        let config = adapter.join("config.json");
        assert_eq!(base.carrier().unwrap(), model);
        // Other programs copy the model's configuration beside their adapter.
        fs::write(&config, r#"{"model_type": "llama"}"#).unwrap();
        assert_eq!(base.carrier().unwrap(), model);
        let own = serde_json::json!({crate::merge::OWN: {"recipe": ""}});
        fs::write(&config, own.to_string()).unwrap();
        assert_eq!(base.carrier().unwrap(), adapter);
        fs::write(&config, "{").unwrap();
        let error = base.carrier().unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }
}
