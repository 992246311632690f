//! What a micro-batch does over the wire: one trip where the labels travel, two where they stay.

use std::time::Instant;

use qtl_codec::{Code, Options};
use qtl_model::edge::{Cut, StepError};
use qtl_model::params::Named;
use qtl_model::partition::{Learned, Top};
use qtl_model::quant::gradient;
use qtl_model::stage::Batch;
use qtl_model::targets;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_wire::verb::{BackwardHidden, ForwardHidden};
use qtl_wire::work::call;
use qtl_wire::{self as wire, Exchange, Reply};

use super::Client;
use super::numbers::Watch;
use crate::error::{AnswerError, TrainError};
use crate::half::Half;
use crate::message::{decode, encode_gradient};
use crate::metrics::HiddenRecord;

/// What has come back, and what it took.
#[derive(Default)]
pub(super) struct Answered {
    /// Mean loss, and the tokens that it is of.
    pub(super) loss: f64,
    pub(super) tokens: u64,
    /// Containers of the gradients of the rows at the cut.
    pub(super) image: Vec<u8>,
    pub(super) text: Vec<u8>,
    /// Gradients of this side's top.
    pub(super) parameters: Named,
    /// What crossed the second edge, and the shape of the hidden states.
    pub(super) hidden: Option<HiddenRecord>,
    pub(super) states: [usize; 2],
    /// Seconds of computing and coding, on both sides, and of waiting for the other's answer in all.
    pub(super) computed: f64,
    pub(super) coded: f64,
    pub(super) waited: f64,
}

impl Client {
    /// Sends a micro-batch, and has come back what there is to learn from it.
    pub(super) fn answered(
        &self,
        link: &mut dyn Exchange,
        cut: wire::Cut,
        batch: &Batch,
        watch: &Watch<'_>,
    ) -> Result<Reply<Answered>, TrainError> {
        match self.half.stages.top.as_deref() {
            None => self.one_trip(link, cut, batch, watch),
            Some(top) => self.two_trips(link, cut, batch, watch, top),
        }
    }

    fn one_trip(
        &self,
        link: &mut dyn Exchange,
        cut: wire::Cut,
        batch: &Batch,
        watch: &Watch<'_>,
    ) -> Result<Reply<Answered>, TrainError> {
        let coding = Instant::now();
        let vocab = self.half.stages.bottom.embed_tokens.vocab_size();
        let targets = targets::encode(&batch.spliced.labels, vocab);
        let tokens = targets::count(&batch.spliced.labels, vocab) as u64;
        let targets = container(&targets);
        let coded = coding.elapsed().as_secs_f64();
        let waiting = Instant::now();
        let message = wire::Forward {
            cut,
            targets,
            step: self.site.as_ref().map(|_| self.micro_batch),
        };
        let answer = match link.step(message).map_err(|e| watch.refused(e))?.done() {
            Ok(answer) => answer,
            Err(back) => return Ok(back),
        };
        let waited = waiting.elapsed().as_secs_f64();
        watch.loss(answer.loss)?;
        Ok(Reply::Done(Answered {
            loss: answer.loss,
            tokens,
            image: answer.image,
            text: answer.text,
            computed: answer.compute_seconds,
            coded: coded + answer.coding_seconds,
            waited: waited - answer.compute_seconds - answer.coding_seconds,
            ..Answered::default()
        }))
    }

