//! A model as directories that transformers reads without our code: the language model alone, or, where the parts allow it,
//! the whole as a `LlavaForConditionalGeneration`.

pub(crate) mod config;
mod fold;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::Path;

use qtl_data::{Aspect, Template};
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::{BLOCKS, Parts};
use qtl_model::pretrained::Blueprint;
use qtl_model::weights::{Announced, Dtype, NamedTensor, SaveType, Tensors};
use qtl_model::{Device, quant::QuantizerSpec};
use serde_json::{Value, json};

use crate::companions;
use crate::error::TrainError;
use crate::files;
use crate::merge::{Format, Head, OWN, note_types, read_json};
use crate::start::Start;
use crate::whole::whole;
pub use fold::Folded;
use tokenizer::with_image;

/// A model that is about to be written as a plain LLaVA.
#[derive(Debug)]
pub struct Plain {
    /// The model as it is.
    pub client: ClientPartition,
    /// The server's half of it.
    pub server: ServerPartition,
    /// The model without its quantizers.
    pub folded: Folded,
    blueprint: Blueprint,
}

impl Plain {
    /// Reads a model and takes its quantizers out.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the part that a plain LLaVA cannot have.
    pub fn open(start: &Start, device: &Device) -> Result<Self, TrainError> {
        let blueprint = start.blueprint.clone();
        let specs: [&QuantizerSpec; 2] = [&blueprint.image, &blueprint.text];
        let behind_blocks = blueprint.placement.bottom_blocks > 0;
        if behind_blocks && specs != [&QuantizerSpec::NONE; 2] {
            return Err(TrainError::Halves(format!(
                "split.bottom_blocks = {}: quantizers behind a block are in no plain LLaVA, and cannot be folded into its parts",
                blueprint.placement.bottom_blocks
            )));
        }
        if blueprint.placement.connector_at_server() {
            return Err(TrainError::Halves(
                "split.connector = \"server\": a plain LLaVA is written of models whose image rows are quantized behind the \
                 connector alone; `qtinyllava merge` writes a class for transformers beside the weights"
                    .to_owned(),
            ));
        }
        if blueprint.placement.top_at_client() && blueprint.hidden != QuantizerSpec::NONE {
            return Err(TrainError::Halves(format!(
                "quantizer.hidden = {}: a quantizer behind the blocks is in no plain LLaVA, and cannot be folded into its parts",
                blueprint.hidden
            )));
        }
        config::check(&blueprint)?;
        let (client, server) = (start.client(device)?, start.server(device)?);
        let folded = fold::fold(&client, &server, specs, config::LAST_MAP, device)?;
        Ok(Self {
            client,
            server,
            folded,
            blueprint,
        })
    }

    /// Writes the directory `out`; `record` says in its `config.json` what was measured.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file.
    pub fn write(
        &self,
        out: &Path,
        format: Format,
        template: &dyn Template,
        aspect: Aspect,
        alone: bool,
        record: Value,
    ) -> Result<(), TrainError> {
        let base = &self.blueprint.dir;
        let device = Device::flex();
        let words = with_image(base)?;
        let rows = self.folded.client.bottom.embed_tokens.vocab_size();
        let grown = rows.max(words.id + 1);
        let head = Head::of(
            self.blueprint.config.text.tied_head && !self.folded.table_changed,
            &self.folded.client,
            &self.folded.server,
        );
        let tied = head == Head::Tied;
        let stored = self.blueprint.stored(&device)?;
        let unheld = self.blueprint.unheld(&device)?;
        let norm = config::norm(&self.blueprint, &unheld);
        let wanted = |name: &str| head.is_written(name);
        let tensors = self
            .folded
            .client
            .chosen(&wanted)
            .chain(unheld.as_slice().into())
            .chain(norm.as_slice().into())
            .chain(self.folded.server.chosen(&wanted));
        let kinds = renamed(&tensors, format, stored, &config::name);
        let tensors = tensors.map(
            |(name, shape)| {
                let mut shape = shape.clone();
                if config::by_token(name) {
                    shape[0] = grown;
                }
                Some((config::name(name)?, shape))
            },
            move |tensor| grow(tensor, grown),
        );
        let mut fields = config::llava(&self.blueprint, words.id, grown, tied)?;
        let parts = [
            ("", ""),
            ("/text_config", BLOCKS.prefix),
            ("/vision_config", config::TOWER),
        ];
        note_types(&mut fields, &tensors, &kinds, &parts);
        fields[OWN] = record;
        let generation = config::generation(base, &fields, template)?;
        whole(out, &|beside| {
            tensors
                .save_folder(beside, &kinds, format.shard)
                .map_err(qtl_model::pretrained::PretrainedError::from)?;
            let put = |name: &str, value: &Value| json_file(&beside.join(name), value);
            put("config.json", &fields)?;
            put("generation_config.json", &generation)?;
            put("tokenizer.json", &words.definition)?;
            put("tokenizer_config.json", &words.config)?;
            put(
                "preprocessor_config.json",
                &config::pictures(&self.blueprint, aspect),
            )?;
            put("processor_config.json", &config::processor(&self.blueprint))?;
            if let Some(text) = template.chat_template(alone) {
                text_file(&beside.join("chat_template.jinja"), &text)?;
            }
            companions::copy(base, beside)
        })
    }
}

