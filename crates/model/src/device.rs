//! Which device computes, chosen by name while the program runs.
//!
//! What can be chosen is compiled in: the CPU always, the others with the features of their names. Nothing here panics where a
//! driver or a device is missing.

use std::fmt;
use std::str::FromStr;

#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
use burn::tensor::DeviceType;
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use thiserror::Error;

use crate::tuning::Storage;

/// A kind of device: what the arithmetic of a run depends on, apart from its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The processor.
    Cpu,
    /// NVIDIA, by CUDA.
    Cuda,
    /// Any card with a Vulkan driver, in SPIR-V.
    Vulkan,
    /// Any card that wgpu reaches, in WGSL.
    Wgpu,
}

impl Kind {
    /// All there are, the first that a run would rather have first.
    pub const ALL: [Self; 4] = [Self::Cuda, Self::Vulkan, Self::Wgpu, Self::Cpu];

    /// Its name, as in `--device`; that of the feature that it is built with, too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    /// Whether this program has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }

    /// The devices of this kind that are here. Looks for drivers, and opens none.
    pub fn found(self) -> Vec<Device> {
        match self {
            Self::Cpu => vec![Device::flex()],
            #[cfg(feature = "cuda")]
            Self::Cuda => listed(DeviceType::Cuda),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => listed(DeviceType::Vulkan),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => listed(DeviceType::Wgpu),
            #[allow(unreachable_patterns, reason = "all are built in")]
            _ => Vec::new(),
        }
    }

    /// That of a device.
    pub fn of(device: &Device) -> Self {
        let device = device.clone().inner();
        if device == Device::flex() {
            return Self::Cpu;
        }
        let is_here = |kind: &Self| *kind != Self::Cpu && kind.found().contains(&device);
        // One of a kind that is not listed can only have been made from a list of the last.
        Self::ALL.into_iter().find(is_here).unwrap_or(Self::Wgpu)
    }

    /// What it needs beside a card.
    fn needs(self) -> &'static str {
        match self {
            Self::Cpu => "nothing",
            Self::Cuda => "an NVIDIA driver (libcuda.so.1; `nvidia-smi` shows it)",
            Self::Vulkan | Self::Wgpu => {
                "a Vulkan driver and its loader (libvulkan.so.1; `vulkaninfo --summary` shows both)"
            }
        }
    }
}

#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
fn listed(kind: DeviceType) -> Vec<Device> {
    Device::enumerate(kind).into_iter().collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a device is the processor behind a driver for cards: right, and slow.
pub fn is_software(device: &Device) -> bool {
    // Only its own account of itself says so.
    *device != Device::flex() && format!("{device:?}").contains("Cpu")
}

/// A device that somebody asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best that is built in and here; the CPU where nothing else is built in.
    #[default]
    Auto,
    /// The device of a kind with this number.
    One(Kind, usize),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::One(Kind::Cpu, _) => f.write_str("cpu"),
            Self::One(kind, number) => write!(f, "{kind}:{number}"),
        }
    }
}

impl FromStr for Wanted {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown {
            text: text.to_owned(),
        };
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        match (kind.ok_or_else(unknown)?, number) {
            (Kind::Cpu, Some(_)) => Err(unknown()),
            (kind, number) => Ok(Self::One(kind, number.unwrap_or(0))),
        }
    }
}

impl Wanted {
    /// The device, and its name with a number.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if it is not built in or not here.
    pub fn find(self) -> Result<(Device, Self), DeviceError> {
        let Self::One(kind, number) = self else {
            return Ok(best());
        };
        if !kind.is_built() {
            return Err(DeviceError::NotBuilt { kind });
        }
        let mut found = kind.found();
        if number >= found.len() {
            return Err(DeviceError::NotHere {
                wanted: self,
                found: found.len(),
                needs: kind.needs(),
            });
        }
        Ok((found.swap_remove(number), self))
    }
}

/// A processor behind a driver for cards is not better than the processor.
fn best() -> (Device, Wanted) {
    let cards = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Cpu);
    let mut all =
        cards.flat_map(|kind| kind.found().into_iter().enumerate().map(move |d| (kind, d)));
    match all.find(|(_, (_, device))| !is_software(device)) {
        Some((kind, (number, device))) => (device, Wanted::One(kind, number)),
        None => (Device::flex(), Wanted::One(Kind::Cpu, 0)),
    }
}

/// Whether a device computes in a type. burn does not know it of all: its CPU backend does.
pub fn computes(device: &Device, dtype: DType) -> bool {
    *device == Device::flex() || device.supports_dtype(dtype)
}