    fn two_trips(
        &self,
        link: &mut dyn Exchange,
        cut: wire::Cut,
        batch: &Batch,
        watch: &Watch<'_>,
        top: &Top,
    ) -> Result<Reply<Answered>, TrainError> {
        let coding = Instant::now();
        let wanted = top.wanted(&batch.spliced);
        let wanted = wanted.as_ref().map(container).unwrap_or_default();
        let mut record = HiddenRecord {
            bytes_wanted: wanted.len() as u64,
            ..HiddenRecord::default()
        };
        let mut coded = coding.elapsed().as_secs_f64();

        let forward = ForwardHidden {
            cut,
            wanted,
            step: self.site.as_ref().map(|_| self.micro_batch),
        };
        let waiting = Instant::now();
        let states = match call(link, forward).map_err(|e| watch.refused(e))?.done() {
            Ok(states) => states,
            Err(back) => return Ok(back),
        };
        let mut waited = waiting.elapsed().as_secs_f64();

        let coding = Instant::now();
        let hidden = self.states(top, &states.hidden, batch);
        let hidden = hidden.map_err(|e| watch.unread(e))?;
        record.bytes_hidden = states.hidden.len() as u64;
        record.elements_hidden = hidden.as_ref().map_or(0, elements);
        coded += coding.elapsed().as_secs_f64();

        let computing = Instant::now();
        let learned = self.learn(top, hidden.as_ref(), batch);
        let learned = learned.map_err(|e| watch.learned(e))?;
        let computed = computing.elapsed().as_secs_f64();

        let coding = Instant::now();
        let width = top.stage.spec().hidden_size;
        let mut back = BackwardHidden::default();
        let mut shape = [0; 2];
        if let Some(g) = &learned.gradient {
            let rows = top.rows(&batch.spliced);
            shape = [rows, width];
            record.rows_hidden = rows as u64;
            record.elements_hidden_gradient = g.dims().iter().product::<usize>() as u64;
            let codec = &self.half.recipe.gradient.hidden;
            let draw = gradient::Draw {
                seed: self.half.recipe.seed,
                step: self.number(),
                tensor: "hidden",
            };
            let number = self.number();
            let g = match &self.private {
                Some(private) => private.on_gradient(g.clone(), number),
                None => g.clone(),
            };
            let sent = encode_gradient(codec, g, draw);
            back.hidden = sent.map_err(|e| watch.unread(e.into()))?;
            record.bytes_hidden_gradient = back.hidden.len() as u64;
        }
        coded += coding.elapsed().as_secs_f64();

        let waiting = Instant::now();
        let answer = match call(link, back).map_err(|e| watch.refused(e))?.done() {
            Ok(answer) => answer,
            Err(back) => return Ok(back),
        };
        waited += waiting.elapsed().as_secs_f64();
        let there = [
            states.compute_seconds + answer.compute_seconds,
            states.coding_seconds + answer.coding_seconds,
        ];
        Ok(Reply::Done(Answered {
            loss: learned.loss,
            tokens: learned.tokens as u64,
            image: answer.image,
            text: answer.text,
            parameters: learned.parameters,
            hidden: Some(record),
            states: shape,
            computed: computed + there[0],
            coded: coded + there[1],
            waited: waited - there[0] - there[1],
        }))
    }

    /// The code of the hidden states that have come, no more of them than the batch asks for.
    fn states(&self, top: &Top, bytes: &[u8], batch: &Batch) -> Result<Option<Code>, AnswerError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let rows = top.rows(&batch.spliced);
        let code = decode("hidden", bytes, rows, top.downlink.hidden.code_dim())?;
        Ok(Some(code))
    }

    fn learn(&self, top: &Top, hidden: Option<&Code>, batch: &Batch) -> Result<Learned, StepError> {
        let Half { recipe, device, .. } = &self.half;
        let draw = Draw {
            seed: recipe.seed,
            step: self.number(),
        };
        let trained = |name: &str| recipe.tune.trains(name);
        drawing(draw, || top.learn(hidden, &batch.spliced, &trained, device))
    }
}

/// Numbers in a code.
fn elements(code: &Code) -> u64 {
    let (_, account) = qtl_codec::encode_accounted(code, &Options::default());
    account.elements
}

pub(crate) fn container(code: &Code) -> Vec<u8> {
    qtl_codec::encode(code, &Options::default())
}

/// The message of the rows at a cut alone.
pub(super) fn rows(cut: &Cut) -> wire::Cut {
    crate::message::encode_cut(cut).0
}
