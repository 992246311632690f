//! TIFF files whose samples are places in a table of colours, which the decoder does not read: it is shown them as greys,
//! and the colours are looked up afterwards.

use std::io::Cursor;

use ::image::{DynamicImage, Rgb, RgbImage};
use tiff::tags::Tag;

const PALETTE: u32 = 3;
const BLACK_IS_ZERO: u8 = 1;

/// Such a file as one of greys, and its table.
pub(super) struct Palette {
    pub greys: Vec<u8>,
    colours: Vec<Rgb<u8>>,
}

impl Palette {
    /// `None` for any other file.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut reader = tiff::decoder::Decoder::new(Cursor::new(bytes)).ok()?;
        let kind = reader.find_tag_unsigned::<u32>(Tag::PhotometricInterpretation);
        if kind.ok()?? != PALETTE {
            return None;
        }
        let table = reader.find_tag_unsigned_vec::<u16>(Tag::ColorMap).ok()??;
        let channel = table.len() / 3;
        let byte = |at: usize| (table[at] >> 8) as u8;
        let colours =
            (0..channel).map(|i| Rgb([byte(i), byte(channel + i), byte(2 * channel + i)]));
        let (colours, at) = (colours.collect(), kind_at(bytes)?);
        let mut greys = bytes.to_vec();
        greys[at] = BLACK_IS_ZERO;
        Some(Self { greys, colours })
    }

    /// The colours in place of their places; `None` where one has none.
    pub fn colours(&self, picture: &DynamicImage) -> Option<RgbImage> {
        let DynamicImage::ImageLuma8(places) = picture else {
            return None;
        };
        let bytes = places
            .iter()
            .map(|&place| self.colours.get(usize::from(place)).map(|rgb| rgb.0));
        let bytes: Vec<[u8; 3]> = bytes.collect::<Option<_>>()?;
        RgbImage::from_raw(places.width(), places.height(), bytes.into_flattened())
    }
}

/// Where the file says that its samples are places: the low byte of the field's value.
fn kind_at(bytes: &[u8]) -> Option<usize> {
    let little = bytes.starts_with(b"II");
    let short = |at: usize| {
        let pair: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if little {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        })
    };
    let directory: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    let directory = if little {
        u32::from_le_bytes(directory)
    } else {
        u32::from_be_bytes(directory)
    } as usize;
    if short(2)? != 42 {
        return None;
    }
    let fields = usize::from(short(directory)?);
    let mut fields = (0..fields).map(|i| directory + 2 + 12 * i);
    let field = fields.find(|&at| short(at) == Some(Tag::PhotometricInterpretation.to_u16()))?;
    let at = field + if little { 8 } else { 9 };
    (bytes.get(at).copied() == Some(PALETTE as u8)).then_some(at)
}
