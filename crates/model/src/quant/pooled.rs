//! One start for several clients, which share a quantizer.
//!
//! Means and deviations of all rows follow from those of each client's. Components and codebooks do not, so a client says what
//! it would start from alone, and the *code* of some of the rows it has seen: no row crosses finer than rows do in training.
//! Whoever pools reads these codes as a server's half does, and starts a quantizer on the rows that they stand for, from each
//! client as many as its share of all rows seen. Of a single client it is what that client says, to the bit.

use burn::tensor::{Device, Int, Tensor, TensorData};
use qtl_codec::Code;

use super::planes::floats;
use super::{Accumulator, Decoder, Encoder, Moments, Phase, QuantError, QuantizerSpec};

/// Most rows of one client whose codes are told.
const ROWS: usize = 4096;

/// What a client says of the features it has seen, for [`Pool`]; `None` where too little was seen. Where ranges are enough
/// it says no more.
pub fn sketch(half: &Encoder, seen: &Accumulator, device: &Device) -> Option<Code> {
    let mut own = half.clone();
    let mut told = own.start(seen)?;
    if let Some(rows) = seen.kept(device) {
        let count = rows.dims()[0];
        let every = count.div_ceil(ROWS);
        let rows = picked(rows, (0..count).step_by(every));
        let code = own.quantize(own.bound(own.input(rows)), Phase::Evaluate);
        told.planes.extend(code.planes);
    }
    Some(told)
}

/// The rows of these numbers.
fn picked(rows: Tensor<2>, numbers: impl Iterator<Item = usize>) -> Tensor<2> {
    let numbers: Vec<i64> = numbers.map(|number| number as i64).collect();
    let device = rows.device();
    let numbers = Tensor::<1, Int>::from_data(TensorData::from(numbers.as_slice()), &device);
    rows.select(0, numbers)
}

/// Reads what clients say of a quantizer's features, and starts one quantizer from all of it.
#[derive(Debug)]
pub struct Pool<'a> {
    spec: &'a QuantizerSpec,
    width: usize,
    half: Decoder,
    device: Device,
}

/// What one client said, read.
#[derive(Debug)]
pub struct Heard {
    told: Code,
    rows: Option<Tensor<2>>,
    seen: u64,
}

impl<'a> Pool<'a> {
    /// Of features of so many channels.
    pub fn new(spec: &'a QuantizerSpec, width: usize, device: &Device) -> Self {
        Self {
            spec,
            width,
            half: Decoder::init(spec, width, 0, device),
            device: device.clone(),
        }
    }

    /// Rows and columns that hold all the numbers of a [`sketch`].
    pub fn shape(&self) -> [usize; 2] {
        let [rows, cols] = self.half.start_shape();
        match self.spec.starts_from_ranges() {
            true => [rows, cols],
            false => [rows + (ROWS * self.half.numbers()).div_ceil(cols), cols],
        }
    }

    /// Reads what a client says, `seen` being the number of rows behind it.
    ///
    /// # Errors
    /// [`QuantError`] saying what is wrong.
    pub fn hear(&self, said: &Code, seen: u64) -> Result<Heard, QuantError> {
        let mut half = self.half.clone();
        if self.spec.starts_from_ranges() {
            half.start(said)?;
            return Ok(Heard {
                told: said.clone(),
                rows: None,
                seen,
            });
        }
        let (told, code) = said
            .planes
            .split_at(half.start_planes().min(said.planes.len()));
        let (told, code) = (Code::new(told.to_vec()), Code::new(code.to_vec()));
        half.start(&told)?;
        let rows = half.expand(half.dequantize(&code, &self.device)?);
        if floats(rows.clone()).iter().any(|x| !x.is_finite()) {
            let what = "its rows stand for what is no finite number";
            return Err(QuantError::Moments(what.to_owned()));
        }
        Ok(Heard {
            told,
            rows: Some(rows),
            seen,
        })
    }

