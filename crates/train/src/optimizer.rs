//! AdamW over named parameters, with a state that can be written into a checkpoint by name.
//!
//! The arithmetic is burn's own AdamW, applied tensor by tensor: burn's module optimizer keys its state by
//! random parameter ids, which mean nothing to another process.

use std::collections::BTreeMap;

use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer as _};
use burn::tensor::{Device, Tensor, TensorData};
use qtl_model::finite;
use qtl_model::params::Named;
use qtl_model::weights::{NamedTensor, Tensors, values};

use crate::recipe::TrainSpec;
use crate::tune::{TuneSpec, decays};

/// The optimizer of one half of the model.
pub struct Optimizer {
    decayed: AdamW,
    plain: AdamW,
    tune: TuneSpec,
    peak: f64,
    clip: f64,
    state: BTreeMap<String, AdamWState<1>>,
    /// Gradients of the micro-batches since the last step.
    pending: Named,
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
        let config = AdamWConfig::new()
            .with_beta_1(train.betas[0])
            .with_beta_2(train.betas[1])
            .with_epsilon(train.epsilon);
        Self {
            decayed: config.clone().with_weight_decay(train.weight_decay).build(),
            plain: config.with_weight_decay(0.0).build(),
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

    /// Ends an optimizer step: clips what was added and returns the norm before clipping. Afterwards
    /// [`update`](Self::update) is to be called for each parameter.
    ///
    /// # Errors
    ///
    /// [`NotFinite`] naming a parameter, or all of them if only the norm is not.
    pub fn clip(&mut self) -> Result<f64, NotFinite> {
        let square = |g: &Tensor<1>| f64::from(g.clone().square().sum().into_scalar::<f32>());
        let norm = self.pending.values().map(square).sum::<f64>().sqrt();
        if !norm.is_finite() {
            all_finite(&self.pending)?;
            return Err(NotFinite("all parameters together".to_owned()));
        }
        if self.clip > 0.0 && norm > self.clip {
            let factor = self.clip / (norm + 1e-6);
            for gradient in self.pending.values_mut() {
                *gradient = gradient.clone().mul_scalar(factor);
            }
        }
        Ok(norm)
    }

    /// The new value of a parameter at learning-rate factor `schedule`, or `None` if it has no gradient.
    pub fn update(&mut self, name: &str, value: Tensor<1>, schedule: f64) -> Option<Tensor<1>> {
        let gradient = self.pending.remove(name)?;
        let lr = self.peak * self.tune.lr_scale(name, self.peak) * schedule;
        let rule = if decays(name) {
            &self.decayed
        } else {
            &self.plain
        };
        let (value, state) = rule.step(lr, value, gradient, self.state.remove(name));
        if let Some(state) = state {
            self.state.insert(name.to_owned(), state);
        }
        Some(value)
    }

    /// The state by name: `NAME.moment_1`, `NAME.moment_2`, `NAME.time`.
    pub fn entries(&self) -> Tensors<'_> {
        let names = self.state.iter().flat_map(|(name, state)| {
            let moment = state.momentum.moment_1.dims().to_vec();
            let shapes = [moment.clone(), moment, vec![1]];
            let named = ENTRIES.iter().zip(shapes);
            named.map(move |(entry, shape)| (format!("{name}.{entry}"), shape))
        });
        Tensors::new(names.collect(), |take| {
            for (name, AdamWState { momentum }) in &self.state {
                let mut push = |entry: &str, data: Vec<f32>| {
                    take(&NamedTensor {
                        name: format!("{name}.{entry}"),
                        shape: vec![data.len()],
                        data,
                    });
                };
                let [first, second, time] = ENTRIES;
                push(first, values(momentum.moment_1.clone()));
                push(second, values(momentum.moment_2.clone()));
                push(time, vec![momentum.time as f32]);
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
            let momentum = AdaptiveMomentumState {
                time: time.first().copied().unwrap_or(0.0) as usize,
                moment_1: tensor(moment_1),
                moment_2: tensor(moment_2),
                max_moment_2: None,
            };
            self.state.insert(name, AdamWState { momentum });
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
