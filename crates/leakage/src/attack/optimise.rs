//! `optimise`: pixels fitted by gradient, through tower, connector and quantizer of a client's half, until their code is the one
//! that came. The gradient passes rounding straight through. A total variation in the loss says that pictures are smooth; how
//! much of it is chosen on auxiliary pictures. Each picture is begun several times, and the beginning that ends nearest counts.

use burn::tensor::{Tensor, TensorData};
use qtl_data::Processor;
use qtl_fused::adamw;
use qtl_fused::adamw::Rule;
use qtl_model::quant::Phase;
use qtl_model::recompute::{leaf, take};
use qtl_model::weights::Stream as Numbers;

use super::{Attack, Case, Found, Stream, collage, trained, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::matrix::Matrix;
use crate::pictures::{Pictures, psnr};

/// Pictures that are fitted together.
const BATCH: usize = 40;
/// Auxiliary pictures that the prior is chosen on.
const TRIED: usize = 16;
/// Its weights.
const PRIORS: [f32; 5] = [0.0, 0.1, 1.0, 5.0, 20.0];
/// Share of the time for choosing.
const CHOOSING: f64 = 0.25;
/// A further beginning is tried only if all pictures have so many steps in it.
const ENOUGH: f64 = 60.0;
const RATE: f64 = 0.03;
/// Deviation of the noise of the beginning that has some.
const NOISE: f64 = 0.2;
/// Keeps the root of a flat neighbourhood smooth.
const FLAT: f32 = 1e-6;

/// See the module.
pub struct Optimise;

impl Attack for Optimise {
    fn name(&self) -> &'static str {
        "optimise"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "a client's half, and a few auxiliary pictures to choose its settings on; fits pixels by gradient until their code is the \
         one that came, from several beginnings"
    }
    fn weight(&self) -> f64 {
        8.0
    }

    fn run(&self, case: &Case<'_>, clock: &Clock<'_>) -> Result<Found, LeakageError> {
        if !case.known.client.bottom.blocks.is_empty() {
            return unfit(
                "rows behind blocks depend on the text as well; fitting through them is not built",
            );
        }
        let (own, victims) = (case.own, case.seen);
        if own.pictures.is_empty() {
            return unfit("there is no auxiliary picture to begin with");
        }
        let work = Work::new(case);
        let mean = vec![own.pictures.mean(); TRIED.max(BATCH)].concat();
        // Choosing.
        let tried = own.pictures.len().min(TRIED);
        let last: Vec<usize> = (own.pictures.len() - tried..own.pictures.len()).collect();
        let target = own.image.pick(work.rows(&last));
        let choosing = clock.share(CHOOSING);
        let (mut best, mut taken) = (None, 0);
        for (place, prior) in PRIORS.into_iter().enumerate() {
            let part = choosing.share(1.0 / (PRIORS.len() - place) as f64);
            let fitted = work.fit(&target, &mean, prior, &part);
            taken += fitted.steps;
            let made = fitted.pictures(own.pictures.side);
            let both = last.iter().map(|i| own.pictures.at(*i)).zip(made.each());
            let sum: f64 = both.filter_map(|(a, b)| psnr(a, b, &|_| true)).sum();
            let decibels = sum / tried as f64;
            if best.is_none_or(|(known, _)| decibels > known) {
                best = Some((decibels, prior));
            }
        }
        trained(taken, clock)?;
        let (chosen, prior) = best.unwrap_or((f64::NAN, 0.0));
        let pace = choosing.seconds() / taken as f64 * BATCH as f64 / tried as f64;

        // Fitting.
        let all: Vec<usize> = (0..victims.pictures.len()).collect();
        let groups: Vec<&[usize]> = all.chunks(BATCH).collect();
        let beginnings = work.beginnings(&mean)?;
        let fit_in = match clock.left() {
            Some(left) => (left / (ENOUGH * groups.len() as f64 * pace)) as usize,
            None => beginnings.len(),
        };
        let beginnings = &beginnings[..fit_in.clamp(1, beginnings.len())];
        let mut shown = Pictures::new(victims.pictures.side);
        let (mut fewest, mut jobs) = (usize::MAX, groups.len() * beginnings.len());
        let size = shown.size();
        for group in &groups {
            let target = victims.image.pick(work.rows(group));
            let mut nearest: Vec<Option<(f32, Vec<f32>)>> = vec![None; group.len()];
            for values in beginnings {
                let values = &values[group[0] * size..(group[0] + group.len()) * size];
                let part = clock.share(1.0 / jobs as f64);
                jobs -= 1;
                let fitted = work.fit(&target, values, prior, &part);
                fewest = fewest.min(fitted.steps);
                let ended = fitted.errors.iter().zip(fitted.values.chunks_exact(size));
                for (best, (error, values)) in nearest.iter_mut().zip(ended) {
                    if best.as_ref().is_none_or(|(known, _)| error < known) {
                        *best = Some((*error, values.to_vec()));
                    }
                }
            }
            let values = nearest.into_iter().flatten().flat_map(|(_, values)| values);
            shown.push_values(values);
        }
        trained(fewest, clock)?;
        let notes = vec![format!(
            "total variation {prior}, {chosen:.2} dB on {tried} auxiliary pictures; {} beginnings of {fewest} steps at least",
            beginnings.len()
        )];
        Ok(Found {
            notes,
            steps: Some(fewest),
            ..Found::pictures(shown)
        })
    }
}

/// What pixels are fitted through.
struct Work<'a> {
    case: &'a Case<'a>,
    processor: &'a Processor,
    /// Of the columns of rows.
    scale: [Tensor<2>; 2],
}

