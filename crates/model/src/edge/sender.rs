//! The sender's half: rows into codes, and the gradient that comes back for them into one of the rows.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use qtl_codec::{Code, Grid};

use super::adversary::Adversary;
use super::nopeek;
use super::private::{self, Private};
use super::repeats::{self, Distinct, TextRows};
use super::{Cut, Gradients, Returns, ids};
use crate::nn::Named as Renamed;
use crate::params::Named;
use crate::parts::{Parts, QUANTIZER_IMAGE, QUANTIZER_TEXT};
use crate::quant::{Encoder, Kept, Phase};
use crate::recompute::{leaf, take};
use crate::splice::Spliced;
use crate::stage::Rows;

/// The sender's halves of both quantizers.
#[derive(Module, Debug)]
pub struct Sender {
    /// Of image rows.
    pub image: Renamed<Encoder>,
    /// Of text rows.
    pub text: Renamed<Encoder>,
    /// Whether text rows of one token cross once.
    #[module(skip)]
    pub text_rows: TextRows,
    /// Which gradients come back.
    #[module(skip)]
    pub returns: Returns,
    /// How many tokens there are, where text crosses as their ids. There is nothing for a quantizer to do then.
    #[module(skip)]
    pub ids: Option<usize>,
    /// What is added to rows that the receiver cannot take away.
    #[module(skip)]
    pub private: Option<Private>,
    /// Weight in the loss of what image rows tell of pictures (see [`nopeek`]); 0 for none.
    #[module(skip)]
    pub nopeek: f32,
    /// What learns to read image rows, so that they learn not to be read.
    #[module(skip)]
    pub adversary: Option<Adversary>,
}

/// Rows that were sent, and wait for their gradient.
pub struct SenderTape {
    tracked: Sender,
    /// What was sent, before rounding: plain.
    bounded: Rows,
    /// What the graph begins with.
    rows: Rows,
    image: Option<Stream>,
    text: Stream,
    penalty: Option<Tensor<1>>,
    penalty_value: f64,
}

/// Rows of one modality.
pub(super) struct Stream {
    /// What backward pretends the code was: [rows, code_dim].
    surrogate: Tensor<2>,
    /// Which entries of its gradient come back; `None` for all.
    kept: Option<Kept>,
}

/// What of the image rows that a sender is given is sent.
pub struct Shown {
    /// Which rows.
    pub rows: Vec<usize>,
    /// How they lie in their pictures, if these are whole and every token is in its place.
    pub grid: Option<Grid>,
    /// The pictures themselves, [pictures, 3, side, side], where the rows that the sender is given are all of theirs: for
    /// [`Sender::nopeek`] and [`Sender::adversary`].
    pub pictures: Option<Tensor<4>>,
}

impl Shown {
    /// Tells the codec where the rows lie.
    fn on_grid(&self, code: Code) -> Code {
        match self.grid {
            Some(grid) => code.on_grid(grid),
            None => code,
        }
    }
}

impl Parts for Sender {}

impl Sender {
    /// The two halves, and whether text rows of one token cross once.
    pub fn new(image: Encoder, text: Encoder, text_rows: TextRows) -> Self {
        Self {
            image: QUANTIZER_IMAGE.holds(image),
            text: QUANTIZER_TEXT.holds(text),
            text_rows,
            returns: Returns::default(),
            ids: None,
            private: None,
            nopeek: 0.0,
            adversary: None,
        }
    }

    /// Whether there is something that needs the pictures themselves.
    pub fn looks_at_pictures(&self) -> bool {
        self.nopeek > 0.0 || self.adversary.is_some()
    }

    /// What bounded image rows tell of the pictures that they are of, weights included.
    fn told(&mut self, z: &Tensor<2>, shown: &Shown) -> Option<Tensor<1>> {
        let pictures = shown.pictures.as_ref()?;
        let read = match (&mut self.adversary, &self.private) {
            (Some(adversary), Some(secret)) => Some(adversary.learn(z, pictures, secret)),
            _ => None,
        };
        let correlated = (self.nopeek > 0.0).then(|| {
            let ([count, ..], [rows, cols]) = (pictures.dims(), z.dims());
            let z = z.clone().reshape([count, rows / count.max(1) * cols]);
            let pictures = pictures.clone().flatten::<2>(1, 3);
            Some(nopeek::told(pictures, z)?.mul_scalar(self.nopeek))
        });
        let both = [correlated.flatten(), read].into_iter().flatten();
        both.reduce(|a, b| a + b)
    }

