//! The parts of a model, in one table, and the verbs over a half's parameters, which are written once and know no part.
//!
//! A half is a module tree whose paths are the names of a whole model's checkpoint: each part stands in it under the name
//! that the table gives it. So a verb is a walk over the tree, and what it does to a parameter depends on its name alone.

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};

use crate::llm::Names;
use crate::nn::Named as Renamed;
use crate::params::{self, Named};
use crate::tuning::{self, Matrix, Treatment};
use crate::weights::{NamedTensor, Parameter, Tensors, parameters, visit_tensors};

/// A part of the model that is tuned as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The vision tower.
    VisionTower,
    /// The connector.
    Connector,
    /// Both halves of all quantizers.
    Quantizer,
    /// The language model without its token embedding.
    Llm,
    /// The token embedding.
    EmbedTokens,
}

/// Where in the chain of stages a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Pictures and tokens into rows.
    Bottom,
    /// The blocks of the language model.
    Trunk,
    /// What follows the last block.
    Top,
    /// Between two stages; either side has its half.
    Edge,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it is tuned as.
    pub part: Part,
    /// What the recipe calls that.
    pub field: &'static str,
    /// What the names of its parameters start with in a whole model.
    pub prefix: &'static str,
    /// Its folder in TinyLLaVA's layout of a folder per part.
    pub folder: &'static str,
    /// Its stage.
    pub place: Place,
}

/// The vision tower.
pub const VISION_TOWER: Row = Row {
    part: Part::VisionTower,
    field: "vision_tower",
    prefix: "vision_tower._vision_tower.",
    folder: "vision_tower",
    place: Place::Bottom,
};
/// The connector.
pub const CONNECTOR: Row = Row {
    part: Part::Connector,
    field: "connector",
    prefix: "connector.",
    folder: "connector",
    place: Place::Bottom,
};
/// The token embedding.
pub const EMBED_TOKENS: Row = Row {
    part: Part::EmbedTokens,
    field: "embed_tokens",
    prefix: "language_model.",
    folder: "language_model",
    place: Place::Bottom,
};
/// The blocks of the language model.
pub const BLOCKS: Row = Row {
    part: Part::Llm,
    field: "llm",
    place: Place::Trunk,
    ..EMBED_TOKENS
};
/// Its last norm and its head.
pub const HEAD: Row = Row {
    place: Place::Top,
    ..BLOCKS
};
/// The quantizer of image rows.
pub const QUANTIZER_IMAGE: Row = Row {
    part: Part::Quantizer,
    field: "quantizer",
    prefix: "VQ.quantizer_image.quantizer.",
    folder: "VQ_VAE",
    place: Place::Edge,
};
/// The quantizer of text rows.
pub const QUANTIZER_TEXT: Row = Row {
    prefix: "VQ.quantizer_text.quantizer.",
    ..QUANTIZER_IMAGE
};

/// The quantizer of hidden states, where the top is at the client.
pub const QUANTIZER_HIDDEN: Row = Row {
    prefix: "VQ.quantizer_hidden.quantizer.",
    ..QUANTIZER_IMAGE
};

/// All of them.
pub const TABLE: [Row; 8] = [
    VISION_TOWER,
    CONNECTOR,
    EMBED_TOKENS,
    BLOCKS,
    HEAD,
    QUANTIZER_IMAGE,
    QUANTIZER_TEXT,
    QUANTIZER_HIDDEN,
];

/// The folders of all parts, each once.
pub fn folders() -> Vec<&'static str> {
    let mut folders: Vec<&str> = TABLE.iter().map(|row| row.folder).collect();
    folders.dedup();
    folders
}

impl Row {
    /// `module` as this part of a half.
    pub(crate) fn holds<M>(&self, module: M) -> Renamed<M> {
        Renamed::new(self.prefix.trim_end_matches('.'), module)
    }

    /// The row of a parameter or module of this name. Names are those of a whole model; what starts like none of the parts is
    /// taken for the language model's.
    pub fn of(name: &str) -> &'static Self {
        let root = |path: &'static str| path.split('.').next();
        let own = |row: &&Self| root(row.prefix) == name.split('.').next();
        match TABLE.iter().find(own) {
            Some(row) if row.prefix != BLOCKS.prefix => row,
            _ if Names::is_embedding(name) => &EMBED_TOKENS,
            _ if block(name).is_some() => &BLOCKS,
            _ => &HEAD,
        }
    }
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 5] = [
        Self::VisionTower,
        Self::Connector,
        Self::Quantizer,
        Self::Llm,
        Self::EmbedTokens,
    ];

    /// The part that a parameter, by its checkpoint name, belongs to.
    pub fn of(name: &str) -> Self {
        Row::of(name).part
    }

    fn row(self) -> &'static Row {
        let own = TABLE.iter().find(|row| row.part == self);
        own.unwrap_or(&BLOCKS)
    }

    /// Its folder in TinyLLaVA's layout of a folder per part.
    pub fn folder(self) -> &'static str {
        self.row().folder
    }

    /// What the recipe calls it.
    pub fn field(self) -> &'static str {
        self.row().field
    }

    /// What all names of its parameters start with in a whole model, and in files of the part alone do not. The quantizers'
    /// have nothing in common that their files leave out.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Quantizer => "",
            _ => self.row().prefix,
        }
    }
}

