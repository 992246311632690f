//! Weights by name: reading and writing safetensors, starting values, names of parameters.

mod cause;
mod checkpoint;
mod decode;
mod error;
mod file;
mod finite;
mod folder;
mod init;
mod keys;
mod load;
mod names;
mod random;
mod save;
mod wrapping;
mod write;

pub use checkpoint::Checkpoint;
pub use error::CheckpointError;
pub use file::{Dtype, Entry};
pub use finite::NotFinite;
pub use init::{Fill, initialize};
pub use keys::KeyMap;
pub use load::{Keep, LoadError, load_into, load_keeping, sources, unheld};
pub(crate) use load::{Mismatch, unheld_names};
pub(crate) use names::PathStack;
pub use names::{Parameter, param_id, parameters, rename_ids};
pub use random::Stream;
pub use save::{NamedTensor, SaveType, Tensors, save, tensors_of, values, visit_tensors};
pub use write::Announced;