    /// Rows with what is added to them, and the number of the message.
    fn protected(&self, rows: Rows, phase: Phase) -> (Rows, u64) {
        match &self.private {
            None => (rows, 0),
            Some(private) => {
                let number = private.number(phase);
                (private.noisy(rows, number), number)
            }
        }
    }

    /// What is rounded of bounded rows.
    fn dithered(&self, z: Tensor<2>, stream: private::Stream, number: u64) -> Tensor<2> {
        match &self.private {
            None => z,
            Some(private) => private.dithered(z, stream, number),
        }
    }

    /// Codes of the rows of a batch for inference: recorded statistics, no graph.
    pub fn encode(&self, rows: Rows, spliced: &Spliced, shown: &Shown) -> Cut {
        let (text, pads) = spliced.parted(rows.text);
        let rows = Rows { text, ..rows };
        let (rows, number) = self.protected(rows, Phase::Evaluate);
        let image = rows.image.map(|rows| {
            let z = used(self.image.bound(self.image.input(rows)), &shown.rows);
            let z = self.dithered(z, private::Stream::Image, number);
            shown.on_grid(self.image.quantize(z, Phase::Evaluate))
        });
        let z = self.text.bound(self.text.input(rows.text));
        let z = self.dithered(z, private::Stream::Text, number);
        let pads = pads.map(|pads| self.padding(pads, number));
        let pads = pads.map(|z| self.dithered(z, private::Stream::Padding, number));
        let (text, distinct) = self.text_code(z, pads, spliced, Phase::Evaluate);
        Cut {
            image,
            text,
            index: distinct.map(|distinct| distinct.code()),
            layout: spliced.layout.clone(),
        }
    }

    /// Padding rows as they are bounded, with what is added to them. No statistic has them in it.
    fn padding(&self, pads: Tensor<2>, number: u64) -> Tensor<2> {
        let pads = match &self.private {
            None => pads,
            Some(private) => private.noise(pads, private::Stream::Padding, number),
        };
        self.text.bound(self.text.input(pads))
    }

    /// Code of the text rows `z` and of what pads them (both bounded, plain). Which rows cross is decided by the text's own
    /// alone, so that where one row crosses per token the code is what it is without padding.
    fn text_code(
        &self,
        z: Tensor<2>,
        pads: Option<Tensor<2>>,
        spliced: &Spliced,
        phase: Phase,
    ) -> (Code, Option<Distinct>) {
        let all = &spliced.text_ids;
        if let Some(vocab) = self.ids {
            let few = |distinct: &Distinct| ids::code(&distinct.ids(all), vocab);
            return repeats::smaller(all, ids::code(all, vocab), few, 0);
        }
        if pads.is_none() {
            return repeats::encode(&self.text, z, all, self.text_rows, phase);
        }
        let own = spliced.own_ids();
        let (code, distinct) = repeats::encode(&self.text, z.clone(), &own, self.text_rows, phase);
        match distinct {
            Some(distinct) => (code, Some(distinct.over(&own, all))),
            None => (self.text.quantize(spliced.joined(z, pads), phase), None),
        }
    }

    /// Code of rows of single tokens, for generation. Where the statistics are those of the batch, a single token has
    /// none, and its row crosses as 16-bit floats.
    pub fn encode_tokens(&self, rows: Tensor<2>, ids: &[i64]) -> Code {
        if let Some(vocab) = self.ids {
            return ids::code(ids, vocab);
        }
        let Some(private) = &self.private else {
            return encode_tokens(&self.text, rows);
        };
        let number = private.number(Phase::Evaluate);
        let rows = private.noise(rows, private::Stream::Text, number);
        if !self.text.is_rowwise() {
            return encode_tokens(&self.text, rows);
        }
        let z = self.text.bound(self.text.input(rows));
        let z = private.dithered(z, private::Stream::Text, number);
        self.text.quantize(z, Phase::Evaluate)
    }

