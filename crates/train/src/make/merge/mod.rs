//! Two halves into one model directory in TinyLLaVA's layout, which evaluation and Python read.

mod head;
mod joined;
mod written;

use std::collections::BTreeMap;
use std::path::Path;

use qtl_model::parts::Parts;
use qtl_model::weights::{Dtype, SaveType};

use crate::error::TrainError;
use crate::record::Record;
use crate::start::Base;

pub(crate) use head::Head;
pub(crate) use joined::Joined;
pub use written::{OWN, recipe_of, write_model};
pub(crate) use written::{companions, config, note_types, read_json, recipe_in, write};

/// How the weights of a model directory are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The type of the values; without one each tensor keeps the type that the base's files have it in.
    pub kind: Option<SaveType>,
    /// Bytes that a file may hold; what is more goes into shards with an index.
    pub shard: u64,
}

impl Format {
    /// The size that Hugging Face gives its shards.
    pub const SHARD: u64 = 5_000_000_000;

    /// The type of each tensor, given the types in the base's files. What those do not have, such as a quantizer, is
    /// written as it was trained.
    pub(crate) fn kinds(self, stored: BTreeMap<String, Dtype>) -> impl Fn(&str) -> SaveType {
        move |name| {
            let own = || stored.get(name).map(|dtype| SaveType::of(*dtype));
            self.kind.or_else(own).unwrap_or(SaveType::F32)
        }
    }
}

impl From<SaveType> for Format {
    fn from(kind: SaveType) -> Self {
        Self {
            kind: Some(kind),
            shard: Self::SHARD,
        }
    }
}

/// What was joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Steps that the weights have seen.
    pub step: u64,
    /// Parameters in all.
    pub parameters: u64,
    /// The head was tied to the token embedding before training, and is now written as its own tensor.
    pub untied: bool,
}

/// Joins the newest checkpoint that both run directories hold into `out`. `base` is the model directory that the run
/// started from, and the adapter if it started from one; what the run did not train is taken from there, and branches are folded into their matrices.
///
/// # Errors
///
/// [`TrainError`] naming the file, or the two runs that do not belong together.
pub fn merge<'a>(
    client: &Path,
    server: &Path,
    base: impl Into<Base<'a>>,
    out: &Path,
    format: impl Into<Format>,
) -> Result<Merged, TrainError> {
    merge_sites(&[client], server, base, out, format)
}

/// Which of these clients' run directories is that of the site `name`, as the roster calls it.
///
/// # Errors
///
/// [`TrainError::Halves`] if it is none of them, or the server's run has no such site.
pub fn of_site<'a>(
    clients: &[&'a Path],
    server: &Path,
    name: &str,
) -> Result<&'a Path, TrainError> {
    let Record { sites, run, .. } = Record::read(server)?.unwrap_or_default();
    let wrong = |what: String| Err(TrainError::Halves(what));
    let Some(place) = sites.iter().position(|site| site == name) else {
        let known = match sites.as_slice() {
            [] => "it was not begun with a roster".to_owned(),
            sites => format!("its sites are {}", sites.join(", ")),
        };
        return wrong(format!(
            "the run of {} has no site {name:?}: {known}",
            server.display()
        ));
    };
    for client in clients {
        let record = Record::read(client)?.unwrap_or_default();
        if record.run == run && record.place == Some(place) {
            return Ok(client);
        }
    }
    wrong(format!(
        "none of the directories of --client is that of the site {name:?} of this run"
    ))
}

/// The same for several sites, whose halves become one: the mean of what each has trained, all counting the same. A branch (LoRA) is averaged
/// matrix by matrix.
///
/// # Errors
///
/// Those of [`merge`]; a site without a checkpoint of the step that the first and the server have newest.
pub fn merge_sites<'a>(
    clients: &[&Path],
    server: &Path,
    base: impl Into<Base<'a>>,
    out: &Path,
    format: impl Into<Format>,
) -> Result<Merged, TrainError> {
    let (base, format) = (base.into(), format.into());
    let Some((first, others)) = clients.split_first() else {
        return Err(TrainError::Halves("there is no client's half".to_owned()));
    };
    let run = Joined::open(first, server, base)?.averaged(others)?;
    let (client, server) = (run.client.folded(), run.server.folded());
    let head = Head::of(run.tied, &client, &server);
    let config = config(base.model, &run.state, head)?;
    let wanted = |name: &str| head.is_written(name);
    let tensors = client
        .chosen(&wanted)
        .chain(run.unheld.as_slice().into())
        .chain(server.chosen(&wanted));
    let kinds = format.kinds(run.stored);
    write(base.model, out, &tensors, config, &kinds, format.shard)?;
    Ok(Merged {
        step: run.state.step,
        parameters: tensors.parameters(),
        untied: head == Head::Parted,
    })
}