/// Pixels that were fitted: values from 0 to 1, each picture in R G B.
struct Fitted {
    values: Vec<f32>,
    /// Per picture, how far its code is from the one that came.
    errors: Vec<f32>,
    steps: usize,
}

impl Fitted {
    fn pictures(&self, side: usize) -> Pictures {
        let mut pictures = Pictures::new(side);
        pictures.push_values(self.values.iter().copied());
        pictures
    }
}

impl<'a> Work<'a> {
    fn new(case: &'a Case<'a>) -> Self {
        Self {
            case,
            processor: case.world.auxiliary.processor(),
            scale: case.own.image.scale().tensors(&case.world.device),
        }
    }

    fn rows(&self, pictures: &[usize]) -> Vec<usize> {
        let tokens = self.case.own.tokens;
        let of = |picture: &usize| picture * tokens..(picture + 1) * tokens;
        pictures.iter().flat_map(of).collect()
    }

    /// Where the victims' pictures begin, the best first: pieces of auxiliary pictures, their mean, their mean with noise.
    fn beginnings(&self, mean: &[f32]) -> Result<Vec<Vec<f32>>, LeakageError> {
        let (case, size) = (self.case, self.case.seen.pictures.size());
        let scale = case.own.image.scale();
        let (own, victims) = (scale.of(&case.own.image), scale.of(&case.seen.image));
        let (piece, _) = collage::chosen(case, &own)?;
        let pasted = collage::paste(case, &own, &victims, piece, false);
        let pasted = pasted.bytes.iter().map(|byte| f32::from(*byte) / 255.0);
        let count = case.seen.pictures.len();
        let mean = mean[..size].repeat(count);
        let mut numbers = Numbers::new(case.world.seed, "optimise");
        let noisy = mean.iter().map(|x| x + (NOISE * numbers.normal()) as f32);
        let noisy = noisy.map(|x| x.clamp(0.0, 1.0)).collect();
        Ok(vec![pasted.collect(), mean, noisy])
    }

    /// Fits pictures to rows until the time is over.
    fn fit(&self, target: &Matrix, begin: &[f32], prior: f32, clock: &Clock<'_>) -> Fitted {
        let device = &self.case.world.device;
        let count = target.rows / self.case.own.tokens;
        let side = self.case.own.pictures.side;
        let shape = [count, side, side, 3];
        let begin = begin[..count * 3 * side * side].to_vec();
        let length = begin.len();
        let mut value = Tensor::<1>::from_data(TensorData::new(begin, [length]), device);
        let mut moments = [value.zeros_like(), value.zeros_like()];
        let target = self.scaled(target.tensor(device));
        let mut steps = 0;
        while let Some(at) = clock.at() {
            let x = leaf(value.clone());
            let picture = x.clone().reshape(shape);
            let loss = self.error(picture.clone(), &target).mean() + rough(picture) * prior;
            let gradient = take(&x, &mut loss.backward());
            steps += 1;
            let rule = Rule {
                lr: RATE * 0.5 * (1.0 + (std::f64::consts::PI * at).cos()),
                betas: [0.9, 0.98],
                epsilon: 1e-8,
                decay: 0.0,
                factor: 1.0,
                time: steps,
            };
            // The loss is a mean: as loud as one of a single number.
            let gradient = gradient * length as f32;
            (value, moments) = adamw(value, gradient, moments, &rule);
            value = value.clamp(0.0, 1.0);
        }
        let errors = self.error(value.clone().reshape(shape), &target);
        let [rows, cols] = errors.dims();
        let errors = errors.reshape([count, rows / count.max(1) * cols]);
        Fitted {
            values: value.into_data().iter::<f32>().collect(),
            errors: errors.mean_dim(1).into_data().iter::<f32>().collect(),
            steps,
        }
    }

    /// How far what crosses of pictures is from what came: before rounding and behind it.
    fn error(&self, pictures: Tensor<4>, target: &Tensor<2>) -> Tensor<2> {
        let known = self.case.known;
        let (encoder, decoder) = (&known.client.uplink.image, &known.server.uplink.image);
        let [mean, std] = [self.processor.mean(), self.processor.std()]
            .map(|three| Tensor::<4>::from_data([[[three.map(|x| x as f32)]]], &pictures.device()));
        let pixels = (pictures - mean) / std;
        let rows = known.client.bottom.look(pixels.permute([0, 3, 1, 2]));
        let z = encoder.bound(encoder.input(rows));
        let plain = match z.is_autodiff() {
            true => z.clone().inner(),
            false => z.clone(),
        };
        let code = encoder.quantize(plain, Phase::Evaluate);
        let before = encoder.surrogate(z, &code);
        let Ok(rounded) = decoder.dequantize(&code, &self.case.world.device) else {
            return (self.scaled(before) - target.clone()).square();
        };
        let own = match before.is_autodiff() {
            true => before.clone().inner(),
            false => before.clone(),
        };
        let through = before.clone() + (rounded - own);
        let apart = |rows: Tensor<2>| (self.scaled(rows) - target.clone()).square();
        (apart(before) + apart(through)) * 0.5
    }

    fn scaled(&self, rows: Tensor<2>) -> Tensor<2> {
        let [mean, deviation] = self.scale.clone();
        (rows - mean) / deviation
    }
}

/// The mean total variation of pictures, `[pictures, side, side, 3]`.
fn rough(x: Tensor<4>) -> Tensor<1> {
    let [_, height, width, _] = x.dims();
    let part = |y: usize, left: usize| {
        let rows = x.clone().narrow(1, y, height - 1);
        rows.narrow(2, left, width - 1)
    };
    let (down, right) = (part(1, 0) - part(0, 0), part(0, 1) - part(0, 0));
    (down.square() + right.square() + FLAT).sqrt().mean()
}
