//! Picture files as people have them: cut off, enormous, of twelve bits, of hospitals.

use image::codecs::jpeg::JpegEncoder;
use image::{ImageEncoder, Rgb, RgbImage};
use qtl_data::image::{BurnedIn, Exif, ImageFault, PictureRules, decode, open};
use qtl_data::{Aspect, Fault, Processor};

/// Something with a gradient, so that mistakes show.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 5) as u8, (y * 3) as u8, (x ^ y) as u8])
    })
}

fn encoded(picture: &RgbImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn fault(bytes: &[u8], rules: &PictureRules) -> (Fault, String) {
    match decode(bytes, rules) {
        Err(ImageFault::Sample(fault, problem)) => (fault, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_that_are_cut_off_are_refused_whatever_their_format() {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    for format in [Bmp, Gif, Jpeg, Png, Tiff, WebP] {
        let bytes = encoded(&picture(40, 30), format);
        let rules = PictureRules::default();
        assert_eq!(decode(&bytes, &rules).unwrap().dimensions(), (40, 30));
        for part in [10, 50, 90] {
            let cut = &bytes[..bytes.len() * part / 100];
            assert_eq!(
                fault(cut, &rules).0,
                Fault::CorruptImage,
                "{format:?} {part} %"
            );
        }
    }
    let jpeg = encoded(&picture(40, 30), Jpeg);
    let (_, problem) = fault(&jpeg[..jpeg.len() - 2], &PictureRules::default());
    assert!(problem.contains("cut off"), "{problem}");
}

#[test]
fn sizes_are_asked_before_anything_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    // The header of a picture of 4 gigapixels, and no picture.
    let mut bytes = encoded(&picture(3, 2), image::ImageFormat::Png);
    bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    match open(&path, &PictureRules::default()) {
        Err(ImageFault::Sample(Fault::LargeImage, problem)) => {
            assert!(
                problem.contains("65536 x 65536") && problem.contains("50000000"),
                "{problem}"
            );
        }
        other => panic!("{other:?}"),
    }
    let small = PictureRules {
        max_pixels: 11,
        ..PictureRules::default()
    };
    let bytes = encoded(&picture(4, 3), image::ImageFormat::Jpeg);
    assert_eq!(fault(&bytes, &small).0, Fault::LargeImage);
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        open(folder.path(), &small),
        Err(ImageFault::Sample(Fault::MissingImage, _))
    ));
}

/// An entry with such a name is left out; the run goes on.
#[test]
fn a_name_that_no_file_can_have_is_a_missing_picture() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = vec!["a\0.png".to_owned(), "x".repeat(5000), "x/".repeat(5000)];
    #[cfg(unix)]
    for (link, to) in [("round.png", "round.png"), ("broken.png", "nothing.png")] {
        std::os::unix::fs::symlink(to, folder.path().join(link)).unwrap();
        names.push(link.to_owned());
    }
    for name in names {
        let fault = open(&folder.path().join(&name), &PictureRules::default()).unwrap_err();
        assert!(
            matches!(fault, ImageFault::Sample(Fault::MissingImage, _)),
            "{name:?}: {fault:?}"
        );
    }
}