    /// What all start from: as [`ServerHalf::start`](super::ServerHalf::start) and [`ClientHalf::take`](super::ClientHalf::take)
    /// read it. `None` where nobody has seen anything.
    pub fn start(&self, heard: &[Heard]) -> Option<Code> {
        let heard: Vec<&Heard> = heard.iter().filter(|one| one.seen > 0).collect();
        if let [one] = heard.as_slice() {
            return Some(one.told.clone());
        }
        if self.spec.starts_from_ranges() {
            let read = |one: &&Heard| Some((Moments::read(&one.told)?, one.seen));
            return Some(moments(&heard.iter().filter_map(read).collect::<Vec<_>>())?.code());
        }
        // Rows that each told row stands for; the most set how many of the others' are taken.
        let weight = |one: &Heard| {
            let told = one.rows.as_ref().map_or(0, |rows| rows.dims()[0]);
            (one.seen as f64 / told.max(1) as f64).max(1.0)
        };
        let most = heard.iter().map(|one| weight(one)).fold(1.0, f64::max);
        let mut encoder = Encoder::init(self.spec, self.width, 0, &self.device);
        let mut all = encoder.accumulator();
        for one in heard {
            let Some(rows) = &one.rows else { continue };
            let share = weight(one) / most;
            let before = |n: usize| (n as f64 * share).floor();
            let count = rows.dims()[0];
            let numbers: Vec<usize> = (0..count).filter(|n| before(n + 1) > before(*n)).collect();
            if !numbers.is_empty() {
                all.add(encoder.seen(picked(rows.clone(), numbers.into_iter())));
            }
        }
        encoder.start(&all)
    }
}

/// The moments of all rows together, from those of several clients and the number of rows behind each: the mean of the means
/// and the deviation about it, as if one had measured all rows. Of a single client it is what that one has measured, to the bit.
fn moments(of: &[(Moments, u64)]) -> Option<Moments> {
    let (first, rest) = of.split_first()?;
    if rest.is_empty() {
        return Some(first.0.clone());
    }
    let rows: f64 = of.iter().map(|(_, rows)| *rows as f64).sum();
    let (mut mean, mut std) = (Vec::new(), Vec::new());
    for channel in 0..first.0.mean.len() {
        let at = |values: &[f32]| f64::from(values.get(channel).copied().unwrap_or_default());
        let sum: f64 = of.iter().map(|(m, n)| at(&m.mean) * *n as f64).sum();
        let center = sum / rows;
        let squares: f64 = of
            .iter()
            .map(|(m, n)| {
                let (n, off) = (*n as f64, at(&m.mean) - center);
                at(&m.std).powi(2) * (n - 1.0) + off * off * n
            })
            .sum();
        mean.push(center as f32);
        std.push((squares / (rows - 1.0)).max(0.0).sqrt() as f32);
    }
    Some(Moments { mean, std })
}

#[cfg(test)]
mod tests {
    use qtl_codec::{Limits, Options};

    use super::super::planes::tensor;
    use super::*;
    use crate::weights::Stream;

    #[test]
    fn pooled_moments_are_those_of_all_rows() {
        let device = Device::default();
        let rows = |values: &[f32]| tensor(values.to_vec(), [values.len() / 2, 2], &device);
        let sites = [
            rows(&[1.0, -3.0, 2.5, 4.0, 0.0, 1.0]),
            rows(&[100.0, 2.0, 90.0, 2.0]),
        ];
        let mut all = Accumulator::default();
        let mut parts = Vec::new();
        for site in sites {
            let mut one = Accumulator::default();
            let count = site.dims()[0] as u64;
            one.add(site.clone());
            all.add(site);
            parts.push((one.moments().unwrap(), count));
        }
        let (want, got) = (all.moments().unwrap(), moments(&parts).unwrap());
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(
            near(&want.mean, &got.mean) && near(&want.std, &got.std),
            "{want:?} {got:?}"
        );
        assert_eq!(moments(&parts[..1]).unwrap(), parts[0].0);
        assert_eq!(moments(&[]), None);
    }

    const DIM: usize = 24;

    /// Rows of a client: components that fall off, around a mean of its own.
    fn rows(seed: u64, count: usize, mean: f32, device: &Device) -> Tensor<2> {
        let mut draw = Stream::new(seed, "rows");
        let value = |i: usize| mean + (draw.normal() * 0.7f64.powi((i % DIM) as i32)) as f32;
        tensor((0..count * DIM).map(value).collect(), [count, DIM], device)
    }

    fn seen(half: &Encoder, rows: &[Tensor<2>]) -> Accumulator {
        let mut seen = half.accumulator();
        rows.iter()
            .for_each(|rows| seen.add(half.seen(rows.clone())));
        seen
    }

