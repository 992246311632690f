//! `leakage`: what a server can learn from what it receives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qtl_data::scenes::{ATTRIBUTION, Made};
use qtl_leakage::attack::{ATTACKS, Attack, Stream};
use qtl_leakage::finding::tables;
use qtl_leakage::kept::{Used, put};
use qtl_leakage::suite::{Event, Results, Suite};
use qtl_leakage::{LeakageError, page};
use qtl_model::quant::{FsqSpec, QuantizerSpec, Statistics};

use super::ModelArgs;
use super::train::beside;
use crate::device::DeviceArg;
use crate::numbers::{MANY, positive, whole};
use crate::progress::Progress;
use crate::signal::Stopped;

/// Try what a server could learn from the features that reach it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava leakage --model runs/demo/model --data victims/llava.json --auxiliary aux/llava.json --out runs/leakage
  qtinyllava leakage --model m --recipe r.toml --data v.json --auxiliary a.json --base base --levels 2,4 --budget 30 --out DIR
The victims' samples are sent as in training, through the protocol's own encoder and decoder; attackers have what arrives, and
auxiliary samples of their own. --out gets leakage.json, a table, and leakage.html with pictures. Started again with the same
flags it goes on where it was stopped. A low number says that these attacks failed: docs/LEAKAGE.md has what is not tried.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The victims' samples: LLaVA's JSON file
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Folder that the JSON's picture paths start from [default: images beside the JSON file, or else its folder]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Samples of the attacker's own, of the same kind and no victim's: LLaVA's JSON file
    #[arg(long, value_name = "FILE")]
    auxiliary: PathBuf,
    /// Folder of their pictures [default: as --images]
    #[arg(long, value_name = "DIR")]
    auxiliary_images: Option<PathBuf>,
    /// Samples that the model was trained on: `member` then tells them from --data, which were not. It needs --base, and trains four
    /// models by the recipe
    #[arg(long, value_name = "FILE", requires = "base")]
    members: Option<PathBuf>,
    /// Folder of their pictures [default: as --images]
    #[arg(long, value_name = "DIR", requires = "members")]
    member_images: Option<PathBuf>,
    /// The public model that training started from: attackers are also tried that have it instead of the trained client's half
    #[arg(long, value_name = "DIR|ID")]
    base: Option<PathBuf>,
    /// Messages that `train --dry-run` wrote of --data, instead of messages made here
    #[arg(long, value_name = "DIR", conflicts_with = "levels")]
    messages: Option<PathBuf>,
    /// Attacks to run [default: all]
    #[arg(long = "attack", value_name = "NAME", value_parser = attack)]
    attacks: Vec<&'static str>,
    /// Also try these numbers of levels per channel on the same features, beside the recipe's quantizers and 32 bits
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = whole::<u32>(2..=256))]
    levels: Vec<u32>,
    /// Leave out the same features in 32 bits, beside which the recipe's quantizers are tried: the others get its time
    #[arg(long)]
    no_exact: bool,
    /// Minutes for all attacks together
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0, value_parser = positive)]
    budget: f64,
    /// Victims at most
    #[arg(long, default_value_t = 400, value_parser = whole::<usize>(1..=MANY))]
    victims: usize,
    /// Auxiliary samples at most; their features are held in memory
    #[arg(long, default_value_t = 24_000, value_parser = whole::<usize>(1..=MANY))]
    most: usize,
    /// Seed of what attackers draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
    /// Directory for the results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// An attack by its name, spaces as they are or as hyphens.
fn attack(name: &str) -> Result<&'static str, String> {
    let plain = name.replace('-', " ");
    let known = ATTACKS.iter().map(|attack| attack.name());
    known.clone().find(|known| *known == plain).ok_or_else(|| {
        let names: Vec<&str> = known.collect();
        format!("no attack; expected one of {}", names.join(", "))
    })
}

