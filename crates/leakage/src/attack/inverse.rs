//! `inverse`: a network that learns, on auxiliary pictures, to make pixels of rows. Where rows are patches it begins as the best
//! linear map of single rows.

use std::cell::RefCell;

use burn::tensor::{Device, Tensor, TensorData};
use qtl_model::weights::Stream as Numbers;

use super::{Attack, Case, Found, Stream, collage, trained, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::fit::Fit;
use crate::matrix::Matrix;
use crate::network::{Inverter, InverterSpec};
use crate::pictures::Pictures;
use crate::ridge::Ridge;

/// Pictures of a step.
const BATCH: usize = 64;
/// Auxiliary pictures that it does not learn from, to know when it has learned enough.
const HELD: usize = 256;
/// How often it looks at them.
const LOOKS: usize = 8;
const RATE: f64 = 1.5e-3;
const DECAY: f32 = 0.02;
const WIDTH: usize = 192;
const DEPTH: usize = 3;

/// See the module.
pub struct Inverse;

impl Attack for Inverse {
    fn name(&self) -> &'static str {
        "inverse"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "auxiliary pictures and a client's half; trains a network of attention that makes pixels of rows, anew for what has crossed"
    }
    fn weight(&self) -> f64 {
        8.0
    }

    fn run(&self, case: &Case<'_>, clock: &Clock<'_>) -> Result<Found, LeakageError> {
        let scale = case.own.image.scale();
        let (own, victims) = (scale.of(&case.own.image), scale.of(&case.seen.image));
        learned(case, clock, own, &victims)
    }
}

/// The same, shown a collage beside the rows.
pub struct Mixed;

impl Attack for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "as collage and inverse; the network sees a collage of the picture beside its rows, in training one without the picture itself"
    }
    fn weight(&self) -> f64 {
        8.0
    }

    fn run(&self, case: &Case<'_>, clock: &Clock<'_>) -> Result<Found, LeakageError> {
        let scale = case.own.image.scale();
        let (own, victims) = (scale.of(&case.own.image), scale.of(&case.seen.image));
        let (piece, _) = collage::chosen(case, &own)?;
        let patches = Patches::of(case.own.tokens, &case.own.pictures);
        if patches.shape().0 != case.own.tokens {
            return unfit("rows are no patches, so a collage has no place beside them");
        }
        let beside = |rows: &Matrix, others: bool| {
            let shown = collage::paste(case, &own, rows, piece, others);
            patches.beside(rows, &shown)
        };
        let (with_own, with_victims) = (beside(&own, true), beside(&victims, false));
        learned(case, clock, with_own, &with_victims)
    }
}

