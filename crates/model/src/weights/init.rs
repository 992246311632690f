//! Starting values of models trained from nothing.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use super::names::{PathStack, param_id};
use super::random::Stream;

/// How one parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// All this value.
    Constant(f64),
    /// Normal with mean zero and this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
}

impl Fill {
    /// Glorot and Bengio's uniform: bound `sqrt(6 / (in + out))` for a `[out, in]` matrix.
    pub fn xavier(shape: &[usize]) -> Self {
        let fans = shape[0] + shape[1..].iter().product::<usize>();
        Self::Uniform((6.0 / fans as f64).sqrt())
    }

    fn values(self, count: usize, stream: &mut Stream) -> Vec<f32> {
        match self {
            Self::Zeros => vec![0.0; count],
            Self::Ones => vec![1.0; count],
            Self::Constant(value) => vec![value as f32; count],
            Self::Normal(deviation) => (0..count)
                .map(|_| (deviation * stream.normal()) as f32)
                .collect(),
            Self::Uniform(bound) => (0..count)
                .map(|_| (bound * (2.0 * stream.uniform() - 1.0)) as f32)
                .collect(),
        }
    }
}

/// Gives every float parameter the values that `rule(name, shape)` asks for and the id of its name.
///
/// A parameter's values depend on the seed and its name alone, not on what else the module holds.
pub fn initialize<M: Module>(
    module: M,
    prefix: &str,
    seed: u64,
    rule: impl Fn(&str, &[usize]) -> Fill,
) -> M {
    let path = PathStack::default();
    module.map(&mut Mapper {
        path,
        prefix,
        seed,
        rule,
    })
}

struct Mapper<'a, F> {
    path: PathStack,
    prefix: &'a str,
    seed: u64,
    rule: F,
}

impl<F: Fn(&str, &[usize]) -> Fill> ModuleMapper for Mapper<'_, F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name(self.prefix);
        let shape = param.lazy_shape();
        let fill = (self.rule)(&name, shape.as_slice());
        let values = fill.values(shape.num_elements(), &mut Stream::new(self.seed, &name));
        let data = TensorData::new(values, shape);
        let tensor = Tensor::from_data(data, &param.lazy_device());
        param.transform_for_load(tensor, param_id(&name))
    }
}
