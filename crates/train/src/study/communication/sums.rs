//! What is added up over the steps of a measurement.

use burn::tensor::Tensor;
use qtl_model::edge::{Cut, StepError, repeats};
use qtl_wire::meter::Tally;

use super::Sent;
use super::distortion::Distortion;
use super::peer::Seen;
use super::workload::Tensors;

/// Sums over the steps; where there are two, the way up comes first.
#[derive(Default)]
pub(super) struct Sums {
    /// Bytes of the elements' own numbers.
    pub(super) payload: [f64; 2],
    /// Of the fastest step.
    seconds: Option<[f64; 2]>,
    steps: f64,
    elements: f64,
    image_elements: f64,
    /// Of what is in the containers.
    crossing: [f64; 2],
    image: Distortion,
    text: Distortion,
    gradients: Distortion,
}

impl Sums {
    /// A step's features and what the server made of them.
    pub(super) fn add_features(
        &mut self,
        tensors: &Tensors,
        cut: &Cut,
        seen: &Seen,
    ) -> Result<(), StepError> {
        let texts = tensors.text.dims()[0];
        let index = match &cut.index {
            Some(index) => Some(repeats::decode(index, seen.text.dims()[0], texts)?),
            None => None,
        };
        self.image.add_features(&tensors.image, &seen.image, None);
        self.text.add_features(&tensors.text, &seen.text, index);
        let [rows, cols] = tensors.image.dims();
        self.image_elements += (rows * cols) as f64;
        self.elements += ((rows + texts) * cols) as f64;
        self.crossing[0] += ((rows + seen.text.dims()[0]) * cols) as f64;
        self.steps += 1.0;
        Ok(())
    }

    /// A step's gradients and what the client read of them.
    pub(super) fn add_gradients(&mut self, seen: &Seen, [image, text]: &[Tensor<2>; 2]) {
        self.gradients.add_gradient(&seen.image_gradient, image);
        self.gradients.add_gradient(&seen.text_gradient, text);
        let elements = |g: &Tensor<2>| g.dims().iter().product::<usize>() as f64;
        self.crossing[1] += elements(&seen.image_gradient) + elements(&seen.text_gradient);
    }

    /// Seconds of a step. Whatever else the machine does can only make it slower, so the fastest counts.
    pub(super) fn add_seconds(&mut self, seconds: [f64; 2]) {
        let best = self.seconds.get_or_insert(seconds);
        for (best, seconds) in best.iter_mut().zip(seconds) {
            *best = best.min(seconds);
        }
    }

    /// The way up, with the meter's count and the bytes of a step at the socket.
    pub(super) fn up(&self, tally: Tally, socket: f64) -> Sent {
        let (error, cosine) = Distortion::of_streams(&[&self.image, &self.text]);
        self.sent(0, tally, socket, error, cosine)
    }

    /// The way down.
    pub(super) fn down(&self, tally: Tally, socket: f64) -> Sent {
        let (error, cosine) = (self.gradients.relative_error(), self.gradients.cosine());
        self.sent(1, tally, socket, error, cosine)
    }

    fn sent(&self, direction: usize, tally: Tally, socket: f64, error: f64, cosine: f64) -> Sent {
        let mean = |bytes: u64| bytes as f64 / tally.messages.max(1) as f64;
        let steps = self.steps.max(1.0);
        let (bytes, targets) = (mean(tally.bytes), mean(tally.targets));
        let bits = |bytes: f64, elements: f64| 8.0 * bytes * steps / elements.max(1.0);
        Sent {
            bytes,
            image: mean(tally.image),
            text: mean(tally.text),
            index: mean(tally.index),
            targets,
            socket_bytes: socket,
            bits_per_element: bits(bytes, self.elements),
            socket_bits_per_element: bits(socket, self.elements),
            image_bits: bits(mean(tally.image), self.image_elements),
            crossing_bits: bits(
                mean(tally.image) + mean(tally.text),
                self.crossing[direction],
            ),
            side_percent: 100.0 * (1.0 - self.payload[direction] / steps / (bytes - targets)),
            error,
            cosine,
            seconds: self.seconds.unwrap_or_default()[direction],
        }
    }
}
