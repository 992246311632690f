//! First sight for a tower trained from nothing: align connector tokens with word embeddings on generated scenes.
//!
//! Stands in for a pretrained vision tower in the demo's base. A cell's tokens, averaged, are to point at the embedding
//! of the object's name, and the whole picture's at that of the background colour (cross-entropy over the names and over
//! the colours). Each token is to point at the words of its row and its column as well: what nothing asks for, the
//! connector forgets, and where an object stands is then hard to learn. Learning all this through the language model
//! alone takes far longer; see docs/LOG.md.

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};
use qtl_data::scenes::{Colour, Scene, Styles, concepts, render};
use qtl_data::{Aspect, Tokenizer};
use qtl_model::Device;
use qtl_model::llm::cross_entropy;
use qtl_model::params::{self, Named};
use qtl_model::partition::{ClientPartition, Placement, ServerPartition};
use qtl_model::parts::{CONNECTOR, Parts, VISION_TOWER};
use qtl_model::pretrained::Blueprint;
use qtl_model::weights::{SaveType, Stream};

use crate::error::TrainError;
use crate::merge;
use crate::optimizer::{NotFinite, Optimizer};
use crate::recipe::TrainSpec;
use crate::schedule;
use crate::tune::{Method, TuneSpec};

/// Deviation of the fresh token embedding, and the head's share of it.
const EMBEDDING: f64 = 0.25;
const HEAD: f32 = 0.4;
/// Deviation of the row and column vectors that make up the tower's positions.
const POSITION: f64 = 0.35;

/// One step, as told to whoever watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Cross-entropy over names, colours, rows and columns.
    pub loss: f64,
    /// Cells named rightly in this batch, in per cent.
    pub cells: f64,
}

/// Trains a fresh model's tower and connector on scenes of `seed` and writes the whole model (language model still
/// fresh) to `out`. `blueprint` gives the configuration.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn align(
    blueprint: &Blueprint,
    tokenizer: &Tokenizer,
    train: &TrainSpec,
    seed: u64,
    device: &Device,
    out: &Path,
    watch: &mut dyn FnMut(Progress),
) -> Result<(), TrainError> {
    let fresh = Blueprint {
        fresh: true,
        placement: Placement::default(),
        ..blueprint.clone()
    };
    let (mut client, server) = start(
        fresh.client(device)?.partition,
        fresh.server(device)?.partition,
        seed,
    );
    let tune = TuneSpec {
        vision_tower: Method::Full.into(),
        ..TuneSpec::default()
    };
    let mut optimizer = Optimizer::new(train, &tune);
    let words = Words::new(tokenizer, &client, device)?;
    let processor = &blueprint.processor;
    for step in 0..train.steps {
        let first = step * train.batch as u64;
        let scenes: Vec<Scene> = (first..first + train.batch as u64)
            .map(|i| Scene::generate(seed, i, Styles::Both))
            .collect();
        let pixels: Vec<f32> = scenes
            .iter()
            .flat_map(|scene| processor.pixels(&render(scene), Aspect::Square).data)
            .collect();
        let side = processor.side();
        let pixels = Tensor::from_data(
            TensorData::new(pixels, [train.batch, 3, side, side]),
            device,
        );
        let (loss, cells, gradients) = words.gradients(&client, pixels, &scenes);
        let diverged = |error: NotFinite| TrainError::Diverged {
            step,
            what: error.to_string(),
            samples: Vec::new(),
        };
        optimizer.add(gradients, 1.0).map_err(diverged)?;
        optimizer.clip().map_err(diverged)?;
        let factor = schedule::at(train, step);
        client = optimizer.update(client, factor);
        watch(Progress {
            step: step + 1,
            loss,
            cells,
        });
    }
    let wanted = |name: &str| !name.starts_with("VQ.");
    let unheld = fresh.unheld(device)?;
    let tensors = client
        .chosen(&wanted)
        .chain(unheld.as_slice().into())
        .chain(server.chosen(&wanted));
    merge::write_model(&blueprint.dir, out, &tensors, SaveType::F32)
}

