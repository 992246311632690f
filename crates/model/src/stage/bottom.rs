//! The beginning of the chain: pictures and tokens into rows of the language model's width.

use burn::module::Module;
use burn::tensor::{DType, Tensor, TensorData};
use qtl_codec::Grid;

use super::tower::TowerTape;
use crate::connector::Connector;
use crate::llm::TokenEmbedding;
use crate::nn::Named as Renamed;
use crate::params::Named;
use crate::parts::{CONNECTOR, EMBED_TOKENS, Parts, VISION_TOWER};
use crate::recompute::take;
use crate::splice::{PADDING, Spliced};
use crate::vision::VisionTower;

/// What stays with the data: nothing after it has seen a pixel.
#[derive(Module, Debug)]
pub struct Bottom {
    /// Pictures into features.
    pub vision_tower: Renamed<VisionTower>,
    /// Features into the language model's width.
    pub connector: Renamed<Connector>,
    /// Token ids into rows.
    pub embed_tokens: Renamed<TokenEmbedding>,
}

/// A batch as the bottom takes it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// [pictures, 3, side, side]; `None` for text only. Tower and connector compute in the type they have.
    pub pixels: Option<Tensor<4>>,
    /// Ids, labels and layout.
    pub spliced: Spliced,
}

/// Rows of image tokens and of text tokens, or the gradients of these: [rows, channels], 32 bits.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Of image tokens; `None` without pictures.
    pub image: Option<Tensor<2>>,
    /// Of text tokens.
    pub text: Tensor<2>,
}

/// Rows that were made, and wait for their gradient.
pub struct BottomTape {
    tracked: Bottom,
    plain: Renamed<VisionTower>,
    /// In a graph, as far as something is trained.
    rows: Rows,
    tower: Option<TowerTape>,
}

impl Parts for Bottom {}

impl Bottom {
    /// The stage of its parts.
    pub fn new(
        vision_tower: VisionTower,
        connector: Connector,
        embed_tokens: TokenEmbedding,
    ) -> Self {
        Self {
            vision_tower: VISION_TOWER.holds(vision_tower),
            connector: CONNECTOR.holds(connector),
            embed_tokens: EMBED_TOKENS.holds(embed_tokens),
        }
    }

    /// Rows per picture.
    pub fn tokens_per_picture(&self) -> usize {
        self.connector.tokens(self.vision_tower.feature_tokens())
    }

    /// How the rows of a whole picture lie in it; `None` if a row is no cell of it.
    pub fn picture_grid(&self) -> Option<Grid> {
        let grid = self.vision_tower.grid();
        grid.filter(|_| self.connector.on_grid())
    }

    /// Rows of pictures: [pictures, 3, side, side] to [pictures x tokens, hidden].
    pub fn look(&self, pixels: Tensor<4>) -> Tensor<2> {
        rows(self.connector.forward(self.vision_tower.forward(pixels)))
    }

    /// Rows of tokens: [ids, hidden]. [`PADDING`] gets zeros.
    pub fn embed(&self, ids: &[i64]) -> Tensor<2> {
        if !ids.contains(&PADDING) {
            return self.embed_tokens.lookup(ids).cast(DType::F32);
        }
        let shown: Vec<i64> = ids.iter().map(|id| (*id).max(0)).collect();
        let keep: Vec<f32> = ids
            .iter()
            .map(|id| if *id == PADDING { 0.0 } else { 1.0 })
            .collect();
        let device = self.device();
        let keep = Tensor::<2>::from_data(TensorData::new(keep, [ids.len(), 1]), &device);
        self.embed_tokens.lookup(&shown).cast(DType::F32) * keep
    }

    /// Rows of a batch, those of pictures that nobody shows among them.
    pub fn forward(&self, batch: &Batch) -> Rows {
        Rows {
            image: batch.pixels.clone().map(|pixels| self.look(pixels)),
            text: self.embed(&batch.spliced.text_ids),
        }
    }

    /// The same, plain. Parameters for which `trained` holds get a gradient in [`BottomTape::backward`].
    pub fn train_forward(
        &self,
        batch: &Batch,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Rows, BottomTape) {
        let tracked = self.track(trained);
        let mut tower = None;
        let image = batch.pixels.clone().map(|pixels| {
            let own = |name: &str| name.starts_with(VISION_TOWER.prefix) && trained(name);
            let features = if self.learns(&own) {
                let tape = TowerTape::run(&tracked.vision_tower, &self.vision_tower, pixels);
                let features = tape.features.clone();
                tower = Some(tape);
                features
            } else {
                self.vision_tower.forward(pixels)
            };
            rows(tracked.connector.forward(features))
        });
        let text = tracked.embed(&batch.spliced.text_ids);
        let tape = BottomTape {
            tracked,
            plain: self.vision_tower.clone(),
            rows: Rows { image, text },
            tower,
        };
        let plain = Rows {
            image: tape.rows.image.clone().map(Tensor::inner),
            text: tape.rows.text.clone().inner(),
        };
        (plain, tape)
    }
}

impl BottomTape {
    /// Whether there is anything to learn from the gradient of the rows of pictures, and of text.
    pub fn wants(&self) -> [bool; 2] {
        let image = self.rows.image.as_ref();
        [
            image.is_some_and(Tensor::is_tracked),
            self.rows.text.is_tracked(),
        ]
    }

    /// The gradients of the trained parameters are added to `into`, given those of the rows that are wanted.
    ///
    /// One scalar carries everything, since autodiff can walk a graph only once.
    pub fn backward(self, image: Option<Tensor<2>>, text: Option<Tensor<2>>, into: &mut Named) {
        let carried = |rows: Option<Tensor<2>>, g: Option<Tensor<2>>| {
            let rows = rows.filter(Tensor::is_tracked);
            rows.zip(g).map(|(rows, g)| (rows * g).sum())
        };
        let terms = [
            carried(self.rows.image, image),
            carried(Some(self.rows.text), text),
        ];
        let Some(total) = terms.into_iter().flatten().reduce(|a, b| a + b) else {
            return;
        };
        let mut grads = total.backward();
        self.tracked.collect(&mut grads, into);
        if let Some(tape) = self.tower {
            let gradient = take(&tape.features, &mut grads);
            tape.backward(&self.tracked.vision_tower, &self.plain, gradient, into);
        }
    }
}

/// [pictures, tokens, width] -> [pictures x tokens, width], in 32 bits as the quantizers want it.
fn rows(features: Tensor<3>) -> Tensor<2> {
    let [pictures, tokens, width] = features.dims();
    features
        .reshape([pictures * tokens, width])
        .cast(DType::F32)
}
