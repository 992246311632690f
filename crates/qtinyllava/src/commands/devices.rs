//! `devices`: what this program can compute on.

use anyhow::Result;
use qtl_eval::Table;
use qtl_model::device::{Kind, Wanted, is_software};

use crate::device::{tried, try_here};

/// List what this program can compute on: what is built in, what is here, and whether it works
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qtinyllava devices
Each device that is found is tried in a process of its own. `cuda`, `vulkan` and `wgpu` are features that a build has or has not; `fusion`
and `autotune` make them faster. Results on two kinds of devices agree within rounding, not to the bit.")]
pub struct Args {
    /// Compute something on this device and end
    #[arg(long = "try", value_name = "DEVICE", hide = true)]
    trial: Option<Wanted>,
}

/// Looks and lists.
pub fn run(args: &Args) -> Result<()> {
    if let Some(name) = args.trial {
        return try_here(name);
    }
    let mut table = Table::new("devices", &["--device", "state"]);
    for kind in Kind::ALL.into_iter().rev() {
        let found = kind.found();
        if found.is_empty() {
            let state = match Wanted::One(kind, 0).find() {
                Err(error) if kind.is_built() => error.to_string(),
                _ => format!("not in this build (--features {kind},fusion,autotune)"),
            };
            table.push(vec![kind.to_string(), state]);
        }
        for (number, device) in found.iter().enumerate() {
            let name = Wanted::One(kind, number);
            let state = match (kind, tried(name)) {
                (Kind::Cpu, _) => "works".to_owned(),
                (_, Ok(time)) => format!(
                    "works, first result after {:.1} s{}",
                    time.as_secs_f64(),
                    match is_software(device) {
                        true => "; it is the processor behind a driver, slower than cpu",
                        false => "",
                    }
                ),
                (_, Err(error)) => error.to_string(),
            };
            table.push(vec![name.to_string(), state]);
        }
    }
    println!("{table}");
    let (_, best) = Wanted::Auto.find()?;
    println!("--device auto, the default, is {best}");
    if Kind::ALL
        .iter()
        .any(|kind| *kind != Kind::Cpu && kind.is_built())
        && !qtl_model::device::is_tuned()
    {
        println!(
            "built without fusion and autotune: right, but slower than `--features fusion,autotune`"
        );
    }
    Ok(())
}
