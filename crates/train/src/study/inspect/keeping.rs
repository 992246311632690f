//! Which blocks keep their graphs from forward to backward, and are not run again: a reckoning of what the graphs take, and of
//! what room there is for them.

use std::collections::BTreeMap;

use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::{BLOCKS, Parts, VISION_TOWER};
use qtl_model::recompute::Graphs;
use qtl_model::tuning::Storage;
use qtl_model::weights::Parameter;

use super::memory::{F32, Memory};
use super::shapes::Shapes;
use crate::adapt::treatment;
use crate::recipe::{Activation, Recipe, Recompute};

/// How many blocks of a half keep their graphs.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// Of the tower, where it is trained.
    pub tower: Graphs,
    /// Of the language model.
    pub blocks: Graphs,
}

impl Keeping {
    /// None does.
    pub(super) const NONE: Self = Self {
        tower: Graphs::NONE,
        blocks: Graphs::NONE,
    };
    /// All do.
    pub(super) const ALL: Self = Self {
        tower: Graphs::ALL,
        blocks: Graphs::ALL,
    };

    /// Of the client's half as the recipe says, where `free` bytes of memory are.
    pub fn of_client(half: &ClientPartition, recipe: &Recipe, free: u64) -> Self {
        let vits = half.bottom.vision_tower.vits();
        let vision = vits.first().map(|vit| vit.spec());
        let shapes = Shapes::largest(half.bottom.blocks.spec(), vision, recipe);
        let chains = client_chains(half, recipe, &shapes);
        let top = half.top.as_ref().map(|top| top.stage.blocks.len());
        let runs = [
            chains[0].count as usize,
            half.bottom.blocks.len(),
            top.unwrap_or(0),
        ];
        let runs = runs.iter().filter(|run| **run > 0).count() as u64;
        Self::within(chains, recipe, || {
            let least = Memory::of_client(half, recipe, &shapes, &|_| false, Self::NONE);
            (free / 2).saturating_sub(least.training) / runs.max(1)
        })
    }

    /// Of the server's half.
    pub fn of_server(half: &ServerPartition, recipe: &Recipe, free: u64) -> Self {
        let shapes = Shapes::largest(half.trunk.spec(), None, recipe);
        let blocks = server_chain(half, recipe, &shapes);
        Self::within([Chain::default(), blocks], recipe, || {
            match half.downlink() {
                None => {
                    let least = Memory::of_server(half, recipe, &shapes, &|_| false, Self::NONE);
                    (free / 2).saturating_sub(least.training)
                }
                // Graphs would wait for the second trip, those of every client.
                Some(_) => 0,
            }
        })
    }

    /// As the recipe says. `room`: for each run of blocks its share of half of what is free, less what training the largest batch
    /// takes without graphs; the other half of the model may be on the same machine.
    fn within([tower, blocks]: [Chain; 2], recipe: &Recipe, room: impl FnOnce() -> u64) -> Self {
        match recipe.train.recompute {
            Recompute::Always => Self::NONE,
            Recompute::Never => Self::ALL,
            Recompute::Auto => {
                let room = room();
                Self {
                    tower: tower.graphs(room),
                    blocks: blocks.graphs(room),
                }
            }
        }
    }
}

/// The blocks that a step goes through with a graph, and what the graph of one takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chain {
    /// How many there are.
    pub(super) count: u64,
    /// Bytes, whatever it is run on.
    pub(super) block: u64,
    /// Bytes for every row.
    pub(super) row: u64,
}

/// What blocks keep from forward to backward.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InBlocks {
    /// Bytes of the inputs of those that are run again.
    pub(super) inputs: u64,
    /// Bytes of the graphs of the others.
    pub(super) graphs: u64,
    /// How many these are.
    pub(super) count: u64,
}

impl InBlocks {
    /// What both keep.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            inputs: self.inputs + other.inputs,
            graphs: self.graphs + other.graphs,
            count: self.count + other.count,
        }
    }
}

