//! How much memory each half of a model takes, for training and for answering.
//!
//! What a half keeps is counted exactly: parameters in the bits that the recipe gives them, gradients, moments, branches.
//! Activations are reckoned from the shapes of the largest block: those of one block are alive at once, and of the others their
//! inputs, or their graphs where these are kept. `runs/full_size.sh` compares the sums with the peaks of a run.

use std::collections::BTreeMap;

use qtl_fused::linear::WIDENED;
use qtl_model::edge::adversary;
use qtl_model::llm::STREAMED_PART;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::{CONNECTOR, EMBED_TOKENS, Parts};
use qtl_model::tuning::{Matrix, Storage};
use qtl_model::weights::{self, Parameter};
use serde::Serialize;

use super::keeping::{Chain, InBlocks, Keeping, client_chains, server_chain};
use super::shapes::Shapes;
use crate::adapt::treatment;
use crate::recipe::{Activation, Recipe, SitesSpec};
use crate::tune::block;

/// Bytes of an f32.
pub(super) const F32: u64 = 4;
/// The program, its threads and the transport before any tensor exists.
const PROGRAM: u64 = 30 << 20;

/// Peak memory of one half, in bytes, and what it is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Parameters, all of them, as the recipe keeps them, and low-rank branches.
    pub weights: u64,
    /// Parameters that are trained, as f32.
    pub trained: u64,
    /// Everything alive inside one step beside parameters, gradients and moments.
    pub activations: u64,
    /// How many blocks' graphs are kept in it.
    pub graphs: u64,
    /// Of it what waits for the second trip where the labels are the client's, one of it per session.
    pub waiting: u64,
    /// The same while answering, with the keys and values of the sequences.
    pub answering: u64,
    /// Peak of a run of a single optimizer step.
    pub one_step: u64,
    /// Peak of a run of many steps: as before, with the moments from the step before.
    pub training: u64,
    /// Peak of inference.
    pub inference: u64,
}

/// What the parameters of a half take.
#[derive(Default)]
struct Kept {
    weights: u64,
    /// While they are read, before they are packed.
    loading: u64,
    trained: u64,
    /// The largest trained one.
    largest: u64,
    /// What one block of packed matrices takes when it is widened for use; a matrix of bfloat16, the head too, is widened in parts.
    widened: u64,
}

impl Kept {
    fn of(parameters: &[Parameter], recipe: &Recipe, halved: &dyn Fn(&str) -> bool) -> Self {
        let mut kept = Self::default();
        let mut widened: BTreeMap<Option<usize>, u64> = BTreeMap::new();
        let mut part = 0;
        for parameter in parameters {
            let Parameter { name, shape, .. } = parameter;
            let count = shape.iter().product::<usize>() as u64;
            let storage = parameter.matrix.map_or(Storage::F32, |kind| {
                treatment(&recipe.tune, name, kind).storage
            });
            kept.weights += match storage {
                Storage::F32 => F32 * count,
                Storage::Bf16 => 2 * count,
                // 4.127 bits.
                Storage::Nf4 => count * 4127 / 8000,
            };
            let narrow = storage != Storage::F32;
            kept.loading += if narrow && halved(name) { 2 } else { F32 } * count;
            match (storage, block(name)) {
                (Storage::F32, _) => {}
                (Storage::Bf16, _) => part = part.max(F32 * count),
                (Storage::Nf4, block) => *widened.entry(block).or_default() += F32 * count,
            }
            let mut trained = |bytes: u64| {
                kept.trained += bytes;
                kept.largest = kept.largest.max(bytes);
            };
            if recipe.tune.trains(name) {
                trained(F32 * count);
            }
            let factors = F32 * super::branch(parameter, recipe);
            trained(factors);
            kept.weights += factors;
        }
        // What checkpoints leave to the base is summed up when it has been read, from one copy at a time.
        let counts = parameters.iter().filter(|p| !recipe.tune.stores(&p.name));
        let frozen = counts.map(|p| p.shape.iter().product::<usize>()).max();
        kept.loading += F32 * frozen.unwrap_or(0) as u64;
        let part = part.min(WIDENED as u64);
        kept.widened = widened.into_values().fold(part, u64::max);
        kept
    }
}

/// What blocks of the language model take, in bytes; nothing where there are none.
#[derive(Default)]
struct Through {
    /// The largest one while it is trained.
    training: u64,
    /// What they keep.
    kept: InBlocks,
    /// The mask.
    mask: u64,
    /// The largest one while answering.
    answering: u64,
    /// Keys and values.
    cache: u64,
}