/// The tensor under its plain name, with a row for every token. A new row of the head is a copy, so that its token is never
/// likelier than another.
fn grow(tensor: &NamedTensor, rows: usize) -> Option<NamedTensor> {
    let mut tensor = NamedTensor {
        name: config::name(&tensor.name)?,
        ..tensor.clone()
    };
    if config::by_token(&tensor.name) {
        let width: usize = tensor.shape[1..].iter().product();
        let first = tensor.data[..width].to_vec();
        while tensor.shape[0] < rows {
            tensor.data.extend(&first);
            tensor.shape[0] += 1;
        }
    }
    Some(tensor)
}

/// Writes the language model alone into the directory `out`, as transformers has it.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn write_language_model(start: &Start, out: &Path, format: Format) -> Result<(), TrainError> {
    let device = Device::flex();
    let (client, server) = (start.client(&device)?, start.server(&device)?);
    let base = &start.blueprint.dir;
    let head = Head::of(start.blueprint.config.text.tied_head, &client, &server);
    let wanted = |name: &str| head.is_written(name) && name.starts_with(BLOCKS.prefix);
    let name = |name: &str| name.strip_prefix(BLOCKS.prefix).map(str::to_owned);
    let tensors = client.chosen(&wanted).chain(server.chosen(&wanted));
    let kinds = renamed(&tensors, format, start.blueprint.stored(&device)?, &name);
    let tensors = tensors.map(
        |(old, shape): &Announced| Some((name(old)?, shape.clone())),
        move |tensor| {
            Some(NamedTensor {
                name: name(&tensor.name)?,
                ..tensor.clone()
            })
        },
    );
    let mut whole_config = read_json(&base.join("config.json"))?;
    head.note(&mut whole_config);
    let mut fields = config::text(&whole_config, head == Head::Tied)?;
    note_types(&mut fields, &tensors, &kinds, &[("", "")]);
    whole(out, &|beside| {
        tensors
            .save_folder(beside, &kinds, format.shard)
            .map_err(qtl_model::pretrained::PretrainedError::from)?;
        json_file(&beside.join("config.json"), &fields)?;
        companions::copy(base, beside)?;
        let pictures = beside.join("preprocessor_config.json");
        match std::fs::remove_file(&pictures) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(&pictures, e)),
            _ => Ok(()),
        }
    })
}

/// The type of each tensor under its new name.
fn renamed(
    tensors: &Tensors<'_>,
    format: Format,
    stored: BTreeMap<String, Dtype>,
    name: &dyn Fn(&str) -> Option<String>,
) -> impl Fn(&str) -> SaveType + use<> {
    let kinds = format.kinds(stored);
    let all = tensors.announced().iter();
    let named = all.filter_map(|(old, _)| Some((name(old)?, kinds(old))));
    let named: BTreeMap<String, SaveType> = named.collect();
    move |name| named.get(name).copied().unwrap_or(SaveType::F32)
}

fn json_file(path: &Path, value: &Value) -> Result<(), TrainError> {
    text_file(path, &format!("{value:#}\n"))
}

fn text_file(path: &Path, text: &str) -> Result<(), TrainError> {
    files::replace(path, text.as_bytes()).map_err(|e| TrainError::io(path, e))
}

/// What is recorded of an export in its `config.json`.
pub fn record(folded: &Folded, measured: Value) -> Value {
    let [image, text] = &folded.says;
    json!({"quantizers": {"image": image, "text": text}, "measured": measured})
}
