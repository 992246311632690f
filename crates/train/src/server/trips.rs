//! A step in two trips, where the labels are the client's: the tape of the first waits for the second.

use std::time::Instant;

use qtl_codec::{Code, Options};
use qtl_model::edge::Cut;
use qtl_model::quant::gradient;
use qtl_model::splice::Kind;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_wire::WorkError;
use qtl_wire::verb::{BackwardHidden, CutGradients, ForwardHidden, HiddenStates};

use super::{ServerWork, invalid, no_step, nothing_restored};
use crate::half::Half;
use crate::message::{decode, decode_gradient};

impl ServerWork {
    /// From the rows at the cut to hidden states.
    pub(super) fn first_trip(&mut self, r: &ForwardHidden) -> Result<HiddenStates, WorkError> {
        let micro_batch = self.due()?;
        let start = Instant::now();
        self.training.check(&r.cut.layout).map_err(invalid)?;
        let cut = self.cut(&r.cut)?;
        let wanted = wanted(&r.wanted, &cut)?;
        let decoded = start.elapsed();
        let Half {
            recipe,
            stages,
            device,
            ..
        } = &mut self.half;
        let draw = Draw {
            seed: recipe.seed,
            step: micro_batch,
        };
        let trained = |name: &str| recipe.tune.trains(name);
        let (code, waiting) = drawing(draw, || {
            stages.forward_hidden(&cut, wanted.as_ref(), micro_batch, &trained, device)
        })
        .map_err(no_step)?;
        // Recorded statistics have.
        self.half.moves();
        self.waiting = Some(waiting);
        let coding = Instant::now();
        let hidden = code.as_ref().map(container).unwrap_or_default();
        let coded = decoded + coding.elapsed();
        Ok(HiddenStates {
            hidden,
            compute_seconds: start.elapsed().saturating_sub(coded).as_secs_f64(),
            coding_seconds: coded.as_secs_f64(),
        })
    }

    /// From their gradient to that of the rows at the cut, and the step.
    pub(super) fn second_trip(&mut self, f: &BackwardHidden) -> Result<CutGradients, WorkError> {
        let micro_batch = self.applied.ok_or_else(nothing_restored)?;
        let start = Instant::now();
        let Half { recipe, device, .. } = &self.half;
        let seed = recipe.seed;
        let none = |what: &str| Err(WorkError::Invalid(format!("no {what} for a gradient")));
        let Some(waiting) = &self.waiting else {
            return none("micro-batch waits");
        };
        let gradient = match (waiting.gradient_shape(), f.hidden.as_slice()) {
            (_, []) => None,
            (None, _) => return none("hidden state was sent that waits"),
            (Some(shape), bytes) => {
                let draw = gradient::Draw {
                    seed,
                    step: micro_batch,
                    tensor: "hidden",
                };
                let codec = &recipe.gradient.hidden;
                Some(decode_gradient(codec, bytes, shape, draw, device).map_err(invalid)?)
            }
        };
        let decoded = start.elapsed();
        let Some(waiting) = self.waiting.take() else {
            return none("micro-batch waits");
        };
        let draw = Draw {
            seed,
            step: micro_batch,
        };
        let returned = drawing(draw, || waiting.backward(gradient)).map_err(no_step)?;
        let (image, text, coding) = self.apply(micro_batch, returned, None)?;
        let coded = decoded + coding;
        Ok(CutGradients {
            image,
            text,
            compute_seconds: start.elapsed().saturating_sub(coded).as_secs_f64(),
            coding_seconds: coded.as_secs_f64(),
        })
    }
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
