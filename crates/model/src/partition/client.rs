//! The client's partition: examples into codes. The way back is in [`pending`](super::pending).

use burn::module::Module as _;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qtl_codec::{Code, Grid};

use super::names;
use super::pending::{Pending, Stream};
use super::repeats::{self, TextRows};
use super::tower::TowerTape;
use crate::connector::Connector;
use crate::llm::TokenEmbedding;
use crate::params;
use crate::quant::{Accumulator, Encoder, Phase};
use crate::splice::{Layout, PADDING, Spliced};
use crate::tuning::{self, Matrix, Treatment};
use crate::vision::VisionTower;
use crate::weights::{NamedTensor, Parameter, Tensors, parameters, visit_tensors};

/// Everything of the model that stays with the data.
#[derive(Debug, Clone)]
pub struct ClientPartition {
    /// Pictures into features.
    pub vision_tower: VisionTower,
    /// Features into the language model's width.
    pub connector: Connector,
    /// Token ids into rows; the only part of the language model that the client holds.
    pub embed_tokens: TokenEmbedding,
    /// Quantizer of image rows, the client's half.
    pub quantizer_image: Encoder,
    /// Quantizer of text rows, the client's half.
    pub quantizer_text: Encoder,
    /// Whether text rows of one token cross once.
    pub text_rows: TextRows,
}

/// A batch as the client's partition takes it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// [pictures, 3, side, side]; `None` for text only. Tower and connector compute in the type they have.
    pub pixels: Option<Tensor<4>>,
    /// Ids, labels and layout.
    pub spliced: Spliced,
}

/// What crosses the cut upward.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Code of the image rows; `None` without pictures.
    pub image: Option<Code>,
    /// Code of the text rows, or of the different ones among them.
    pub text: Code,
    /// Which row of `text` each text row is (see [`super::repeats`]); `None` if `text` holds them all in order.
    pub index: Option<Code>,
    /// How the two interleave.
    pub layout: Layout,
}

/// Features of a batch before rounding.
#[derive(Debug, Clone)]
pub struct Features {
    /// [image rows, code_dim].
    pub image: Option<Tensor<2>>,
    /// [text rows, code_dim].
    pub text: Tensor<2>,
}

impl ClientPartition {
    /// Rows per picture that reach the language model.
    pub fn tokens_per_picture(&self) -> usize {
        self.connector.tokens(self.vision_tower.feature_tokens())
    }

    /// Codes of a batch for inference: recorded statistics, no graph.
    pub fn encode(&self, batch: &Batch) -> Cut {
        let image = batch.pixels.clone().map(|pixels| {
            let features = self.connector.forward(self.vision_tower.forward(pixels));
            let z = self
                .quantizer_image
                .bound(self.quantizer_image.input(rows(features)));
            let rows = &batch.spliced.image_rows;
            let z = used(z, rows);
            self.on_grid(self.quantizer_image.quantize(z, Phase::Evaluate), rows)
        });
        let ids = &batch.spliced.text_ids;
        let z = self.bounded_text(ids);
        let (text, distinct) = repeats::encode(
            &self.quantizer_text,
            z,
            ids,
            self.text_rows,
            Phase::Evaluate,
        );
        Cut {
            image,
            text,
            index: distinct.map(|distinct| distinct.code()),
            layout: batch.spliced.layout.clone(),
        }
    }

    /// Tells the codec where the rows lie in their pictures, if these are whole and the connector left every token in its
    /// place.
    fn on_grid(&self, code: Code, image_rows: &[usize]) -> Code {
        match self.grid(image_rows) {
            Some(grid) => code.on_grid(grid),
            None => code,
        }
    }

    /// How the rows of a whole picture lie in it; `None` if a row is no cell of it.
    pub fn picture_grid(&self) -> Option<Grid> {
        let grid = self.vision_tower.grid();
        grid.filter(|_| self.connector.on_grid())
    }

    /// How the image rows of a batch lie in their pictures, if these are whole.
    pub fn grid(&self, image_rows: &[usize]) -> Option<Grid> {
        let grid = self.picture_grid()?;
        are_whole_pictures(image_rows, grid.tokens).then_some(grid)
    }

    /// Code of single tokens, for generation. Where the statistics are those of the batch, a single token has
    /// none, and its row crosses as 16-bit floats.
    pub fn encode_tokens(&self, ids: &[i64]) -> Code {
        if self.quantizer_text.is_rowwise() {
            self.quantizer_text
                .quantize(self.bounded_text(ids), Phase::Evaluate)
        } else {
            crate::quant::to_f16(self.embed(ids))
        }
    }

    fn bounded_text(&self, ids: &[i64]) -> Tensor<2> {
        let u = self.quantizer_text.input(self.embed(ids));
        self.quantizer_text.bound(u)
    }

    /// Projected features of a batch before they are bounded, without a graph: what a quantizer is calibrated on.
    pub fn project(&self, batch: &Batch) -> Features {
        let pictures = batch.pixels.clone().map(|x| self.project_pictures(x));
        Features {
            image: pictures.map(|u| used(u, &batch.spliced.image_rows)),
            text: self
                .quantizer_text
                .input(self.embed(&batch.spliced.text_ids)),
        }
    }

