//! Decoding, resizing and normalising against Pillow and the reference's processors.

use std::collections::BTreeMap;
use std::path::Path;

use image::RgbImage;
use qtl_data::image::{self as picture, PictureRules};
use qtl_data::{Aspect, Processor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::golden;
use crate::set;

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn processors(folder: &Path) -> BTreeMap<String, Processor> {
    let list = std::fs::read_dir(folder.join("processors")).unwrap();
    list.map(|entry| {
        let path = entry.unwrap().path();
        (
            path.file_stem().unwrap().to_str().unwrap().to_owned(),
            Processor::open(&path).unwrap(),
        )
    })
    .collect()
}

/// The RGB bytes that the reference started from.
fn source(folder: &Path, input: &Value) -> RgbImage {
    let file = input["rgb_png"]
        .as_str()
        .or(input["file"].as_str())
        .unwrap();
    let rgb = picture::open(&folder.join(file), &PictureRules::default()).unwrap();
    assert_eq!(
        checksum(rgb.as_raw()),
        input["rgb_sha256_hwc_u8"].as_str().unwrap(),
        "{file}"
    );
    rgb
}

#[test]
fn golden_images_decode_like_pillow() {
    let folder = golden::folder("images");
    let Some(cases) = golden::part("images/cases.json") else {
        return;
    };
    let mut ran = 0;
    for input in cases["inputs"].as_array().unwrap() {
        let file = input["file"].as_str().unwrap();
        let (ours, theirs) = (
            picture::open(&folder.join(file), &PictureRules::default()).unwrap(),
            source(&folder, input),
        );
        assert_eq!(ours.dimensions(), theirs.dimensions(), "{file}");
        let off = ours
            .as_raw()
            .iter()
            .zip(theirs.as_raw())
            .map(|(a, b)| u32::from(a.abs_diff(*b)));
        let (most, sum) = (off.clone().max().unwrap(), off.sum::<u32>());
        let mean = f64::from(sum) / ours.as_raw().len() as f64;
        if input["pillow_specific"] == true {
            // 16 bits: Pillow clips where we scale, so ours is darker wherever it clipped.
            assert!(
                ours.as_raw()
                    .iter()
                    .zip(theirs.as_raw())
                    .all(|(a, b)| a <= b),
                "{file}"
            );
        } else if file.ends_with(".jpg") {
            assert!(most <= 4 && mean < 0.35, "{file}: most {most}, mean {mean}");
        } else {
            assert_eq!(most, 0, "{file}");
        }
        ran += 1;
    }
    set::ran(ran, "decoded pictures");
}

#[test]
fn golden_images_resize_and_normalise() {
    let folder = golden::folder("images");
    let Some(cases) = golden::part("images/cases.json") else {
        return;
    };
    let processors = processors(&folder);
    let sources: BTreeMap<&str, RgbImage> = cases["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| (input["file"].as_str().unwrap(), source(&folder, input)))
        .collect();
    let values = set::file("data/images/pixel_values_f32.safetensors");
    let values = values.map(|file| std::fs::read(file).unwrap());
    let values = values
        .as_deref()
        .map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap());
    let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bit_exact = 0;
    for case in cases["cases"].as_array().unwrap() {
        let (name, file) = (
            case["processor"].as_str().unwrap(),
            case["image"].as_str().unwrap(),
        );
        let aspect: Aspect = serde_json::from_value(case["image_aspect_ratio"].clone()).unwrap();
        let processor = &processors[name];
        let resized = processor.resized(&sources[file], aspect);
        let side = processor.side();
        assert_eq!(
            serde_json::json!([side, side, 3]),
            case["shape_hwc"],
            "{file}, {name}"
        );
        assert_eq!(
            checksum(&resized),
            case["stats"]["sha256_hwc_u8"].as_str().unwrap(),
            "{file}, {name}, {aspect:?}"
        );
        if let (Some(key), Some(values)) = (case["pixel_values_f32"].as_str(), &values) {
            let expected = values.tensor(key).unwrap();
            let ours: Vec<u8> = processor
                .normalised(&resized)
                .data
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect();
            assert!(ours == expected.data(), "{key}: pixel values differ");
            bit_exact += 1;
        }
        *ran.entry(name).or_default() += 1;
    }
    println!("checksums equal: {ran:?}; pixel values bit-exact: {bit_exact}");
    set::ran(ran.len(), "resized pictures");
    set::ran(bit_exact, "normalised pictures");
}

/// What a JPEG is worth end to end, with our own decoder.
#[test]
fn golden_images_jpeg_end_to_end() {
    let folder = golden::folder("images");
    let Some(cases) = golden::part("images/cases.json") else {
        return;
    };
    let processors = processors(&folder);
    let mut ran = 0;
    for input in cases["inputs"].as_array().unwrap() {
        let file = input["file"].as_str().unwrap();
        if !file.ends_with(".jpg") {
            continue;
        }
        let (ours, theirs) = (
            picture::open(&folder.join(file), &PictureRules::default()).unwrap(),
            source(&folder, input),
        );
        for (name, processor) in &processors {
            for aspect in [Aspect::Square, Aspect::Pad] {
                let (a, b) = (
                    processor.resized(&ours, aspect),
                    processor.resized(&theirs, aspect),
                );
                let off = a.iter().zip(&b).map(|(a, b)| u32::from(a.abs_diff(*b)));
                let (most, mean) = (
                    off.clone().max().unwrap(),
                    f64::from(off.sum::<u32>()) / a.len() as f64,
                );
                assert!(
                    most <= 6 && mean <= 0.5,
                    "{file}, {name}: most {most}, mean {mean}"
                );
                ran += 1;
            }
        }
    }
    set::ran(ran, "JPEG pictures");
}

#[test]
fn the_built_in_processors_are_the_published_ones() {
    let mut compared = 0;
    for (name, processor) in processors(&set::fixture("data/images")) {
        let side = processor.side();
        let (family, _) = name.split_once('_').unwrap();
        let built_in = match family {
            "siglip" => Processor::siglip(side),
            "clip" => Processor::clip(side),
            // The published one knows one size.
            "dinov2" if side == 224 => Processor::dinov2(224),
            _ => continue,
        };
        assert_eq!(processor, built_in, "{name}");
        compared += 1;
    }
    assert!(compared >= 5, "{compared}");
}

#[test]
fn sixteen_bit_grey_is_scaled() {
    let deep =
        image::ImageBuffer::<image::Luma<u16>, _>::from_vec(3, 1, vec![0, 32896, 65535]).unwrap();
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::from(deep)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let rgb = picture::decode(png.get_ref(), &PictureRules::default()).unwrap();
    assert_eq!(rgb.as_raw(), &[0, 0, 0, 128, 128, 128, 255, 255, 255]);
}

#[test]
fn a_processor_that_cannot_be_followed_is_refused() {
    let good = serde_json::json!({
        "image_processor_type": "SiglipImageProcessor", "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "resample": 3, "size": {"height": 8, "width": 8}
    });
    let read =
        |value: &Value| Processor::from_json(value.to_string().as_bytes(), Path::new("here.json"));
    assert_eq!(read(&good).unwrap().side(), 8);
    for (field, bad) in [
        (
            "image_processor_type",
            serde_json::json!("Pix2StructImageProcessor"),
        ),
        ("image_mean", serde_json::json!([0.5])),
        ("image_std", serde_json::json!([0.5, 0.0, 0.5])),
        ("resample", serde_json::json!(2)),
        ("do_normalize", serde_json::json!(false)),
        ("rescale_factor", serde_json::json!("1/255")),
        ("size", serde_json::json!({"height": 8, "width": 9})),
        ("size", serde_json::json!({"height": 0, "width": 0})),
        ("crop_size", serde_json::json!(9)),
    ] {
        let mut value = good.clone();
        value[field] = bad;
        let error = read(&value).unwrap_err().to_string();
        assert!(
            error.contains("here.json") && error.contains(field),
            "{error}"
        );
    }
}
