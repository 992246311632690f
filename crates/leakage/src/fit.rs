//! Training an attacker's network: AdamW, a learning rate that rises and falls with the time that there is.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use qtl_fused::adamw;
use qtl_fused::adamw::Rule;
use qtl_model::params::{self, Named};
use qtl_model::weights::{Fill, initialize};

use crate::clock::Clock;

/// Share of the time in which the learning rate rises.
const WARMUP: f64 = 0.03;
/// Weight of the newest loss in the mean that is returned.
const NEW: f64 = 0.02;

/// A network under training.
pub struct Fit<M> {
    model: M,
    moments: BTreeMap<String, [Tensor<1>; 2]>,
    steps: usize,
    peak: f64,
    decay: f32,
}

impl<M: Module> Fit<M> {
    /// A fresh network: weights drawn from `seed`, biases zero, scales of norms as they are.
    pub fn new(model: M, seed: u64, peak: f64, decay: f32) -> Self {
        let fill = |name: &str, shape: &[usize]| match shape {
            [_] if name.ends_with("weight") => Fill::Ones,
            [_] => Fill::Zeros,
            _ if name.ends_with("positions") => Fill::Normal(0.02),
            shape => Fill::xavier(shape),
        };
        Self {
            model: initialize(model, "", seed, fill),
            moments: BTreeMap::new(),
            steps: 0,
            peak,
            decay,
        }
    }

    /// With other starting values.
    #[must_use]
    pub fn beginning(mut self, change: impl FnOnce(M) -> M) -> Self {
        self.model = change(self.model);
        self
    }

    /// The network as it is.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Steps taken.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Trains until the time is over; `loss` makes a batch of its own and gives its loss. Returns the recent mean of it.
    pub fn run(&mut self, clock: &Clock<'_>, loss: impl FnMut(&M) -> Tensor<1>) -> f64 {
        self.run_in(clock, 1, loss, |_| {})
    }

    /// The same; `look` is shown the network so many times, the last time at the end.
    pub fn run_in(
        &mut self,
        clock: &Clock<'_>,
        looks: usize,
        mut loss: impl FnMut(&M) -> Tensor<1>,
        mut look: impl FnMut(&M),
    ) -> f64 {
        let (mut recent, mut looked) = (None, 0);
        while let Some(at) = clock.at() {
            if at * looks as f64 > (looked + 1) as f64 {
                looked += 1;
                look(&self.model);
            }
            let rise = (at / WARMUP).clamp(0.05, 1.0);
            let fall = 0.5 * (1.0 + (std::f64::consts::PI * at).cos());
            let value = self.step(self.peak * rise * fall, &mut loss);
            let mean = recent.get_or_insert(value);
            *mean += NEW * (value - *mean);
        }
        if self.steps > 0 {
            look(&self.model);
        }
        recent.unwrap_or(f64::NAN)
    }

    fn step(&mut self, lr: f64, loss: &mut impl FnMut(&M) -> Tensor<1>) -> f64 {
        let tracked = params::track(&self.model, "", &|_| true);
        let loss = loss(&tracked);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        let mut grads = loss.backward();
        let mut gradients = Named::new();
        params::collect(&tracked, "", &mut grads, &mut gradients);
        drop(tracked);
        self.steps += 1;
        let (steps, decay, moments) = (self.steps, self.decay, &mut self.moments);
        let mut change = |name: &str, value: Tensor<1>| {
            let Some(gradient) = gradients.remove(name) else {
                return value;
            };
            let before = moments.remove(name);
            let before = before.unwrap_or_else(|| [gradient.zeros_like(), gradient.zeros_like()]);
            let rule = Rule {
                lr,
                betas: [0.9, 0.98],
                epsilon: 1e-8,
                decay: if name.contains("norm") || name.ends_with("bias") {
                    0.0
                } else {
                    decay
                },
                factor: 1.0,
                time: steps,
            };
            let (value, after) = adamw(value, gradient, before, &rule);
            moments.insert(name.to_owned(), after);
            value
        };
        self.model = params::update(self.model.clone(), "", &|_| true, &mut change);
        value
    }
}
