//! AdamW over named parameters, with a state that can be written into a checkpoint by name.
//!
//! The arithmetic is that of burn's AdamW, to the bit, in one pass: burn's module optimizer keys its state by
//! random parameter ids, which mean nothing to another process.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Device, Tensor, TensorData};
use qtl_fused::adamw::Rule;
use qtl_fused::{adamw, squares};
use qtl_model::finite;
use qtl_model::params::Named;
use qtl_model::parts::Parts;
use qtl_model::weights::{NamedTensor, Tensors, values};

use crate::recipe::TrainSpec;
use crate::tune::{TuneSpec, decays};

/// The optimizer of one half of the model.
pub struct Optimizer {
    rule: Rule,
    tune: TuneSpec,
    peak: f64,
    clip: f64,
    state: BTreeMap<String, Moments>,
    /// Gradients of the micro-batches since the last step.
    pending: Named,
}

/// What the optimizer knows of a parameter.
struct Moments {
    moments: [Tensor<1>; 2],
    /// Steps so far.
    time: usize,
}

/// What is kept of a parameter.
const ENTRIES: [&str; 3] = ["moment_1", "moment_2", "time"];

/// Gradients that are no finite numbers; nothing may be updated with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gradient of {0} is no finite number")]
pub struct NotFinite(pub String);

/// A named vector of numbers, as [`Optimizer::restore`] takes them back.
pub type Entry = (String, Vec<f32>);

impl Optimizer {
    /// A fresh optimizer.
    pub fn new(train: &TrainSpec, tune: &TuneSpec) -> Self {
        Self {
            rule: Rule {
                lr: train.lr,
                betas: train.betas,
                epsilon: train.epsilon,
                decay: train.weight_decay,
                factor: 1.0,
                time: 0,
            },
            tune: tune.clone(),
            peak: train.lr,
            clip: train.clip,
            state: BTreeMap::new(),
            pending: Named::new(),
        }
    }

    /// Adds the gradients of one micro-batch, weighted.
    ///
    /// # Errors
    ///
    /// [`NotFinite`], if there are further micro-batches; of a single one the norm tells, see [`clip`](Self::clip).
    pub fn add(&mut self, gradients: Named, weight: f32) -> Result<(), NotFinite> {
        if weight != 1.0 {
            all_finite(&gradients)?;
        }
        for (name, gradient) in gradients {
            let gradient = if weight == 1.0 {
                gradient
            } else {
                gradient.mul_scalar(weight)
            };
            let sum = match self.pending.remove(&name) {
                Some(before) => before + gradient,
                None => gradient,
            };
            self.pending.insert(name, sum);
        }
        Ok(())
    }

    /// Forgets what was added since the last step.
    pub fn forget_gradients(&mut self) {
        self.pending.clear();
    }

    /// Ends an optimizer step: clips what was added and returns the norm before clipping. Afterwards comes
    /// [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// [`NotFinite`] naming a parameter, or all of them if only the norm is not.
    pub fn clip(&mut self) -> Result<f64, NotFinite> {
        let norm = self.pending.values().map(squares).sum::<f64>().sqrt();
        if !norm.is_finite() {
            all_finite(&self.pending)?;
            return Err(NotFinite("all parameters together".to_owned()));
        }
        let clipped = self.clip > 0.0 && norm > self.clip;
        self.rule.factor = if clipped {
            (self.clip / (norm + 1e-6)) as f32
        } else {
            1.0
        };
        Ok(norm)
    }

    /// The half with those of its parameters that have a gradient updated, at learning-rate factor `schedule`.
    #[must_use]
    pub fn update<H: Parts>(&mut self, half: H, schedule: f64) -> H {
        let names: BTreeSet<String> = self.pending.keys().cloned().collect();
        half.update(
            &|name| names.contains(name),
            &mut |name, value| match self.pending.remove(name) {
                Some(gradient) => self.updated(name, value, gradient, schedule),
                None => value,
            },
        )
    }

    fn updated(
        &mut self,
        name: &str,
        value: Tensor<1>,
        gradient: Tensor<1>,
        schedule: f64,
    ) -> Tensor<1> {
        let lr = self.peak * self.tune.lr_scale(name, self.peak) * schedule;
        let state = self.state.remove(name).unwrap_or_else(|| Moments {
            moments: [gradient.zeros_like(), gradient.zeros_like()],
            time: 0,
        });
        let time = state.time + 1;
        let decay = if decays(name) { self.rule.decay } else { 0.0 };
        let rule = Rule {
            lr,
            decay,
            time,
            ..self.rule
        };
        let (value, moments) = adamw(value, gradient, state.moments, &rule);
        self.state
            .insert(name.to_owned(), Moments { moments, time });
        value
    }

    /// The state by name: `NAME.moment_1`, `NAME.moment_2`, `NAME.time`.
    pub fn entries(&self) -> Tensors<'_> {
        let names = self.state.iter().flat_map(|(name, state)| {
            let moment = state.moments[0].dims().to_vec();
            let shapes = [moment.clone(), moment, vec![1]];
            let named = ENTRIES.iter().zip(shapes);
            named.map(move |(entry, shape)| (format!("{name}.{entry}"), shape))
        });
        Tensors::new(names.collect(), |take| {
            for (name, state) in &self.state {
                let mut push = |entry: &str, data: Vec<f32>| {
                    take(&NamedTensor {
                        name: format!("{name}.{entry}"),
                        shape: vec![data.len()],
                        data,
                    });
                };
                let [first, second, time] = ENTRIES;
                push(first, values(state.moments[0].clone()));
                push(second, values(state.moments[1].clone()));
                push(time, vec![state.time as f32]);
            }
        })
    }

    /// Restores what [`entries`](Self::entries) gave; returns the name of an entry that does not belong.
    pub fn restore(&mut self, entries: Vec<Entry>, device: &Device) -> Result<(), String> {
        self.state.clear();
        self.pending.clear();
        let mut entries: BTreeMap<String, Vec<f32>> = entries.into_iter().collect();
        while let Some((key, moment_1)) = entries.pop_first() {
            let name = key.strip_suffix(".moment_1").ok_or(key.clone())?.to_owned();
            let moment_2 = entries
                .remove(&format!("{name}.moment_2"))
                .ok_or(key.clone())?;
            let time = entries.remove(&format!("{name}.time")).ok_or(key)?;
            let tensor =
                |v: Vec<f32>| Tensor::<1>::from_data(TensorData::from(v.as_slice()), device);
            let state = Moments {
                time: time.first().copied().unwrap_or(0.0) as usize,
                moments: [tensor(moment_1), tensor(moment_2)],
            };
            self.state.insert(name, state);
        }
        Ok(())
    }
}

fn all_finite(gradients: &Named) -> Result<(), NotFinite> {
    let wrong = gradients
        .iter()
        .find(|(_, gradient)| !finite::all(gradient));
    wrong.map_or(Ok(()), |(name, _)| Err(NotFinite(name.clone())))
}
