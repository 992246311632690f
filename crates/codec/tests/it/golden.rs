//! The reference implementation's numbers: packed bytes, histograms and entropies.

use std::fs;
use std::path::Path;

use qtl_codec::Symbols;
use qtl_codec::entropy::{histogram, order0_bits, shannon};
use qtl_codec::pack::{pack, unpack};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::set;

fn case_json(folder: &Path) -> Option<Value> {
    let text = fs::read(folder.join("case.json")).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

fn u8s(tensors: &SafeTensors<'_>, name: &str) -> Option<Vec<u8>> {
    tensors
        .tensor(name)
        .ok()
        .map(|tensor| tensor.data().to_vec())
}

#[test]
fn golden_packed_bytes() {
    let (mut ran, mut skipped) = (Vec::new(), Vec::new());
    for (name, folder) in set::folders("quant") {
        let json = case_json(&folder);
        let config = json.as_ref().map(|json| &json["config"]);
        let levels = config.and_then(|config| config["levels"].as_u64());
        let is_packed = json
            .as_ref()
            .is_some_and(|json| json["quantizer"] == "fsq_split");
        let (true, Some(levels)) = (is_packed, levels) else {
            skipped.push(name);
            continue;
        };
        let buffer = fs::read(folder.join("tensors.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&buffer).unwrap();
        let (Some(indices), Some(packed)) = (u8s(&tensors, "indices"), u8s(&tensors, "packed"))
        else {
            skipped.push(name);
            continue;
        };
        let plane = Symbols::from_u32(
            levels as u32,
            1,
            indices.len(),
            indices.iter().map(|&s| u32::from(s)),
        )
        .unwrap();
        let ours = pack(&plane);
        // The reference rounds the count up to whole groups, with zeros; ours ends where the symbols end.
        assert!(packed.len() - ours.len() < 4, "{name}");
        let (same, padding) = packed.split_at(ours.len());
        assert_eq!(ours, same, "{name}");
        assert!(padding.iter().all(|&byte| byte == 0), "{name}");
        assert_eq!(
            unpack(plane.alphabet, plane.len(), same),
            Ok(plane.data),
            "{name}"
        );
        ran.push(name);
    }
    println!(
        "packed bytes: ran {ran:?}\nwithout packed symbols of one plane, skipped: {skipped:?}"
    );
    for bits in [2, 3, 4] {
        let family = format!("fsq_split_{bits}bit");
        let ran = ran.iter().filter(|name| name.starts_with(&family)).count();
        set::ran(ran, format!("packed bytes of {family}*"));
    }
}

#[test]
fn golden_entropy() {
    let json = set::file("quant/entropy/case.json").and_then(|file| case_json(file.parent()?));
    let Some(json) = json else { return };
    for check in json["hand_checks"].as_array().into_iter().flatten() {
        let counts: Vec<u64> = check["histogram"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .collect();
        assert!(
            (shannon(&counts) - check["entropy_bits"].as_f64().unwrap()).abs() < 1e-12,
            "{check}"
        );
    }
    let (mut ran, mut skipped) = (Vec::new(), Vec::new());
    for (name, entry) in json["table"].as_object().unwrap() {
        let file = set::root()
            .join("quant")
            .join(name)
            .join("tensors.safetensors");
        let Ok(buffer) = fs::read(file) else {
            skipped.push(name);
            continue;
        };
        let tensors = SafeTensors::deserialize(&buffer).unwrap();
        let Some(indices) = u8s(&tensors, "indices") else {
            skipped.push(name);
            continue;
        };
        let levels = entry["levels"].as_u64().unwrap() as u32;
        let plane = Symbols::from_u32(
            levels,
            1,
            indices.len(),
            indices.iter().map(|&s| u32::from(s)),
        )
        .unwrap();
        let counts: Vec<Value> = histogram(&plane).into_iter().map(Value::from).collect();
        assert_eq!(&Value::from(counts), &entry["histogram"], "{name}");
        let want = entry["entropy_bits"].as_f64().unwrap();
        assert!(
            (order0_bits(&plane) - want).abs() < 1e-9,
            "{name}: {}",
            order0_bits(&plane)
        );
        ran.push(name);
    }
    println!("entropy: ran {ran:?}, without indices, skipped: {skipped:?}");
    set::ran(ran.len(), "entropy of a case's indices");
}