impl Through {
    fn of(shapes: &Shapes, recipe: &Recipe, chain: &Chain, keeping: &Keeping) -> Self {
        if chain.count == 0 {
            return Self::default();
        }
        let (batch, sequence) = (shapes.batch, shapes.sequence());
        let kept = chain.kept(keeping.blocks, batch * sequence, shapes.hidden);
        let tracked = |activation| shapes.text.activations_tracked(sequence, activation);
        let plain = shapes.text.activations(sequence, Activation::F32);
        Self {
            training: F32 * batch * tracked(recipe.train.activation),
            kept,
            mask: F32 * batch * sequence * sequence,
            answering: F32 * batch * plain,
            cache: F32 * batch * chain.count * sequence * shapes.text.keys_and_values(),
        }
    }
}

/// Whether it is the matrix of a head that does not learn: training goes through it in parts.
fn streamed(parameter: &Parameter, recipe: &Recipe) -> bool {
    parameter.matrix == Some(Matrix::Linear)
        && parameter.name.ends_with("lm_head.weight")
        && !recipe.tune.trains(&parameter.name)
        && super::branch(parameter, recipe) == 0
}

impl Memory {
    /// `blocks`: what they keep, which comes to the other `activations`.
    fn new(
        kept: &Kept,
        micro_batches: u64,
        [activations, answering]: [u64; 2],
        blocks: InBlocks,
    ) -> Self {
        let &Kept {
            weights,
            trained,
            largest,
            widened,
            ..
        } = kept;
        let kept_in_blocks = blocks.inputs + blocks.graphs;
        let activations = activations + kept_in_blocks + widened;
        let answering = answering + widened;
        let loading = PROGRAM + kept.loading;
        let fixed = PROGRAM + weights;
        // Gradients of the micro-batches before, and of the one under way.
        let gradients = trained * micro_batches.min(2);
        // Computing: the gradients grow while the activations are alive, beside the moments of the step before.
        // What a block keeps goes as its gradients come, unless those of the micro-batch before are there already.
        let passing = match micro_batches {
            1 => trained.min(kept_in_blocks),
            _ => 0,
        };
        let first = fixed + gradients + activations - passing;
        let later = first + 2 * trained;
        // Updating: one tensor after the other, its gradient turns into two moments and its value into a new one; the
        // tensor under way exists twice more. Saving copies one tensor at a time, too.
        let update = fixed + 2 * trained + 2 * largest;
        Self {
            weights,
            trained,
            activations,
            graphs: blocks.count,
            waiting: 0,
            answering,
            one_step: loading.max(first).max(update),
            training: loading.max(later).max(update),
            inference: loading.max(fixed + answering),
        }
    }

    /// The same beside so many bytes that stay from step to step.
    pub fn beside(self, kept: u64) -> Self {
        Self {
            one_step: self.one_step + kept,
            training: self.training + kept,
            ..self
        }
    }

    /// Of the client's half; `halved` says of which parameters the files hold bfloat16.
    pub fn of_client(
        half: &ClientPartition,
        recipe: &Recipe,
        shapes: &Shapes,
        halved: &dyn Fn(&str) -> bool,
        keeping: Keeping,
    ) -> Self {
        let [tower, blocks] = client_chains(half, recipe, shapes);
        let (view, exact) = (shapes.picture_rows, Activation::F32);
        let looking = F32 * shapes.batch * shapes.vision.activations(view, exact);
        let seen = tower.kept(keeping.tower, shapes.batch * view, shapes.vision.hidden);
        let vision = match tower.count {
            0 => looking,
            _ => F32 * shapes.batch * shapes.vision.activations_tracked(view, exact),
        };
        // Pixels wait decoded in the loader: two batches ahead and the one in use, and again as a tensor.
        let pixels = F32 * shapes.batch * shapes.pixels;
        let rows = F32 * shapes.batch * shapes.sequence() * shapes.hidden;
        // Embedded, projected, bounded, and as many gradients; then codes and messages.
        let cut = 12 * rows;
        let blocks = Through::of(shapes, recipe, &blocks, &keeping);
        let parameters = half.parameters();
        let (mut top, mut downlink) = (0, 0);
        if half.top.is_some() {
            top = head(&parameters, recipe, shapes);
            downlink = 8 * F32 * shapes.batch * shapes.hidden_rows(&recipe.split) * shapes.hidden;
        }
        // Between the two trips all that the bottom's backward needs stays, while the top is at work.
        let one = vision.max(blocks.training).max(top);
        let along = against(half, recipe, shapes);
        let all = one + blocks.mask + 4 * pixels + cut + downlink + along;
        let kept = Kept::of(&parameters, recipe, halved);
        let one = looking.max(blocks.answering);
        let answering = one + blocks.cache + 2 * pixels + cut / 2 + downlink / 2;
        Self::new(
            &kept,
            recipe.train.accumulate,
            [all, answering],
            seen.and(blocks.kept),
        )
    }

