//! DICOM files, made here: what becomes of their samples, and what is refused.

use std::io::{Read, Write};

use dicom_core::value::{PixelFragmentSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use qtl_data::Fault;
use qtl_data::image::{BurnedIn, ImageFault, PictureRules, decode};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const SECRET: &str = "Doe^Jane";

/// A file of 16-bit samples in two rows, with more elements beside or instead.
fn file(values: &[i32], signed: bool, more: &[(u16, VR, PrimitiveValue)]) -> Vec<u8> {
    let data: Vec<u16> = values.iter().map(|&value| value as u16).collect();
    let pixels = PrimitiveValue::U16(data.into());
    packed(
        EXPLICIT,
        (values.len() / 2) as u16,
        signed,
        more,
        pixels.into(),
    )
}

type Pixels = Value<InMemDicomObject>;

fn packed(
    syntax: &str,
    columns: u16,
    signed: bool,
    more: &[(u16, VR, PrimitiveValue)],
    pixels: Pixels,
) -> Vec<u8> {
    let mut object = InMemDicomObject::new_empty();
    object.put(DataElement::new(
        Tag(0x0010, 0x0010),
        VR::PN,
        PrimitiveValue::from(SECRET),
    ));
    for (element, vr, value) in [
        (0x0002, VR::US, PrimitiveValue::from(1_u16)),
        (0x0004, VR::CS, "MONOCHROME2".into()),
        (0x0010, VR::US, 2_u16.into()),
        (0x0011, VR::US, columns.into()),
        (0x0100, VR::US, 16_u16.into()),
        (0x0101, VR::US, 12_u16.into()),
        (0x0102, VR::US, 11_u16.into()),
        (0x0103, VR::US, u16::from(signed).into()),
    ]
    .into_iter()
    .chain(more.iter().cloned())
    {
        object.put(DataElement::new(Tag(0x0028, element), vr, value));
    }
    let vr = match &pixels {
        Value::PixelSequence(_) => VR::OB,
        _ => VR::OW,
    };
    object.put(DataElement::new(Tag(0x7fe0, 0x0010), vr, pixels));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.7")
        .media_storage_sop_instance_uid("1.2.3");
    let mut bytes = Vec::new();
    object
        .with_meta(meta)
        .unwrap()
        .write_all(&mut bytes)
        .unwrap();
    bytes
}

fn greys(bytes: &[u8], rules: &PictureRules) -> Vec<u8> {
    let picture = decode(bytes, rules).unwrap();
    assert!(
        picture
            .pixels()
            .all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2])
    );
    picture.pixels().map(|p| p.0[0]).collect()
}

