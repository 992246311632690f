//! DICOM: one frame as 8-bit RGB. What the file says about the patient is neither kept nor passed on, not even in messages.

mod depth;
mod file;

use ::image::RgbImage;
use dicom_object::{DefaultDicomObject, Tag};
use dicom_pixeldata::{
    DecodedPixelData, PhotometricInterpretation, PixelDecoder, PixelRepresentation,
    PlanarConfiguration, Rescale, VoiLutFunction, WindowLevelTransform,
};

pub(super) use self::file::{begins_bare, is_marked};
use super::{BurnedIn, ImageFault, PictureRules, admit, jpeg};
use crate::error::Fault;

const BURNED_IN_ANNOTATION: Tag = Tag(0x0028, 0x0301);
const MODALITY_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3000);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028, 0x0004);
const PIXEL_DATA: Tag = Tag(0x7fe0, 0x0010);
const PIXEL_PADDING_VALUE: Tag = Tag(0x0028, 0x0120);

/// Run lengths.
const RUN_LENGTHS: &str = "1.2.840.10008.1.2.5";

/// Transfer syntaxes that leave colours as they are stored: implicit, explicit (deflated ones are by now), big-endian, run
/// lengths, lossless JPEG.
const AS_STORED: [&str; 6] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
];
/// JPEG that loses something; its decoder tells colours by JPEG's own signs.
const LOSSY: [&str; 2] = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"];
/// Ways of packing pixels that are not read, and what turns them into one that is.
const UNREAD: [(&str, &str); 4] = [
    (
        "1.2.840.10008.1.2.4.80",
        "JPEG-LS: unpack it (dcmdjpls in.dcm out.dcm)",
    ),
    (
        "1.2.840.10008.1.2.4.81",
        "JPEG-LS: unpack it (dcmdjpls in.dcm out.dcm)",
    ),
    ("1.2.840.10008.1.2.4.100", "a video: export a frame"),
    ("1.2.840.10008.1.2.4.102", "a video: export a frame"),
];

/// Decodes the one frame, or the one that was chosen.
pub(super) fn decode(bytes: &[u8], rules: &PictureRules) -> Result<RgbImage, ImageFault> {
    // The library's own words may quote the file; they stay here.
    let damaged = |part: &str| ImageFault::corrupt(format!("its DICOM {part} cannot be read"));
    let file = file::read(bytes, rules)?;
    let number = |tag| {
        file.get(tag)
            .and_then(|element| element.to_int::<u32>().ok())
    };
    let burned = text(&file, BURNED_IN_ANNOTATION).is_some_and(|text| text == "YES");
    if burned && rules.burned_in == BurnedIn::Refuse {
        let problem =
            "BurnedInAnnotation is YES: there is text in the picture, perhaps the patient's name"
                .to_owned();
        return Err(ImageFault::Sample(Fault::BurnedIn, problem));
    }
    let frames = number(NUMBER_OF_FRAMES).unwrap_or(1).max(1);
    let frame = match rules.frame {
        None if frames > 1 => {
            return Err(ImageFault::Sample(
                Fault::ManyFrames,
                format!("it has {frames} frames"),
            ));
        }
        // A single frame is what it is, whatever was chosen for those with several.
        _ if frames == 1 => 0,
        frame => frame.unwrap_or(1) - 1,
    };
    if frame >= frames {
        let problem = format!("it has {frames} frames, and frame {} was chosen", frame + 1);
        return Err(ImageFault::Sample(Fault::ManyFrames, problem));
    }
    let (Some(width), Some(height)) = (number(COLUMNS), number(ROWS)) else {
        return Err(damaged("size"));
    };
    admit((width, height), rules)?;
    let syntax = file.meta().transfer_syntax().trim_end_matches(['\0', ' ']);
    if let Some((_, what)) = UNREAD.iter().find(|(uid, _)| syntax == *uid) {
        return Err(ImageFault::corrupt(format!(
            "its pixels are packed as {what}"
        )));
    }
    if file.get(MODALITY_LUT_SEQUENCE).is_some() {
        return Err(ImageFault::corrupt(
            "it has a Modality LUT Sequence, which is not read",
        ));
    }
    let interpretation = text(&file, PHOTOMETRIC_INTERPRETATION);
    let fragments = file
        .get(PIXEL_DATA)
        .and_then(|element| element.value().fragments());
    for packed in fragments.unwrap_or_default() {
        if syntax == RUN_LENGTHS && !has_segments(packed) {
            return Err(damaged("run lengths"));
        }
        let frame = jpeg::frame(packed);
        let size = frame
            .as_ref()
            .map(|frame| frame.size)
            .or_else(|| jpeg_2000_size(packed));
        // What is not said to the outside is not asked for room either.
        if size.is_some_and(|size| size != (width, height)) {
            return Err(ImageFault::corrupt(
                "its packed pixels are of another size than it says",
            ));
        }
        let luminance = frame.is_some_and(|frame| frame.luminance);
        if LOSSY.contains(&syntax) && interpretation.as_deref() == Some("RGB") && luminance {
            let problem = "it says RGB and its JPEG data say otherwise: unpack it with a program that knows the device \
                           (gdcmconv --raw in.dcm out.dcm)";
            return Err(ImageFault::corrupt(problem));
        }
    }
    let decoded = file.decode_pixel_data_frame(frame).map_err(|_| {
        let problem = format!("its pixels cannot be unpacked (transfer syntax {syntax}); if it is whole, gdcmconv --raw in.dcm out.dcm unpacks it");
        ImageFault::corrupt(problem)
    })?;
    let pixels = u64::from(width) as usize * height as usize;
    let rgb = match (
        decoded.photometric_interpretation(),
        decoded.samples_per_pixel(),
    ) {
        (PhotometricInterpretation::Monochrome1 | PhotometricInterpretation::Monochrome2, 1) => {
            let grey = grey(&decoded, padding(&file), pixels)?;
            grey.into_iter().flat_map(|value| [value; 3]).collect()
        }
        (PhotometricInterpretation::Rgb | PhotometricInterpretation::YbrFull, 3)
            if decoded.bits_allocated() == 8 =>
        {
            let mut values = colours(&decoded, pixels)?;
            // Unpacking JPEG gives R G B and says so; unpacking run lengths says so and leaves what was there.
            if interpretation.as_deref() == Some("YBR_FULL") && AS_STORED.contains(&syntax) {
                values.as_chunks_mut::<3>().0.iter_mut().for_each(from_ybr);
            }
            values
        }
        (other, samples) => {
            return Err(ImageFault::corrupt(format!(
                "{samples} samples of {} bits as {} are not read; MONOCHROME1, MONOCHROME2, and RGB and YBR_FULL of 8 bits are",
                decoded.bits_allocated(),
                known(other)
            )));
        }
    };
    RgbImage::from_raw(width, height, rgb).ok_or_else(|| damaged("pixel data"))
}