/// Of a PNG chunk: polynomial 0xedb88320, as the format has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn thin_pictures_cost_what_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thin.png");
    let rules = PictureRules::default();
    let thin = RgbImage::from_fn(1, 20_000, |_, y| Rgb([(y / 100) as u8; 3]));
    thin.save(&path).unwrap();
    // Twenty thousand rows to four and a half million, of which 224 are kept: the middle, which is flat.
    let pixels = Processor::clip(224)
        .read(&path, Aspect::Square, &rules)
        .unwrap();
    let levels: std::collections::BTreeSet<u32> = pixels.data[..224 * 224]
        .iter()
        .map(|v| v.to_bits())
        .collect();
    assert!(levels.len() <= 2, "{}", levels.len());
    let pixels = Processor::clip(224)
        .read(&path, Aspect::Pad, &rules)
        .unwrap();
    assert_eq!(pixels.data.len(), 3 * 224 * 224);
    // In a square the picture is a thread.
    let background = pixels.data[0];
    assert!(
        pixels.data[..224]
            .iter()
            .filter(|v| (**v - background).abs() < 0.1)
            .count()
            > 210
    );
    let few = PictureRules {
        max_pixels: 1_000_000,
        ..rules
    };
    match Processor::siglip(384).read(&path, Aspect::Square, &few) {
        Err(ImageFault::Sample(Fault::LargeImage, problem)) => {
            assert!(problem.contains("1 x 20000"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
}

/// A 16-bit grey PNG; `significant` is what its sBIT says.
fn png16(values: &[u16], significant: Option<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, values.len() as u32, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    let mut writer = encoder.write_header().unwrap();
    if let Some(bits) = significant {
        writer.write_chunk(png::chunk::sBIT, &[bits]).unwrap();
    }
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect();
    writer.write_image_data(&data).unwrap();
    writer.finish().unwrap();
    bytes
}

fn tiff16(values: &[u16], most: Option<u16>) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
    let mut image = encoder
        .new_image::<tiff::encoder::colortype::Gray16>(values.len() as u32, 1)
        .unwrap();
    if let Some(most) = most {
        image
            .encoder()
            .write_tag(tiff::tags::Tag::MaxSampleValue, most)
            .unwrap();
    }
    image.write_data(values).unwrap();
    bytes.into_inner()
}

#[test]
fn samples_of_twelve_bits_are_scaled_by_them_or_refused() {
    let greys = |bytes: &[u8], rules: &PictureRules| -> Vec<u8> {
        decode(bytes, rules)
            .unwrap()
            .pixels()
            .map(|p| p.0[0])
            .collect()
    };
    let low = [0, 1365, 2730, 4095];
    let full = low.map(|value: u16| value << 4 | value >> 8);
    let wanted = [0, 85, 170, 255];
    let auto = PictureRules::default();
    for bytes in [
        png16(&full, None),
        png16(&full, Some(12)),
        png16(&low, Some(12)),
        tiff16(&full, None),
        tiff16(&low, Some(4095)),
    ] {
        assert_eq!(greys(&bytes, &auto), wanted);
    }
    for bytes in [png16(&low, None), tiff16(&low, None)] {
        let (fault, problem) = fault(&bytes, &auto);
        assert_eq!(fault, Fault::UnclearDepth);
        assert!(problem.contains("4095"), "{problem}");
        let with = |bits| PictureRules {
            sample_bits: Some(bits),
            ..PictureRules::default()
        };
        assert_eq!(greys(&bytes, &with(12)), wanted);
        assert_eq!(greys(&bytes, &with(16)), [0, 5, 11, 16]);
    }
    // Black is black.
    assert_eq!(greys(&png16(&[0, 0], None), &auto), [0, 0]);
}

#[test]
fn a_camera_s_note_is_followed_where_that_is_chosen() {
    // Orientation 6: the top of the picture is at its right.
    let note = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(note).unwrap();
    encoder.encode_image(&picture(24, 16)).unwrap();
    let apply = PictureRules {
        exif: Exif::Apply,
        ..PictureRules::default()
    };
    let stored = decode(&bytes, &PictureRules::default()).unwrap();
    let turned = decode(&bytes, &apply).unwrap();
    assert_eq!(
        (stored.dimensions(), turned.dimensions()),
        ((24, 16), (16, 24))
    );
    assert_eq!(image::imageops::rotate90(&stored), turned);
}

#[test]
fn what_is_no_picture_is_named() {
    for (bytes, named) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "heif-convert"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (
            b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            "SVG",
        ),
        (b"P6\n2 2\n255\n123456789012", "Netpbm"),
        (b"", "empty"),
    ] {
        let (fault, problem) = fault(bytes, &PictureRules::default());
        assert_eq!(fault, Fault::CorruptImage);
        assert!(problem.contains(named), "{problem}");
    }
}

#[test]
fn rules_have_ranges() {
    assert_eq!(PictureRules::default().wrong(), None);
    let wrong = |rules: PictureRules| rules.wrong().unwrap().0;
    let rules = PictureRules::default;
    assert_eq!(
        wrong(PictureRules {
            max_pixels: 0,
            ..rules()
        }),
        "data.pictures.max_pixels"
    );
    assert_eq!(
        wrong(PictureRules {
            sample_bits: Some(20),
            ..rules()
        }),
        "data.pictures.sample_bits"
    );
    assert_eq!(
        wrong(PictureRules {
            frame: Some(0),
            burned_in: BurnedIn::Accept,
            ..rules()
        }),
        "data.pictures.frame"
    );
}

/// A TIFF file of two by two places in a table of colours, in either order of bytes.
fn palette_tiff(little: bool, places: [u8; 4]) -> Vec<u8> {
    let short = |value: u16| {
        if little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    };
    let long = |value: u32| {
        if little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    };
    let fields = [
        (256, 2),
        (257, 2),
        (258, 8),
        (259, 1),
        (262, 3),
        (273, 8),
        (277, 1),
        (278, 2),
        (279, 4),
    ];
    let mut bytes = if little {
        b"II".to_vec()
    } else {
        b"MM".to_vec()
    };
    bytes.extend(short(42));
    bytes.extend(long(12));
    bytes.extend(places);
    bytes.extend(short(10));
    for (tag, value) in fields {
        bytes.extend([short(tag), short(3)].concat());
        bytes.extend(long(1));
        bytes.extend([short(value), short(0)].concat());
    }
    bytes.extend([short(320), short(3)].concat());
    bytes.extend(long(768));
    bytes.extend(long(bytes.len() as u32 + 8));
    bytes.extend(long(0));
    // Red rises, green falls, blue is 7.
    let table = (0..768_u16).map(|i| [i, 255 - i % 256, 7][usize::from(i / 256)] << 8);
    bytes.extend(table.flat_map(short));
    bytes
}

#[test]
fn tables_of_colours_are_looked_up() {
    for little in [true, false] {
        let bytes = palette_tiff(little, [0, 1, 100, 255]);
        let picture = decode(&bytes, &PictureRules::default()).unwrap();
        assert_eq!(
            picture.into_raw(),
            [0, 255, 7, 1, 254, 7, 100, 155, 7, 255, 0, 7]
        );
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(fault(cut, &PictureRules::default()).0, Fault::CorruptImage);
    }
}
