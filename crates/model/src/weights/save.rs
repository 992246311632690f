//! Writing parameters to a safetensors file that is either whole or not there.

use std::fs::File;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::CheckpointError;
use super::names::PathStack;
use super::write::{Announced, FileWriter};

/// The type that values are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveType {
    /// As they are.
    F32,
    /// Rounded to the nearest bfloat16.
    Bf16,
}

/// A parameter on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Full name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub data: Vec<f32>,
}

/// All float parameters of a module in module order; `prefix` goes before every name and ends in a dot unless empty.
pub fn tensors_of<M: Module>(module: &M, prefix: &str) -> Vec<NamedTensor> {
    let mut found = Vec::new();
    visit_tensors(module, prefix, &|_| true, &mut |tensor| found.push(tensor));
    found
}

/// Hands the float parameters whose names are `wanted` to `take`, one at a time and in module order.
pub fn visit_tensors<M: Module>(
    module: &M,
    prefix: &str,
    wanted: &dyn Fn(&str) -> bool,
    take: &mut dyn FnMut(NamedTensor),
) {
    struct Visitor<'a> {
        path: PathStack,
        prefix: &'a str,
        wanted: &'a dyn Fn(&str) -> bool,
        take: &'a mut dyn FnMut(NamedTensor),
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.name(self.prefix);
            if !(self.wanted)(&name) {
                return;
            }
            let data = param.base().into_data();
            (self.take)(NamedTensor {
                name,
                shape: data.shape().to_vec(),
                data: data.iter::<f32>().collect(),
            });
        }
    }
    module.visit(&mut Visitor {
        path: PathStack::default(),
        prefix,
        wanted,
        take,
    });
}

/// Writes the tensors to `path`: beside it first, then synced and renamed, so that a crash leaves the old file or the new.
///
/// # Errors
///
/// [`CheckpointError::Io`] naming the file, for example when the disk is full; the old file is then untouched.
pub fn save(path: &Path, tensors: &[NamedTensor], kind: SaveType) -> Result<(), CheckpointError> {
    let announced = tensors.iter().map(|t| (t.name.clone(), t.shape.clone()));
    save_each(path, announced.collect(), kind, |take| {
        tensors.iter().for_each(&mut *take);
    })
}

/// Like [`save`], for tensors that are made one at a time: `each` hands all that were `announced`, in that order, to what
/// it is given.
///
/// # Errors
///
/// As [`save`].
///
/// # Panics
///
/// If other tensors come than were announced.
pub fn save_each(
    path: &Path,
    announced: Vec<Announced>,
    kind: SaveType,
    each: impl Fn(&mut dyn FnMut(&NamedTensor)),
) -> Result<(), CheckpointError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let beside = path.with_file_name(name);
    let write = || -> Result<(), CheckpointError> {
        let mut file = FileWriter::create(&beside, announced, kind)?;
        let mut done = Ok(());
        each(&mut |tensor| {
            if done.is_ok() {
                done = file.push(tensor);
            }
        });
        done?;
        file.finish()
    };
    let done = write().and_then(|()| replace(&beside, path));
    if done.is_err() {
        // Best effort: the error that matters is already in hand.
        let _ = std::fs::remove_file(&beside);
    }
    done
}

fn replace(beside: &Path, path: &Path) -> Result<(), CheckpointError> {
    std::fs::rename(beside, path).map_err(|e| CheckpointError::io(path, e))?;
    // The rename itself lasts only once the folder is on disk; not every system can sync a folder.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}