    /// Projected features of pictures alone: [pictures, 3, side, side] -> [pictures x tokens, code_dim].
    pub fn project_pictures(&self, pixels: Tensor<4>) -> Tensor<2> {
        let features = self.connector.forward(self.vision_tower.forward(pixels));
        self.quantizer_image.input(rows(features))
    }

    /// Adds the projected features of a batch to calibration sums (image, text).
    pub fn calibrate(&self, batch: &Batch, image: &mut Accumulator, text: &mut Accumulator) {
        let features = self.project(batch);
        if let Some(rows) = features.image {
            image.add(rows);
        }
        text.add(features.text);
    }

    /// Forward of the micro-batch number `step`: parameters for which `trained` holds get a gradient in
    /// [`Pending::backward`], and the recorded statistics move.
    pub fn forward(
        &mut self,
        batch: &Batch,
        step: u64,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Cut, Pending) {
        let mut tracked = self.track(trained);
        let mut tower = None;
        let mut penalty = None;
        let image = batch.pixels.clone().map(|pixels| {
            let features = if trains_any(&self.vision_tower, trained) {
                let tape = TowerTape::run(&tracked.vision_tower, &self.vision_tower, pixels);
                let features = tape.features.clone();
                tower = Some(tape);
                features
            } else {
                self.vision_tower.forward(pixels)
            };
            let u = tracked
                .quantizer_image
                .input(rows(tracked.connector.forward(features)));
            let both = (&mut self.quantizer_image, &mut tracked.quantizer_image);
            used(bound(both, u, &mut penalty), &batch.spliced.image_rows)
        });
        let u = tracked
            .quantizer_text
            .input(tracked.embed(&batch.spliced.text_ids));
        let both = (&mut self.quantizer_text, &mut tracked.quantizer_text);
        let text = bound(both, u, &mut penalty);
        let features = Features {
            image: image.clone().map(Tensor::inner),
            text: text.clone().inner(),
        };
        let phase = Phase::Train(step);
        let ids = &batch.spliced.text_ids;
        let z = features.text.clone();
        let (text_code, distinct) =
            repeats::encode(&self.quantizer_text, z, ids, self.text_rows, phase);
        let text = match &distinct {
            Some(distinct) => distinct.select(text),
            None => text,
        };
        let cut = Cut {
            image: features.image.as_ref().map(|z| {
                let code = self.quantizer_image.quantize(z.clone(), phase);
                self.on_grid(code, &batch.spliced.image_rows)
            }),
            text: text_code,
            index: distinct.as_ref().map(|distinct| distinct.code()),
            layout: batch.spliced.layout.clone(),
        };
        let penalty_value = penalty.clone().map_or(0.0, |p: Tensor<1>| {
            f64::from(p.inner().into_scalar::<f32>())
        });
        let image = image
            .zip(cut.image.as_ref())
            .map(|(z, code)| Stream::new(&tracked.quantizer_image, z, code));
        let text = Stream::new(&tracked.quantizer_text, text, &cut.text);
        let plain = self.vision_tower.clone();
        (
            cut,
            Pending {
                tracked,
                plain,
                features,
                image,
                text,
                penalty,
                penalty_value,
                tower,
            },
        )
    }

    fn embed(&self, ids: &[i64]) -> Tensor<2> {
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

    fn track(&self, trained: &dyn Fn(&str) -> bool) -> Self {
        Self {
            vision_tower: params::track(&self.vision_tower, names::VISION_TOWER, trained),
            connector: params::track(&self.connector, names::CONNECTOR, trained),
            embed_tokens: params::track(&self.embed_tokens, names::LANGUAGE_MODEL, trained),
            quantizer_image: params::track(&self.quantizer_image, names::QUANTIZER_IMAGE, trained),
            quantizer_text: params::track(&self.quantizer_text, names::QUANTIZER_TEXT, trained),
            text_rows: self.text_rows,
        }
    }

    /// Replaces each parameter by `change(name, flattened value)` where that returns a value.
    pub fn replace(self, change: &mut dyn FnMut(&str, Tensor<1>) -> Option<Tensor<1>>) -> Self {
        Self {
            vision_tower: params::replace(self.vision_tower, names::VISION_TOWER, change),
            connector: params::replace(self.connector, names::CONNECTOR, change),
            embed_tokens: params::replace(self.embed_tokens, names::LANGUAGE_MODEL, change),
            quantizer_image: params::replace(self.quantizer_image, names::QUANTIZER_IMAGE, change),
            quantizer_text: params::replace(self.quantizer_text, names::QUANTIZER_TEXT, change),
            text_rows: self.text_rows,
        }
    }

    /// All parameters with their values, under the names of a merged checkpoint.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let mut all = Vec::new();
        self.visit_tensors(&|_| true, &mut |tensor| all.push(tensor));
        all
    }