/// How matrices that only answers are made with are kept: as the file has them, of which bfloat16 takes half the memory and half
/// the time to read. Products on the CPU read them so; another device would widen them each time, or lacks the type.
pub fn as_stored(device: &Device) -> Storage {
    match *device == Device::flex() {
        true => Storage::Bf16,
        false => Storage::F32,
    }
}

/// Whether kernels are fused and tuned, without which a card is slower than it need be.
pub fn is_tuned() -> bool {
    cfg!(all(feature = "fusion", feature = "autotune"))
}

/// Computes something small on a device, forward and backward: how far the result is from the CPU's, relative to its largest number.
///
/// # Errors
///
/// What the device says if it cannot give the result back.
pub fn trial(device: &Device) -> Result<f32, String> {
    const SIDE: usize = 48;
    let run = |device: &Device| {
        let device = device.clone().autodiff();
        let wave = |phase: f32| {
            let values = (0..SIDE * SIDE).map(|i| (0.37 * i as f32 + phase).sin());
            let data = TensorData::new(values.collect::<Vec<_>>(), [SIDE, SIDE]);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        let (a, b) = (wave(0.1), wave(0.7));
        let rows: Vec<i64> = (0..SIDE as i64).rev().collect();
        let rows =
            Tensor::<1, Int>::from_data(TensorData::from(rows.as_slice()), &device.clone().inner());
        let y = softmax(gelu(a.clone().matmul(b)), 1).select(0, rows);
        let gradients = (y.clone() * y).sum().backward();
        let gradient = a.grad(&gradients).ok_or("there is no gradient")?;
        let data = gradient
            .try_into_data()
            .map_err(|error| format!("{error:?}"))?;
        data.convert::<f32>()
            .try_into_vec::<f32>()
            .map_err(|error| format!("{error:?}"))
    };
    let (ours, theirs) = (run(device)?, run(&Device::flex())?);
    let largest = theirs.iter().fold(0f32, |most, x| most.max(x.abs()));
    let off = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
    Ok(off.fold(0f32, |most, x| if x <= most { most } else { x }) / largest)
}

/// Why there is no such device.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// A name that means nothing.
    #[error(
        "{text:?} is no device: expected auto, cpu, cuda, vulkan or wgpu, the last three with a number after a colon if there are several (cuda:1)"
    )]
    Unknown {
        /// What was asked for.
        text: String,
    },
    /// The program was built without it.
    #[error(
        "this program was built without {kind}: build it with `cargo build --release --features {kind},fusion,autotune`, or take --device cpu"
    )]
    NotBuilt {
        /// What is missing.
        kind: Kind,
    },
    /// The machine has no such device.
    #[error(
        "{wanted} is not here: {found} such devices are found. It takes {needs}; `qtinyllava devices` lists what is here, and --device cpu works everywhere"
    )]
    NotHere {
        /// What was asked for.
        wanted: Wanted,
        /// How many of its kind there are.
        found: usize,
        /// What must be installed.
        needs: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3", "vulkan:1", "wgpu:0"] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
        assert_eq!(
            "wgpu".parse::<Wanted>().unwrap(),
            Wanted::One(Kind::Wgpu, 0)
        );
        for text in [
            "", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:0:1", "CUDA", "auto:0",
        ] {
            let error = text.parse::<Wanted>().unwrap_err().to_string();
            assert!(error.contains("expected auto"), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let (device, name) = Wanted::One(Kind::Cpu, 0).find().unwrap();
        assert_eq!(
            (Kind::of(&device), name.to_string()),
            (Kind::Cpu, "cpu".to_owned())
        );
        assert!(computes(&device, DType::BF16) && !is_software(&device));
        assert_eq!(trial(&device), Ok(0.0));
    }

    #[test]
    fn what_is_not_built_or_not_here_is_said_with_its_cure() {
        for kind in [Kind::Cuda, Kind::Vulkan, Kind::Wgpu] {
            let error = Wanted::One(kind, 99).find().unwrap_err().to_string();
            let cure = match kind.is_built() {
                false => format!("--features {kind}"),
                true => "driver".to_owned(),
            };
            assert!(
                error.contains(&cure) && error.contains("--device cpu"),
                "{error}"
            );
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "vulkan", feature = "wgpu")))]
    #[test]
    fn without_another_the_best_is_the_cpu() {
        assert_eq!(Wanted::Auto.find().unwrap().0, Device::flex());
    }
}