/// Starting values under which a small model learns to see: a loud embedding, a head that starts as its echo, positions
/// on a grid, quiet residual branches.
fn start(
    client: ClientPartition,
    server: ServerPartition,
    seed: u64,
) -> (ClientPartition, ServerPartition) {
    let vits = client.bottom.vision_tower.vits();
    let depth = vits.iter().map(|vit| vit.depth()).max().unwrap_or(0);
    let blocks = server.trunk.len();
    let width = server.hidden_size();
    let mut embedding = None;
    let shapes: std::collections::BTreeMap<String, Vec<usize>> = client
        .tensors()
        .into_iter()
        .chain(server.tensors())
        .map(|tensor| (tensor.name, tensor.shape))
        .collect();
    let mut fill = |name: &str, value: Tensor<1>| {
        let shape = &shapes[name];
        let device = value.device();
        let mut stream = Stream::new(seed, name);
        let tensor = |values: Vec<f32>| {
            Some(Tensor::<1>::from_data(
                TensorData::from(values.as_slice()),
                &device,
            ))
        };
        let mut normal = |count: usize, deviation: f64| -> Vec<f32> {
            (0..count)
                .map(|_| (deviation * stream.normal()) as f32)
                .collect()
        };
        if name.starts_with("VQ.") || name.contains("norm") {
            None
        } else if name.ends_with("bias") {
            Some(value.zeros_like())
        } else if name.ends_with("position_embedding.weight") {
            let (tokens, width) = (shape[0], shape[1]);
            let side = tokens.isqrt();
            let (rows, columns) = (
                normal(side * width, POSITION),
                normal(side * width, POSITION),
            );
            let at = |i: usize| {
                let (row, column, j) = (i / width / side, i / width % side, i % width);
                rows[row * width + j] + columns[column * width + j]
            };
            tensor((0..tokens * width).map(at).collect())
        } else if name.ends_with("embed_tokens.weight") {
            let values = normal(shape[0] * shape[1], EMBEDDING);
            embedding = Some(values.clone());
            tensor(values)
        } else if name.ends_with("lm_head.weight") {
            let echo = embedding
                .as_ref()
                .map(|e| e.iter().map(|v| HEAD * v).collect());
            tensor(echo.unwrap_or_else(|| normal(shape[0] * width, 0.1)))
        } else {
            let inputs: usize = shape[1..].iter().product();
            let quiet = match name {
                name if name.ends_with("out_proj.weight") || name.ends_with("fc2.weight") => {
                    2 * depth
                }
                name if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => {
                    2 * blocks
                }
                _ => 1,
            };
            tensor(normal(
                shape.iter().product(),
                (1.0 / (inputs * quiet) as f64).sqrt(),
            ))
        }
    };
    let client = client.replace(&mut fill);
    let server = server.replace(&mut fill);
    (client, server)
}

/// Unit embeddings of the words that scenes are made of: [width, words].
struct Words {
    names: Tensor<2>,
    colours: Tensor<2>,
    rows: Tensor<2>,
    columns: Tensor<2>,
    device: Device,
}

impl Words {
    fn new(
        tokenizer: &Tokenizer,
        client: &ClientPartition,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let embed = |words: &[&str]| -> Result<Tensor<2>, TrainError> {
            let mut ids = Vec::with_capacity(words.len());
            for word in words {
                let word_ids = tokenizer.encode_bare(word)?;
                ids.extend(word_ids.last());
            }
            let rows = client.bottom.embed_tokens.embed(&ids);
            let norm = rows.clone().square().sum_dim(1).sqrt();
            Ok((rows / norm).transpose())
        };
        let mut names: Vec<&str> = concepts().iter().map(|concept| concept.name).collect();
        names.push("nothing");
        let colours: Vec<&str> = Colour::ALL.iter().map(|colour| colour.name()).collect();
        Ok(Self {
            names: embed(&names)?,
            colours: embed(&colours)?,
            rows: embed(&["top", "bottom"])?,
            columns: embed(&["left", "right"])?,
            device: device.clone(),
        })
    }

    /// Loss, per cent of cells named rightly, gradients of tower and connector.
    fn gradients(
        &self,
        client: &ClientPartition,
        pixels: Tensor<4>,
        scenes: &[Scene],
    ) -> (f64, f64, Named) {
        let tower = params::track(&*client.bottom.vision_tower, VISION_TOWER.prefix, &|_| true);
        let connector = params::track(&*client.bottom.connector, CONNECTOR.prefix, &|_| true);
        let tokens = connector.forward(tower.forward(pixels));
        let [count, length, width] = tokens.dims();
        let half = length.isqrt() / 2;
        // [count, 2, half, 2, half, width] -> mean over each quarter's half x half tokens.
        let cells = tokens
            .clone()
            .reshape([count, 2, half, 2, half, width])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([count * 4, half * half, width])
            .mean_dim(1)
            .reshape([count * 4, width]);
        let whole = tokens.clone().mean_dim(1).reshape([count, width]);
        let nothing = concepts().len() as i64;
        let mut labels = vec![nothing; count * 4];
        for (i, scene) in scenes.iter().enumerate() {
            for object in &scene.objects {
                labels[i * 4 + object.cell.index()] = object.concept.index as i64;
            }
        }
        let colours: Vec<i64> = scenes.iter().map(|scene| scene.colour as i64).collect();
        let logits = cells.matmul(self.names.clone());
        let right = accuracy(&logits.clone().inner(), &labels, &self.device);
        let tokens = tokens.reshape([count * length, width]);
        let place = |at: fn(usize, usize) -> usize| -> Vec<i64> {
            let half_of = |token: usize| (at(token % length, 2 * half) / half) as i64;
            (0..count * length).map(half_of).collect()
        };
        let rows = place(|token, side| token / side);
        let columns = place(|token, side| token % side);
        let loss = cross_entropy(logits, &labels)
            + cross_entropy(whole.matmul(self.colours.clone()), &colours)
            + cross_entropy(tokens.clone().matmul(self.rows.clone()), &rows)
            + cross_entropy(tokens.matmul(self.columns.clone()), &columns);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        let mut grads = loss.backward();
        let mut named = Named::new();
        params::collect(&tower, VISION_TOWER.prefix, &mut grads, &mut named);
        params::collect(&connector, CONNECTOR.prefix, &mut grads, &mut named);
        (value, 100.0 * right, named)
    }
}

fn accuracy(logits: &Tensor<2>, labels: &[i64], device: &Device) -> f64 {
    let labels = Tensor::<1, Int>::from_data(TensorData::from(labels), device);
    let right = logits.clone().argmax(1).reshape([-1]).equal(labels);
    f64::from(right.float().mean().into_scalar::<f32>())
}
