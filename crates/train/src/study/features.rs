//! The features of the cut layer before they are bounded and rounded, for whoever studies quantizers.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use qtl_codec::Grid;
use qtl_data::loader::{Loader, LoaderOptions, Source};
use qtl_data::scenes::{Scene, Styles, render};
use qtl_data::{Aspect, Order, Processor};
use qtl_model::Device;
use qtl_model::partition::ClientPartition;
use qtl_model::pretrained::Blueprint;

use crate::client::batch;
use crate::error::TrainError;
use crate::recipe::{Recipe, cut_at_input};

/// Scenes that go through the tower together.
const SCENES: u64 = 64;

/// Features of one modality, row-major: a row per token, a column per channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureRows {
    /// Tokens.
    pub rows: usize,
    /// Channels.
    pub cols: usize,
    /// How the rows lie in pictures, if they do.
    pub grid: Option<Grid>,
    /// The features.
    pub values: Vec<f32>,
}

impl FeatureRows {
    fn append(&mut self, x: Tensor<2>) {
        let [rows, cols] = x.dims();
        let values: Vec<f32> = x
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("a tensor that was just converted to f32 holds f32");
        self.values.extend(values);
        self.rows += rows;
        self.cols = cols;
    }

    /// Mean and standard deviation of each channel.
    pub fn moments(&self) -> (Vec<f32>, Vec<f32>) {
        let count = (self.rows as f64).max(1.0);
        let mut sums = vec![(0.0f64, 0.0f64); self.cols];
        for row in self.values.chunks_exact(self.cols.max(1)) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                sum.0 += f64::from(value);
            }
        }
        for row in self.values.chunks_exact(self.cols.max(1)) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                sum.1 += (f64::from(value) - sum.0 / count).powi(2);
            }
        }
        let deviation = |square: f64| (square / (count - 1.0).max(1.0)).sqrt() as f32;
        sums.iter()
            .map(|&(sum, square)| ((sum / count) as f32, deviation(square)))
            .unzip()
    }
}

/// Features of the pictures of generated scenes `0..count`. `watch` is told how many are done.
///
/// # Errors
/// [`TrainError`] if the model cannot be read.
pub fn of_scenes(
    blueprint: &Blueprint,
    count: u64,
    seed: u64,
    device: &Device,
    watch: &mut dyn FnMut(u64),
) -> Result<FeatureRows, TrainError> {
    cut_at_input(
        &blueprint.placement,
        "0 for pictures of generated scenes alone; behind a block a row depends on the text before it, so give data",
    )?;
    let client = blueprint.client(device)?.partition;
    let processor = Processor::siglip(blueprint.config.vision.image_size);
    let side = processor.side();
    let mut features = FeatureRows {
        grid: client.bottom.picture_grid(),
        ..FeatureRows::default()
    };
    let mut first = 0;
    while first < count {
        let past = count.min(first + SCENES);
        let pixels: Vec<f32> = (first..past)
            .map(|i| Scene::generate(seed, i, Styles::Both))
            .flat_map(|scene| processor.pixels(&render(&scene), Aspect::Square).data)
            .collect();
        let shape = [(past - first) as usize, 3, side, side];
        let pixels = Tensor::from_data(TensorData::new(pixels, shape), device);
        features.append(client.project_pictures(pixels));
        first = past;
        watch(first);
    }
    Ok(features)
}

/// Features of a data set's first `batches` batches, in the order in which training would take them: pictures (`None`
/// where there are none) and text. `watch` is told how many batches are done.
///
/// # Errors
/// [`TrainError`] naming what cannot be read.
pub fn of_data(
    client: &ClientPartition,
    recipe: &Recipe,
    source: Arc<dyn Source>,
    batches: usize,
    device: &Device,
    watch: &mut dyn FnMut(usize),
) -> Result<(Option<FeatureRows>, FeatureRows), TrainError> {
    let options = LoaderOptions {
        batch_size: recipe.train.batch,
        order: Order::Shuffle,
        seed: recipe.seed,
        ahead: 2 * recipe.train.batch,
        strictness: recipe.data.strictness(),
        ..LoaderOptions::default()
    };
    let mut loader = Loader::new(source, options)?;
    let mut text = FeatureRows::default();
    let mut image: Option<FeatureRows> = None;
    for done in 1..=batches {
        let Some(next) = loader.next_batch()? else {
            break;
        };
        let batch = batch(client, &next.examples, recipe.data.max_length, device)?;
        let features = client.project(&batch);
        text.append(features.text);
        if let Some(rows) = features.image {
            let grid = client.grid(&batch.spliced.image_rows);
            let all = image.get_or_insert_with(|| FeatureRows {
                grid,
                ..FeatureRows::default()
            });
            all.append(rows);
            // One cut picture, and the rows after it lie otherwise.
            all.grid = all.grid.filter(|_| grid.is_some());
        }
        watch(done);
    }
    Ok((image, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_each_channel() {
        let features = FeatureRows {
            rows: 4,
            cols: 2,
            grid: None,
            values: vec![1.0, -1.0, 2.0, -1.0, 3.0, -1.0, 6.0, -1.0],
        };
        let (mean, deviation) = features.moments();
        assert_eq!(mean, [3.0, -1.0]);
        assert!((deviation[0] - (14.0f32 / 3.0).sqrt()).abs() < 1e-6 && deviation[1] == 0.0);
    }
}
