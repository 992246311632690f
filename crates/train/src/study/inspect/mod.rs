//! What a model directory is: families, sizes, files, which half holds what, and what running it takes.

mod contents;
mod keeping;
mod memory;
mod shapes;
mod traffic;

use std::path::Path;

use qtl_model::Device;
use qtl_model::config::Fields;
use qtl_model::llm::{self, DecoderSpec, LayerSpec};
use qtl_model::padding::Padding;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::{BLOCKS, CONNECTOR, Parts, VISION_TOWER};
use qtl_model::pretrained::{PretrainedError, compare_tower};
use qtl_model::text::TextModel;
use qtl_model::vision::{self, VisionSpec};
use qtl_model::weights::Parameter;
use serde::Serialize;
use serde_json::Value;

pub use contents::{Contents, FileContents, Findings};
pub use keeping::Keeping;
pub use memory::Memory;
pub use shapes::Shapes;
pub use traffic::{Hidden, Traffic};

use crate::adapt::{self, treatment};
use crate::adapter::Adapter;
use crate::assumed;
use crate::error::TrainError;
use crate::machine::free_memory;
use crate::peft;
use crate::recipe::{Recipe, RecipeError, Recompute};
use crate::start::Base;
use crate::tune;

/// What `inspect` says about a directory.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// `tinyllava`, or the `model_type` of a language model or vision tower that stands alone.
    pub model_type: String,
    /// The parts' families and sizes, as `(what, value)`.
    pub sizes: Vec<(String, String)>,
    /// Whether the head is the token embedding; `None` without a language model.
    pub tied_head: Option<bool>,
    /// The weights' files.
    pub contents: Contents,
    /// For a whole model: which half holds what.
    pub parts: Vec<Part>,
    /// For a whole model: memory and traffic.
    pub cost: Option<Cost>,
    /// What is wrong with the directory, if anything.
    pub problems: Vec<String>,
    /// What was read otherwise than it is written, such as names of tensors.
    pub notes: Vec<String>,
}

/// A part of one half.
#[derive(Debug, Serialize)]
pub struct Part {
    /// Which half holds it: `client` or `server`.
    pub side: &'static str,
    /// What it is.
    pub name: &'static str,
    /// Its parameters.
    pub parameters: u64,
    /// How many of them the recipe trains, and parameters of low-rank branches beside them.
    pub trained: u64,
}

/// What a run takes.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// Samples at a time.
    pub batch: u64,
    /// Rows of text per sample that were assumed.
    pub text_tokens: u64,
    /// Rows per picture.
    pub picture_tokens: u64,
    /// Of the client, as the recipe has it train on this machine.
    pub client: Memory,
    /// Of the server.
    pub server: Memory,
    /// Of client and server, if every block is run again in backward.
    pub recomputing: [Memory; 2],
    /// Of client and server, if none is.
    pub keeping: [Memory; 2],
    /// How these choose.
    pub recompute: Recompute,
    /// Bytes of memory that are free on this machine, by which `auto` chooses.
    pub free: u64,
    /// Bytes per sample.
    pub traffic: Traffic,
}

/// Looks at a directory. Weights are not read, only where they lie. Without a recipe the cost is that under the one that
/// the model carries, or else of training everything but the vision tower, one sample at a time.
///
/// # Errors
///
/// [`TrainError`] if there is no usable configuration.
pub fn inspect(
    dir: &Path,
    recipe: Option<&Recipe>,
    text_tokens: usize,
) -> Result<Inspection, TrainError> {
    let (fields, device) = (Fields::read(dir)?, Device::flex());
    let known = |families: Vec<&'static str>| {
        let name = fields.get("model_type").and_then(Value::as_str);
        families.into_iter().find(|family| Some(*family) == name)
    };
    if let Some(name) = known(llm::FAMILIES.iter().map(|f| f.0).collect()) {
        let spec = DecoderSpec::from_config(&fields)?;
        let unfit = TextModel::without_values(dir, &device)?.stored(dir).err();
        return Ok(alone(
            dir,
            name,
            of_text(&spec),
            Some(spec.tied_head),
            unfit,
        ));
    }
    if let Some(name) = known(vision::FAMILIES.iter().map(|f| f.0).collect()) {
        let spec = VisionSpec::from_config(&fields)?;
        let unfit = compare_tower(dir, &spec, &device).err();
        return Ok(alone(dir, name, of_vision(&spec), None, unfit));
    }
    if let Some(name) = fields.get("model_type").and_then(Value::as_str)
        && name != "tinyllava"
    {
        let alone = llm::FAMILIES.iter().map(|f| f.0);
        let supported = alone.chain(vision::FAMILIES.iter().map(|f| f.0));
        return Err(fields
            .unknown_family(["tinyllava"].into_iter().chain(supported))
            .into());
    }
    whole(dir, &fields, recipe, text_tokens)
}