/// What a network makes of the victims' rows that has learned from the attacker's own.
fn learned(
    case: &Case<'_>,
    clock: &Clock<'_>,
    rows: Matrix,
    victims: &Matrix,
) -> Result<Found, LeakageError> {
    let own = case.own;
    let count = own.pictures.len();
    if count < 8 {
        return unfit(format!(
            "{count} auxiliary pictures are too few to learn from"
        ));
    }
    let held = (count / 8).clamp(1, HELD);
    let device = &case.world.device;
    let work = Work {
        rows,
        tokens: own.tokens,
        patches: Patches::of(own.tokens, &own.pictures),
        device: device.clone(),
    };
    let spec = InverterSpec {
        rows: (own.tokens, work.rows.cols),
        patches: work.patches.shape(),
        width: WIDTH,
        depth: DEPTH,
    };
    let numbers = RefCell::new(Numbers::new(case.world.seed, "inverse"));
    let draw = || -> Vec<usize> {
        let mut numbers = numbers.borrow_mut();
        let one = |_| (numbers.bits() % (count - held) as u64) as usize;
        (0..BATCH).map(one).collect()
    };
    let loss = |model: &Inverter| {
        let chosen = draw();
        let made = model.forward(work.batch(&work.rows, &chosen));
        let truth = work.patches.batch(&own.pictures, &chosen, device);
        (made - truth).square().mean()
    };
    let watched: Vec<usize> = (count - held..count).collect();
    let linear = work.linear(&own.pictures, count - held);
    let fit = Fit::new(Inverter::new(&spec, device), case.world.seed, RATE, DECAY);
    let mut fit = fit.beginning(|model| match &linear {
        Some(map) => model.beginning(map, device),
        None => model,
    });
    let decibels = |error: f64| -10.0 * error.log10();
    let linear = work.error(fit.model(), &own.pictures, &watched);
    let mut best = (linear, fit.model().clone());
    fit.run_in(&clock.share(1.0), LOOKS, loss, |model| {
        let error = work.error(model, &own.pictures, &watched);
        if error < best.0 {
            best = (error, model.clone());
        }
    });
    if !fit.model().is_begun() {
        trained(fit.steps(), clock)?;
    }
    let (error, model) = best;
    let mut shown = Pictures::new(own.pictures.side);
    let all: Vec<usize> = (0..case.seen.pictures.len()).collect();
    for some in all.chunks(BATCH) {
        let made = model.forward(work.batch(victims, some));
        work.patches.show(made, &mut shown);
    }
    let mut notes = vec![format!(
        "{} steps of {BATCH}; mean squared error over {held} auxiliary pictures held out {:.2} dB, before them {:.2} dB",
        fit.steps(),
        decibels(error),
        decibels(linear)
    )];
    if fit.steps() > 0 && error >= linear {
        notes.push("no step made it better than its start, which is what is shown".to_owned());
    }
    Ok(Found {
        notes,
        steps: Some(fit.steps()),
        ..Found::pictures(shown)
    })
}

struct Work {
    rows: Matrix,
    tokens: usize,
    patches: Patches,
    device: Device,
}

impl Work {
    fn batch(&self, rows: &Matrix, pictures: &[usize]) -> Tensor<3> {
        let of = |picture: &usize| picture * self.tokens..(picture + 1) * self.tokens;
        let rows = rows.pick(pictures.iter().flat_map(of));
        let (count, cols) = (pictures.len(), rows.cols);
        rows.tensor(&self.device)
            .reshape([count, self.tokens, cols])
    }

    /// The best map of single rows to patches, if rows are patches.
    fn linear(&self, truth: &Pictures, count: usize) -> Option<Matrix> {
        let (patches, numbers) = self.patches.shape();
        if patches != self.tokens {
            return None;
        }
        let mut ridge = Ridge::new(self.rows.cols, numbers);
        let all: Vec<usize> = (0..count).collect();
        for some in all.chunks(BATCH) {
            let of = |picture: &usize| picture * self.tokens..(picture + 1) * self.tokens;
            let x = self.rows.pick(some.iter().flat_map(of));
            let y = self.patches.batch(truth, some, &self.device);
            let y = Matrix::of(y.reshape([some.len() * patches, numbers]));
            ridge.add(&x, &y, &self.device);
        }
        Some(ridge.map())
    }

    /// Mean squared error of values from 0 to 1.
    fn error(&self, model: &Inverter, truth: &Pictures, pictures: &[usize]) -> f64 {
        let errors = pictures.chunks(BATCH).map(|some| {
            let made = model.forward(self.batch(&self.rows, some));
            let truth = self.patches.batch(truth, some, &self.device);
            let mean = (made - truth).square().mean();
            f64::from(mean.into_scalar::<f32>()) * some.len() as f64
        });
        errors.sum::<f64>() / pictures.len() as f64
    }
}

/// Pictures as patches, less the mean patch.
struct Patches {
    /// Patches along a side, and pixels along the side of one.
    grid: usize,
    pixels: usize,
    /// In the order of patches, the same in each.
    mean: Vec<f32>,
}