    /// What is sent in the micro-batch number `step`, given plain rows. Recorded statistics move; parameters for which
    /// `trained` holds get a gradient in [`SenderTape::backward`], and so do the rows that are `wanted` (image, text).
    pub fn train_forward(
        &mut self,
        rows: Rows,
        spliced: &Spliced,
        shown: &Shown,
        step: u64,
        trained: &dyn Fn(&str) -> bool,
        wanted: [bool; 2],
    ) -> (Cut, SenderTape) {
        let mut tracked = self.track(trained);
        let (_, pads) = spliced.parted(rows.text.clone());
        let begin = |rows: Tensor<2>, wanted| if wanted { leaf(rows) } else { rows };
        let rows = Rows {
            image: rows.image.map(|rows| begin(rows, wanted[0])),
            text: begin(rows.text, wanted[1]),
        };
        let (text, _) = spliced.parted(rows.text.clone());
        let image = rows.image.clone();
        let (sent, number) = self.protected(Rows { image, text }, Phase::Train(step));
        let mut penalty = None;
        let image = sent.image.map(|rows| {
            let u = tracked.image.input(rows);
            let both = (&mut *self.image, &mut *tracked.image);
            let z = bound(both, u, &mut penalty);
            if let Some(own) = self.told(&z, shown) {
                penalty = Some(match penalty.take() {
                    Some(other) => other + own,
                    None => own,
                });
            }
            used(z, &shown.rows)
        });
        let u = tracked.text.input(sent.text);
        let both = (&mut *self.text, &mut *tracked.text);
        let text = bound(both, u, &mut penalty);
        let pads = pads.map(|pads| self.padding(pads, number));
        let bounded = Rows {
            image: image.clone().map(Tensor::inner),
            text: spliced.joined(text.clone().inner(), pads.clone()),
        };
        let phase = Phase::Train(step);
        let z = self.dithered(text.clone().inner(), private::Stream::Text, number);
        let noisy = pads.clone();
        let noisy = noisy.map(|z| self.dithered(z, private::Stream::Padding, number));
        let (text_code, distinct) = self.text_code(z, noisy, spliced, phase);
        let text = match &distinct {
            Some(distinct) => distinct.select(text),
            None => spliced.joined(text, pads),
        };
        let cut = Cut {
            image: bounded.image.as_ref().map(|z| {
                let z = self.dithered(z.clone(), private::Stream::Image, number);
                shown.on_grid(self.image.quantize(z, phase))
            }),
            text: text_code,
            index: distinct.as_ref().map(|distinct| distinct.code()),
            layout: spliced.layout.clone(),
        };
        let penalty_value = penalty.clone().map_or(0.0, |p: Tensor<1>| {
            f64::from(p.inner().into_scalar::<f32>())
        });
        let image = image.zip(cut.image.as_ref());
        let image = image.map(|(z, code)| Stream::new(&tracked.image, z, code));
        let text = Stream::new(&tracked.text, text, &cut.text);
        let tape = SenderTape {
            tracked,
            bounded,
            rows,
            image,
            text,
            penalty,
            penalty_value,
        };
        (cut, tape)
    }
}

impl Stream {
    pub(super) fn new(quantizer: &Encoder, z: Tensor<2>, code: &Code) -> Self {
        Self {
            surrogate: quantizer.surrogate(z, code),
            kept: quantizer.kept(code),
        }
    }

    /// Shape of what comes back.
    pub(super) fn shape(&self) -> [usize; 2] {
        match &self.kept {
            Some(kept) => kept.shape(),
            None => self.surrogate.dims(),
        }
    }

    /// A scalar whose gradient is `g`, that of the leaf, applied to the surrogate.
    pub(super) fn carry(self, g: Tensor<2>) -> Tensor<1> {
        let g = match self.kept {
            Some(kept) => kept.spread(g),
            None => g,
        };
        (self.surrogate * g).sum()
    }
}

impl SenderTape {
    /// What would cross without a quantizer's rounding, for comparing sizes: plain tensors.
    pub fn features(&self) -> &Rows {
        &self.bounded
    }

