//! Samples of fewer bits in 16-bit files, as microscopes and detectors write them.

use std::io::Cursor;

use ::image::{DynamicImage, ImageFormat};

use super::{ImageFault, PictureRules};
use crate::error::Fault;

/// Bits that leave a picture almost black if nobody says that the others are not used.
const DARK: u32 = 12;

/// Stretches samples that use the lower bits only to all 16.
pub(super) fn stretch(
    picture: &mut DynamicImage,
    bytes: &[u8],
    format: Option<ImageFormat>,
    rules: &PictureRules,
) -> Result<(), ImageFault> {
    // Alpha says nothing about brightness.
    let (samples, colours, channels): (&mut [u16], usize, usize) = match picture {
        DynamicImage::ImageLuma16(p) => (p, 1, 1),
        DynamicImage::ImageLumaA16(p) => (p, 1, 2),
        DynamicImage::ImageRgb16(p) => (p, 3, 3),
        DynamicImage::ImageRgba16(p) => (p, 3, 4),
        _ => return Ok(()),
    };
    let pixels = samples.chunks_exact(channels);
    let brightest = pixels
        .flat_map(|pixel| &pixel[..colours])
        .max()
        .copied()
        .unwrap_or(0);
    let bits = match rules.sample_bits.or_else(|| declared(bytes, format)) {
        Some(bits) => bits,
        None if brightest > 0 && u32::from(brightest) < 1 << DARK => {
            let problem = format!(
                "its brightest sample is {brightest} of 65535: do its samples have {DARK} bits?"
            );
            return Err(ImageFault::Sample(Fault::UnclearDepth, problem));
        }
        None => return Ok(()),
    };
    let most = (1u32 << bits) - 1;
    // PNG's rule is that samples use the upper bits; what does so needs nothing.
    if bits >= 16 || u32::from(brightest) > most {
        return Ok(());
    }
    for pixel in samples.chunks_exact_mut(channels) {
        for sample in &mut pixel[..colours] {
            *sample = ((u32::from(*sample) * 65535 + most / 2) / most) as u16;
        }
    }
    Ok(())
}

/// The bits in use by the file's own word: PNG's `sBIT`, TIFF's `MaxSampleValue`.
fn declared(bytes: &[u8], format: Option<ImageFormat>) -> Option<u32> {
    match format? {
        ImageFormat::Png => {
            let reader = png::Decoder::new(Cursor::new(bytes)).read_info().ok()?;
            let most = reader.info().sbit.as_deref()?.iter().max()?;
            (1..=16).contains(most).then_some(u32::from(*most))
        }
        ImageFormat::Tiff => {
            let mut reader = tiff::decoder::Decoder::new(Cursor::new(bytes)).ok()?;
            let most = reader
                .find_tag_unsigned_vec::<u32>(tiff::tags::Tag::MaxSampleValue)
                .ok()??;
            most.into_iter()
                .max()
                .filter(|&most| most > 0)
                .map(|most| 32 - most.leading_zeros())
        }
        _ => None,
    }
}