/// The number of the block that a parameter belongs to, if it belongs to one: `...layers.7...` or `...layer.7...`.
pub fn block(name: &str) -> Option<usize> {
    let mut parts = name.split('.');
    while let Some(part) = parts.next() {
        if part == "layers" || part == "layer" {
            return parts.next()?.parse().ok();
        }
    }
    None
}

/// The verbs over the parameters of a half of the model, or of a part of it, by the names of a whole model.
pub trait Parts: Module {
    /// What goes before the names; nothing where the tree has them whole.
    const PREFIX: &'static str = "";

    /// The device that the parameters live on.
    fn device(&self) -> Device {
        params::device(self)
    }

    /// A copy whose parameters chosen by `trained` are leaves of the autodiff graph; see [`params::track`].
    #[must_use]
    fn track(&self, trained: &dyn Fn(&str) -> bool) -> Self {
        params::track(self, Self::PREFIX, trained)
    }

    /// Of a tracked copy: moves the gradients that `grads` holds for it into `into`.
    fn collect(&self, grads: &mut Gradients, into: &mut Named) {
        params::collect(self, Self::PREFIX, grads, into);
    }

    /// Replaces each parameter by `change(name, flattened value)` where that returns a value.
    #[must_use]
    fn replace(self, change: &mut dyn FnMut(&str, Tensor<1>) -> Option<Tensor<1>>) -> Self {
        params::replace(self, Self::PREFIX, change)
    }

    /// Turns each parameter that is `wanted` into `change(name, flattened value)`; see [`params::update`].
    #[must_use]
    fn update(
        self,
        wanted: &dyn Fn(&str) -> bool,
        change: &mut dyn FnMut(&str, Tensor<1>) -> Tensor<1>,
    ) -> Self {
        params::update(self, Self::PREFIX, wanted, change)
    }

    /// All parameters without their values.
    fn parameters(&self) -> Vec<Parameter> {
        parameters(self, Self::PREFIX)
    }

    /// Whether it has a parameter that is `trained`.
    fn learns(&self, trained: &dyn Fn(&str) -> bool) -> bool {
        self.parameters().iter().any(|p| trained(&p.name))
    }

    /// Hands the parameters whose names are `wanted` to `take`, one at a time.
    fn visit_tensors(&self, wanted: &dyn Fn(&str) -> bool, take: &mut dyn FnMut(NamedTensor)) {
        visit_tensors(self, Self::PREFIX, wanted, take);
    }

    /// All parameters with their values.
    fn tensors(&self) -> Vec<NamedTensor> {
        let mut all = Vec::new();
        self.visit_tensors(&|_| true, &mut |tensor| all.push(tensor));
        all
    }

    /// The parameters whose names are `wanted`, for writing them one at a time.
    fn chosen<'a>(&'a self, wanted: &'a dyn Fn(&str) -> bool) -> Tensors<'a> {
        Tensors::chosen(self.parameters(), wanted, |take| {
            self.visit_tensors(wanted, take)
        })
    }

    /// Keeps and tunes the matrices as `choose` says, given the name of the weight; see [`tuning::adapt`]. Quantizers stay as
    /// they are.
    #[must_use]
    fn adapt(self, seed: u64, choose: &dyn Fn(&str, Matrix) -> Treatment) -> Self {
        let choose = |name: &str, kind| match Part::of(name) {
            Part::Quantizer => Treatment::default(),
            _ => choose(name, kind),
        };
        tuning::adapt(self, Self::PREFIX, seed, &choose)
    }

    /// The same with every branch folded into its matrix and every matrix in 32 bits.
    #[must_use]
    fn folded(self) -> Self {
        self.materialize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_row() {
        for (name, row) in [
            (
                "vision_tower._vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
                VISION_TOWER,
            ),
            ("connector._connector.0.bias", CONNECTOR),
            ("language_model.model.embed_tokens.weight", EMBED_TOKENS),
            (
                "language_model.transformer.token_embeddings.weight",
                EMBED_TOKENS,
            ),
            ("language_model.model.embed_tokens", EMBED_TOKENS),
            ("language_model.model.layers.7.mlp.up_proj.weight", BLOCKS),
            ("language_model.model.norm.weight", HEAD),
            ("language_model.lm_head.weight", HEAD),
            (
                "VQ.quantizer_text.quantizer.in_proj.weight",
                QUANTIZER_IMAGE,
            ),
        ] {
            let found = Row::of(name);
            assert_eq!(
                (found.part, found.place, found.folder),
                (row.part, row.place, row.folder),
                "{name}"
            );
        }
        for part in Part::ALL {
            assert_eq!(part.row().part, part);
        }
    }
}