/// Whether run-length data begin with the places of their segments: a number, and room for fifteen.
fn has_segments(bytes: &[u8]) -> bool {
    let Some((head, _)) = bytes.split_at_checked(64) else {
        return false;
    };
    let numbers: Vec<usize> = head
        .as_chunks::<4>()
        .0
        .iter()
        .map(|four| u32::from_le_bytes(*four) as usize)
        .collect();
    let Some(places) = numbers.get(1..=numbers[0]) else {
        return false;
    };
    let inside = |place: &usize| (64..=bytes.len()).contains(place);
    !places.is_empty() && places.is_sorted() && places.iter().all(inside)
}

/// Width and height in the head of JPEG 2000 data, its first marker segment.
fn jpeg_2000_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let head = bytes.strip_prefix(&[0xff, 0x4f, 0xff, 0x51])?.get(4..20)?;
    let number = |at: usize| Some(u32::from_be_bytes(*head.get(at..at + 4)?.first_chunk()?));
    let side = |end, begin| Some(number(end)?.saturating_sub(number(begin)?));
    Some((side(0, 8)?, side(4, 12)?))
}

/// A text, without what pads it.
fn text(file: &DefaultDicomObject, tag: Tag) -> Option<String> {
    let text = file.get(tag)?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned())
}

/// A name of the standard; what a file says instead is not repeated.
fn known(interpretation: &PhotometricInterpretation) -> &str {
    match interpretation {
        PhotometricInterpretation::Other(_) => "something that the standard does not name",
        named => named.as_str(),
    }
}

/// The value that stands for no measurement, if there is one.
fn padding(file: &DefaultDicomObject) -> Option<i64> {
    file.get(PIXEL_PADDING_VALUE)?.to_int::<i64>().ok()
}

