//! Names and ids of parameters.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use crate::nn::NAMED;
use crate::tuning::Matrix;

/// A parameter without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Path in the module tree, below the prefix it was asked for.
    pub name: String,
    /// The id that optimizers know it by.
    pub id: ParamId,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Which matrix it is, if it is one that can be kept in fewer bits.
    pub matrix: Option<Matrix>,
}

/// The path to where a traversal is. Variants of enums are not part of a name: which normalisation a model has does not
/// change what its weight is called. A [`crate::nn::Named`] module's name takes the place of its field's. A field whose name in the files is no identifier carries an underscore: `_0` is
/// called `0`, and `self_` is called `self`. What a parameter carries along stands beside it, as PEFT's files
/// have it.
#[derive(Debug, Default)]
pub(crate) struct PathStack {
    parts: Vec<Part>,
    /// For every level: which matrix it is, if it is one.
    matrices: Vec<Option<Matrix>>,
}

#[derive(Debug)]
enum Part {
    Name(String),
    Hidden,
    /// Takes the place of the name before it.
    Beside,
}

impl PathStack {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        if container == NAMED
            && let Some(field) = self.parts.last_mut()
        {
            *field = Part::Hidden;
        }
        self.parts.push(match container {
            NAMED if name.is_empty() => Part::Hidden,
            NAMED => Part::Name(name.to_owned()),
            "Reparameterization" => Part::Beside,
            "Struct:Adapted" => Part::Hidden,
            _ if container.starts_with("Enum:") => Part::Hidden,
            _ => Part::Name(spelled(name).to_owned()),
        });
        self.matrices.push(match (container, name) {
            ("Struct:Linear", "weight") => Some(Matrix::Linear),
            ("Struct:Embedding", "weight") => Some(Matrix::Table),
            _ => None,
        });
    }

    pub(crate) fn exit(&mut self) {
        self.parts.pop();
        self.matrices.pop();
    }

    /// Which matrix the traversal is at, if it is at one.
    pub(crate) fn matrix(&self) -> Option<Matrix> {
        self.matrices.last().copied().flatten()
    }

    /// The full name with `prefix` before it; the prefix brings its own dot.
    pub(crate) fn name(&self, prefix: &str) -> String {
        let mut names: Vec<&str> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Name(name) => names.push(name),
                Part::Hidden => {}
                Part::Beside => {
                    names.pop();
                }
            }
        }
        format!("{prefix}{}", names.join("."))
    }
}

fn spelled(field: &str) -> &str {
    match field.strip_prefix('_') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => digits,
        _ => field.strip_suffix('_').unwrap_or(field),
    }
}

/// An id that depends on the name alone, so that runs can be repeated and optimizer state finds its parameter.
pub fn param_id(name: &str) -> ParamId {
    ParamId::from(hash(name))
}

/// 64-bit FNV-1a.
pub(super) fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// All float parameters in module order; `prefix` goes before every name and ends in a dot unless empty.
pub fn parameters<M: Module>(module: &M, prefix: &str) -> Vec<Parameter> {
    struct Visitor<'a> {
        path: PathStack,
        prefix: &'a str,
        found: Vec<Parameter>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push(Parameter {
                name: self.path.name(self.prefix),
                id: param.id,
                shape: param.lazy_shape().to_vec(),
                matrix: self.path.matrix(),
            });
        }
    }
    let mut visitor = Visitor {
        path: PathStack::default(),
        prefix,
        found: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// Gives every float parameter the id of its name; values stay untouched and uninitialised ones stay so.
pub fn rename_ids<M: Module>(module: M, prefix: &str) -> M {
    struct Mapper<'a> {
        path: PathStack,
        prefix: &'a str,
    }
    impl ModuleMapper for Mapper<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.id = param_id(&self.path.name(self.prefix));
            param
        }
    }
    let path = PathStack::default();
    module.map(&mut Mapper { path, prefix })
}
