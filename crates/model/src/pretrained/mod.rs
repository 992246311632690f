//! A model directory into partitions. Each side reads its own tensors only: the client never touches the language
//! model's layers, the server never the vision tower.

mod fill;
mod stored;
mod unheld;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use qtl_data::Processor;

use crate::config::{ConfigError, TinyLlavaConfig};
use crate::connector::{Connector, ConnectorError};
use crate::llm::{Decoder as LanguageModel, TokenEmbedding};
use crate::params;
use crate::partition::{ClientPartition, ServerPartition};
use crate::parts::{BLOCKS, CONNECTOR, EMBED_TOKENS, Parts, QUANTIZER_IMAGE, Row, VISION_TOWER};
use crate::quant::{Decoder, Encoder, QuantizerSpec};
use crate::tuning::{Matrix, Storage};
use crate::vision::{VisionTower, pictures};
use crate::weights::{
    Checkpoint, CheckpointError, Fill, Keep, KeyMap, LoadError, initialize, load_keeping,
    parameters,
};
pub use fill::restore;
pub use stored::compare_tower;
pub(crate) use stored::types;

/// What it takes to build either half.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The model's directory.
    pub dir: PathBuf,
    /// Its `config.json`. The tower is the one for the pictures that `processor` gives.
    pub config: TinyLlavaConfig,
    /// How pictures are prepared.
    pub processor: Processor,
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
    /// A quantizer that was trained elsewhere, with other statistics than the recipe's.
    #[error(
        "{place}: {quantizer} has projections but no recorded statistics ({missing}): the quantizer of the paper records \
         none. Use it with `statistics = \"batch\"`, or leave its weights out of the directory and calibrate a fresh one"
    )]
    Unrecorded {
        /// The file or directory.
        place: String,
        /// The quantizer's name.
        quantizer: &'static str,
        /// The first tensor that is missing.
        missing: String,
    },
}