/// Stored values to what was measured, the first window or else the range of values to 0..=255.
fn grey(
    decoded: &DecodedPixelData<'_>,
    padding: Option<i64>,
    pixels: usize,
) -> Result<Vec<u8>, ImageFault> {
    let stored = stored(decoded, pixels)?;
    let wrong = |what: &str| ImageFault::corrupt(format!("its DICOM {what} cannot be read"));
    let rescale = decoded
        .rescale()
        .map_err(|_| wrong("rescale slope"))?
        .first()
        .copied();
    let rescale = rescale.unwrap_or(Rescale::new(1.0, 0.0));
    if !(rescale.slope.is_finite() && rescale.intercept.is_finite()) {
        return Err(wrong("rescale slope"));
    }
    let bits = u32::from(decoded.bits_stored());
    // Written unsigned in files whose samples are signed.
    let padding = padding.map(|value| wrapped(value & ((1 << bits) - 1), bits, decoded));
    let window = decoded
        .window()
        .map_err(|_| wrong("window"))?
        .and_then(|all| all.first().copied());
    let function = decoded
        .voi_lut_function()
        .map_err(|_| wrong("window"))?
        .and_then(|all| all.first().copied());
    let measured = |value: i64| rescale.apply(value as f64);
    let shade: Box<dyn Fn(i64) -> f64> =
        match window.filter(|window| window.width > 0.0 && window.center.is_finite()) {
            Some(window) => {
                let window =
                    WindowLevelTransform::new(function.unwrap_or(VoiLutFunction::Linear), window);
                Box::new(move |value| window.apply(measured(value), 255.0))
            }
            None => {
                let values = stored
                    .iter()
                    .filter(|value| Some(**value) != padding)
                    .map(|&value| measured(value));
                let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| {
                    (low.min(v), high.max(v))
                });
                let range = if high > low { high - low } else { 1.0 };
                Box::new(move |value| (measured(value) - low) / range * 255.0)
            }
        };
    let inverted = *decoded.photometric_interpretation() == PhotometricInterpretation::Monochrome1;
    let byte = |value: i64| {
        if Some(value) == padding {
            return 0;
        }
        let shade = shade(value).clamp(0.0, 255.0).round() as u8;
        if inverted { 255 - shade } else { shade }
    };
    Ok(stored.into_iter().map(byte).collect())
}

/// The stored values, signed where they are.
fn stored(decoded: &DecodedPixelData<'_>, pixels: usize) -> Result<Vec<i64>, ImageFault> {
    let bits = u32::from(decoded.bits_stored());
    let allocated = u32::from(decoded.bits_allocated());
    let shift = (u32::from(decoded.high_bit()) + 1).checked_sub(bits);
    let data = decoded.data();
    let (Some(shift), 8 | 16, 1..=16) = (shift, allocated, bits) else {
        let problem =
            format!("{bits} of {allocated} bits per sample are not read; up to 16 of 8 or 16 are");
        return Err(ImageFault::corrupt(problem));
    };
    let raw: Vec<u16> = if allocated == 8 {
        data.iter().map(|&byte| u16::from(byte)).collect()
    } else {
        data.as_chunks()
            .0
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .collect()
    };
    if raw.len() < pixels {
        let problem = format!(
            "it has {} samples where its size needs {pixels}: it is cut off",
            raw.len()
        );
        return Err(ImageFault::corrupt(problem));
    }
    let mask = (1i64 << bits) - 1;
    let value = |&raw: &u16| wrapped((i64::from(raw) >> shift) & mask, bits, decoded);
    Ok(raw[..pixels].iter().map(value).collect())
}

/// The highest of so many bits counts negative where samples are signed.
fn wrapped(value: i64, bits: u32, decoded: &DecodedPixelData<'_>) -> i64 {
    let negative =
        decoded.pixel_representation() == PixelRepresentation::Signed && value >> (bits - 1) == 1;
    if negative { value - (1 << bits) } else { value }
}

/// Three bytes per pixel, side by side.
fn colours(decoded: &DecodedPixelData<'_>, pixels: usize) -> Result<Vec<u8>, ImageFault> {
    let Some(data) = decoded.data().get(..3 * pixels) else {
        return Err(ImageFault::corrupt(
            "it has fewer samples than its size needs: it is cut off",
        ));
    };
    Ok(match decoded.planar_configuration() {
        PlanarConfiguration::Standard => data.to_vec(),
        PlanarConfiguration::PixelFirst => (0..pixels)
            .flat_map(|i| [data[i], data[pixels + i], data[2 * pixels + i]])
            .collect(),
    })
}

/// JPEG's colours, full range.
fn from_ybr(pixel: &mut [u8; 3]) {
    let [y, b, r] = pixel.map(f64::from);
    let (b, r) = (b - 128.0, r - 128.0);
    let rgb = [
        y + 1.402 * r,
        y - 0.344_136 * b - 0.714_136 * r,
        y + 1.772 * b,
    ];
    *pixel = rgb.map(|v| v.round().clamp(0.0, 255.0) as u8);
}
