//! Writing parameters to a safetensors file that is either whole or not there.

use std::fs::File;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::CheckpointError;
use super::folder::FolderWriter;
use super::names::{Parameter, PathStack};
use super::write::{Announced, FileWriter};

/// Values fetched from a device at a time.
const PIECE: usize = 1 << 20;

/// The type that values are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveType {
    /// As they are.
    F32,
    /// Rounded to the nearest 16-bit float; one that is out of its range is an error.
    F16,
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
            let value = param.base();
            (self.take)(NamedTensor {
                name,
                shape: value.dims().to_vec(),
                data: values(value),
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

/// The values of a tensor, row-major. They are fetched piece by piece: a whole tensor would exist once more on its way.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let count = tensor.shape().num_elements();
    let flat = tensor.reshape([count]);
    let mut values = Vec::with_capacity(count);
    for first in (0..count).step_by(PIECE) {
        let piece = flat.clone().narrow(0, first, PIECE.min(count - first));
        let piece = piece.into_data().convert::<f32>().try_into_vec::<f32>();
        values.extend(piece.expect("converted to f32"));
    }
    values
}

/// Tensors that are written one at a time, so that they need not all be on the host at once.
pub struct Tensors<'a> {
    announced: Vec<Announced>,
    each: Box<Each<'a>>,
}

/// Hands all tensors, in the order in which they were announced, to what it is given.
type Each<'a> = dyn Fn(&mut dyn FnMut(&NamedTensor)) + 'a;

impl<'a> Tensors<'a> {
    /// The tensors that `each` hands out; they are to be those `announced`, in that order.
    pub fn new(
        announced: Vec<Announced>,
        each: impl Fn(&mut dyn FnMut(&NamedTensor)) + 'a,
    ) -> Self {
        Self {
            announced,
            each: Box::new(each),
        }
    }

    /// Those `parameters` whose names are `wanted`; `visit` hands out just these.
    pub(crate) fn chosen(
        parameters: Vec<Parameter>,
        wanted: &dyn Fn(&str) -> bool,
        visit: impl Fn(&mut dyn FnMut(NamedTensor)) + 'a,
    ) -> Self {
        let chosen = parameters.into_iter().filter(|p| wanted(&p.name));
        let announced = chosen.map(|p| (p.name, p.shape)).collect();
        Self::new(announced, move |take| visit(&mut |tensor| take(&tensor)))
    }

    /// These, and after them the `others`.
    #[must_use]
    pub fn chain(mut self, others: Self) -> Self {
        let (first, second) = (self.each, others.each);
        self.announced.extend(others.announced);
        Self::new(self.announced, move |take| {
            first(&mut *take);
            second(take);
        })
    }

    /// Others in their places: `announce` says name and shape of what `value` makes of a tensor, `None` of both leaves it
    /// out.
    #[must_use]
    pub fn map(
        self,
        announce: impl Fn(&Announced) -> Option<Announced>,
        value: impl Fn(&NamedTensor) -> Option<NamedTensor> + 'a,
    ) -> Self {
        let each = self.each;
        let announced = self.announced.iter().filter_map(announce).collect();
        Self::new(announced, move |take| {
            each(&mut |tensor| {
                if let Some(tensor) = value(tensor) {
                    take(&tensor);
                }
            });
        })
    }

    /// Their names and shapes.
    pub fn announced(&self) -> &[Announced] {
        &self.announced
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.announced.iter().map(|(name, _)| name.as_str())
    }

    /// How many values they have in all.
    pub fn parameters(&self) -> u64 {
        let counts = self
            .announced
            .iter()
            .map(|(_, s)| s.iter().product::<usize>());
        counts.sum::<usize>() as u64
    }

    /// Writes them to `path`: beside it first, then synced and renamed, so that a crash leaves the old file or the new.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] naming the file, for example when the disk is full; the old file is then untouched.
    ///
    /// # Panics
    ///
    /// If other tensors come than were announced.
    pub fn save(&self, path: &Path, kind: SaveType) -> Result<(), CheckpointError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let beside = path.with_file_name(name);
        let write = || -> Result<(), CheckpointError> {
            let mut file = FileWriter::create(&beside, self.typed(&|_| kind))?;
            self.each(|tensor| file.push(tensor))?;
            file.finish()
        };
        let done = write().and_then(|()| replace(&beside, path));
        if done.is_err() {
            // Best effort: the error that matters is already in hand.
            let _ = std::fs::remove_file(&beside);
        }
        done
    }

    /// Writes them into a folder as Hugging Face names them, each in the type that `kind` gives its name:
    /// `model.safetensors`, or, where that would hold more than `limit` bytes of values, shards of at most so many and their
    /// index. A single tensor above the limit gets a shard of its own.
    ///
    /// The folder is to be one that nobody reads yet: a crash leaves it half written.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] naming the file, for example when the disk is full, or [`CheckpointError::TooLarge`].
    ///
    /// # Panics
    ///
    /// If other tensors come than were announced.
    pub fn save_folder(
        &self,
        folder: &Path,
        kind: &dyn Fn(&str) -> SaveType,
        limit: u64,
    ) -> Result<(), CheckpointError> {
        let mut writer = FolderWriter::create(folder, self.typed(kind), limit)?;
        self.each(|tensor| writer.push(tensor))?;
        writer.finish()
    }

    fn typed(&self, kind: &dyn Fn(&str) -> SaveType) -> Vec<(Announced, SaveType)> {
        let announced = self.announced.iter().cloned();
        announced
            .map(|tensor| {
                let kind = kind(&tensor.0);
                (tensor, kind)
            })
            .collect()
    }

    fn each(
        &self,
        mut push: impl FnMut(&NamedTensor) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut done = Ok(());
        (self.each)(&mut |tensor| {
            if done.is_ok() {
                done = push(tensor);
            }
        });
        done
    }
}

impl<'a> From<&'a [NamedTensor]> for Tensors<'a> {
    fn from(tensors: &'a [NamedTensor]) -> Self {
        let announced = tensors.iter().map(|t| (t.name.clone(), t.shape.clone()));
        Self::new(announced.collect(), |take| tensors.iter().for_each(take))
    }
}

/// [`Tensors::save`] for tensors that are all at hand.
///
/// # Errors
///
/// As there.
pub fn save(path: &Path, tensors: &[NamedTensor], kind: SaveType) -> Result<(), CheckpointError> {
    Tensors::from(tensors).save(path, kind)
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
