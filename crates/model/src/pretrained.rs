//! A model directory into partitions. Each side reads its own tensors only: the client never touches the language
//! model's layers, the server never the vision tower.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{ConfigError, TinyLlavaConfig};
use crate::connector::{self, Connector, ConnectorError};
use crate::llm::{Decoder as LanguageModel, TokenEmbedding};
use crate::partition::{ClientPartition, ServerPartition, names};
use crate::quant::{Decoder, Encoder, QuantizerSpec};
use crate::vision::{VisionTower, siglip};
use crate::weights::{
    Checkpoint, CheckpointError, Fill, KeyMap, LoadError, NamedTensor, initialize, load_into,
};

/// What it takes to build either half.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The model's directory.
    pub dir: PathBuf,
    /// Its `config.json`.
    pub config: TinyLlavaConfig,
    /// Quantizer of image rows.
    pub image: QuantizerSpec,
    /// Quantizer of text rows.
    pub text: QuantizerSpec,
    /// Seeds fresh weights.
    pub seed: u64,
    /// Ignore the directory's weights and start from random ones.
    pub fresh: bool,
}

/// A half of the model, and whether its quantizers' weights came from the directory (otherwise they are fresh and want
/// a calibration).
#[derive(Debug)]
pub struct Loaded<P> {
    /// The half.
    pub partition: P,
    /// True if both quantizers were found, or have nothing to learn.
    pub quantizers_found: bool,
}

/// Why a half cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The connector.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// The weights.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The weights' files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint of a half that does not fit the model.
    #[error(
        "{place} does not fit this model: {listing}. Is it a checkpoint of another model or recipe?"
    )]
    Half {
        /// The file.
        place: PathBuf,
        /// Missing and mis-shaped tensors.
        listing: String,
    },
}

impl Blueprint {
    /// Reads the directory's configuration.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] naming the field.
    pub fn read(
        dir: &Path,
        image: QuantizerSpec,
        text: QuantizerSpec,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        let config = TinyLlavaConfig::read(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            image,
            text,
            seed,
            fresh: false,
        })
    }

    /// The client's half.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file and the tensors.
    pub fn client(&self, device: &Device) -> Result<Loaded<ClientPartition>, PretrainedError> {
        let (config, seed) = (&self.config, self.seed);
        let tower = VisionTower::new(config.vision.clone(), config.select, device);
        let connector = Connector::new(&config.connector, device)?;
        let embedding = TokenEmbedding::new(&config.text, device);
        let width = config.text.hidden_size;
        let mut partition = ClientPartition {
            vision_tower: tower,
            connector,
            embed_tokens: embedding,
            quantizer_image: Encoder::init(&self.image, width, seed, device),
            quantizer_text: Encoder::init(&self.text, width, seed ^ 1, device),
        };
        if self.fresh {
            let deviation = config.text.initializer_range;
            partition.vision_tower = initialize(
                partition.vision_tower,
                names::VISION_TOWER,
                seed,
                siglip::fill,
            );
            partition.connector =
                initialize(partition.connector, names::CONNECTOR, seed, connector::fill);
            partition.embed_tokens = initialize(
                partition.embed_tokens,
                names::LANGUAGE_MODEL,
                seed,
                |_, _| Fill::Normal(deviation),
            );
            return Ok(Loaded {
                partition,
                quantizers_found: false,
            });
        }
        let vision = self.open("vision_tower")?;
        let text = self.open("language_model")?;
        partition.vision_tower = load_into(
            partition.vision_tower,
            &vision,
            &KeyMap::vision_tower(siglip::UNUSED),
        )?;
        partition.connector = load_into(
            partition.connector,
            &self.open("connector")?,
            &KeyMap::connector(),
        )?;
        partition.embed_tokens =
            load_into(partition.embed_tokens, &text, &KeyMap::token_embedding())?;
        let mut found = self.image == QuantizerSpec::None && self.text == QuantizerSpec::None;
        if !found && let Some(file) = self.quantizers() {
            (partition, found) = fill_client(partition, &file, &|name| name.starts_with("VQ."))?;
        }
        Ok(Loaded {
            partition,
            quantizers_found: found,
        })
    }

    /// The server's half.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file and the tensors.
    pub fn server(&self, device: &Device) -> Result<Loaded<ServerPartition>, PretrainedError> {
        let (spec, seed) = (&self.config.text, self.seed);
        let width = spec.hidden_size;
        let language_model = if self.fresh {
            LanguageModel::init(spec.clone(), seed, device)
        } else {
            let file = self.open("language_model")?;
            load_into(
                LanguageModel::new(spec.clone(), device),
                &file,
                &KeyMap::decoder(),
            )?
        };
        let mut partition = ServerPartition {
            language_model,
            quantizer_image: Decoder::init(&self.image, width, seed ^ 2, device),
            quantizer_text: Decoder::init(&self.text, width, seed ^ 3, device),
        };
        let mut found = self.image == QuantizerSpec::None && self.text == QuantizerSpec::None;
        if !found
            && !self.fresh
            && let Some(file) = self.quantizers()
        {
            (partition, found) = fill_server(partition, &file, &|name| name.starts_with("VQ."))?;
        }
        Ok(Loaded {
            partition,
            quantizers_found: found,
        })
    }

    /// A part's own folder, as TinyLLaVA's training writes them, or else the whole directory.
    fn open(&self, part: &str) -> Result<Checkpoint, CheckpointError> {
        let own = self.dir.join(part);
        Checkpoint::open(if own.is_dir() { &own } else { &self.dir })
    }

    fn quantizers(&self) -> Option<Checkpoint> {
        self.open("VQ_VAE").ok()
    }
}

