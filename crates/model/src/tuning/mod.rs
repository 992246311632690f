//! How a part's matrices are kept and tuned: frozen ones in fewer bits, low-rank branches beside them.
//!
//! Everything hangs on burn's reparameterizations, which a parameter carries along: no model declares anything, and a
//! parameter of a branch exists only where there is a branch. [`crate::nn::Linear`] runs the branch beside its product;
//! folding the two into one matrix is `Module::materialize`.

mod adapted;
pub mod dropout;
mod lora;
mod nf4;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::weights::PathStack;
pub(crate) use adapted::Adapted;
pub use lora::LoraSpec;
pub use nf4::{LEVELS as NF4_LEVELS, Nf4};

/// How a frozen matrix is kept in memory. Products on the CPU read bfloat16 as it is; else it is widened whenever it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: half the memory.
    Bf16,
    /// 4-bit NormalFloat with double-quantized scales: 4.13 bits per value. See [`Nf4`].
    Nf4,
}

impl Storage {
    /// The type of the tensors that it keeps.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::Nf4 => DType::U8,
        }
    }
}

/// A matrix that can be kept in fewer bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// The weight of a linear map; it can have a branch.
    Linear,
    /// A table of vectors.
    Table,
}

/// What becomes of one matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Treatment {
    /// How its values are kept.
    pub storage: Storage,
    /// The branch beside it.
    pub lora: Option<LoraSpec>,
}

/// Treats every linear map and table of `module` as `choose` says, given the name of its weight. Fresh branches are
/// drawn from `seed` and their names.
///
/// To be applied once, to a module that has its values.
pub fn adapt<M: Module>(
    module: M,
    prefix: &str,
    seed: u64,
    choose: &dyn Fn(&str, Matrix) -> Treatment,
) -> M {
    module.map(&mut Adapt {
        path: PathStack::default(),
        prefix,
        seed,
        choose,
    })
}

struct Adapt<'a> {
    path: PathStack,
    prefix: &'a str,
    seed: u64,
    choose: &'a dyn Fn(&str, Matrix) -> Treatment,
}

impl ModuleMapper for Adapt<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(kind) = self.path.matrix() else {
            return param;
        };
        let name = self.path.name(self.prefix);
        let treatment = (self.choose)(&name, kind);
        match treatment {
            Treatment {
                storage: Storage::F32,
                lora: None,
            } => param,
            Treatment {
                storage: Storage::Bf16,
                lora: None,
            } => param.map(|value| value.cast(DType::BF16)),
            treatment => param.apply_reparameterization(adapted::Attach {
                name,
                treatment,
                seed: self.seed,
            }),
        }
    }
}
