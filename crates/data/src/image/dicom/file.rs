//! A DICOM file's elements, also where what should stand before them is missing: pydicom writes such files unless told not to.

use std::borrow::Cow;
use std::io::Read;

use dicom_object::{
    DefaultDicomObject, FileMetaTable, FileMetaTableBuilder, InMemDicomObject, Tag,
};
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};
use flate2::read::DeflateDecoder;

use super::depth::{Form, is_sound};
use super::{ImageFault, PictureRules};
use crate::error::Fault;
use crate::image::bytes_for;

/// Behind the preamble.
const MARK: &[u8] = b"DICM";
const PREAMBLE: usize = 128;
/// The group of what stands before the data set, always explicit and little-endian.
const META_GROUP: [u8; 2] = [0x02, 0x00];
const TRANSFER_SYNTAX: [u8; 4] = [0x02, 0x00, 0x10, 0x00];
/// Groups that a data set begins with.
const FIRST_GROUPS: [u8; 4] = [0x08, 0x10, 0x18, 0x28];
/// Value representations whose length has four bytes, behind two that say nothing.
pub(super) const LONG: [&[u8; 2]; 13] = [
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
];

/// The group of what stands before, between and behind the items of a sequence.
pub(super) const MARK_OF_ITEMS: [u8; 2] = [0xfe, 0xff];

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

/// Elements without which pixels mean nothing.
const NEEDED: [(&str, Tag); 9] = [
    ("SamplesPerPixel", Tag(0x0028, 0x0002)),
    (
        "PhotometricInterpretation",
        super::PHOTOMETRIC_INTERPRETATION,
    ),
    ("Rows", super::ROWS),
    ("Columns", super::COLUMNS),
    ("BitsAllocated", Tag(0x0028, 0x0100)),
    ("BitsStored", Tag(0x0028, 0x0101)),
    ("HighBit", Tag(0x0028, 0x0102)),
    ("PixelRepresentation", Tag(0x0028, 0x0103)),
    ("PixelData", super::PIXEL_DATA),
];

/// Whether the mark of DICOM stands behind a preamble.
pub(in crate::image) fn is_marked(bytes: &[u8]) -> bool {
    bytes.get(PREAMBLE..PREAMBLE + 4) == Some(MARK)
}

/// Whether the bytes, which are no other picture's, begin with an element of DICOM instead of a preamble.
pub(in crate::image) fn begins_bare(bytes: &[u8]) -> bool {
    let Some([group, high, _, _, rest @ ..]) = bytes.first_chunk::<8>() else {
        return false;
    };
    if *high != 0 {
        return false;
    }
    let explicit = rest[..2].iter().all(u8::is_ascii_uppercase);
    if [*group, *high] == META_GROUP {
        return explicit;
    }
    let length = u32::from_le_bytes(*rest) as usize;
    FIRST_GROUPS.contains(group) && (explicit || length.is_multiple_of(2) && length < bytes.len())
}

/// The elements of a file. One that lacks what pixels need is refused by their names, a deflated one that expands to more
/// than a picture of the most pixels can need, before there is memory for it.
pub(super) fn read(bytes: &[u8], rules: &PictureRules) -> Result<DefaultDicomObject, ImageFault> {
    // The library's own words may quote the file; they stay here.
    let damaged = || ImageFault::corrupt("its DICOM data set cannot be read");
    let start = if is_marked(bytes) {
        PREAMBLE + MARK.len()
    } else {
        0
    };
    let (declared, elements) =
        after_meta(bytes.get(start..).unwrap_or_default()).ok_or_else(damaged)?;
    let explicit = elements
        .get(4..6)
        .is_some_and(|vr| vr.iter().all(u8::is_ascii_uppercase));
    let assumed = if explicit { EXPLICIT } else { IMPLICIT };
    let syntax = declared.unwrap_or(assumed);
    let (syntax, elements) = match syntax {
        DEFLATED => (EXPLICIT, Cow::from(inflated(elements, rules)?)),
        other => (other, Cow::from(elements)),
    };
    let known = TransferSyntaxRegistry.get(syntax).ok_or_else(|| {
        ImageFault::corrupt(
            "its DICOM transfer syntax is not known; gdcmconv --raw in.dcm out.dcm unpacks most",
        )
    })?;
    let form = Form {
        explicit: syntax != IMPLICIT,
        big: syntax == BIG_ENDIAN,
    };
    if !is_sound(&elements, form) {
        return Err(damaged());
    }
    let object =
        InMemDicomObject::read_dataset_with_ts(&*elements, known).map_err(|_| damaged())?;
    let missing = NEEDED.iter().filter(|(_, tag)| object.get(*tag).is_none());
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        let problem = format!("it lacks the DICOM elements {}", missing.join(", "));
        return Err(ImageFault::corrupt(problem));
    }
    Ok(object.with_exact_meta(meta(syntax).map_err(|_| damaged())?))
}

/// What of the part before the data set is used.
fn meta(syntax: &str) -> Result<FileMetaTable, dicom_object::meta::Error> {
    FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid("")
        .media_storage_sop_instance_uid("")
        .build()
}

/// The transfer syntax, if it is said, and what comes behind the part that says it. `None`: that part is cut off.
fn after_meta(mut bytes: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let mut syntax = None;
    while bytes.starts_with(&META_GROUP) {
        let long = LONG.iter().any(|vr| bytes.get(4..6) == Some(&vr[..]));
        let (head, length) = match long {
            true => (
                12,
                u32::from_le_bytes(*bytes.get(8..12)?.first_chunk()?) as usize,
            ),
            false => (
                8,
                usize::from(u16::from_le_bytes(*bytes.get(6..8)?.first_chunk()?)),
            ),
        };
        let value = bytes.get(head..)?.get(..length)?;
        if bytes.starts_with(&TRANSFER_SYNTAX) {
            syntax = Some(str::from_utf8(value).ok()?.trim_end_matches(['\0', ' ']));
        }
        bytes = &bytes[head + length..];
    }
    Some((syntax, bytes))
}

fn inflated(bytes: &[u8], rules: &PictureRules) -> Result<Vec<u8>, ImageFault> {
    let most = bytes_for(rules);
    let mut whole = Vec::new();
    DeflateDecoder::new(bytes)
        .take(most.saturating_add(1))
        .read_to_end(&mut whole)
        .map_err(|_| ImageFault::corrupt("its deflated DICOM data set cannot be unpacked"))?;
    if whole.len() as u64 > most {
        let problem = format!(
            "its data set expands to more than {most} bytes, which are enough for the most pixels allowed ({})",
            rules.max_pixels
        );
        return Err(ImageFault::Sample(Fault::LargeImage, problem));
    }
    Ok(whole)
}