/// A part that is no whole model.
fn alone(
    dir: &Path,
    model_type: &str,
    sizes: Vec<(String, String)>,
    tied_head: Option<bool>,
    unfit: Option<PretrainedError>,
) -> Inspection {
    let (contents, found) = Contents::of(dir, &[]);
    let (problems, notes) = judged(dir, found, unfit.into_iter().collect());
    Inspection {
        model_type: model_type.to_owned(),
        sizes,
        tied_head,
        contents,
        parts: Vec::new(),
        cost: None,
        problems,
        notes,
    }
}

/// What is wrong with a directory, every cause once, and what else is to be said of it.
fn judged(dir: &Path, found: Findings, unfit: Vec<PretrainedError>) -> (Vec<String>, Vec<String>) {
    let Findings {
        mut problems,
        mut notes,
        missing,
    } = found;
    let mut add = |problem: String| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    if unfit.is_empty() {
        let unread = missing.iter().map(|file| {
            format!(
                "{} is not there; nothing that the index places in it is read",
                file.display()
            )
        });
        notes.extend(unread);
    }
    unfit.into_iter().for_each(|error| add(error.to_string()));
    if peft::is_in(dir) {
        let base = Base {
            model: dir,
            adapter: None,
        };
        match base.resolved().and_then(|_| Adapter::open(dir)) {
            Ok(adapter) => notes.push(format!(
                "an adapter of {} branches lies beside the weights: wherever the directory is used it is a part of the model",
                adapter.count()
            )),
            Err(error) => add(error.to_string()),
        }
    }
    (problems, notes)
}

fn whole(
    dir: &Path,
    fields: &Fields,
    recipe: Option<&Recipe>,
    text_tokens: usize,
) -> Result<Inspection, TrainError> {
    let assumed;
    let recipe = match recipe {
        Some(recipe) => recipe,
        None => {
            assumed = assumed::or_carried(dir)?;
            &assumed
        }
    };
    let blueprint = recipe.blueprint(dir)?;
    let device = Device::flex();
    let client = blueprint.client_without_values(&device)?;
    let server = blueprint.server_without_values(&device);
    let (contents, found) = Contents::of(dir, &qtl_model::parts::folders());
    let (mut problems, mut notes) = judged(dir, found, blueprint.compare(&device));
    notes.extend(recipe.still_told().map(str::to_owned));
    let unfit = [adapt::fits(&client, recipe), adapt::fits(&server, recipe)].into_iter();
    problems.extend(unfit.filter_map(|fits| Some(fits.err()?.to_string())));
    let config = &blueprint.config;
    let mut sizes = family(fields, "vision_config", "vision tower");
    sizes.extend(of_vision(&config.vision));
    let (blocks, held) = (
        config.vision.layers,
        config.select.depth(config.vision.layers),
    );
    if let Some(held) = held.filter(|held| *held < blocks) {
        let says = format!("the first {held} of them; what comes after is never read");
        sizes.push(("  held".into(), says));
    }
    sizes.push(("  strategy".into(), config.select.strategy.to_string()));
    sizes.push(("connector".into(), config.connector.kind.clone()));
    sizes.extend(family(fields, "text_config", "language model"));
    sizes.extend(of_text(&config.text));
    sizes.push(("longest sequence".into(), config.max_length.to_string()));
    let text_tokens = match recipe.privacy.padding {
        None => text_tokens,
        Some(padding) => {
            notes.push(padded(padding));
            padding.of_one(text_tokens)
        }
    };
    let shapes = Shapes::new(config, &client, recipe.train.batch, text_tokens);
    let halved = &|name: &str| contents.is_halved(name);
    let free = free_memory();
    let traffic = Traffic::of(recipe, &shapes, &device).map_err(RecipeError::from)?;
    let of_client =
        |keeping| Memory::of_client(&client, recipe, &shapes, halved, keeping).beside(traffic.kept);
    let clients = recipe.sites.as_ref().map_or(1, |sites| sites.count as u64);
    let of_server = |keeping| {
        let memory = Memory::of_server(&server, recipe, &shapes, halved, keeping);
        memory.beside(clients * traffic.kept)
    };
    let both = |keeping| [of_client(keeping), of_server(keeping)];
    let cost = Cost {
        batch: shapes.batch,
        text_tokens: shapes.text_tokens,
        picture_tokens: shapes.picture_tokens,
        client: of_client(Keeping::of_client(&client, recipe, free)),
        server: of_server(Keeping::of_server(&server, recipe, free)),
        recomputing: both(Keeping::NONE),
        keeping: both(Keeping::ALL),
        recompute: recipe.train.recompute,
        free,
        traffic,
    };
    Ok(Inspection {
        model_type: "tinyllava".to_owned(),
        sizes,
        tied_head: Some(config.text.tied_head),
        contents,
        parts: parts(&client, &server, recipe),
        cost: Some(cost),
        problems,
        notes,
    })
}

