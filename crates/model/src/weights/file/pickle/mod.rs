//! A pickle machine that can build dictionaries of tensors and nothing else.
//!
//! A pickle is a program. This machine knows plain values and three callables by name, `OrderedDict`,
//! `_rebuild_tensor_v2` and `_rebuild_parameter`, none of which it calls: it notes what they stand for. Any other global
//! ends the reading. Values live in one list and refer to each other by number, so neither deep nesting nor shared
//! values cost more than the bytes that describe them.

mod machine;
#[cfg(test)]
mod tests;

use safetensors::Dtype;
use thiserror::Error;

pub(super) use machine::run;

/// Why a pickle cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum PickleError {
    /// It names an object that is not part of a tensor.
    #[error("it asks for {0}")]
    Global(String),
    /// It ends in the middle.
    #[error("it ends too early")]
    Truncated,
    /// An operation that no list of tensors needs.
    #[error("operation 0x{0:02x} at byte {1} is not supported")]
    Operation(u8, usize),
    /// An operation without its operands.
    #[error("it is malformed at byte {0}")]
    Malformed(usize),
}

/// Number of a value in the machine's list.
type Id = usize;

/// A value of a pickle.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// None, booleans, floats: of no interest here.
    Other,
    Int(i64),
    Text(String),
    /// A tuple or list.
    Sequence(Vec<Id>),
    /// Keys and values in turn.
    Dict(Vec<Id>),
    Callable(Callable),
    /// The class of a storage, by the type of its values.
    StorageClass(Dtype),
    /// Type and member of the zip.
    Storage(Dtype, String),
    Tensor(TensorRef),
}

/// What may stand before a REDUCE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
}

/// A tensor as the pickle describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorRef {
    pub(super) dtype: Dtype,
    /// The storage's name inside `data/`.
    pub(super) key: String,
    /// First value in the storage.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What a pickle built.
#[derive(Debug)]
pub(super) struct Built {
    values: Vec<Value>,
    root: Id,
}

impl Built {
    /// The entries of the outermost dictionary, or of the one it holds as `state_dict` or `model`.
    pub(super) fn named(&self) -> Vec<(&str, &Value)> {
        let entries = self.dict(self.root);
        for wrapper in ["state_dict", "model"] {
            let inner = entries.iter().find(|(name, _)| *name == wrapper);
            if let Some((_, Value::Dict(_))) = inner {
                let id = self.child(self.root, wrapper);
                return id.map(|id| self.dict(id)).unwrap_or_default();
            }
        }
        entries
    }

    fn dict(&self, id: Id) -> Vec<(&str, &Value)> {
        let Value::Dict(items) = &self.values[id] else {
            return Vec::new();
        };
        let pairs = items
            .chunks_exact(2)
            .filter_map(|pair| match &self.values[pair[0]] {
                Value::Text(name) => Some((name.as_str(), &self.values[pair[1]])),
                _ => None,
            });
        pairs.collect()
    }

    fn child(&self, id: Id, name: &str) -> Option<Id> {
        let Value::Dict(items) = &self.values[id] else {
            return None;
        };
        let pair = items
            .chunks_exact(2)
            .find(|pair| matches!(&self.values[pair[0]], Value::Text(text) if text == name))?;
        Some(pair[1])
    }
}
