//! A tower and what it hands on: one transformer, or the two of a mixture of features.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_codec::Grid;

use super::names::{ClipNames, Dinov2Names};
use super::{FeatureSelect, Names, VisionSpec, Vit};
use crate::weights::KeyMap;

/// A tower and what it hands on, without the blocks behind it: they are never run. Parameter names are those of its
/// family's files.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has one tower")]
pub enum VisionTower {
    /// SigLIP or CLIP.
    Clip(ClipNames),
    /// DINOv2.
    Dinov2(Dinov2Names),
    /// Both CLIP and DINOv2, on the same pictures.
    Mof(Mof),
}

/// The two towers of a mixture of features; their names start with `clip.` and `dinov2.`.
#[derive(Module, Debug)]
pub struct Mof {
    clip: ClipNames,
    dinov2: Dinov2Names,
}

impl VisionTower {
    /// A tower without values: load or initialise it before use.
    ///
    /// # Panics
    ///
    /// If `select.layer` is out of range; [`FeatureSelect::depth`] tells.
    pub fn new(spec: VisionSpec, select: FeatureSelect, device: &Device) -> Self {
        for spec in std::iter::once(&spec).chain(spec.partner.as_deref()) {
            assert!(
                select.depth(spec.layers).is_some(),
                "no hidden state {}",
                select.layer
            );
        }
        let partner = spec.partner.clone();
        match (spec.names, partner) {
            (_, Some(partner)) => Self::Mof(Mof {
                clip: ClipNames::new(spec, select, device),
                dinov2: Dinov2Names::new(*partner, select, device),
            }),
            (Names::Siglip | Names::Clip, None) => Self::Clip(ClipNames::new(spec, select, device)),
            (Names::Dinov2, None) => Self::Dinov2(Dinov2Names::new(spec, select, device)),
        }
    }

    /// Its transformers: one, or the two of a mixture.
    pub fn vits(&self) -> Vec<Vit<'_>> {
        match self {
            Self::Clip(parts) => vec![Vit::new(parts)],
            Self::Dinov2(parts) => vec![Vit::new(parts)],
            Self::Mof(both) => vec![Vit::new(&both.clip), Vit::new(&both.dinov2)],
        }
    }

    /// Where its parameters are found in a file, which may hold more of the tower.
    pub fn keys(&self) -> KeyMap {
        let names: &[&str] = match self {
            Self::Mof(_) => &["clip.", "dinov2."],
            _ => &[""],
        };
        let both = self.vits().into_iter().zip(names);
        both.fold(KeyMap::vision_tower(), |keys, (vit, tower)| {
            vit.unheld()
                .fold(keys, |keys, block| keys.ignore(&format!("{tower}{block}")))
        })
    }

    /// Tokens per image that [`Self::forward`] returns.
    pub fn feature_tokens(&self) -> usize {
        // The towers of a mixture have equally many.
        self.vits().first().map_or(0, Vit::feature_tokens)
    }

    /// Width of the features that [`Self::forward`] returns.
    pub fn width(&self) -> usize {
        self.vits().iter().map(|vit| vit.spec().hidden_size).sum()
    }

    /// How these tokens lie in the picture; `None` if one of them is no patch.
    pub fn grid(&self) -> Option<Grid> {
        self.vits().first().and_then(Vit::grid)
    }

    /// Features of the images: `[B, channels, side, side]` to `[B, tokens, width]`. Those of a mixture stand side by side,
    /// CLIP's first.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let vits = self.vits();
        beside(vits.iter().map(|vit| vit.forward(pixels.clone())).collect())
    }
}

/// The features of several towers beside each other.
pub(crate) fn beside(mut features: Vec<Tensor<3>>) -> Tensor<3> {
    if features.len() == 1 {
        features.remove(0)
    } else {
        Tensor::cat(features, 2)
    }
}
