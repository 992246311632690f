//! The small pretrained model that the demo starts from, carried in the program.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Made by `runs/demo_base.sh`; an ordinary model directory, with the Python file that a configuration written by `merge` names.
const FILES: [(&str, &[u8]); 7] = [
    (
        "config.json",
        include_bytes!("../../assets/demo-base/config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../assets/demo-base/model.safetensors"),
    ),
    (
        "preprocessor_config.json",
        include_bytes!("../../assets/demo-base/preprocessor_config.json"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../assets/demo-base/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../assets/demo-base/tokenizer_config.json"),
    ),
    (
        "special_tokens_map.json",
        include_bytes!("../../assets/demo-base/special_tokens_map.json"),
    ),
    (
        "modeling_qtinyllava.py",
        include_bytes!("../../../train/assets/modeling_qtinyllava.py"),
    ),
];

/// Writes the base into `dir`.
pub fn write(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for (name, bytes) in FILES {
        let path = dir.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
