//! A step where the labels travel, and what every step has: the gradients that go back, and the optimizer.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use qtl_codec::Code;
use qtl_codec::past::Lesson;
use qtl_model::edge::{Cut, Gradients};
use qtl_model::params::Named;
use qtl_model::quant::gradient;
use qtl_model::splice::Kind;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_wire::{self as wire, Backward, Forward, WorkError};

use super::{Event, ServerWork, diverged, failed, invalid, no_step};
use crate::half::Half;
use crate::message::{decode, decode_cut, encode_gradient};

/// What a micro-batch has given.
pub(super) struct Found {
    pub(super) answer: Backward,
    /// If a token is supervised.
    pub(super) loss: Option<f64>,
    pub(super) gradients: Named,
    /// Of its text rows.
    pub(super) lesson: Option<Lesson>,
}

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

    /// Reads the containers of a step of the site at this place.
    pub(super) fn read_forward(
        &self,
        f: &Forward,
        place: usize,
    ) -> Result<(Cut, Option<Lesson>, Code), WorkError> {
        let (cut, lesson) = self.step_cut(&f.cut, place)?;
        let rows = cut.layout.rows(Kind::Text);
        let targets = decode("targets", &f.targets, rows, 1).map_err(invalid)?;
        Ok((cut, lesson, targets))
    }

    /// A step's cut of the site at this place, and what its text teaches for the next.
    pub(super) fn step_cut(
        &self,
        cut: &wire::Cut,
        place: usize,
    ) -> Result<(Cut, Option<Lesson>), WorkError> {
        self.training.check(&cut.layout).map_err(invalid)?;
        let read = self.received.decode(place, cut, self.channels);
        read.map_err(invalid)
    }

    /// Computes what is to be learned from a micro-batch with this number of the site at this place, and what goes back: nothing
    /// has moved yet.
    pub(super) fn learned(
        &self,
        f: &Forward,
        number: u64,
        place: usize,
    ) -> Result<Found, WorkError> {
        let start = Instant::now();
        let (cut, lesson, targets) = self.read_forward(f, place)?;
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
        Ok(Found {
            answer,
            loss,
            gradients: step.returned.parameters,
            lesson,
        })
    }

    /// Computes and applies the next micro-batch.
    pub(super) fn micro_batch(&mut self, f: &Forward) -> Result<Backward, WorkError> {
        let micro_batch = self.due()?;
        let start = Instant::now();
        let Found {
            mut answer,
            loss,
            gradients,
            lesson,
        } = self.learned(f, micro_batch, 0)?;
        self.apply(micro_batch, gradients, loss)?;
        self.received.learn(0, lesson);
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
