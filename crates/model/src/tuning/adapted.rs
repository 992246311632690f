//! What a treated matrix carries along.

use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{DType, Tensor};

use super::lora::Lora;
use super::{Nf4, Storage, Treatment};

/// The state beside a matrix: its branch, and its values where they are packed.
#[derive(Module, Debug)]
pub(crate) struct Adapted {
    lora: Option<Lora>,
    #[module(skip)]
    packed: Option<Nf4>,
}

impl Adapted {
    /// The values of the frozen matrix, `[out, in]`; `stored` is what the parameter holds.
    pub(crate) fn weight(&self, stored: Tensor<2>) -> Tensor<2> {
        match &self.packed {
            Some(packed) => packed.unpack(),
            None => stored,
        }
    }

    /// What the branch adds for the input `x: [.., in]`: `[.., out]`, or nothing if there is none.
    pub(crate) fn branch<const D: usize>(&self, x: Tensor<D>) -> Option<Tensor<D>> {
        self.lora.as_ref().map(|lora| lora.forward(x))
    }
}

impl Reparameterization for Adapted {
    const NAME: &'static str = "adapted";

    /// Folds the branch into the matrix.
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let base = match &self.packed {
            Some(packed) => {
                let unpacked = packed.unpack();
                let shape = unpacked.shape();
                unpacked.reshape(shape)
            }
            None => base.cast(DType::F32),
        };
        match &self.lora {
            Some(lora) => {
                let shape = base.shape();
                base + lora.delta().reshape(shape)
            }
            None => base,
        }
    }
}

/// Attaches the state to one matrix.
pub(super) struct Attach {
    pub(super) name: String,
    pub(super) treatment: Treatment,
    pub(super) seed: u64,
}

impl Reparameterizer for Attach {
    type Reparam = Adapted;

    fn reparameterize<const D: usize>(
        &mut self,
        _path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Adapted>) {
        let value = param.base();
        let device = value.device();
        let [rows, columns] = match *value.dims().as_slice() {
            [rows, columns] => [rows, columns],
            _ => return (param, None),
        };
        let lora = self
            .treatment
            .lora
            .as_ref()
            .map(|spec| Lora::new(spec, &self.name, [rows, columns], self.seed, &device));
        let (param, packed) = match self.treatment.storage {
            Storage::F32 => (param, None),
            Storage::Bf16 => (param.map(|value| value.cast(DType::BF16)), None),
            Storage::Nf4 => {
                let values: Vec<f32> = value.into_data().iter::<f32>().collect();
                let packed = Nf4::pack(&values, [rows, columns], &device);
                // The parameter itself keeps its name and nothing else.
                let empty = Param::initialized(param.id, Tensor::zeros([0; D], &device));
                (empty, Some(packed))
            }
        };
        (param, Some(Adapted { lora, packed }))
    }
}