fn refused(bytes: &[u8], rules: &PictureRules) -> (Fault, String) {
    match decode(bytes, rules) {
        Err(ImageFault::Sample(fault, problem)) => {
            assert!(!problem.contains("Doe"), "{problem}");
            (fault, problem)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn samples_become_shades_by_window_or_by_range() {
    let auto = PictureRules::default();
    let text = |text: &str| PrimitiveValue::from(text);
    // No window: from the lowest to the highest value, whatever the bits could hold.
    assert_eq!(
        greys(&file(&[100, 200, 300, 355], false, &[]), &auto),
        [0, 100, 200, 255]
    );
    // The highest of 12 bits is a sign, and what is above it is not looked at.
    assert_eq!(
        greys(&file(&[-100, 0, 155, 0xf000 - 100], true, &[]), &auto),
        [0, 100, 255, 0]
    );
    // Values less 1024 (slope 2): a window of 100 around 40 begins below -10 and ends above 89 (DICOM PS3.3 C.11.2.1.2).
    let window = [
        (0x1050, VR::DS, text("40\\600")),
        (0x1051, VR::DS, text("100\\3000")),
        (0x1052, VR::DS, text("-1024")),
        (0x1053, VR::DS, text("2")),
    ];
    let wanted = |value: f64| {
        (((value - 39.5) / 99.0 + 0.5) * 255.0)
            .clamp(0.0, 255.0)
            .round() as u8
    };
    let values = [0, 532, 540, 2000];
    let measured = values.map(|v| f64::from(v) * 2.0 - 1024.0);
    assert_eq!(
        greys(&file(&values, false, &window), &auto),
        measured.map(wanted)
    );
    // What was never measured takes no part in the range.
    let padding = [(0x0120, VR::US, PrimitiveValue::from(4000_u16))];
    assert_eq!(
        greys(&file(&[100, 4000, 200, 355], false, &padding), &auto),
        [0, 0, 100, 255]
    );
    let inverted = [(0x0004, VR::CS, text("MONOCHROME1"))];
    assert_eq!(
        greys(&file(&[100, 200, 300, 355], false, &inverted), &auto),
        [255, 155, 55, 0]
    );
    assert_eq!(greys(&file(&[7, 7], false, &[]), &auto), [0, 0]);
}

#[test]
fn colours_keep_their_order() {
    let eight = |interpretation: &str, planar: u16| {
        [
            (0x0002, VR::US, PrimitiveValue::from(3_u16)),
            (0x0004, VR::CS, interpretation.into()),
            (0x0006, VR::US, planar.into()),
            (0x0100, VR::US, 8_u16.into()),
            (0x0101, VR::US, 8_u16.into()),
            (0x0102, VR::US, 7_u16.into()),
        ]
    };
    let colours = |more: &[(u16, VR, PrimitiveValue)], data: &[u8]| {
        let pixels = PrimitiveValue::U8(data.to_vec().into());
        decode(
            &packed(EXPLICIT, 1, false, more, pixels.into()),
            &PictureRules::default(),
        )
        .unwrap()
        .into_raw()
    };
    assert_eq!(
        colours(&eight("RGB", 0), &[1, 2, 3, 4, 5, 6]),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(
        colours(&eight("RGB", 1), &[1, 4, 2, 5, 3, 6]),
        [1, 2, 3, 4, 5, 6]
    );
    // Grey and a pure red, as JPEG has them.
    assert_eq!(
        colours(&eight("YBR_FULL", 0), &[90, 128, 128, 76, 85, 255]),
        [90, 90, 90, 254, 0, 0]
    );
    let pixels = PrimitiveValue::U8(vec![0; 6].into());
    let (_, problem) = refused(
        &packed(
            EXPLICIT,
            1,
            false,
            &eight("PALETTE COLOR", 0),
            pixels.into(),
        ),
        &PictureRules::default(),
    );
    assert!(problem.contains("PALETTE COLOR"), "{problem}");
}

#[test]
fn what_may_not_or_cannot_be_read_is_refused_by_name() {
    let auto = PictureRules::default();
    let burned = file(&[1, 2], false, &[(0x0301, VR::CS, "YES".into())]);
    let (fault, problem) = refused(&burned, &auto);
    assert_eq!(fault, Fault::BurnedIn);
    assert!(problem.contains("BurnedInAnnotation"), "{problem}");
    let accept = PictureRules {
        burned_in: BurnedIn::Accept,
        ..auto.clone()
    };
    assert_eq!(greys(&burned, &accept), [0, 255]);
    assert_eq!(
        greys(
            &file(&[1, 2], false, &[(0x0301, VR::CS, "NO".into())]),
            &auto
        ),
        [0, 255]
    );

    // Two frames of one column.
    let frames = [
        (0x0008, VR::IS, PrimitiveValue::from("2")),
        (0x0011, VR::US, 1_u16.into()),
    ];
    let two = file(&[1, 2, 9, 5], false, &frames);
    assert_eq!(refused(&two, &auto).0, Fault::ManyFrames);
    let frame = |frame| PictureRules {
        frame: Some(frame),
        ..auto.clone()
    };
    assert_eq!(greys(&two, &frame(1)), [0, 255]);
    assert_eq!(greys(&two, &frame(2)), [255, 0]);
    assert_eq!(refused(&two, &frame(3)).0, Fault::ManyFrames);
    assert_eq!(greys(&file(&[1, 2], false, &[]), &frame(3)), [0, 255]);

    let fragments = PixelFragmentSequence::new_fragments(vec![vec![0xff_u8, 0xd8, 0xff, 0xf7]]);
    let lossless = packed(
        "1.2.840.10008.1.2.4.80",
        1,
        false,
        &[],
        Value::PixelSequence(fragments.clone()),
    );
    let (_, problem) = refused(&lossless, &auto);
    assert!(
        problem.contains("JPEG-LS") && problem.contains("dcmdjpls"),
        "{problem}"
    );
    let damaged = packed(
        "1.2.840.10008.1.2.4.70",
        1,
        false,
        &[],
        Value::PixelSequence(fragments),
    );
    let (_, problem) = refused(&damaged, &auto);
    assert!(problem.contains("1.2.840.10008.1.2.4.70"), "{problem}");

    let small = PictureRules {
        max_pixels: 3,
        ..auto.clone()
    };
    assert_eq!(
        refused(&file(&[1, 2, 3, 4], false, &[]), &small).0,
        Fault::LargeImage
    );
    let whole = file(&[1, 2, 3, 4], false, &[]);
    for end in [140, 300, whole.len() - 2] {
        assert_eq!(
            refused(&whole[..end], &auto).0,
            Fault::CorruptImage,
            "{end}"
        );
    }
    let short = file(&[1, 2], false, &[(0x0011, VR::US, 4_u16.into())]);
    assert_eq!(refused(&short, &auto).0, Fault::CorruptImage);
}

/// JPEG inside DICOM, eight bits of grey.
#[test]
fn packed_pixels_are_unpacked() {
    let grey = image::GrayImage::from_fn(16, 16, |x, _| image::Luma([(x * 16) as u8]));
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 100)
        .encode_image(&grey)
        .unwrap();
    let more = [
        (0x0010, VR::US, PrimitiveValue::from(16_u16)),
        (0x0100, VR::US, 8_u16.into()),
        (0x0101, VR::US, 8_u16.into()),
        (0x0102, VR::US, 7_u16.into()),
    ];
    let fragments = PixelFragmentSequence::new_fragments(vec![jpeg]);
    let with_size = |columns| {
        let pixels = Value::PixelSequence(fragments.clone());
        packed("1.2.840.10008.1.2.4.50", columns, false, &more, pixels)
    };
    let bytes = with_size(16);
    let shades = greys(&bytes, &PictureRules::default());
    // Data that would unpack to more than the file says.
    let (_, problem) = refused(&with_size(8), &PictureRules::default());
    assert!(problem.contains("another size"), "{problem}");
    // From 0..=240 to 0..=255.
    let off = shades
        .iter()
        .zip(grey.as_raw())
        .map(|(a, b)| a.abs_diff((u16::from(*b) * 255 / 240) as u8));
    assert!(off.max().unwrap() <= 4, "{shades:?}");
}

/// The data set of a file, without all that stands before it.
fn bare(file: &[u8]) -> &[u8] {
    let length = u32::from_le_bytes(*file[140..].first_chunk().unwrap());
    &file[144 + length as usize..]
}

/// What pydicom writes unless told to keep to the standard: no group length, no SOP class, no preamble, nothing at all.
#[test]
fn files_without_all_or_part_of_their_head_are_read() {
    let auto = PictureRules::default();
    let values = [0, 1, 2, 4];
    let pixels = || PrimitiveValue::U16(values.map(|v| v as u16).as_slice().into());
    let shades = [0, 64, 128, 255];
    let syntax = |uid: &str| {
        let mut element = vec![0x02, 0x00, 0x10, 0x00, b'U', b'I', uid.len() as u8, 0];
        element.extend(uid.as_bytes());
        element
    };
    let preamble = [&[0; 128][..], b"DICM"].concat();
    let even = |uid: &str| format!("{uid}{}", ["", "\0"][uid.len() % 2]);
    let deflated = "1.2.840.10008.1.2.1.99";
    for uid in [
        EXPLICIT,
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.2",
        deflated,
    ] {
        let file = packed(uid, 2, false, &[], pixels().into());
        assert_eq!(greys(&file, &auto), shades, "{uid}");
        let [set, head] = [bare(&file), &syntax(&even(uid))];
        assert_eq!(
            greys(&[&preamble, head, set].concat(), &auto),
            shades,
            "{uid}"
        );
        assert_eq!(greys(&[head, set].concat(), &auto), shades, "{uid}");
        // Nobody says what the bytes are; these two are told by their looks.
        if [EXPLICIT, "1.2.840.10008.1.2"].contains(&uid) {
            assert_eq!(greys(&[&preamble, set].concat(), &auto), shades, "{uid}");
            assert_eq!(greys(set, &auto), shades, "{uid}");
        }
    }
    let (_, problem) = refused(&[&preamble[..], &syntax("1.2.3.4")].concat(), &auto);
    assert!(problem.contains("not known"), "{problem}");
}

#[test]
fn elements_that_pixels_need_are_named_where_they_are_missing() {
    let mut object = InMemDicomObject::new_empty();
    object.put(DataElement::new(
        Tag(0x0028, 0x0010),
        VR::US,
        PrimitiveValue::from(2_u16),
    ));
    let meta = FileMetaTableBuilder::new().transfer_syntax(EXPLICIT);
    let mut bytes = Vec::new();
    object
        .with_meta(meta)
        .unwrap()
        .write_all(&mut bytes)
        .unwrap();
    let (fault, problem) = refused(&bytes, &PictureRules::default());
    assert_eq!(fault, Fault::CorruptImage);
    for name in ["Columns", "BitsStored", "PixelData"] {
        assert!(problem.contains(name), "{problem}");
    }
    assert!(!problem.contains("Rows"), "{problem}");
}

/// 80 MB of nothing in 80 kB.
#[test]
fn a_deflated_file_expands_to_what_the_largest_picture_needs_and_no_further() {
    let uid = "1.2.840.10008.1.2.1.99";
    let file = packed(
        uid,
        2,
        false,
        &[],
        PrimitiveValue::U16([1, 2, 3, 4].as_slice().into()).into(),
    );
    let mut set = Vec::new();
    flate2::read::DeflateDecoder::new(bare(&file))
        .read_to_end(&mut set)
        .unwrap();
    let zeros = 80_u32 << 20;
    set.extend([0xfe, 0x7f, 0x01, 0x00, b'O', b'B', 0, 0]);
    set.extend(zeros.to_le_bytes());
    set.resize(set.len() + zeros as usize, 0);
    let mut bomb = file[..file.len() - bare(&file).len()].to_vec();
    let mut encoder = flate2::write::DeflateEncoder::new(&mut bomb, flate2::Compression::fast());
    encoder.write_all(&set).unwrap();
    encoder.finish().unwrap();
    let rules = |max_pixels| PictureRules {
        max_pixels,
        ..PictureRules::default()
    };
    let (fault, problem) = refused(&bomb, &rules(4));
    assert_eq!(fault, Fault::LargeImage);
    assert!(problem.contains("expands to more than"), "{problem}");
    // Room for it is a choice.
    assert_eq!(greys(&bomb, &rules(2 << 20)).len(), 4);
}

/// Each ended the program, or took gigabytes.
#[test]
fn hostile_files_cost_their_entry_only() {
    let rules = PictureRules::default();
    let nothing = file(&[], false, &[]);
    assert!(refused(&nothing, &rules).1.contains("no pixels"));
    // Sequences within sequences, and a length of four gigabytes, both behind a sound beginning.
    let sound = file(&[1, 2, 3, 4], false, &[]);
    let tag = [0xe0, 0x7f, 0x10, 0x00];
    let pixels = sound.windows(4).position(|four| four == tag).unwrap();
    let mut nested = sound[..pixels].to_vec();
    for _ in 0..100_000 {
        nested.extend(b"\x50\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff");
    }
    let mut long = sound[..pixels].to_vec();
    long.extend(b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\xff");
    for bytes in [nested, long] {
        assert!(refused(&bytes, &rules).1.contains("data set"));
    }
    // Run lengths whose head says of four thousand million segments, or is cut off.
    let mut far = vec![0; 80];
    far[..8].copy_from_slice(&[1, 0, 0, 0, 0xff, 0xff, 0, 0]);
    for packed_data in [vec![0xff; 80], vec![1; 6], vec![0; 80], far] {
        let fragments = PixelFragmentSequence::new_fragments(vec![packed_data]);
        let pixels = Value::PixelSequence(fragments);
        let bytes = packed("1.2.840.10008.1.2.5", 2, false, &[], pixels);
        assert!(refused(&bytes, &rules).1.contains("run lengths"));
    }
}