impl Patches {
    /// One per row where rows are patches, or else as many as fit.
    fn of(tokens: usize, pictures: &Pictures) -> Self {
        let side = pictures.side;
        let fits = |grid: &usize| side.is_multiple_of(*grid);
        let grid = (1..=tokens.isqrt().max(1)).rev().find(fits).unwrap_or(1);
        let mut patches = Self {
            grid,
            pixels: side / grid,
            mean: Vec::new(),
        };
        let mean = pictures.mean();
        let ordered: Vec<f32> = patches.order().map(|at| mean[at]).collect();
        // The same for all patches, so that a map of single rows need not know their places.
        let (count, numbers) = patches.shape();
        let of = |i: usize| ordered.iter().skip(i).step_by(numbers).sum::<f32>() / count as f32;
        let shared: Vec<f32> = (0..numbers).map(of).collect();
        patches.mean = shared.repeat(count);
        patches
    }

    fn shape(&self) -> (usize, usize) {
        (self.grid * self.grid, 3 * self.pixels * self.pixels)
    }

    /// Where in a picture the numbers of its patches stand, in their order.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (grid, pixels) = (self.grid, self.pixels);
        let (side, line) = (grid * pixels, 3 * pixels);
        (0..grid * grid).flat_map(move |patch| {
            let (top, left) = (patch / grid * pixels, patch % grid * pixels);
            (0..pixels).flat_map(move |y| {
                let begin = 3 * ((top + y) * side + left);
                begin..begin + line
            })
        })
    }

    /// Each row, and beside it its patch of a picture.
    fn beside(&self, rows: &Matrix, pictures: &Pictures) -> Matrix {
        let (patches, numbers) = self.shape();
        let order: Vec<usize> = self.order().collect();
        let mut values = Vec::with_capacity(rows.rows * (rows.cols + numbers));
        for row in 0..rows.rows {
            let (bytes, patch) = (pictures.at(row / patches), row % patches);
            let own = order[patch * numbers..(patch + 1) * numbers].iter();
            let mean = self.mean[patch * numbers..(patch + 1) * numbers].iter();
            values.extend_from_slice(rows.row(row));
            // As loud as the rows' own columns, nearly.
            let value = |(at, mean): (&usize, &f32)| 4.0 * (f32::from(bytes[*at]) / 255.0 - mean);
            values.extend(own.zip(mean).map(value));
        }
        Matrix::new(rows.cols + numbers, values)
    }

    fn batch(&self, pictures: &Pictures, chosen: &[usize], device: &Device) -> Tensor<3> {
        let (patches, numbers) = self.shape();
        let order: Vec<usize> = self.order().collect();
        let of = |picture: &usize| {
            let bytes = pictures.at(*picture);
            let both = order.iter().zip(&self.mean);
            both.map(move |(at, mean)| f32::from(bytes[*at]) / 255.0 - mean)
        };
        let values: Vec<f32> = chosen.iter().flat_map(of).collect();
        Tensor::from_data(
            TensorData::new(values, [chosen.len(), patches, numbers]),
            device,
        )
    }

    /// Appends what was made.
    fn show(&self, made: Tensor<3>, shown: &mut Pictures) {
        let size = shown.size();
        let values: Vec<f32> = made.into_data().iter::<f32>().collect();
        for picture in values.chunks_exact(size) {
            let mut ordered = vec![0.0; size];
            let both = self.order().zip(picture.iter().zip(&self.mean));
            both.for_each(|(at, (value, mean))| ordered[at] = value + mean);
            shown.push_values(ordered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_put_back_where_they_were() {
        let mut pictures = Pictures::new(6);
        pictures.bytes = (0..2 * 3 * 36).map(|i| (i * 7 % 256) as u8).collect();
        for tokens in [9, 4, 5] {
            let patches = Patches::of(tokens, &pictures);
            let made = patches.batch(&pictures, &[0, 1], &Device::default());
            let mut shown = Pictures::new(6);
            patches.show(made, &mut shown);
            assert_eq!(shown, pictures, "{tokens} rows");
        }
    }
}
