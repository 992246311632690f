//! From a decoded picture to the pixels a vision tower expects, as its `preprocessor_config.json` says.

mod canvas;
mod config;
mod resize;

use std::path::Path;

use ::image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::example::Pixels;
use crate::image::{self, ImageFault, PictureRules};
use canvas::Canvas;
use resize::{Part, bicubic};

/// One 255th, as the published configurations write it.
const RESCALE: f64 = 0.003_921_568_627_450_98;

/// What happens to a picture that is not square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Nothing special: SigLIP stretches, CLIP and DINOv2 cut out the middle.
    #[default]
    Square,
    /// Put it in the middle of a square filled with the mean colour first.
    Pad,
}

/// How the picture gets its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resize {
    /// Both sides to this length, whatever the shape.
    Stretch(usize),
    /// The shorter side to this length, keeping the shape.
    Shortest(usize),
}

/// A vision tower's preprocessing: resize, crop, rescale, normalise.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    resize: Resize,
    crop: Option<usize>,
    rescale: f64,
    mean: [f64; 3],
    std: [f64; 3],
    /// What comes out: side of the square.
    side: usize,
}

impl Processor {
    /// SigLIP's preprocessing for a tower of `side` pixels: stretch, mean and deviation 0.5.
    #[must_use]
    pub fn siglip(side: usize) -> Self {
        let half = [0.5; 3];
        Self {
            resize: Resize::Stretch(side),
            crop: None,
            rescale: RESCALE,
            mean: half,
            std: half,
            side,
        }
    }

    /// CLIP's preprocessing for a tower of `side` pixels: the shorter side to that length, the middle cut out, mean and
    /// deviation those of its training pictures.
    #[must_use]
    pub fn clip(side: usize) -> Self {
        Self {
            resize: Resize::Shortest(side),
            crop: Some(side),
            rescale: RESCALE,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
            side,
        }
    }

    /// DINOv2's preprocessing: the shorter side to 8/7 of `side` pixels (published: 256 for 224), the middle cut out, mean
    /// and deviation those of ImageNet.
    #[must_use]
    pub fn dinov2(side: usize) -> Self {
        Self {
            resize: Resize::Shortest((side * 8 + 3) / 7),
            crop: Some(side),
            rescale: RESCALE,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            side,
        }
    }

    /// Height and width of what comes out.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Per-channel mean that is subtracted from values in 0..=1.
    #[must_use]
    pub fn mean(&self) -> [f64; 3] {
        self.mean
    }

    /// Per-channel deviation that values are divided by.
    #[must_use]
    pub fn std(&self) -> [f64; 3] {
        self.std
    }

    /// Resized and cropped bytes: `side x side x 3`, row-major, R G B.
    ///
    /// # Panics
    /// If the picture has no pixels; [`crate::image::decode`] never gives such a one.
    #[must_use]
    pub fn resized(&self, picture: &RgbImage, aspect: Aspect) -> Vec<u8> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let canvas = match aspect {
            Aspect::Pad => {
                let background = self.mean.map(|m| (m * 255.0) as u8);
                Canvas::framed(picture.as_raw(), width, height, background)
            }
            Aspect::Square => Canvas::bare(picture.as_raw(), width, height),
        };
        bicubic(&canvas, &self.part(canvas.size()))
    }

    /// What is made of a picture of that size.
    fn part(&self, (width, height): (usize, usize)) -> Part {
        let whole = match self.resize {
            Resize::Stretch(side) => (side, side),
            Resize::Shortest(side) if width <= height => (side, side * height / width),
            Resize::Shortest(side) => (side * width / height, side),
        };
        Part::middle(whole, (self.side, self.side))
    }

    /// From a file to what the tower expects.
    ///
    /// # Errors
    /// The picture cannot be had, or takes more pixels than `rules` allow, be it between the passes of resizing only.
    pub fn read(
        &self,
        path: &Path,
        aspect: Aspect,
        rules: &PictureRules,
    ) -> Result<Pixels, ImageFault> {
        let picture = image::open(path, rules)?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let size = match aspect {
            Aspect::Pad => (width.max(height), width.max(height)),
            Aspect::Square => (width, height),
        };
        let between = self.part(size).between(size.1);
        if between > rules.max_pixels {
            let problem = format!(
                "{}: resizing {width} x {height} takes {between} pixels at a time, more than {}",
                path.display(),
                rules.max_pixels
            );
            return Err(ImageFault::Sample(Fault::LargeImage, problem));
        }
        Ok(self.pixels(&picture, aspect))
    }

    /// The whole way: `(u8 * rescale - mean) / std`, channel first.
    ///
    /// # Panics
    /// If the picture has no pixels.
    #[must_use]
    pub fn pixels(&self, picture: &RgbImage, aspect: Aspect) -> Pixels {
        self.normalised(&self.resized(picture, aspect))
    }

    /// Normalises the bytes that [`Self::resized`] gives. Rescaling is done in f64 and rounded to f32, the rest in f32.
    #[must_use]
    pub fn normalised(&self, bytes: &[u8]) -> Pixels {
        let mut data = Vec::with_capacity(bytes.len());
        for channel in 0..3 {
            let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
            let table: [f32; 256] =
                std::array::from_fn(|v| ((v as f64 * self.rescale) as f32 - mean) / std);
            data.extend(
                bytes
                    .iter()
                    .skip(channel)
                    .step_by(3)
                    .map(|&v| table[usize::from(v)]),
            );
        }
        Pixels {
            side: self.side,
            data,
        }
    }
}