    /// All parameters without their values, under the names of a merged checkpoint.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = parameters(&self.vision_tower, names::VISION_TOWER);
        all.extend(parameters(&self.connector, names::CONNECTOR));
        all.extend(parameters(&self.embed_tokens, names::LANGUAGE_MODEL));
        all.extend(parameters(&self.quantizer_image, names::QUANTIZER_IMAGE));
        all.extend(parameters(&self.quantizer_text, names::QUANTIZER_TEXT));
        all
    }

    /// The parameters whose names are `wanted`, for writing them one at a time.
    pub fn chosen<'a>(&'a self, wanted: &'a dyn Fn(&str) -> bool) -> Tensors<'a> {
        Tensors::chosen(self.parameters(), wanted, |take| {
            self.visit_tensors(wanted, take)
        })
    }

    /// Hands the parameters whose names are `wanted` to `take`, one at a time.
    pub fn visit_tensors(&self, wanted: &dyn Fn(&str) -> bool, take: &mut dyn FnMut(NamedTensor)) {
        visit_tensors(&self.vision_tower, names::VISION_TOWER, wanted, take);
        visit_tensors(&self.connector, names::CONNECTOR, wanted, take);
        visit_tensors(&self.embed_tokens, names::LANGUAGE_MODEL, wanted, take);
        visit_tensors(&self.quantizer_image, names::QUANTIZER_IMAGE, wanted, take);
        visit_tensors(&self.quantizer_text, names::QUANTIZER_TEXT, wanted, take);
    }

    /// Keeps and tunes the matrices as `choose` says, given the name of the weight; see [`tuning::adapt`]. The quantizers
    /// stay as they are.
    #[must_use]
    pub fn adapt(self, seed: u64, choose: &dyn Fn(&str, Matrix) -> Treatment) -> Self {
        Self {
            vision_tower: tuning::adapt(self.vision_tower, names::VISION_TOWER, seed, choose),
            connector: tuning::adapt(self.connector, names::CONNECTOR, seed, choose),
            embed_tokens: tuning::adapt(self.embed_tokens, names::LANGUAGE_MODEL, seed, choose),
            ..self
        }
    }

    /// The same half with every branch folded into its matrix and every matrix in 32 bits.
    #[must_use]
    pub fn folded(self) -> Self {
        Self {
            vision_tower: self.vision_tower.materialize(),
            connector: self.connector.materialize(),
            embed_tokens: self.embed_tokens.materialize(),
            ..self
        }
    }

    /// The device the parameters live on.
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }
}

/// [pictures, tokens, width] -> [pictures x tokens, width], in 32 bits as the quantizers want it.
fn rows(features: Tensor<3>) -> Tensor<2> {
    let [pictures, tokens, width] = features.dims();
    features
        .reshape([pictures * tokens, width])
        .cast(DType::F32)
}

/// The rows that the batch really shows; pictures nobody shows and rows beyond the cut stay home.
fn used(z: Tensor<2>, image_rows: &[usize]) -> Tensor<2> {
    if image_rows.len() == z.dims()[0] && image_rows.iter().enumerate().all(|(i, row)| i == *row) {
        return z;
    }
    let ids: Vec<i64> = image_rows.iter().map(|row| *row as i64).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::from(ids.as_slice()), &z.device());
    z.select(0, ids)
}

/// Whether the rows are those of pictures from their first token to their last.
fn are_whole_pictures(rows: &[usize], tokens: usize) -> bool {
    rows.chunks(tokens).all(|picture| {
        let first = picture[0];
        let runs = picture.iter().enumerate().all(|(i, row)| *row == first + i);
        runs && picture.len() == tokens && first.is_multiple_of(tokens)
    })
}

/// Records statistics in both copies of a quantizer (the plain and the tracked one), bounds with the tracked one, and
/// adds the penalty.
fn bound(
    (plain, tracked): (&mut Encoder, &mut Encoder),
    u: Tensor<2>,
    penalty: &mut Option<Tensor<1>>,
) -> Tensor<2> {
    if let Some(recorded) = plain.observe(u.clone().inner()) {
        plain.record(&recorded);
        tracked.record(&recorded);
    }
    let z = tracked.bound(u);
    if let Some(own) = tracked.penalty(z.clone()) {
        *penalty = Some(match penalty.take() {
            Some(other) => other + own,
            None => own,
        });
    }
    z
}

fn trains_any(tower: &VisionTower, trained: &dyn Fn(&str) -> bool) -> bool {
    parameters(tower, names::VISION_TOWER)
        .iter()
        .any(|p| trained(&p.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_whole_or_not() {
        assert!(are_whole_pictures(&[0, 1, 2, 3, 8, 9, 10, 11], 4));
        assert!(are_whole_pictures(&[], 4));
        assert!(!are_whole_pictures(&[0, 1, 2, 3, 4, 5], 4), "cut short");
        assert!(!are_whole_pictures(&[1, 2, 3, 4], 4), "of two pictures");
        assert!(!are_whole_pictures(&[0, 1, 3, 2], 4), "out of order");
    }
}