    /// Of the server's half; `halved` says of which parameters the files hold bfloat16.
    pub fn of_server(
        half: &ServerPartition,
        recipe: &Recipe,
        shapes: &Shapes,
        halved: &dyn Fn(&str) -> bool,
        keeping: Keeping,
    ) -> Self {
        let (batch, sequence) = (shapes.batch, shapes.sequence());
        let chain = server_chain(half, recipe, shapes);
        let blocks = Through::of(shapes, recipe, &chain, &keeping);
        let rows = F32 * batch * sequence * shapes.hidden;
        let parameters = half.parameters();
        let (head, downlink) = match half.downlink() {
            None => (head(&parameters, recipe, shapes), 0),
            Some(_) => {
                let rows = batch * shapes.hidden_rows(&recipe.split);
                (0, 8 * F32 * rows * shapes.hidden)
            }
        };
        let connector = connector(&parameters, shapes);
        let cut = 8 * rows + connector;
        let answering = blocks.answering + blocks.cache + 4 * rows + connector / 2 + downlink / 2;
        // A table that is read beside the half's own parameters.
        let table = half.uplink.table.iter();
        let table = table.flat_map(|table| weights::parameters(table, EMBED_TOKENS.prefix));
        let held: Vec<_> = parameters.into_iter().chain(table).collect();
        let kept = Kept::of(&held, recipe, halved);
        let stays = blocks.kept.inputs + blocks.kept.graphs + blocks.mask + cut + downlink;
        let waiting = match half.downlink() {
            None => 0,
            // The model's last block is tracked at once, and so is what it has computed.
            Some(_) if half.trunk.ends() => blocks.training + stays,
            Some(_) => stays,
        };
        // In rounds the micro-batches of all sites wait at the same time.
        let sites = recipe.sites.as_ref().map_or(1, SitesSpec::at_once);
        let one = blocks.training.max(head) + blocks.mask + cut + downlink;
        let all = one + (sites - 1) * waiting;
        Self {
            waiting,
            ..Self::new(
                &kept,
                recipe.train.accumulate * sites,
                [all, answering],
                blocks.kept,
            )
        }
    }
}

/// What an inverse network takes that is trained along: its numbers, their moments and gradients, and what it computes.
fn against(half: &ClientPartition, recipe: &Recipe, shapes: &Shapes) -> u64 {
    let grid = half.bottom.picture_grid();
    let Some(grid) = grid.filter(|_| recipe.privacy.adversary > 0.0) else {
        return 0;
    };
    // No code is wider than its rows.
    let side = (shapes.pixels / 3).isqrt();
    let [learned, picture] = adversary::size(shapes.hidden as usize, side as usize, grid);
    F32 * (5 * learned as u64 + shapes.batch * picture as u64)
}

/// What a connector among these parameters takes that maps picture rows each by itself: what goes into its maps and what comes out
/// of them, and as many gradients. Answering has half of it.
fn connector(parameters: &[Parameter], shapes: &Shapes) -> u64 {
    let maps = parameters
        .iter()
        .filter(|p| p.name.starts_with(CONNECTOR.prefix) && p.matrix.is_some());
    let widths: usize = maps.flat_map(|p| &p.shape).sum();
    // Where it is not known how many rows of a sequence are a picture's, all may be.
    let rows = match shapes.picture_tokens {
        0 => shapes.sequence(),
        rows => rows,
    };
    2 * F32 * shapes.batch * rows * widths as u64
}

/// What the loss takes behind the head among these parameters.
fn head(parameters: &[Parameter], recipe: &Recipe, shapes: &Shapes) -> u64 {
    let supervised = F32 * shapes.batch * shapes.text_tokens;
    match parameters.iter().any(|p| streamed(p, recipe)) {
        // Logits and probabilities of a part, and its share of the gradient beside that of the parts before.
        true => supervised * (4 * shapes.vocabulary.min(STREAMED_PART as u64) + 6 * shapes.hidden),
        // Logits, which their gradients are written over, and copies in other types, for supervised rows only.
        false => supervised * 3 * shapes.vocabulary,
    }
}
