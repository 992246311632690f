//! A step where the labels travel, and what every step has: the gradients that go back, and the optimizer.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use qtl_codec::Code;
use qtl_model::edge::{Cut, Gradients};
use qtl_model::params::Named;
use qtl_model::quant::gradient;
use qtl_model::splice::Kind;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_wire::{self as wire, Backward, Forward, WorkError};

use super::{Event, ServerWork, diverged, failed, invalid, no_step};
use crate::half::Half;
use crate::message::{decode, decode_cut, encode_gradient};

impl ServerWork {
    pub(super) fn cut(&self, cut: &wire::Cut) -> Result<Cut, WorkError> {
        decode_cut(cut, self.channels).map_err(invalid)
    }

    /// The container of a gradient.
    fn gradient(
        &self,
        tensor: &'static str,
        step: u64,
        g: Tensor<2>,
    ) -> Result<Vec<u8>, WorkError> {
        let draw = gradient::Draw {
            seed: self.half.recipe.seed,
            step,
            tensor,
        };
        encode_gradient(&self.half.recipe.gradient.codec, g, draw).map_err(failed)
    }

    /// Reads a step's containers.
    pub(super) fn read_forward(&self, f: &Forward) -> Result<(Cut, Code), WorkError> {
        self.training.check(&f.cut.layout).map_err(invalid)?;
        let cut = self.cut(&f.cut)?;
        let rows = cut.layout.rows(Kind::Text);
        let targets = decode("targets", &f.targets, rows, 1).map_err(invalid)?;
        Ok((cut, targets))
    }

    /// Computes what is to be learned from a micro-batch with this number, and what goes back: nothing has moved yet. Also its
    /// loss, if a token is supervised.
    pub(super) fn learned(
        &self,
        f: &Forward,
        number: u64,
    ) -> Result<(Backward, Option<f64>, Named), WorkError> {
        let start = Instant::now();
        let (cut, targets) = self.read_forward(f)?;
        let decoded = start.elapsed();
        let Half {
            recipe,
            stages,
            device,
            ..
        } = &self.half;
        let draw = Draw {
            seed: recipe.seed,
            step: number,
        };
        let trained = |name: &str| recipe.tune.trains(name);
        let step =
            drawing(draw, || stages.step(&cut, &targets, &trained, device)).map_err(no_step)?;
        let loss = (step.tokens > 0).then_some(step.loss);
        let (image, text, coding) = self.coded(number, step.returned.rows)?;
        let coded = decoded + coding;
        let answer = Backward {
            loss: step.loss,
            image,
            text,
            compute_seconds: start.elapsed().saturating_sub(coded).as_secs_f64(),
            coding_seconds: coded.as_secs_f64(),
        };
        Ok((answer, loss, step.returned.parameters))
    }

    /// Computes and applies the next micro-batch.
    pub(super) fn micro_batch(&mut self, f: &Forward) -> Result<Backward, WorkError> {
        let micro_batch = self.due()?;
        let start = Instant::now();
        let (mut answer, loss, gradients) = self.learned(f, micro_batch)?;
        self.apply(micro_batch, gradients, loss)?;
        answer.compute_seconds = start.elapsed().as_secs_f64() - answer.coding_seconds;
        Ok(answer)
    }

    /// The containers of the gradients that go back, and how long it took to make them. One that cannot travel ends the step
    /// before anything has moved.
    pub(super) fn coded(
        &self,
        number: u64,
        [image, text]: Gradients,
    ) -> Result<(Vec<u8>, Vec<u8>, Duration), WorkError> {
        let coding = Instant::now();
        let container = |tensor, g: Option<Tensor<2>>| {
            let bytes = g.map(|g| self.gradient(tensor, number, g)).transpose();
            Ok::<_, WorkError>(bytes?.unwrap_or_default())
        };
        let (image, text) = (container("image", image)?, container("text", text)?);
        Ok((image, text, coding.elapsed()))
    }

    /// Applies what a micro-batch has given.
    pub(super) fn apply(
        &mut self,
        micro_batch: u64,
        gradients: Named,
        loss: Option<f64>,
    ) -> Result<(), WorkError> {
        self.half.add(gradients).map_err(diverged)?;
        self.half.apply(micro_batch).map_err(diverged)?;
        self.applied = Some(micro_batch + 1);
        (self.observer)(&Event::Step {
            step: self.half.recipe.train.step_of(micro_batch),
            loss,
        });
        Ok(())
    }
}