    /// Shapes of the gradients that are to come back, image and text: [rows that crossed, code_dim], or as many entries
    /// of each row as the code keeps (see [`ClientHalf::kept`](crate::quant::ClientHalf::kept)); none where none is.
    pub fn gradient_shapes(&self) -> [Option<[usize; 2]>; 2] {
        let Returns { image, text } = self.tracked.returns;
        [
            self.image.as_ref().map(Stream::shape).filter(|_| image),
            Some(self.text.shape()).filter(|_| text),
        ]
    }

    /// Text rows that crossed.
    pub fn text_rows(&self) -> usize {
        self.text.surrogate.dims()[0]
    }

    /// What the quantizers add to the loss of this step, weights included.
    pub fn penalty(&self) -> f64 {
        self.penalty_value
    }

    /// From the gradients that came back (of these [shapes](Self::gradient_shapes)), and that of the penalty, to those of the
    /// rows, as far as they are wanted. Gradients of parameters are added to `into`.
    ///
    /// One scalar carries everything, since autodiff can walk a graph only once:
    /// `sum(z_image g_image) + sum(z_text g_text) + penalty`.
    pub fn backward(self, [image, text]: Gradients, into: &mut Named) -> Gradients {
        let streams = [self.image.zip(image), text.map(|g| (self.text, g))];
        let carried = streams.into_iter().flatten();
        let mut terms: Vec<_> = carried.map(|(stream, g)| stream.carry(g)).collect();
        terms.extend(self.penalty);
        let tracked = terms.into_iter().filter(Tensor::is_tracked);
        let Some(total) = tracked.reduce(|a, b| a + b) else {
            return [None, None];
        };
        let mut grads = total.backward();
        self.tracked.collect(&mut grads, into);
        [self.rows.image, Some(self.rows.text)].map(|rows| {
            let rows = rows.filter(Tensor::is_tracked)?;
            Some(take(&rows, &mut grads))
        })
    }
}

/// Code of rows of single tokens; see [`Sender::encode_tokens`].
pub(super) fn encode_tokens(quantizer: &Encoder, rows: Tensor<2>) -> Code {
    if quantizer.is_rowwise() {
        let z = quantizer.bound(quantizer.input(rows));
        quantizer.quantize(z, Phase::Evaluate)
    } else {
        crate::quant::to_f16(rows)
    }
}

/// The rows that the batch really shows; pictures nobody shows and rows beyond the cut stay home.
pub(crate) fn used(z: Tensor<2>, image_rows: &[usize]) -> Tensor<2> {
    if image_rows.len() == z.dims()[0] && image_rows.iter().enumerate().all(|(i, row)| i == *row) {
        return z;
    }
    let ids: Vec<i64> = image_rows.iter().map(|row| *row as i64).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::from(ids.as_slice()), &z.device());
    z.select(0, ids)
}

/// Whether the rows are those of pictures from their first token to their last.
pub(crate) fn are_whole_pictures(rows: &[usize], tokens: usize) -> bool {
    rows.chunks(tokens).all(|picture| {
        let first = picture[0];
        let runs = picture.iter().enumerate().all(|(i, row)| *row == first + i);
        runs && picture.len() == tokens && first.is_multiple_of(tokens)
    })
}

/// Records statistics in both copies of a quantizer (the plain and the tracked one), bounds with the tracked one, and
/// adds the penalty.
pub(super) fn bound(
    (plain, tracked): (&mut Encoder, &mut Encoder),
    u: Tensor<2>,
    penalty: &mut Option<Tensor<1>>,
) -> Tensor<2> {
    if let Some(recorded) = plain.observe(u.clone().inner()) {
        plain.record(&recorded);
        tracked.record(&recorded);
    }
    let z = tracked.bound(u);
    if let Some(own) = tracked.penalty(z.clone()) {
        *penalty = Some(match penalty.take() {
            Some(other) => other + own,
            None => own,
        });
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_whole_or_not() {
        assert!(are_whole_pictures(&[0, 1, 2, 3, 8, 9, 10, 11], 4));
        assert!(are_whole_pictures(&[], 4));
        assert!(!are_whole_pictures(&[0, 1, 2, 3, 4, 5], 4), "cut short");
        assert!(!are_whole_pictures(&[1, 2, 3, 4], 4), "of two pictures");
        assert!(!are_whole_pictures(&[0, 1, 3, 2], 4), "out of order");
    }
}
