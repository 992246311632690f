//! `--device`: what computes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use qtl_model::Device;
use qtl_model::device::{Kind, Wanted, trial};

/// A card that does not answer for so long will not.
const LONGEST: Duration = Duration::from_secs(300);

/// What computes.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct DeviceArg {
    /// What computes: cpu, cuda, vulkan or wgpu (the number of one of several behind a colon: cuda:1), or auto, the best that is built in and here; `qtinyllava devices` lists them
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: Wanted,
}

impl DeviceArg {
    /// The device, after a trial if it is not the CPU.
    pub fn open(self) -> Result<Device> {
        let (device, name) = self.device.find()?;
        if Kind::of(&device) != Kind::Cpu {
            tried(name)?;
            eprintln!("computing on {name}");
        }
        Ok(device)
    }

    /// As it was given, for a process of this program.
    pub fn arguments(self) -> [String; 2] {
        ["--device".to_owned(), self.device.to_string()]
    }
}

/// Has a device compute something in a process of its own, where a library or compiler that is missing, or a driver that crashes, can do
/// no harm: how long that took, with starting.
pub fn tried(name: Wanted) -> Result<Duration> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(["devices", "--try", &name.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process of this program to try the device")?;
    let said = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            std::io::Read::read_to_end(&mut pipe, &mut said).ok();
            String::from_utf8_lossy(&said).into_owned()
        })
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > LONGEST {
            child.kill().ok();
            child.wait().ok();
            bail!(
                "{name} is here but has not answered for {} seconds; --device cpu works everywhere",
                LONGEST.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if status.success() {
        return Ok(started.elapsed());
    }
    let said = said
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    Err(anyhow!(
        "{name} is here but does not compute ({}). {}; --device cpu works everywhere",
        reason(&said).unwrap_or_else(|| status.to_string()),
        cure(name)
    ))
}

/// What a process that failed said last about why: the message of a panic stands below its place.
fn reason(said: &str) -> Option<String> {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let own = |line: &str| line.strip_prefix("error: ").map(str::to_owned);
    let all: Vec<&str> = lines.by_ref().collect();
    let panic = all.iter().position(|line| line.contains("panicked at"));
    let message = panic
        .and_then(|at| all.get(at + 1))
        .map(|line| (*line).to_owned());
    message.or_else(|| all.iter().rev().find_map(|line| own(line)))
}

/// What to look at.
fn cure(name: Wanted) -> &'static str {
    match name {
        Wanted::One(Kind::Cuda, _) => {
            "CUDA kernels are compiled while the program runs: install libnvrtc and the CUDA headers (CUDA_PATH, by default \
             /usr/local/cuda; the Python packages nvidia-cuda-nvrtc-cu12 and nvidia-cuda-runtime-cu12 hold both)"
        }
        Wanted::One(Kind::Vulkan, _) => {
            "Its driver does not take this program's SPIR-V: update it, or take wgpu (`--features wgpu`), which is compiled from WGSL"
        }
        _ => "Update its driver",
    }
}

/// What the process does that tries a device.
pub fn try_here(name: Wanted) -> Result<()> {
    let (device, name) = name.find()?;
    let off = trial(&device).map_err(|error| anyhow!("{name}: {error}"))?;
    if off.is_nan() || off > TOLERANCE {
        bail!("{name} computes something else than the CPU: off by {off:e} of the largest number");
    }
    Ok(())
}

/// Largest difference from the CPU's result, relative to its largest number.
const TOLERANCE: f32 = 1e-2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_panic_is_the_reason() {
        let said = "note\nthread 'DSD-0-0' panicked at src/lib.rs:1:2:\nUnable to load \"nvrtc\"\nnote: run with\n";
        assert_eq!(reason(said).as_deref(), Some("Unable to load \"nvrtc\""));
        let said = "error: cuda:0 computes something else\n";
        assert_eq!(
            reason(said).as_deref(),
            Some("cuda:0 computes something else")
        );
        assert_eq!(reason("\n"), None);
    }
}