/// Attacks, and says what came of it.
pub fn run(args: &Args) -> Result<()> {
    let stop = crate::signal::on_interrupt("what is done is kept", || {})?;
    let recipe = args.model.recipe()?;
    if recipe.sites.is_some() {
        bail!(
            "the recipe has [sites]: attacks on what one of several sites sends are not built; leave the section out"
        );
    }
    let blueprint = args.model.blueprint(&recipe)?;
    let read = |data: &Path, images: &Option<PathBuf>| {
        let images = images.clone().unwrap_or_else(|| beside(data));
        let source = super::reader(&recipe, &blueprint, data, &images)?;
        let stamp = super::stamp(data, &images, &source)?;
        anyhow::Ok((source, stamp))
    };
    let (victims, of_victims) = read(&args.data, &args.images)?;
    let (auxiliary, of_auxiliary) = read(&args.auxiliary, &args.auxiliary_images)?;
    let members = args.members.as_deref();
    let members = members.map(|data| read(data, &args.member_images));
    let wanted =
        |attack: &&&dyn Attack| args.attacks.is_empty() || args.attacks.contains(&attack.name());
    let base = args.base.as_deref().map(crate::hub::directory);
    let suite = Suite {
        model: args.model.dir()?.to_owned(),
        base: base.transpose()?,
        victims,
        auxiliary,
        members: members.transpose()?,
        data: [of_victims, of_auxiliary],
        most: [args.victims, args.most],
        exact: !args.no_exact,
        also: args.levels.iter().map(|levels| levelled(*levels)).collect(),
        attacks: ATTACKS.iter().filter(wanted).copied().collect(),
        budget: Duration::from_secs_f64(60.0 * args.budget),
        messages: args.messages.clone(),
        device: args.device.open()?,
        seed: args.seed,
        out: args.out.clone(),
        stop: &stop,
        recipe,
    };
    let mut view = View::default();
    let results = match suite.run(&mut |event| view.show(&event)) {
        Err(error @ LeakageError::Stopped) => return Err(Stopped(error.to_string()).into()),
        results => results?,
    };
    drop(view);
    write(args, &suite, &results)
}

/// Levels per channel, as the demo has them.
fn levelled(levels: u32) -> QuantizerSpec {
    QuantizerSpec::Fsq(FsqSpec {
        statistics: Statistics::Channel,
        ..FsqSpec::paper(levels)
    })
}

fn write(args: &Args, suite: &Suite<'_>, results: &Results) -> Result<()> {
    let outcomes = &results.outcomes;
    let json = serde_json::json!({
        "model": suite.model,
        "base": suite.base,
        "recipe": suite.recipe.name,
        "victims": args.data,
        "auxiliary": args.auxiliary,
        "used": results.used,
        "budget_minutes": args.budget,
        "seed": args.seed,
        "outcomes": outcomes,
    });
    put(
        &args.out.join("leakage.json"),
        serde_json::to_string_pretty(&json)?.as_bytes(),
    )?;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let facts = vec![
        fact("model", suite.model.display().to_string()),
        fact("recipe", suite.recipe.name.clone()),
        fact(
            "quantizers",
            format!(
                "{} / {}",
                suite.recipe.quantizer.image, suite.recipe.quantizer.text
            ),
        ),
        fact("victims", said(&results.used[0])),
        fact("auxiliary samples", said(&results.used[1])),
        fact("minutes for all attacks", args.budget.to_string()),
    ];
    let path = args.out.join("leakage.html");
    let side = suite.victims.processor().side();
    page::write(
        &path,
        facts,
        outcomes,
        &results.kept,
        side,
        credit(&args.data),
    )
    .context("cannot write the report")?;
    for stream in Stream::ALL {
        for table in tables(stream.name(), outcomes, true) {
            println!("{table}\n");
        }
    }
    for outcome in outcomes {
        for note in outcome
            .notes
            .iter()
            .filter(|note| note.starts_with("not run"))
        {
            println!(
                "{} ({}, {}): {note}",
                outcome.attack,
                outcome.view,
                outcome.setting.name()
            );
        }
    }
    for (whose, used) in ["victims", "auxiliary samples"]
        .into_iter()
        .zip(&results.used)
    {
        println!("{whose}: {}", said(used));
    }
    println!("the report is {}", path.display());
    Ok(())
}

/// How many samples were used, and what was left out.
fn said(used: &Used) -> String {
    let mut said = used.samples.to_string();
    if used.unread > 0 {
        said += &format!("; {} more cannot be read", used.unread);
    }
    if used.shared > 0 {
        said += &format!(
            "; {} more show a picture of the victims and are left out",
            used.shared
        );
    }
    said
}

/// Whose pictures the page shows, if they are generated ones.
fn credit(data: &Path) -> String {
    let made = data.parent().and_then(|dir| Made::read(dir).ok().flatten());
    made.map(|_| ATTRIBUTION.to_owned()).unwrap_or_default()
}

/// What the suite looks like while it goes on.
#[derive(Default)]
struct View {
    bar: Option<Progress>,
}

impl View {
    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Doing(what) => eprintln!("{what}"),
            Event::Begins {
                done,
                of,
                what,
                left,
            } => {
                let bar = self
                    .bar
                    .get_or_insert_with(|| Progress::new("leakage", *of as u64));
                bar.say(&format!(
                    "{what}: attack {} of {of}; {:.1} minutes of the budget left",
                    done + 1,
                    left.as_secs_f64() / 60.0
                ));
            }
            Event::Ended(outcome) => {
                let first = outcome.findings.iter().find_map(|finding| {
                    finding
                        .value
                        .map(|value| format!("{} {value:.2}", finding.measure))
                });
                let said = first
                    .or_else(|| outcome.notes.first().cloned())
                    .unwrap_or_default();
                if let Some(bar) = &self.bar {
                    bar.say(&format!("  {} in {:.0} s", said, outcome.seconds));
                }
            }
        }
    }
}