/// What padding costs.
fn padded(padding: Padding) -> String {
    match padding {
        Padding::Multiple(rows) => format!(
            "privacy.padding: the text of every turn takes a multiple of {rows} rows, as far as data.max_length has room, on both \
             sides and on the line; so it is counted"
        ),
        Padding::To(_) => "privacy.padding: every sequence takes as many rows as the longest of its batch, on both sides and on the \
                           line; counted is one of the length that is assumed"
            .to_owned(),
    }
}

fn family(fields: &Fields, key: &str, what: &str) -> Vec<(String, String)> {
    let name = fields
        .get(key)
        .and_then(|child| child["model_type"].as_str());
    name.map(|name| (what.to_owned(), name.to_owned()))
        .into_iter()
        .collect()
}

fn of_vision(spec: &VisionSpec) -> Vec<(String, String)> {
    vec![
        (
            "  picture".into(),
            format!(
                "{0} x {0} pixels, patches of {1}, {2} tokens",
                spec.image_size,
                spec.patch_size,
                spec.tokens()
            ),
        ),
        (
            "  blocks".into(),
            format!(
                "{} of width {}, {} heads, feed-forward {}",
                spec.layers, spec.hidden_size, spec.heads, spec.intermediate_size
            ),
        ),
    ]
}

fn of_text(spec: &DecoderSpec) -> Vec<(String, String)> {
    // Sizes may differ from block to block.
    let range = |size: fn(&LayerSpec) -> usize| {
        let sizes = || spec.layers.iter().map(size);
        match (
            sizes().min().unwrap_or_default(),
            sizes().max().unwrap_or_default(),
        ) {
            (least, most) if least == most => most.to_string(),
            (least, most) => format!("{least} to {most}"),
        }
    };
    vec![
        (
            "  blocks".into(),
            format!(
                "{} of width {}, {} heads ({} for keys and values), feed-forward {}",
                spec.layers.len(),
                spec.hidden_size,
                range(|layer| layer.heads),
                range(|layer| layer.kv_heads),
                range(|layer| layer.intermediate_size)
            ),
        ),
        ("  vocabulary".into(), spec.vocab_size.to_string()),
        ("  positions".into(), spec.max_positions.to_string()),
    ]
}

fn parts(client: &ClientPartition, server: &ServerPartition, recipe: &Recipe) -> Vec<Part> {
    let (client, server) = (client.parameters(), server.parameters());
    let head = |p: &Parameter| p.name.contains("lm_head");
    let table = |p: &Parameter| tune::Part::of(&p.name) == tune::Part::EmbedTokens;
    let llm = |p: &Parameter| p.name.starts_with(BLOCKS.prefix);
    let bottom = recipe.split.bottom_blocks;
    let first = |p: &Parameter| tune::block(&p.name).is_some_and(|block| block < bottom);
    let below = |prefix: &'static str| move |p: &Parameter| p.name.starts_with(prefix);
    let part = |side, name, all: &[Parameter], mine: &dyn Fn(&Parameter) -> bool| {
        let count = |p: &Parameter| p.shape.iter().product::<usize>() as u64;
        let mine: Vec<&Parameter> = all.iter().filter(|p| mine(p)).collect();
        let trained = mine.iter().filter(|p| recipe.tune.trains(&p.name));
        let branches = mine.iter().map(|p| branch(p, recipe)).sum::<u64>();
        Part {
            side,
            name,
            parameters: mine.iter().map(|p| count(p)).sum(),
            trained: trained.map(|p| count(p)).sum::<u64>() + branches,
        }
    };
    let mut parts = vec![
        part(
            "client",
            "vision tower",
            &client,
            &below(VISION_TOWER.prefix),
        ),
        part("client", "connector", &client, &below(CONNECTOR.prefix)),
        part("server", "connector", &server, &below(CONNECTOR.prefix)),
        part("client", "token embedding", &client, &table),
        part("client", "first blocks", &client, &|p| {
            llm(p) && !table(p) && first(p)
        }),
        part("client", "last blocks and norm", &client, &|p| {
            llm(p) && !table(p) && !first(p) && !head(p)
        }),
        part("client", "head", &client, &head),
        part("client", "quantizers", &client, &below("VQ.")),
        part("server", "quantizers", &server, &below("VQ.")),
        part("server", "language model", &server, &|p| llm(p) && !head(p)),
        part("server", "head", &server, &head),
    ];
    let connector = match recipe.split.connector_at_server() {
        true => "server",
        false => "client",
    };
    parts.retain(|part| match part.name {
        "connector" => part.side == connector,
        "quantizers" => true,
        _ => part.parameters > 0,
    });
    parts
}

/// Parameters of the low-rank branch that the recipe puts beside this one.
fn branch(parameter: &Parameter, recipe: &Recipe) -> u64 {
    let treatment = parameter
        .matrix
        .map(|kind| treatment(&recipe.tune, &parameter.name, kind));
    let lora = treatment.and_then(|treatment| treatment.lora);
    lora.map_or(0, |lora| {
        (lora.rank * parameter.shape.iter().sum::<usize>()) as u64
    })
}