impl Blueprint {
    /// Reads the directory's configuration and that of its picture processor.
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
        let mut config = TinyLlavaConfig::read(dir)?;
        let (processor, vision) = pictures::prepared(dir, config.vision)?;
        config.vision = vision;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            processor,
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
        self.client_keeping(device, &|_, _| Storage::F32)
    }

    /// The client's half with its matrices kept as `keep` says; see [`load_keeping`].
    ///
    /// # Errors
    ///
    /// As [`Self::client`].
    pub fn client_keeping(
        &self,
        device: &Device,
        keep: Keep<'_>,
    ) -> Result<Loaded<ClientPartition>, PretrainedError> {
        let config = &self.config;
        let tower = VisionTower::new(config.vision.clone(), config.select, device);
        let table = TokenEmbedding::new(&config.text, device);
        if self.fresh {
            let deviation = config.text.initializer_range;
            let normal = |_: &str, _: &[usize]| Fill::Normal(deviation);
            let partition = self.client_of((
                self.fresh_tower(tower),
                self.fresh_connector(device)?,
                initialize(table, EMBED_TOKENS.prefix, self.seed, normal),
            ));
            return Ok(Loaded {
                partition,
                quantizers_found: false,
            });
        }
        let keys = tower.keys();
        let file = self.open(VISION_TOWER.folder)?;
        let tower = load_keeping(tower, &file, &keys, &below(&VISION_TOWER, keep))?;
        let mut connector = Connector::new(&config.connector, device)?;
        if !parameters(&connector, "").is_empty() {
            let (file, keys) = (self.open(CONNECTOR.folder)?, KeyMap::connector());
            connector = load_keeping(connector, &file, &keys, &below(&CONNECTOR, keep))?;
        }
        let (file, keys) = (
            self.open(EMBED_TOKENS.folder)?,
            config.text.embedding_keys(),
        );
        let table = load_keeping(table, &file, &keys, &below(&EMBED_TOKENS, keep))?;
        self.with_quantizers(self.client_of((tower, connector, table)))
    }

    /// The connector with the values that training starts with.
    ///
    /// # Errors
    ///
    /// [`PretrainedError::Connector`] if it cannot be built.
    pub fn fresh_connector(&self, device: &Device) -> Result<Connector, PretrainedError> {
        let connector = Connector::new(&self.config.connector, device)?;
        let rule = connector.clone();
        Ok(initialize(
            connector,
            CONNECTOR.prefix,
            self.seed,
            |name, shape| rule.fill(name, shape),
        ))
    }

    /// The client's half as the configuration describes it; only fresh quantizers have values.
    ///
    /// # Errors
    ///
    /// [`PretrainedError::Connector`] if the connector cannot be built.
    pub fn client_without_values(
        &self,
        device: &Device,
    ) -> Result<ClientPartition, PretrainedError> {
        let config = &self.config;
        Ok(self.client_of((
            VisionTower::new(config.vision.clone(), config.select, device),
            Connector::new(&config.connector, device)?,
            TokenEmbedding::new(&config.text, device),
        )))
    }

    /// The client's half with these parts and fresh quantizers.
    fn client_of(&self, parts: (VisionTower, Connector, TokenEmbedding)) -> ClientPartition {
        let (width, seed) = (self.config.text.hidden_size, self.seed);
        let device = parts.2.device();
        let image = Encoder::init(&self.image, width, seed, &device);
        let text = Encoder::init(&self.text, width, seed ^ 1, &device);
        ClientPartition::new(parts, image, text)
    }

    /// The server's half.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file and the tensors.
    pub fn server(&self, device: &Device) -> Result<Loaded<ServerPartition>, PretrainedError> {
        self.server_keeping(device, &|_, _| Storage::F32)
    }

    /// The server's half with its matrices kept as `keep` says; see [`load_keeping`].
    ///
    /// # Errors
    ///
    /// As [`Self::server`].
    pub fn server_keeping(
        &self,
        device: &Device,
        keep: Keep<'_>,
    ) -> Result<Loaded<ServerPartition>, PretrainedError> {
        let spec = self.config.text.clone();
        if self.fresh {
            return Ok(Loaded {
                partition: self.server_of(LanguageModel::init(spec, self.seed, device)),
                quantizers_found: false,
            });
        }
        let (file, keys) = (self.open(BLOCKS.folder)?, spec.decoder_keys());
        let model = LanguageModel::new(spec, device);
        let model = load_keeping(model, &file, &keys, &below(&BLOCKS, keep))?;
        self.with_quantizers(self.server_of(model))
    }

    /// The server's half as the configuration describes it; only fresh quantizers have values.
    pub fn server_without_values(&self, device: &Device) -> ServerPartition {
        self.server_of(LanguageModel::new(self.config.text.clone(), device))
    }

    /// The server's half with this language model and fresh quantizers.
    fn server_of(&self, model: LanguageModel) -> ServerPartition {
        let (width, seed) = (self.config.text.hidden_size, self.seed);
        let device = params::device(&model);
        let image = Decoder::init(&self.image, width, seed ^ 2, &device);
        let text = Decoder::init(&self.text, width, seed ^ 3, &device);
        ServerPartition::new(model, image, text)
    }

    fn with_quantizers<H: fill::Quantized>(&self, half: H) -> Result<Loaded<H>, PretrainedError> {
        if self.image == QuantizerSpec::NONE && self.text == QuantizerSpec::NONE {
            return Ok(Loaded {
                partition: half,
                quantizers_found: true,
            });
        }
        let (partition, quantizers_found) = match self.open(QUANTIZER_IMAGE.folder) {
            Ok(file) => fill::quantizers(half, &file)?,
            // Parts in folders of their own, none of them for quantizers: a model that never had any.
            Err(CheckpointError::NoWeights { .. }) => (half, false),
            Err(error) => return Err(error.into()),
        };
        Ok(Loaded {
            partition,
            quantizers_found,
        })
    }

    /// Whether the directory has the quantizers' weights of either half, or they have nothing to learn; no value is read.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file.
    pub fn has_quantizers(&self, device: &Device) -> Result<bool, PretrainedError> {
        if self.image == QuantizerSpec::NONE && self.text == QuantizerSpec::NONE {
            return Ok(true);
        }
        let file = match self.open(QUANTIZER_IMAGE.folder) {
            Ok(file) => file,
            Err(CheckpointError::NoWeights { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // A directory may hold one half only.
        let server = self.server_without_values(device).parameters();
        let client = self.client_without_values(device)?.parameters();
        Ok(fill::has_quantizers(&client, &file) || fill::has_quantizers(&server, &file))
    }

    /// Compares names and shapes of the directory's weights with what the configuration describes, for both halves; no
    /// value is read. Returns one error per part that does not fit.
    pub fn compare(&self, device: &Device) -> Vec<PretrainedError> {
        let mut errors: Vec<PretrainedError> = Vec::new();
        for error in self.places(device).into_iter().filter_map(Result::err) {
            // One cause may spoil several parts.
            if !errors.iter().any(|e| e.to_string() == error.to_string()) {
                errors.push(error);
            }
        }
        errors
    }

    fn open(&self, part: &str) -> Result<Checkpoint, CheckpointError> {
        part_of(&self.dir, part)
    }
}

/// [`Keep`] for a module that is this part of the whole model.
fn below<'a>(row: &'a Row, keep: Keep<'a>) -> impl Fn(&str, Matrix) -> Storage + 'a {
    move |name, kind| keep(&format!("{}{name}", row.prefix), kind)
}

/// A part's own folder, as TinyLLaVA's training writes them, or else the whole directory.
pub(crate) fn part_of(dir: &Path, part: &str) -> Result<Checkpoint, CheckpointError> {
    let own = dir.join(part);
    Checkpoint::open(if own.is_dir() { &own } else { dir })
}
