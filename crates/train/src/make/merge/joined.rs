//! Both halves of a run, at a step that both have.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use qtl_model::Device;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::Parts;
use qtl_model::pretrained::restore;
use qtl_model::weights::{Dtype, NamedTensor};

use crate::adapt::Fingerprint;
use crate::adapter::Adapter;
use crate::average::{self, Weights};
use crate::checkpoint::{Saved, Side, State, Store};
use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::start::{Base, Start};

/// Both halves of a run's model at the newest step that both sides hold.
pub(crate) struct Joined {
    pub(crate) client: ClientPartition,
    pub(crate) server: ServerPartition,
    /// The client's state.
    pub(crate) state: State,
    pub(crate) recipe: Recipe,
    /// Whether the base has one matrix for head and token embedding.
    pub(crate) tied: bool,
    /// The adapter that the run started from.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Checksum of the base's language model.
    pub(crate) language_model: String,
    /// What the base has beside the halves.
    pub(crate) unheld: Vec<NamedTensor>,
    /// The types in the base's files.
    pub(super) stored: BTreeMap<String, Dtype>,
}

impl Joined {
    pub(crate) fn open(client: &Path, server: &Path, base: Base<'_>) -> Result<Self, TrainError> {
        let stores = [Store::look(client), Store::look(server)];
        let [ours, theirs] = newest([client, server], stores)?;
        let state = ours.state.clone();
        let recipe = Recipe::parse(&state.recipe, &[], Path::new("state.json"))?;
        let start = Start::open(base, &recipe)?;
        let device = Device::flex();
        let stored = |name: &str| recipe.tune.stores(name);

        let half: ClientPartition = start.read(&recipe, &device)?.partition;
        ours.stands_on(&Fingerprint::of(&half, &recipe.tune))?;
        let half = start.tune(half, &recipe)?;
        let client = restore(half, &ours.weights(), &stored)?;

        let half: ServerPartition = start.read(&recipe, &device)?.partition;
        theirs.stands_on(&Fingerprint::of(&half, &recipe.tune))?;
        let language_model = Fingerprint::of_language_model(&half);
        let half = start.tune(half, &recipe)?;
        let server = restore(half, &theirs.weights(), &stored)?;
        Ok(Self {
            client,
            server,
            state,
            recipe,
            tied: start.blueprint.config.text.tied_head,
            unheld: start.blueprint.unheld(&device)?,
            stored: start.blueprint.stored(&device)?,
            adapter: start.adapter,
            language_model,
        })
    }

    /// The same with the mean of the client's half and those in `others`.
    pub(super) fn averaged(mut self, others: &[&Path]) -> Result<Self, TrainError> {
        if others.is_empty() {
            return Ok(self);
        }
        let tune = self.recipe.tune.clone();
        let stored = |name: &str| tune.stores(name);
        let mut halves = vec![(weights_of(&self.client, &stored), 1)];
        for dir in others {
            let State { step, run, .. } = &self.state;
            let saved = Store::look(dir).load(*step, Side::Client, run)?;
            let half = restore(self.client.clone(), &saved.weights(), &stored)?;
            halves.push((weights_of(&half, &stored), 1));
        }
        let mean = average::mean(&halves).map_err(|(_, what)| TrainError::Halves(what))?;
        let device = self.client.device();
        self.client = self.client.replace(&mut |name, _| {
            let (_, values) = mean.get(name)?;
            Some(Tensor::from_data(
                TensorData::from(values.as_slice()),
                &device,
            ))
        });
        Ok(self)
    }
}

/// Those of a half's parameters that are `wanted`.
fn weights_of(half: &impl Parts, wanted: &dyn Fn(&str) -> bool) -> Weights {
    let mut weights = Weights::new();
    half.visit_tensors(wanted, &mut |tensor| {
        weights.insert(tensor.name, (tensor.shape, tensor.data));
    });
    weights
}

/// The checkpoints of the newest step that both stores hold of one run.
fn newest(dirs: [&Path; 2], [client, server]: [Store; 2]) -> Result<[Saved; 2], TrainError> {
    let runs = (client.run(), server.run());
    let (Some(run), true) = (runs.0.clone(), runs.0 == runs.1) else {
        let show = |run: Option<String>| run.unwrap_or_else(|| "nothing".to_owned());
        return Err(TrainError::Halves(format!(
            "{} holds {} and {} holds {}: the two halves are not of one run",
            dirs[0].display(),
            show(runs.0),
            dirs[1].display(),
            show(runs.1)
        )));
    };
    let theirs = server.steps();
    let step = client
        .steps()
        .into_iter()
        .rev()
        .find(|step| theirs.contains(step));
    let Some(step) = step else {
        return Err(TrainError::Halves(format!(
            "{} and {} have no checkpoint of the same step",
            dirs[0].display(),
            dirs[1].display()
        )));
    };
    let client = client.load(step, Side::Client, &run)?;
    Ok([client, server.load(step, Side::Server, &run)?])
}
