//! A step in two trips, where the labels are the client's: the tape of the first waits for the second.

use std::time::Instant;

use burn::tensor::Tensor;
use qtl_codec::past::Lesson;
use qtl_codec::{Code, Options};
use qtl_model::edge::Cut;
use qtl_model::params::Named;
use qtl_model::partition::Waiting;
use qtl_model::quant::gradient;
use qtl_model::splice::Kind;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_wire::WorkError;
use qtl_wire::verb::{BackwardHidden, CutGradients, ForwardHidden, HiddenStates};

use super::{ServerWork, invalid, no_step, nothing_restored};
use crate::half::Half;
use crate::message::{decode, decode_gradient};

impl ServerWork {
    /// Reads the containers of the first trip.
    pub(super) fn read_forward_hidden(
        &self,
        r: &ForwardHidden,
        place: usize,
    ) -> Result<(Cut, Option<Lesson>, Option<Code>), WorkError> {
        let (cut, lesson) = self.step_cut(&r.cut, place)?;
        let wanted = wanted(&r.wanted, &cut)?;
        Ok((cut, lesson, wanted))
    }

    /// From the rows at the cut to hidden states, of a micro-batch with this number of the site at this place; and what the way
    /// back needs, and the next message.
    pub(super) fn went_forward(
        &mut self,
        r: &ForwardHidden,
        number: u64,
        place: usize,
    ) -> Result<(HiddenStates, Waiting, Option<Lesson>), WorkError> {
        let start = Instant::now();
        let (cut, lesson, wanted) = self.read_forward_hidden(r, place)?;
        let decoded = start.elapsed();
        let Half {
            recipe,
            stages,
            device,
            ..
        } = &mut self.half;
        let draw = Draw {
            seed: recipe.seed,
            step: number,
        };
        let trained = |name: &str| recipe.tune.trains(name);
        let (code, waiting) = drawing(draw, || {
            stages.forward_hidden(&cut, wanted.as_ref(), number, &trained, device)
        })
        .map_err(no_step)?;
        // Recorded statistics have.
        self.half.moves();
        let coding = Instant::now();
        let hidden = code.as_ref().map(container).unwrap_or_default();
        let coded = decoded + coding.elapsed();
        let states = HiddenStates {
            hidden,
            compute_seconds: start.elapsed().saturating_sub(coded).as_secs_f64(),
            coding_seconds: coded.as_secs_f64(),
        };
        Ok((states, waiting, lesson))
    }

    /// Reads the container of the second trip.
    pub(super) fn read_backward(
        &self,
        waiting: &Waiting,
        f: &BackwardHidden,
        number: u64,
    ) -> Result<Option<Tensor<2>>, WorkError> {
        let Half { recipe, device, .. } = &self.half;
        match (waiting.gradient_shape(), f.hidden.as_slice()) {
            (_, []) => Ok(None),
            (None, _) => Err(nothing_for("hidden state was sent that waits")),
            (Some(shape), bytes) => {
                let draw = gradient::Draw {
                    seed: recipe.seed,
                    step: number,
                    tensor: "hidden",
                };
                let codec = &recipe.gradient.hidden;
                decode_gradient(codec, bytes, shape, draw, device)
                    .map(Some)
                    .map_err(invalid)
            }
        }
    }

    /// From the gradient of hidden states to that of the rows at the cut, and to what is to be learned: nothing has moved yet.
    pub(super) fn went_back(
        &self,
        waiting: Waiting,
        gradient: Option<Tensor<2>>,
        number: u64,
    ) -> Result<(CutGradients, Named), WorkError> {
        let start = Instant::now();
        let draw = Draw {
            seed: self.half.recipe.seed,
            step: number,
        };
        let returned = drawing(draw, || waiting.backward(gradient)).map_err(no_step)?;
        let (image, text, coding) = self.coded(number, returned.rows)?;
        let answer = CutGradients {
            image,
            text,
            compute_seconds: start.elapsed().saturating_sub(coding).as_secs_f64(),
            coding_seconds: coding.as_secs_f64(),
        };
        Ok((answer, returned.parameters))
    }

    /// The first trip of the next micro-batch.
    pub(super) fn first_trip(&mut self, r: &ForwardHidden) -> Result<HiddenStates, WorkError> {
        let micro_batch = self.due()?;
        let (states, waiting, lesson) = self.went_forward(r, micro_batch, 0)?;
        self.received.learn(0, lesson);
        self.waiting = Some(waiting);
        Ok(states)
    }

    /// The second trip, and the step.
    pub(super) fn second_trip(&mut self, f: &BackwardHidden) -> Result<CutGradients, WorkError> {
        let micro_batch = self.applied.ok_or_else(nothing_restored)?;
        let start = Instant::now();
        // What cannot be read leaves the micro-batch waiting.
        let gradient = self.read_backward(tape(self.waiting.as_ref())?, f, micro_batch)?;
        let decoded = start.elapsed();
        let waiting = tape(self.waiting.take())?;
        let (mut answer, gradients) = self.went_back(waiting, gradient, micro_batch)?;
        answer.coding_seconds += decoded.as_secs_f64();
        self.apply(micro_batch, gradients, None)?;
        answer.compute_seconds = start.elapsed().as_secs_f64() - answer.coding_seconds;
        Ok(answer)
    }
}

/// The micro-batch that waits for a gradient.
pub(super) fn tape<T>(waiting: Option<T>) -> Result<T, WorkError> {
    waiting.ok_or_else(|| nothing_for("micro-batch waits"))
}

fn nothing_for(what: &str) -> WorkError {
    WorkError::Invalid(format!("no {what} for a gradient"))
}

/// Which text rows are supervised, if the message says so.
pub(super) fn wanted(bytes: &[u8], cut: &Cut) -> Result<Option<Code>, WorkError> {
    let rows = cut.layout.rows(Kind::Text);
    match bytes {
        [] => Ok(None),
        bytes => decode("supervised rows", bytes, rows, 1)
            .map(Some)
            .map_err(invalid),
    }
}

/// The answer of a generation.
pub(super) fn states(code: &Code) -> HiddenStates {
    HiddenStates {
        hidden: container(code),
        ..HiddenStates::default()
    }
}

fn container(code: &Code) -> Vec<u8> {
    qtl_codec::encode(code, &Options::default())
}