    /// Squared error of rows behind both halves that start from `told`, and their own squares about the mean.
    fn error(spec: &QuantizerSpec, told: &Code, rows: Tensor<2>, device: &Device) -> f64 {
        let (mut ours, mut theirs) = (
            Encoder::init(spec, DIM, 1, device),
            Decoder::init(spec, DIM, 2, device),
        );
        ours.take(told).unwrap();
        theirs.start(told).unwrap();
        let code = ours.quantize(ours.bound(ours.input(rows.clone())), Phase::Evaluate);
        let back = theirs.expand(theirs.dequantize(&code, device).unwrap());
        let squares = |x: Tensor<2>| f64::from((x.clone() * x).mean().into_scalar::<f32>());
        squares(back - rows.clone()) / squares(rows.clone() - rows.mean_dim(0))
    }

    #[test]
    fn a_start_of_all_clients_rows_is_good_for_all() {
        let device = Device::default();
        let specs = [
            r#"{"kind":"fsq","levels":16,"width":3,"statistics":"calibrated"}"#,
            r#"{"kind":"pca","dims":8,"bits":24}"#,
            r#"{"kind":"vq","dims":8,"codes":64}"#,
            r#"{"kind":"vq","dims":4,"codes":32,"learned":true}"#,
            r#"{"kind":"rvq","dims":8,"stages":3,"codes":16}"#,
            r#"{"kind":"pq","dims":8,"groups":4,"codes":16}"#,
        ];
        for spec in specs.map(|spec| serde_json::from_str::<QuantizerSpec>(spec).unwrap()) {
            let half = Encoder::init(&spec, DIM, 1, &device);
            let own = [
                rows(1, 1500, 0.0, &device),
                rows(2, 6000, 0.0, &device),
                rows(3, 800, 2.0, &device),
            ];
            let pool = Pool::new(&spec, DIM, &device);
            let heard: Vec<Heard> = own
                .iter()
                .map(|rows| {
                    let seen = seen(&half, std::slice::from_ref(rows));
                    let said = sketch(&half, &seen, &device).unwrap();
                    let [rows, cols] = pool.shape();
                    let limits = Limits {
                        max_elements: 2 * (rows + 4) * (cols + 4),
                        ..Limits::default()
                    };
                    let bytes = qtl_codec::encode(&said, &Options::default());
                    assert!(qtl_codec::decode(&bytes, &limits).is_ok(), "{spec}");
                    pool.hear(&said, seen.rows()).unwrap()
                })
                .collect();
            let pooled = pool.start(&heard).unwrap();
            assert_eq!(Some(&pooled), pool.start(&heard).as_ref(), "{spec}: twice");
            // One client alone, and one that has seen nothing, change nothing.
            let one = pool.start(&heard[..1]).unwrap();
            let alone = half.clone().start(&seen(&half, &own[..1])).unwrap();
            assert_eq!(one, alone, "{spec}");

            // As good as of all rows at once, nearly; better for those whom a single client has not seen.
            let together = half.clone().start(&seen(&half, &own)).unwrap();
            let strangers = rows(9, 1000, 2.0, &device);
            let of = |told: &Code, rows: &Tensor<2>| error(&spec, told, rows.clone(), &device);
            let all = Tensor::cat(own.to_vec(), 0);
            let (got, want) = (of(&pooled, &all), of(&together, &all));
            println!("{spec}: {got:.4} of the pool, {want:.4} of all rows");
            assert!(got < 1.25 * want + 0.01, "{spec}: {got} for {want}");
            assert!(of(&pooled, &strangers) < of(&one, &strangers), "{spec}");
        }
    }

    #[test]
    fn what_is_no_sketch_is_refused() {
        let device = Device::default();
        let spec = serde_json::from_str(r#"{"kind":"vq","dims":8,"codes":16}"#).unwrap();
        let half = Encoder::init(&spec, DIM, 1, &device);
        let seen = seen(&half, &[rows(1, 300, 0.0, &device)]);
        let said = sketch(&half, &seen, &device).unwrap();
        let pool = Pool::new(&spec, DIM, &device);
        assert!(pool.hear(&said, 300).is_ok());
        assert!(pool.hear(&Code::default(), 300).is_err());
        let without = Code::new(said.planes[..4].to_vec());
        assert!(pool.hear(&without, 300).is_err());
        let mut others = said.clone();
        others.planes.swap(0, 1);
        assert!(pool.hear(&others, 300).is_err());
    }
}
