//! How much memory each half of a model takes, for training and for answering.
//!
//! Parameters are counted exactly. Activations are an estimate from the shapes of the largest block: blocks run one at a
//! time and are recomputed in backward, so one block's are alive at once. How many copies of a shape are alive at the peak
//! is reckoned from the code and has not been compared with measured peaks yet; low-rank branches and packed weights are
//! not reckoned with.

use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::weights::Parameter;
use serde::Serialize;

use super::shapes::Shapes;
use crate::recipe::Recipe;

/// Bytes of an f32.
const F32: u64 = 4;
/// The program, its threads and the transport before any tensor exists.
const PROGRAM: u64 = 60 << 20;

/// Peak memory of one half, in bytes, and what it is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Parameters, all of them, as f32.
    pub weights: u64,
    /// Parameters that are trained, as f32.
    pub trained: u64,
    /// Everything alive inside one step beside parameters, gradients and moments.
    pub activations: u64,
    /// The same while answering, with the keys and values of the sequences.
    pub answering: u64,
    /// Peak of a run of a single optimizer step: its gradients, then the moments and the new weights beside the old.
    pub one_step: u64,
    /// Peak of a run of many steps: as before, with the moments from the step before.
    pub training: u64,
    /// Peak of inference.
    pub inference: u64,
}

impl Memory {
    fn new(parameters: &[Parameter], recipe: &Recipe, activations: u64, answering: u64) -> Self {
        let size = |p: &Parameter| F32 * p.shape.iter().product::<usize>() as u64;
        let weights: u64 = parameters.iter().map(size).sum();
        let trained = parameters.iter().filter(|p| recipe.tune.trains(&p.name));
        let trained: u64 = trained.map(size).sum();
        // One tensor at a time is copied while it is loaded, updated or saved.
        let largest = parameters.iter().map(size).max().unwrap_or(0);
        let fixed = PROGRAM + weights;
        // Computing: the gradients grow while the activations are alive. Updating: gradients turn into two moments and
        // new weights one tensor after the other, beside the old ones. Saving: what is trained is copied with its moments.
        // The weights that the run started from stay, for going back to.
        let first = fixed + trained + activations;
        let later = fixed + 4 * trained + activations;
        let update = fixed + 4 * trained + largest;
        let save = fixed + 6 * trained;
        Self {
            weights,
            trained,
            activations,
            answering,
            one_step: first.max(save),
            training: later.max(update).max(save),
            inference: fixed + answering.max(largest),
        }
    }

    /// Of the client's half.
    pub fn of_client(half: &ClientPartition, recipe: &Recipe, shapes: &Shapes) -> Self {
        let vision = F32 * shapes.batch * shapes.vision.activations(shapes.picture_rows);
        // Pixels wait decoded in the loader: two batches ahead and the one in use, and again as a tensor.
        let pixels = F32 * shapes.batch * shapes.pixels;
        let rows = F32 * shapes.batch * shapes.sequence() * shapes.hidden;
        // Embedded, projected, bounded, and as many gradients; then codes and messages.
        let cut = 12 * rows;
        let all = vision + 4 * pixels + cut;
        Self::new(
            &half.parameters(),
            recipe,
            all,
            vision + 2 * pixels + cut / 2,
        )
    }

    /// Of the server's half.
    pub fn of_server(half: &ServerPartition, recipe: &Recipe, shapes: &Shapes) -> Self {
        let (batch, sequence) = (shapes.batch, shapes.sequence());
        let block = F32 * batch * shapes.text.activations_tracked(sequence);
        let rows = F32 * batch * sequence * shapes.hidden;
        // Inputs of all blocks, kept for the recomputation.
        let tape = shapes.layers * rows;
        let mask = F32 * batch * sequence * sequence;
        // Logits, their logarithms, probabilities and gradients, for supervised rows only.
        let head = F32 * 5 * batch * shapes.text_tokens * shapes.vocabulary;
        let cut = 8 * rows;
        let all = block.max(head) + tape + mask + cut;
        let cache = F32 * batch * shapes.layers * sequence * shapes.text.keys_and_values();
        let answering = F32 * batch * shapes.text.activations(sequence) + cache + 4 * rows;
        Self::new(&half.parameters(), recipe, all, answering)
    }
}
