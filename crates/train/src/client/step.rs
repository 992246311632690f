//! One micro-batch on the client's side.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use qtl_data::Example;
use qtl_data::example::Pixels;
use qtl_model::Device;
use qtl_model::edge::Gradients;
use qtl_model::partition::{ClientPartition, Pending};
use qtl_model::quant::gradient;
use qtl_model::splice::{Sample, SpliceError, Spliced, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_wire::{Exchange, Reply};

use super::Client;
use super::numbers::Watch;
use super::trips::Answered;
use crate::error::{AnswerError, TrainError};
use crate::half::Half;
use crate::held::Held;
use crate::measure;
use crate::message;
use crate::metrics::StepRecord;
use crate::recipe::{Recipe, SitesSpec};
use crate::schedule;

impl Client {
    /// Forward, the wire, backward, and the optimizer where its step ends.
    pub(super) fn exchange(
        &mut self,
        link: &mut dyn Exchange,
        examples: &[Example],
    ) -> Result<Reply<StepRecord>, TrainError> {
        let start = Instant::now();
        let batch = self.batch(examples)?;
        // Statistics that a quantizer records move with the forward, and a site's forward may come to nothing.
        let unmoved = self.site.as_ref().map(|_| self.half.stages.clone());
        let number = self.number();
        let Half { recipe, stages, .. } = &mut self.half;
        let draw = Draw {
            seed: recipe.seed,
            step: number,
        };
        let trained = |name: &str| recipe.tune.trains(name);
        let (cut, pending) = drawing(draw, || stages.forward(&batch, draw.step, &trained));
        let watch = Watch {
            step: self.step(),
            examples,
        };
        watch.features(&pending, &cut.layout)?;
        let computed = start.elapsed().as_secs_f64();

        let coding = Instant::now();
        let (mut message, [image_account, text_account, index_account]) = match &mut self.sent {
            Some(sent) => sent.encode(&cut, &batch.spliced.text_ids),
            None => message::encode_cut(&cut),
        };
        message.packed = self.half.recipe.messages.packs_layouts();
        let mut coded = coding.elapsed().as_secs_f64();

        let before = link.meter();
        let answer = match self.answered(link, message, &batch, &watch)? {
            Reply::Done(answer) => answer,
            Reply::Rewind { to } => return Ok(Reply::Rewind { to }),
            Reply::Moved { to } => {
                self.forget_sent();
                if let Some(unmoved) = unmoved {
                    self.half.stages = Held::new(unmoved);
                }
                return Ok(Reply::Moved { to });
            }
        };
        drop(unmoved);
        let meter = link.meter();

        let coding = Instant::now();
        let gradients = self.gradients(&pending, &answer);
        let gradients = gradients.map_err(|e| watch.answer(e, &cut, &pending))?;
        coded += coding.elapsed().as_secs_f64();
        let mut record = StepRecord {
            step: self.step(),
            micro_batch: Some(self.micro_batch),
            loss: (answer.tokens > 0).then_some(answer.loss),
            penalty: pending.penalty(),
            samples: examples.len() as u64,
            tokens: answer.tokens,
            bytes_up: meter.up.step.bytes - before.up.step.bytes,
            bytes_down: meter.down.step.bytes - before.down.step.bytes,
            bytes_image: image_account.total(),
            bytes_text: text_account.total(),
            bytes_index: index_account.total(),
            bytes_targets: meter.up.step.targets - before.up.step.targets,
            rows_text: batch.spliced.text_ids.len() as u64,
            rows_distinct: pending.text_rows() as u64,
            elements_image: image_account.elements,
            elements_text: text_account.elements,
            bytes_gradient: (answer.image.len() + answer.text.len()) as u64,
            bytes_gradient_text: answer.text.len() as u64,
            elements_gradient: gradients
                .iter()
                .map(|g| measure::elements(g.as_ref()))
                .sum(),
            hidden: answer.hidden,
            ..StepRecord::default()
        };
        if let Some((distinct, constant)) = cut.image.as_ref().and_then(measure::liveliness) {
            record.distinct_per_1000 = distinct;
            record.constant_channels = constant;
        }
        let sites = self.half.recipe.sites.as_ref();
        let stride = sites.map_or(1, SitesSpec::stride);
        // Not part of the step's own time. Where sites take turns, steps of the run between two of this site's do not count.
        if self.half.recipe.metrics.compares(self.micro_batch / stride) {
            let widths = self.half.stages.widths();
            let features = pending.features();
            let other = measure::alternatives(&record, &cut, features, answer.states, widths);
            record.alternatives = Some(other);
        }

        let backward = Instant::now();
        let mut gradients = drawing(draw, || pending.backward(gradients));
        gradients.extend(answer.parameters);
        self.half.add(gradients).map_err(|e| watch.gradient(&e))?;
        let train = &self.half.recipe.train;
        record.lr = schedule::at(train, record.step) * train.lr;
        let norm = self.half.apply(self.micro_batch);
        if let Some(norm) = norm.map_err(|e| watch.gradient(&e))? {
            record.gradient_norm = norm;
        }
        record.compute = computed + backward.elapsed().as_secs_f64() + answer.computed;
        record.coding = coded + answer.coded;
        record.waiting = answer.waited.max(0.0);
        self.micro_batch += stride;
        Ok(Reply::Done(record))
    }

    /// What was sent of text rows came to nothing, or the server has lost it.
    pub(super) fn forget_sent(&mut self) {
        if let Some(sent) = &mut self.sent {
            sent.forget();
        }
    }

    /// What is computed on of examples, with the padding that the recipe asks for.
    pub(super) fn batch(&mut self, examples: &[Example]) -> Result<Batch, TrainError> {
        let mut batch = self.unpadded(examples)?;
        let Half { recipe, stages, .. } = &self.half;
        pad(&mut batch.spliced, stages, recipe);
        Ok(batch)
    }

    fn unpadded(&mut self, examples: &[Example]) -> Result<Batch, TrainError> {
        let max_length = self.half.recipe.data.max_length;
        let (stages, device) = (&self.half.stages, &self.half.device);
        let activation = self.half.recipe.train.activation.dtype();
        let pixels = |pixels: Tensor<4>| pixels.cast(activation);
        let Some(cache) = &mut self.cache else {
            let mut made = batch(stages, examples, max_length, device)?;
            made.pictures = made.pictures.map(|pictures| match pictures {
                Pictures::Pixels(known) => Pictures::Pixels(pixels(known)),
                known => known,
            });
            return Ok(made);
        };
        let (spliced, _) = spliced(stages, examples, max_length)?;
        let features = cache.features(examples, &|pictures| {
            stages
                .bottom
                .vision_tower
                .forward(pixels(stacked(pictures, device)))
        })?;
        Ok(Batch {
            pictures: features.map(Pictures::Features),
            spliced,
        })
    }

    fn gradients(&self, pending: &Pending, answer: &Answered) -> Result<Gradients, AnswerError> {
        let read = |tensor, bytes: &[u8], shape: Option<[usize; 2]>| {
            let Some(shape) = shape else {
                return match bytes {
                    [] => Ok(None),
                    _ => Err(AnswerError::Unasked { tensor }),
                };
            };
            let draw = gradient::Draw {
                seed: self.half.recipe.seed,
                step: self.number(),
                tensor,
            };
            message::decode_gradient(
                &self.half.recipe.gradient.codec,
                bytes,
                shape,
                draw,
                &self.half.device,
            )
            .map(Some)
        };
        let [image, text] = pending.gradient_shapes();
        Ok([
            read("image", &answer.image, image)?,
            read("text", &answer.text, text)?,
        ])
    }
}

/// Pads the texts of a batch as far as the recipe has it, and as the language model has positions.
pub fn pad(spliced: &mut Spliced, partition: &ClientPartition, recipe: &Recipe) {
    if let Some(padding) = recipe.privacy.padding {
        let positions = partition.bottom.blocks.spec().max_positions;
        spliced.pad(padding, recipe.data.max_length.min(positions));
    }
}

/// Examples as the client's partition takes them.
///
/// # Errors
///
/// [`qtl_model::splice::SpliceError`] if a sample shows more pictures than it has.
pub fn batch(
    partition: &ClientPartition,
    examples: &[Example],
    max_length: usize,
    device: &Device,
) -> Result<Batch, SpliceError> {
    let (spliced, pictures) = spliced(partition, examples, max_length)?;
    Ok(Batch {
        pictures: (!pictures.is_empty()).then(|| Pictures::Pixels(stacked(&pictures, device))),
        spliced,
    })
}

/// The rows of examples, and the pictures among them.
fn spliced<'a>(
    partition: &ClientPartition,
    examples: &'a [Example],
    max_length: usize,
) -> Result<(Spliced, Vec<&'a Pixels>), SpliceError> {
    let mut pictures = Vec::new();
    let mut samples = Vec::with_capacity(examples.len());
    for example in examples {
        let first = pictures.len();
        pictures.extend(&example.pixels);
        samples.push(Sample {
            spans: &example.spans,
            pictures: first..pictures.len(),
        });
    }
    let spliced = splice(&samples, partition.tokens_per_picture(), max_length)?;
    Ok((spliced, pictures))
}

/// Pictures of one size as a tensor: [pictures, 3, side, side].
fn stacked(pictures: &[&Pixels], device: &Device) -> Tensor<4> {
    let side = pictures.first().map_or(0, |picture| picture.side);
    let values: Vec<f32> = pictures
        .iter()
        .flat_map(|p| p.data.iter().copied())
        .collect();
    Tensor::from_data(
        TensorData::new(values, [pictures.len(), 3, side, side]),
        device,
    )
}