impl Chain {
    /// Of the blocks whose parameters' names start with `prefix`, of which a graph keeps `numbers` per row beside what branches
    /// add. The largest block counts for all.
    fn of(
        parameters: &[Parameter],
        recipe: &Recipe,
        prefix: &str,
        numbers: u64,
        activation: Activation,
    ) -> Self {
        let mut blocks: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        for parameter in parameters.iter().filter(|p| p.name.starts_with(prefix)) {
            let Some(block) = path(&parameter.name) else {
                continue;
            };
            let [fixed, branches] = blocks.entry(block).or_default();
            let Some(kind) = parameter.matrix else {
                continue;
            };
            let count = parameter.shape.iter().product::<usize>() as u64;
            let treatment = treatment(&recipe.tune, &parameter.name, kind);
            // Products keep the matrix as they used it: as it is, but for one that was unpacked or narrowed for them.
            *fixed += match (treatment.storage, activation) {
                (Storage::Bf16, _) | (Storage::F32, Activation::F32) => 0,
                (_, Activation::Bf16) => 2 * count,
                (Storage::Nf4, _) => F32 * count,
            };
            if let Some(lora) = treatment.lora {
                let input = parameter.shape.last().copied().unwrap_or_default();
                let dropped = if lora.dropout > 0.0 { 2 * input } else { 0 };
                *branches += F32 * (dropped + 2 * lora.rank) as u64;
            }
        }
        let most = |i: usize| blocks.values().map(|block| block[i]).max().unwrap_or(0);
        Self {
            count: blocks.len() as u64,
            block: most(0),
            row: F32 * numbers + most(1),
        }
    }

    fn graphs(&self, room: u64) -> Graphs {
        match self.count {
            0 => Graphs::NONE,
            _ => Graphs {
                room,
                block: self.block,
                row: self.row,
            },
        }
    }

    /// What all blocks keep for so many rows of this width.
    pub(super) fn kept(&self, graphs: Graphs, rows: u64, width: u64) -> InBlocks {
        let kept = graphs.kept(self.count as usize, rows as usize) as u64;
        InBlocks {
            inputs: (self.count - kept) * F32 * rows * width,
            graphs: kept * (self.block + rows * self.row),
            count: kept,
        }
    }
}

/// The path of the block that a parameter belongs to: what its name is up to the block's number.
fn path(name: &str) -> Option<&str> {
    let number = crate::tune::block(name)?.to_string();
    let at = ["layers.", "layer."]
        .iter()
        .find_map(|list| name.find(list).map(|at| at + list.len()))?;
    Some(&name[..at + number.len()])
}

/// The client's tower, if it is trained, and blocks.
pub(super) fn client_chains(
    half: &ClientPartition,
    recipe: &Recipe,
    shapes: &Shapes,
) -> [Chain; 2] {
    let parameters = half.parameters();
    let learns = |p: &Parameter| {
        p.name.starts_with(VISION_TOWER.prefix)
            && (recipe.tune.trains(&p.name) || super::branch(p, recipe) > 0)
    };
    let tower = match parameters.iter().any(learns) {
        true => {
            let numbers = shapes.vision.kept(shapes.picture_rows, Activation::F32);
            let prefix = VISION_TOWER.prefix;
            Chain::of(&parameters, recipe, prefix, numbers, Activation::F32)
        }
        false => Chain::default(),
    };
    [tower, blocks(&parameters, recipe, shapes)]
}

/// The server's blocks.
pub(super) fn server_chain(half: &ServerPartition, recipe: &Recipe, shapes: &Shapes) -> Chain {
    blocks(&half.parameters(), recipe, shapes)
}

fn blocks(parameters: &[Parameter], recipe: &Recipe, shapes: &Shapes) -> Chain {
    let activation = recipe.train.activation;
    let numbers = shapes.text.kept(shapes.sequence(), activation);
    Chain::of(parameters, recipe, BLOCKS.prefix, numbers, activation)
}
