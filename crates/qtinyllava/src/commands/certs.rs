//! `certs`: a private certificate authority and a kit for each side.

use std::path::PathBuf;

use anyhow::Result;
use qtl_wire::certs::{Ca, Issue, LOOPBACK, make_ca, make_client_kit, make_server_kit};

use crate::numbers::whole;

/// Make certificates: a CA, a server kit and a client kit
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qtinyllava certs --out certs --server-name gpu.example.org --server-name 10.0.0.5
makes certs/ca (keep ca.key offline), certs/server (for the server), certs/client (for the client). Run it again with
--client NAME to make a kit for one more client under the same CA.")]
pub struct Args {
    /// Directory to write into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Host name or IP address under which clients reach the server; may be given more than once
    #[arg(long = "server-name", value_name = "NAME", default_values_t = LOOPBACK.map(str::to_owned))]
    server_names: Vec<String>,
    /// Name of the client
    #[arg(long, value_name = "NAME", default_value = "client")]
    client: String,
    /// Days until the certificates expire
    #[arg(long, default_value_t = 365, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
}

/// Makes what is missing.
pub fn run(args: &Args) -> Result<()> {
    let mut issue = Issue::days(args.days);
    issue.overwrite = args.overwrite;
    let ca_dir = args.out.join("ca");
    let server = args.out.join("server");
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
    let client = args.out.join(&args.client);
    make_client_kit(&ca, &client, &args.client, &issue)?;
    println!("wrote {}", client.display());
    Ok(())
}
