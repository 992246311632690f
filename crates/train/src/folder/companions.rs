//! What lies beside a model's weights and belongs to it: tokenizer, chat template, how answers are sampled, how pictures are
//! prepared, and the licence that all of it is under.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::TrainError;

/// Names of files, and starts of names, that go wherever the weights go.
const NAMES: &[&str] = &[
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
];
const TOKENIZER: &str = "tokenizer";
const LICENCES: &[&str] = &["license", "licence", "notice", "copying", "use_policy"];
/// Folders of further templates.
const FOLDERS: &[&str] = &["additional_chat_templates"];

/// Whether a file of this name says under which conditions the weights may be used.
pub(crate) fn is_licence(name: &str) -> bool {
    let lower = name.to_lowercase();
    LICENCES.iter().any(|start| lower.starts_with(start))
}

/// The companions in `dir`, sorted.
///
/// # Errors
///
/// [`TrainError`] if the directory cannot be read.
pub(crate) fn of(dir: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let io = |e| TrainError::io(dir, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let named = NAMES.contains(&&*name) || name.starts_with(TOKENIZER) || is_licence(&name);
        if (path.is_file() && named) || (path.is_dir() && FOLDERS.contains(&&*name)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Copies the companions in `from` to `into`, but for files that are there already.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub(crate) fn copy(from: &Path, into: &Path) -> Result<(), TrainError> {
    for path in of(from)? {
        let target = into.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            fs::create_dir_all(&target).map_err(|e| TrainError::io(&target, e))?;
            for entry in fs::read_dir(&path).map_err(|e| TrainError::io(&path, e))? {
                let inner = entry.map_err(|e| TrainError::io(&path, e))?.path();
                if inner.is_file() {
                    copy_file(&inner, &target.join(inner.file_name().unwrap_or_default()))?;
                }
            }
        } else {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), TrainError> {
    if !to.exists() {
        let copied = fs::copy(from, to).and_then(|_| fs::File::open(to)?.sync_all());
        copied.map_err(|e| TrainError::io(from, e))?;
    }
    Ok(())
}
