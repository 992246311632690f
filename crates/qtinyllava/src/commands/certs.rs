//! `certs`: a private certificate authority and a kit for each side.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qtl_wire::certs::{
    Ca, Issue, LOOPBACK, leaf_key, make_ca, make_client_kit, make_server_kit, renew,
};

use crate::numbers::whole;

/// Make certificates: a CA, a server kit and a client kit
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qtinyllava certs --out certs --server-name gpu.example.org --server-name 10.0.0.5
makes certs/ca (keep ca.key offline), certs/server (for the server), certs/client (for the client). Run it again with
--client NAME to make a kit for one more client under the same CA.
  qtinyllava certs renew certs/client
issues a new certificate for the same key, by the CA in certs/ca: a run that belongs to the key still does. Programs that
run read it at their next connection.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Directory to write into
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    /// Host name or IP address under which clients reach the server; may be given more than once
    #[arg(long = "server-name", value_name = "NAME", default_values_t = LOOPBACK.map(str::to_owned))]
    server_names: Vec<String>,
    /// Name of the client
    #[arg(long, value_name = "NAME", default_value = "client", value_parser = folder)]
    client: String,
    /// Days until the certificates expire
    #[arg(long, default_value_t = 365, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
    /// Make all anew, with new keys; what was there is kept under the ending .old
    #[arg(long)]
    overwrite: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Issue a new certificate for the same key
    Renew(Renew),
}

#[derive(clap::Args)]
struct Renew {
    /// The kit, or the CA's own folder
    dir: PathBuf,
    /// Folder of the CA [default: ca beside the kit]
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    /// Days until the certificate expires
    #[arg(long, default_value_t = 365, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
}

/// The name of a client, which is also that of its kit's folder beside the authority's and the server's.
fn folder(name: &str) -> Result<String, String> {
    let odd = |c: char| matches!(c, '/' | '\\') || c.is_control();
    let plain = !name.trim().is_empty() && !name.contains(odd) && !name.starts_with('.');
    match plain && !["ca", "server"].contains(&name) {
        true => Ok(name.to_owned()),
        false => Err("expected a name for a folder beside those called ca and server".to_owned()),
    }
}

/// Makes what is missing, or renews what is there.
pub fn run(args: &Args) -> Result<()> {
    if let Some(Command::Renew(args)) = &args.command {
        let beside = || args.dir.parent().unwrap_or(Path::new("")).join("ca");
        let ca = args.ca.clone().unwrap_or_else(beside);
        let renewed = renew(&args.dir, &ca, &Issue::days(args.days))?;
        println!(
            "renewed {} for '{}' and {} days; its key is {} as before",
            args.dir.display(),
            renewed.name,
            args.days,
            renewed.key
        );
        return Ok(());
    }
    let out = args.out.as_deref().context("--out is missing")?;
    let mut issue = Issue::days(args.days);
    issue.overwrite = args.overwrite;
    let ca_dir = out.join("ca");
    let server = out.join("server");
    let ca = if ca_dir.join("ca.pem").exists() && !args.overwrite {
        Ca::load(&ca_dir)?
    } else {
        let ca = make_ca(&ca_dir, "qtinyllava CA", &issue)?;
        println!(
            "wrote {} (ca.key signs new kits: keep it off both machines)",
            ca_dir.display()
        );
        ca
    };
    if !server.exists() || args.overwrite {
        make_server_kit(&ca, &server, &args.server_names, &issue)?;
        println!(
            "wrote {} for {}",
            server.display(),
            args.server_names.join(", ")
        );
    }
    let client = out.join(&args.client);
    make_client_kit(&ca, &client, &args.client, &issue)?;
    let key = leaf_key(&client.join("client.pem"))?;
    println!("wrote {}; its key is {key}", client.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_kit_is_a_folder_of_its_own() {
        for name in ["client", "Klinikum Köln", "site-2.example"] {
            assert_eq!(folder(name).as_deref(), Ok(name));
        }
        // Elsewhere, hidden, or beside the authority's key, which would go along to the client.
        for name in [
            "", " ", "..", "../a", "a/b", "a\\b", "a\nb", ".a", "ca", "server",
        ] {
            assert!(folder(name).is_err(), "{name:?}");
        }
    }
}
