//! The server and the clients of the demo, as real processes of this program.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use qtl_train::Recipe;
use qtl_train::tune::{Method, Part};

use super::Clients;
use crate::device::DeviceArg;

/// Trains split; `false` if it was interrupted.
pub fn train(out: &Path, recipe: &Recipe, clients: &Clients, device: DeviceArg) -> Result<bool> {
    // Ctrl-C reaches the clients too, which have all sides save; this process only waits for them.
    let stop = crate::signal::on_interrupt("all sides save their state first", || {})?;
    let mut server = serve(out, clients, device)?;
    let address = match address(&mut server) {
        Ok(address) => address,
        Err(error) => {
            server.kill().ok();
            server.wait().ok();
            return Err(error);
        }
    };
    let started: Vec<Result<Child>> = (0..clients.names().len())
        .map(|place| client(out, recipe, clients, place, (&address, device)))
        .collect();
    let ended: Vec<Result<ExitStatus>> = started
        .into_iter()
        .map(|child| child?.wait().context("cannot wait for a client"))
        .collect();
    let interrupted = stop.load(Ordering::Relaxed);
    let fine = |status: &Result<ExitStatus>| status.as_ref().is_ok_and(ExitStatus::success);
    if interrupted || !ended.iter().all(fine) {
        server.kill().ok();
    }
    server.wait().ok();
    if interrupted {
        return Ok(false);
    }
    for (place, status) in ended.into_iter().enumerate() {
        let (name, status) = (&clients.names()[place], status?);
        if !status.success() {
            let said = match said(out, clients, place) {
                Some(file) => format!("in {}", file.display()),
                None => "above".to_owned(),
            };
            bail!("the process of {name} ended with {status}; see its message {said}");
        }
    }
    Ok(true)
}

fn model(out: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("--model", out.join("base")),
        ("--recipe", out.join("recipe.toml")),
    ]
}

fn serve(out: &Path, clients: &Clients, device: DeviceArg) -> Result<Child> {
    let mut server = command("serve")?;
    for (flag, path) in model(out) {
        server.arg(flag).arg(path);
    }
    server.args(device.arguments());
    server.arg("--run").arg(out.join("server"));
    if let Some(roster) = clients.roster(out) {
        server.arg("--sites").arg(roster);
    }
    server
        // The client's progress is shown; two bars on one terminal would overwrite each other.
        .args(["--listen", "127.0.0.1:0", "--once", "--quiet", "--tls"])
        .arg(out.join("certs/server"))
        // Its only clients are this demo's.
        .env(
            "QTL_LOG",
            std::env::var_os("QTL_LOG").unwrap_or("warn".into()),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Out of reach of the terminal's Ctrl-C: the clients are to have all sides saved before the server ends.
        .process_group(0)
        .spawn()
        .context("cannot start the server")
}

fn client(
    out: &Path,
    recipe: &Recipe,
    clients: &Clients,
    place: usize,
    (address, device): (&str, DeviceArg),
) -> Result<Child> {
    let mut client = command("train")?;
    for (flag, path) in model(out) {
        client.arg(flag).arg(path);
    }
    let name = &clients.names()[place];
    client
        .args(device.arguments())
        .arg("--run")
        .arg(out.join(name))
        .args(["--connect", address, "--tls"])
        .arg(out.join("certs").join(name))
        .arg("--data")
        .arg(out.join("train").join(clients.data(place)))
        .stdin(Stdio::null());
    if recipe
        .sites
        .as_ref()
        .is_some_and(|sites| sites.average_every > 0)
    {
        // Not the token embedding, which would show what each site was trained on.
        let trained = |part: &Part| recipe.tune.part(*part).method != Method::Frozen;
        let shared = Part::ALL
            .into_iter()
            .filter(|part| *part != Part::EmbedTokens && trained(part));
        let shared: Vec<&str> = shared.map(Part::field).collect();
        client.args(["--share", &shared.join(",")]);
    }
    if let Some(file) = said(out, clients, place) {
        let log =
            File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
        client.stderr(log);
    }
    client
        .spawn()
        .with_context(|| format!("cannot start the process of {name}"))
}

/// Where a client's messages go; those of the first are shown.
fn said(out: &Path, clients: &Clients, place: usize) -> Option<PathBuf> {
    (place > 0).then(|| out.join(format!("{}.log", clients.names()[place])))
}

fn command(name: &str) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.arg(name);
    Ok(command)
}

/// Reads the address that the server prints once it listens.
fn address(server: &mut Child) -> Result<String> {
    let output = server.stdout.take().context("the server has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.trim().strip_prefix("listening on ") {
        Some(address) => Ok(address.to_owned()),
        None => bail!("the server's process did not start; see its message above"),
    }
}
