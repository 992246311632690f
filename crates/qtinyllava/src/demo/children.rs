//! The server and the client of the demo, as real processes of this program.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// Trains split; `false` if it was interrupted.
pub fn train(out: &Path) -> Result<bool> {
    // Ctrl-C reaches the client too, which has both sides save; this process only waits for it.
    let stop = crate::signal::on_interrupt("both sides save their state first", || {})?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let model = [
        ("--model", out.join("base")),
        ("--recipe", out.join("recipe.toml")),
    ];
    let mut server = Command::new(&program)
        .arg("serve")
        .args(
            model
                .iter()
                .flat_map(|(flag, path)| [flag.as_ref(), path.as_os_str()]),
        )
        .arg("--run")
        .arg(out.join("server"))
        // The client's progress is shown; two bars on one terminal would overwrite each other.
        .args(["--listen", "127.0.0.1:0", "--once", "--quiet", "--tls"])
        .arg(out.join("certs/server"))
        // Its only client is this demo's.
        .env(
            "QTL_LOG",
            std::env::var_os("QTL_LOG").unwrap_or("warn".into()),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Out of reach of the terminal's Ctrl-C: the client is to have both sides saved before the server ends.
        .process_group(0)
        .spawn()
        .context("cannot start the server")?;
    let address = match address(&mut server) {
        Ok(address) => address,
        Err(error) => {
            server.kill().ok();
            server.wait().ok();
            return Err(error);
        }
    };
    let client = Command::new(&program)
        .arg("train")
        .args(
            model
                .iter()
                .flat_map(|(flag, path)| [flag.as_ref(), path.as_os_str()]),
        )
        .arg("--run")
        .arg(out.join("client"))
        .args(["--connect", &address, "--tls"])
        .arg(out.join("certs/client"))
        .arg("--data")
        .arg(out.join("train/llava.json"))
        .stdin(Stdio::null())
        .status();
    let interrupted = stop.load(std::sync::atomic::Ordering::Relaxed);
    if interrupted || !client.as_ref().is_ok_and(std::process::ExitStatus::success) {
        server.kill().ok();
    }
    server.wait().ok();
    let status = client.context("cannot start the client")?;
    if interrupted {
        return Ok(false);
    }
    if !status.success() {
        bail!("the client's process ended with {status}; see its message above");
    }
    Ok(true)
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
