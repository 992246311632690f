//! `merge`: two halves into one model, or into an adapter; an adapter into a model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use qtl_model::weights::SaveType;
use qtl_train::export::{fold_adapter, write_adapter};
use qtl_train::merge::{Format, merge_sites, of_site};
use qtl_train::start::Base;

/// Join the two halves of a run into one model directory, or write what it trained as an adapter
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava merge --client runs/client --server runs/server --model base --out runs/merged
takes the newest step that both halves hold and writes TinyLLaVA's layout: config.json, model.safetensors, tokenizer.
  qtinyllava merge --client runs/client --server runs/server --model base --out runs/merged --dtype bf16 --shard-size 2GB
writes shards of at most 2 GB, and their index, where the weights are larger.
  qtinyllava merge --client runs/client --server runs/server --model base --adapter --out runs/adapter
writes only what was trained: language_model/ is an adapter that peft in Python loads, the other parts are whole tensors.
  qtinyllava merge --model base --from-adapter runs/adapter/language_model --out runs/folded
folds such an adapter, or one that peft wrote, into the base.
  qtinyllava merge --client runs/more --model base --from-adapter runs/adapter --out runs/merged
joins a run that started from an adapter.
  qtinyllava merge --client runs/north --client runs/south --average --server runs/server --model base --out runs/merged
joins what several sites have trained; with --site north instead of --average, the half of that site alone.")]
pub struct Args {
    /// The client's run directory; of several sites that of one, or each of them with --average or --site
    #[arg(long, value_name = "DIR", required_unless_present = "from_adapter")]
    client: Vec<PathBuf>,
    /// Of several sites: the mean of what they have trained on their own side, all counting the same
    #[arg(long, requires = "client", conflicts_with = "adapter")]
    average: bool,
    /// Of several sites: the half of this one, by its name in the roster
    #[arg(
        long,
        value_name = "NAME",
        requires = "client",
        conflicts_with = "average"
    )]
    site: Option<String>,
    /// The server's run directory [default: server inside the client's, as `train --local` writes it]
    #[arg(long, value_name = "DIR", requires = "client")]
    server: Option<PathBuf>,
    /// The model directory or hub id that the run started from
    #[arg(long, value_name = "DIR|ID")]
    model: PathBuf,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write an adapter in PEFT's format instead of the whole model
    #[arg(long, conflicts_with_all = ["bf16", "dtype"], requires = "client")]
    adapter: bool,
    /// Fold this adapter into --model; with --client: the adapter that the run started from
    #[arg(long, value_name = "DIR")]
    from_adapter: Option<PathBuf>,
    /// Type of the weights [default: each as the files of --model have it; quantizers, which those do not have, as f32]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<Dtype>,
    /// The same as --dtype bf16
    #[arg(long, conflicts_with = "dtype")]
    bf16: bool,
    /// Largest file of weights; what is larger is written in shards with an index. Bytes, or with a unit like 500MB or 2GiB
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = crate::numbers::size)]
    shard_size: ByteSize,
}

/// Types that weights can be written in.
#[derive(clap::ValueEnum, Clone, Copy)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// What the values become.
    pub fn kind(self) -> SaveType {
        match self {
            Self::F32 => SaveType::F32,
            Self::F16 => SaveType::F16,
            Self::Bf16 => SaveType::Bf16,
        }
    }
}

/// Joins and says what was joined.
pub fn run(args: &Args) -> Result<()> {
    let model = crate::hub::directory(&args.model)?;
    let format = Format {
        kind: match args.dtype {
            None if args.bf16 => Some(SaveType::Bf16),
            dtype => dtype.map(Dtype::kind),
        },
        shard: args.shard_size.as_u64(),
    };
    let out = args.out.display();
    let read = args.server.iter().chain(&args.from_adapter);
    let read = read.chain(&args.client).map(PathBuf::as_path);
    super::apart(&args.out, &read.chain([&*model]).collect::<Vec<_>>())?;
    if let (Some(adapter), None) = (&args.from_adapter, args.client.first()) {
        let folded = fold_adapter(&model, adapter, &args.out, format)?;
        println!(
            "wrote {out}: {folded} branches folded into {}",
            model.display()
        );
        return Ok(());
    }
    let clients: Vec<&Path> = args.client.iter().map(PathBuf::as_path).collect();
    let first = *clients.first().context("--client is missing")?;
    if clients.len() > 1 && !args.average && args.site.is_none() {
        bail!(
            "--client is given {} times: each site has a half of its own. Say which with --site NAME, or join the mean of all with --average",
            clients.len()
        );
    }
    let server = args.server.clone().unwrap_or_else(|| first.join("server"));
    let clients = match &args.site {
        Some(name) => vec![of_site(&clients, &server, name)?],
        None => clients,
    };
    let client = clients[0];
    let base = Base {
        model: &model,
        adapter: args.from_adapter.as_deref(),
    };
    if args.adapter {
        let step = write_adapter(client, &server, base, &args.out)?;
        println!("wrote {out}: what was trained until step {step}");
        let base = args.out.join("base_language_model");
        if base.is_dir() {
            println!(
                "and {}: the language model that the adapter goes on, for peft",
                base.display()
            );
        }
        return Ok(());
    }
    let merged = merge_sites(&clients, &server, base, &args.out, format)?;
    println!(
        "wrote {out}: {} parameters after step {}",
        merged.parameters, merged.step
    );
    if merged.untied {
        println!(
            "the head was tied to the token embedding; training has parted them, and it is written untied"
        );
    }
    Ok(())
}