/// Fills the client's half from a checkpoint of that half, every tensor.
///
/// # Errors
///
/// [`PretrainedError::Half`] listing what is missing or has another shape.
pub fn restore_client(
    partition: ClientPartition,
    file: &Path,
) -> Result<ClientPartition, PretrainedError> {
    let checkpoint = Checkpoint::open(file)?;
    fits(&partition.tensors(), &checkpoint, file)?;
    Ok(fill_client(partition, &checkpoint, &|_| true)?.0)
}

/// Fills the server's half from a checkpoint of that half, every tensor.
///
/// # Errors
///
/// [`PretrainedError::Half`] listing what is missing or has another shape.
pub fn restore_server(
    partition: ServerPartition,
    file: &Path,
) -> Result<ServerPartition, PretrainedError> {
    let checkpoint = Checkpoint::open(file)?;
    fits(&partition.tensors(), &checkpoint, file)?;
    Ok(fill_server(partition, &checkpoint, &|_| true)?.0)
}

fn fits(
    tensors: &[NamedTensor],
    checkpoint: &Checkpoint,
    file: &Path,
) -> Result<(), PretrainedError> {
    let wrong: Vec<String> = tensors
        .iter()
        .filter_map(|tensor| match checkpoint.shape(&tensor.name) {
            None => Some(format!("{} is missing", tensor.name)),
            Some(shape) if shape != tensor.shape => Some(format!(
                "{} is {shape:?} instead of {:?}",
                tensor.name, tensor.shape
            )),
            Some(_) => None,
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let more = if wrong.len() > 8 {
        format!(", and {} more", wrong.len() - 8)
    } else {
        String::new()
    };
    let listing = format!("{}{more}", wrong[..wrong.len().min(8)].join(", "));
    Err(PretrainedError::Half {
        place: file.to_owned(),
        listing,
    })
}

type Filled<P> = Result<(P, bool), PretrainedError>;

fn fill_client(
    partition: ClientPartition,
    file: &Checkpoint,
    wanted: &dyn Fn(&str) -> bool,
) -> Filled<ClientPartition> {
    let device = partition.device();
    let mut reader = Reader {
        file,
        wanted,
        device,
        all: true,
        failed: None,
    };
    let partition = partition.replace(&mut |name, value| reader.read(name, &value));
    reader.end(partition)
}

fn fill_server(
    partition: ServerPartition,
    file: &Checkpoint,
    wanted: &dyn Fn(&str) -> bool,
) -> Filled<ServerPartition> {
    let device = partition.device();
    let mut reader = Reader {
        file,
        wanted,
        device,
        all: true,
        failed: None,
    };
    let partition = partition.replace(&mut |name, value| reader.read(name, &value));
    reader.end(partition)
}

/// Reads wanted tensors where the file has them, and remembers whether it had them all.
struct Reader<'a> {
    file: &'a Checkpoint,
    wanted: &'a dyn Fn(&str) -> bool,
    device: Device,
    all: bool,
    failed: Option<CheckpointError>,
}

impl Reader<'_> {
    fn read(&mut self, name: &str, old: &Tensor<1>) -> Option<Tensor<1>> {
        if !(self.wanted)(name) || self.failed.is_some() {
            return None;
        }
        // The reference's single-process quantizer keeps its input projection in a Sequential.
        let sequential = name.replace("in_proj.", "in_proj.0.");
        let Some(found) = [name, &sequential]
            .into_iter()
            .find(|name| self.file.contains(name))
        else {
            // Recorded statistics are ours; a file of the reference has none and loses nothing by it.
            self.all &= name.contains("running_");
            return None;
        };
        match self.file.read(found) {
            Ok(values) if values.len() == old.dims()[0] => Some(Tensor::from_data(
                TensorData::from(values.as_slice()),
                &self.device,
            )),
            // A code of another width: fresh projections.
            Ok(_) => {
                self.all = false;
                None
            }
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    fn end<P>(self, partition: P) -> Filled<P> {
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok((partition, self.all)),
        }
    }
}
