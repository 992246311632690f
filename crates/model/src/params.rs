//! Named parameters: tracking them, collecting their gradients, replacing their values.
//!
//! A module lives on the plain device. For a training step a *tracked* copy is made (cheap: tensors are
//! shared), in which exactly the trained parameters are leaves of the autodiff graph; everything else
//! stays a constant, so no graph is kept for it. Names are module paths, which are Hugging Face names.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};

use crate::weights::PathStack;

/// A named set of flattened tensors on the plain device, such as the gradients of one step.
pub type Named = BTreeMap<String, Tensor<1>>;

/// A copy of `module` whose parameters chosen by `trained` (given the module path) are autodiff leaves.
pub fn track<M: Module>(module: &M, prefix: &str, trained: &dyn Fn(&str) -> bool) -> M {
    module.clone().map(&mut Track {
        path: PathStack::default(),
        prefix,
        trained,
    })
}

/// Moves the gradients that `grads` holds for the leaves of `tracked` into `into`, adding to what is there.
pub fn collect<M: Module>(tracked: &M, prefix: &str, grads: &mut Gradients, into: &mut Named) {
    tracked.visit(&mut Collect {
        path: PathStack::default(),
        prefix,
        grads,
        into,
    });
}

/// Replaces each parameter by `change(path, flattened value)` where that returns a value.
pub fn replace<M: Module>(
    module: M,
    prefix: &str,
    change: &mut dyn FnMut(&str, Tensor<1>) -> Option<Tensor<1>>,
) -> M {
    module.map(&mut Replace {
        path: PathStack::default(),
        prefix,
        change,
    })
}

/// Turns each parameter that is `wanted` into `change(path, flattened value)`. The value is handed over, so that, where nobody else
/// holds it, it can be changed in its place.
pub fn update<M: Module>(
    module: M,
    prefix: &str,
    wanted: &dyn Fn(&str) -> bool,
    change: &mut dyn FnMut(&str, Tensor<1>) -> Tensor<1>,
) -> M {
    module.map(&mut Update {
        path: PathStack::default(),
        prefix,
        wanted,
        change,
    })
}

/// The device of the first parameter; the default one if there is none.
pub fn device<M: Module>(module: &M) -> Device {
    struct First(Option<Device>);
    impl ModuleVisitor for First {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.get_or_insert_with(|| param.lazy_device());
        }
    }
    let mut first = First(None);
    module.visit(&mut first);
    first.0.unwrap_or_default()
}

macro_rules! walk {
    () => {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }
    };
}

struct Track<'a> {
    path: PathStack,
    prefix: &'a str,
    trained: &'a dyn Fn(&str) -> bool,
}

impl ModuleMapper for Track<'_> {
    walk!();
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = param.val();
        let value = if (self.trained)(&self.path.name(self.prefix)) {
            value.autodiff().require_grad()
        } else {
            value
        };
        Param::initialized(param.id, value)
    }
}

struct Collect<'a> {
    path: PathStack,
    prefix: &'a str,
    grads: &'a mut Gradients,
    into: &'a mut Named,
}

impl ModuleVisitor for Collect<'_> {
    walk!();
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let Some(grad) = value.grad_remove(self.grads) else {
            return;
        };
        let count = grad.shape().num_elements();
        let grad = grad.reshape([count]);
        let name = self.path.name(self.prefix);
        let sum = match self.into.remove(&name) {
            Some(before) => before + grad,
            None => grad,
        };
        self.into.insert(name, sum);
    }
}

struct Replace<'a> {
    path: PathStack,
    prefix: &'a str,
    change: &'a mut dyn FnMut(&str, Tensor<1>) -> Option<Tensor<1>>,
}

impl ModuleMapper for Replace<'_> {
    walk!();
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = param.val();
        let dims: [usize; D] = value.dims();
        let count: usize = dims.iter().product();
        match (self.change)(&self.path.name(self.prefix), value.clone().reshape([count])) {
            Some(flat) => Param::initialized(param.id, flat.reshape(dims)),
            None => param,
        }
    }
}

struct Update<'a> {
    path: PathStack,
    prefix: &'a str,
    wanted: &'a dyn Fn(&str) -> bool,
    change: &'a mut dyn FnMut(&str, Tensor<1>) -> Tensor<1>,
}

impl ModuleMapper for Update<'_> {
    walk!();
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name(self.prefix);
        if !(self.wanted)(&name) {
            return param;
        }
        let (id, value, _) = param.consume();
        let dims: [usize; D] = value.dims();
        let flat = value.reshape([dims.iter().product::<usize>()]);
        Param::initialized(id, (self.change)(&name, flat).reshape(dims))
    }
}
