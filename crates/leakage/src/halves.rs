//! The two halves of a model: the victim's, or those that an attacker makes of the public base.

use std::path::Path;
use std::sync::Arc;

use qtl_data::Reader;
use qtl_data::loader::Source;
use qtl_model::Device;
use qtl_model::edge::Private;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::Parts;
use qtl_model::quant::{Accumulator, Decoder, Encoder, QuantizerSpec};
use qtl_model::stage::Batch;
use qtl_model::weights::Stream;
use qtl_train::Recipe;
use qtl_train::client::{batch, pad};
use qtl_train::start::{Base, Start};

use crate::error::LeakageError;

/// Both halves of a model.
#[derive(Clone, Debug)]
pub struct Halves {
    /// What turns pictures and text into codes.
    pub client: ClientPartition,
    /// What reads them.
    pub server: ServerPartition,
}

impl Halves {
    /// Those of the model in `dir` under `recipe`. Quantizers that nobody has trained yet are calibrated on the first samples
    /// of `source`, as a fresh run does it.
    ///
    /// # Errors
    ///
    /// [`LeakageError`] naming the file.
    pub fn open(
        dir: &Path,
        recipe: &Recipe,
        source: &Arc<Reader>,
        device: &Device,
    ) -> Result<Self, LeakageError> {
        if recipe.split.table_at_server() {
            return Err(LeakageError::Told);
        }
        let start = Start::open(Base::from(&dir), recipe)?;
        let client = start.client(device)?.sending(recipe.quantizer.text_rows);
        let halves = Self {
            client,
            server: start.server(device)?,
        };
        match start.has_quantizers(device)? {
            true => Ok(halves),
            false => halves.calibrated(recipe, source),
        }
    }

    /// The same features under other quantizers, calibrated on the first samples of `source`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn quantized(
        mut self,
        image: &QuantizerSpec,
        text: &QuantizerSpec,
        recipe: &Recipe,
        source: &Arc<Reader>,
    ) -> Result<Self, LeakageError> {
        let (widths, device) = (self.server.widths(), self.client.device());
        let (sender, receiver) = (&mut *self.client.uplink, &mut *self.server.uplink);
        let encoder = |spec, width| Encoder::init(spec, width, recipe.seed, &device);
        let decoder = |spec, width| Decoder::init(spec, width, recipe.seed, &device);
        let [of_image, of_text] = widths;
        (*sender.image, *sender.text) = (encoder(image, of_image), encoder(text, of_text));
        (*receiver.image, *receiver.text) = (decoder(image, of_image), decoder(text, of_text));
        self.calibrated(recipe, source)
    }

    /// The client adds to its rows what the recipe has it add, drawn from a secret of its own: no one else's is the same.
    #[must_use]
    pub fn hiding(mut self, recipe: &Recipe, who: &str) -> Self {
        let mut numbers = Stream::new(recipe.seed, who);
        let secret = std::array::from_fn(|_| numbers.bits() as u8);
        let added = recipe.privacy.added(&recipe.quantizer);
        let private = Private::new(added, secret, numbers.bits());
        let draws = recipe.privacy.draws();
        self.client.uplink.private = draws.then_some(private);
        self
    }

    fn calibrated(mut self, recipe: &Recipe, source: &Arc<Reader>) -> Result<Self, LeakageError> {
        let size = recipe.train.batch;
        let batches = recipe.quantizer.calibration_batches.max(1);
        let (mut image, mut text) = (Accumulator::default(), Accumulator::default());
        let mut seen = Vec::with_capacity(batches);
        for first in (0..source.entries().len()).step_by(size).take(batches) {
            let samples = first..source.entries().len().min(first + size);
            let examples = samples
                .map(|i| source.read(i, 0))
                .collect::<Result<Vec<_>, _>>()?;
            let batch = self.batch(&examples, recipe)?;
            self.client.calibrate(&batch, &mut image, &mut text);
            seen.push(batch);
        }
        if let Some(moments) = image.moments() {
            self.client.uplink.image.calibrate(&moments);
            self.server.uplink.image.calibrate(&moments);
        }
        if let Some(moments) = text.moments() {
            self.client.uplink.text.calibrate(&moments);
            self.server.uplink.text.calibrate(&moments);
        }
        self.calibrate_hidden(&seen)?;
        Ok(self)
    }

    /// The quantizer of hidden states, if there is one.
    fn calibrate_hidden(&mut self, batches: &[Batch]) -> Result<(), LeakageError> {
        let Some(top) = self.client.top.as_deref_mut() else {
            return Ok(());
        };
        let device = self.server.device();
        let mut hidden = Accumulator::default();
        for batch in batches {
            let wanted = top.wanted(&batch.spliced);
            let rows = self.client.bottom.forward(batch);
            let shown = qtl_model::edge::Shown {
                rows: self.client.bottom.shown(&batch.spliced),
                grid: None,
                pictures: None,
            };
            let cut = self.client.uplink.encode(rows, &batch.spliced, &shown);
            if let Some(rows) = self.server.measure_hidden(&cut, wanted.as_ref(), &device)? {
                hidden.add(rows);
            }
        }
        if let Some(moments) = hidden.moments() {
            if let Some(edge) = self.server.downlink_mut() {
                edge.hidden.calibrate(&moments);
            }
            top.downlink.hidden.calibrate(&moments);
        }
        Ok(())
    }

    /// Examples as the client's half takes them.
    ///
    /// # Errors
    ///
    /// A sample shows more pictures than it has.
    pub fn batch(
        &self,
        examples: &[qtl_data::Example],
        recipe: &Recipe,
    ) -> Result<Batch, LeakageError> {
        let device = self.client.device();
        let mut batch = batch(&self.client, examples, recipe.data.max_length, &device)?;
        pad(&mut batch.spliced, &self.client, recipe);
        Ok(batch)
    }
}
