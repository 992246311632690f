//! A model directory into partitions. Each side reads its own tensors only: the client never touches the language
//! model's layers, the server never the vision tower.

mod connector;
mod fill;
mod stored;
mod unheld;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use qtl_data::Processor;

use crate::config::{ConfigError, TinyLlavaConfig};
use crate::connector::{Connector, ConnectorError};
use crate::llm::{Blocks, Decoder as LanguageModel, TokenEmbedding};
use crate::params;
use crate::partition::{ClientPartition, Placement, ServerPartition, Top};
use crate::parts::{
    BLOCKS, EMBED_TOKENS, Parts, QUANTIZER_HIDDEN, QUANTIZER_IMAGE, QUANTIZER_TEXT, Row,
    VISION_TOWER,
};
use crate::quant::{Decoder, Encoder, QuantizerSpec};
use crate::stage::Bottom;
use crate::tuning::{Matrix, Storage};
use crate::vision::{VisionTower, pictures};
use crate::weights::{
    Checkpoint, CheckpointError, Fill, Keep, LoadError, initialize, load_keeping,
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
    /// Quantizer of hidden states, where the client has the top.
    pub hidden: QuantizerSpec,
    /// Where the model is cut.
    pub placement: Placement,
}

/// A half of the model, and whether its quantizers' weights came from the directory (otherwise they are fresh and want
/// a calibration).
#[derive(Debug)]
pub struct Loaded<P> {
    /// The half.
    pub partition: P,
    /// True if the quantizers of image and text rows were found, or have nothing to learn.
    pub quantizers_found: bool,
    /// The same of that of the hidden states; true where none come.
    pub hidden_found: bool,
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
            hidden: QuantizerSpec::NONE,
            placement: Placement::default(),
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
        if self.fresh {
            let bottom = Bottom::new(
                self.fresh_tower(tower),
                self.of_client(|| self.fresh_connector(device), device)?,
                self.fresh_table(device),
                Blocks::init(
                    config.text.clone(),
                    self.placement.bottom(),
                    self.seed,
                    device,
                ),
            );
            let top = self.top().map(|from| {
                LanguageModel::init_behind(from, config.text.clone(), self.seed, device)
            });
            return Ok(self.without_quantizers(self.client_of(bottom, top)));
        }
        let keys = tower.keys();
        let file = self.open(VISION_TOWER.folder)?;
        let tower = load_keeping(tower, &file, &keys, &below(&VISION_TOWER, keep))?;
        let connector = self.of_client(|| self.loaded_connector(device, keep), device)?;
        let file = self.open(EMBED_TOKENS.folder)?;
        let table = self.table(&file, device, keep)?;
        let bottom = self.placement.bottom();
        let mut blocks = Blocks::new(config.text.clone(), bottom.clone(), device);
        if !blocks.is_empty() {
            let keys = config.text.blocks_keys(bottom);
            blocks = load_keeping(blocks, &file, &keys, &below(&BLOCKS, keep))?;
        }
        let mut top = None;
        if let Some(from) = self.top() {
            let model = LanguageModel::behind(from, config.text.clone(), device);
            let keys = config.text.rest_keys(from);
            top = Some(load_keeping(model, &file, &keys, &below(&BLOCKS, keep))?);
        }
        let bottom = Bottom::new(tower, connector, table, blocks);
        self.with_quantizers(self.client_of(bottom, top))
    }

    /// The token embedding with the values that training starts with.
    fn fresh_table(&self, device: &Device) -> TokenEmbedding {
        let deviation = self.config.text.initializer_range;
        let table = TokenEmbedding::new(&self.config.text, device);
        let normal = |_: &str, _: &[usize]| Fill::Normal(deviation);
        initialize(table, EMBED_TOKENS.prefix, self.seed, normal)
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
        let connector = Connector::new(&config.connector, device)?;
        let bottom = Bottom::new(
            VisionTower::new(config.vision.clone(), config.select, device),
            self.of_client(|| Ok(connector), device)?,
            TokenEmbedding::new(&config.text, device),
            Blocks::new(config.text.clone(), self.placement.bottom(), device),
        );
        let behind = |from| LanguageModel::behind(from, config.text.clone(), device);
        Ok(self.client_of(bottom, self.top().map(behind)))
    }

    /// The block that the client's top begins with, if it has the top.
    fn top(&self) -> Option<usize> {
        let Placement { top_blocks, .. } = self.placement;
        let from = self.config.text.layers.len() - top_blocks;
        self.placement.top_at_client().then_some(from)
    }

    /// The client's half with these parts and fresh quantizers.
    fn client_of(&self, bottom: Bottom, top: Option<LanguageModel>) -> ClientPartition {
        let ([of_image, width], seed) = (self.widths(), self.seed);
        let device = bottom.device();
        let image = Encoder::init(&self.image, of_image, seed, &device);
        let text = Encoder::init(&self.text, width, seed ^ 1, &device);
        let mut client = ClientPartition::new(bottom, image, text);
        if self.placement.table_at_server() {
            client = client.telling_ids();
        }
        match top {
            None => client,
            Some(top) => {
                let hidden = Decoder::init(&self.hidden, width, seed ^ 5, &device);
                client.with_top(Top::new(top, hidden))
            }
        }
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
        let trunk = self.placement.trunk(spec.layers.len());
        let top_at_client = self.placement.top_at_client();
        if self.fresh {
            let half = match top_at_client {
                true => self.server_of_trunk(Blocks::init(spec, trunk, self.seed, device)),
                false => {
                    let from = trunk.start;
                    self.server_of(LanguageModel::init_behind(from, spec, self.seed, device))
                }
            };
            let half = self.in_front(half, || self.fresh_connector(device))?;
            return Ok(
                self.without_quantizers(match self.placement.table_at_server() {
                    true => half.told_ids(self.fresh_table(device)),
                    false => half,
                }),
            );
        }
        let file = self.open(BLOCKS.folder)?;
        let of_blocks = below(&BLOCKS, keep);
        let mut half = match top_at_client {
            true => {
                let keys = spec.blocks_keys(trunk.clone());
                let blocks = Blocks::new(spec, trunk, device);
                self.server_of_trunk(load_keeping(blocks, &file, &keys, &of_blocks)?)
            }
            false => {
                let keys = spec.rest_keys(trunk.start);
                let model = LanguageModel::behind(trunk.start, spec, device);
                self.server_of(load_keeping(model, &file, &keys, &of_blocks)?)
            }
        };
        if self.placement.table_at_server() {
            half = half.told_ids(self.table(&file, device, keep)?);
        }
        half = self.in_front(half, || self.loaded_connector(device, keep))?;
        self.with_quantizers(half)
    }

    /// The token embedding of the language model in `file`.
    fn table(
        &self,
        file: &Checkpoint,
        device: &Device,
        keep: Keep<'_>,
    ) -> Result<TokenEmbedding, PretrainedError> {
        let table = TokenEmbedding::new(&self.config.text, device);
        let keys = self.config.text.embedding_keys();
        Ok(load_keeping(
            table,
            file,
            &keys,
            &below(&EMBED_TOKENS, keep),
        )?)
    }

    /// The server's half as the configuration describes it; only fresh quantizers have values.
    pub fn server_without_values(&self, device: &Device) -> ServerPartition {
        let spec = self.config.text.clone();
        let trunk = self.placement.trunk(spec.layers.len());
        let table = self.placement.table_at_server();
        let table = table.then(|| TokenEmbedding::new(&spec, device));
        let half = match self.placement.top_at_client() {
            true => self.server_of_trunk(Blocks::new(spec, trunk, device)),
            false => self.server_of(LanguageModel::behind(trunk.start, spec, device)),
        };
        // A kind of connector that is not known is told with the client's half.
        let connector = || Ok(Connector::new(&self.config.connector, device)?);
        let half = self.in_front(half.clone(), connector).unwrap_or(half);
        match table {
            Some(table) => half.told_ids(table),
            None => half,
        }
    }

    /// The server's half with this end of the language model and fresh quantizers.
    fn server_of(&self, model: LanguageModel) -> ServerPartition {
        let [image, text] = self.receiving(&params::device(&model));
        ServerPartition::new(model, image, text)
    }

    /// The server's half with these blocks and fresh quantizers.
    fn server_of_trunk(&self, trunk: Blocks) -> ServerPartition {
        let device = params::device(&trunk);
        let (width, seed) = (self.config.text.hidden_size, self.seed ^ 4);
        let hidden = Encoder::init(&self.hidden, width, seed, &device);
        ServerPartition::without_top(trunk, self.receiving(&device), hidden)
    }

    fn receiving(&self, device: &Device) -> [Decoder; 2] {
        let ([of_image, of_text], seed) = (self.widths(), self.seed);
        [
            Decoder::init(&self.image, of_image, seed ^ 2, device),
            Decoder::init(&self.text, of_text, seed ^ 3, device),
        ]
    }

    /// Channels of rows as they are before they are coded: of image rows, and of text rows.
    pub fn widths(&self) -> [usize; 2] {
        let (connector, hidden) = (&self.config.connector, self.config.text.hidden_size);
        match self.placement.connector_at_server() {
            true => [connector.input, hidden],
            false => [hidden, hidden],
        }
    }

    /// Whether no quantizer of the uplink has anything to learn, and that of the downlink, if there is one.
    fn learnless(&self) -> [bool; 2] {
        let uplink = self.image == QuantizerSpec::NONE && self.text == QuantizerSpec::NONE;
        let downlink = self.placement.top_at_client() && self.hidden != QuantizerSpec::NONE;
        [uplink, !downlink]
    }

    fn without_quantizers<H>(&self, partition: H) -> Loaded<H> {
        Loaded {
            partition,
            quantizers_found: false,
            hidden_found: self.learnless()[1],
        }
    }

    fn with_quantizers<H: fill::Quantized>(&self, half: H) -> Result<Loaded<H>, PretrainedError> {
        let learnless @ [uplink, downlink] = self.learnless();
        let bare = |partition| Loaded {
            partition,
            quantizers_found: uplink,
            hidden_found: downlink,
        };
        if learnless == [true; 2] {
            return Ok(bare(half));
        }
        let file = match self.open(QUANTIZER_IMAGE.folder) {
            Ok(file) => file,
            // Parts in folders of their own, none of them for quantizers: a model that never had any.
            Err(CheckpointError::NoWeights { .. }) => return Ok(bare(half)),
            Err(error) => return Err(error.into()),
        };
        let both = [QUANTIZER_IMAGE.prefix, QUANTIZER_TEXT.prefix];
        let (half, quantizers_found) = fill::quantizers(half, &file, &both)?;
        let (partition, hidden_found) = fill::quantizers(half, &file, &[QUANTIZER_HIDDEN.prefix])?;
        Ok(Loaded {
            partition,
            quantizers_found,
            hidden_found,
        })
    }

    /// Whether the directory has the quantizers' weights of either half, or they have nothing to learn; no value is read.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file.
    pub fn has_quantizers(&self, device: &Device) -> Result<bool, PretrainedError> {
        if self.learnless() == [true; 2] {
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
