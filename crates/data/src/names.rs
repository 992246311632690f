//! A picture's file, by the name that a data set gives.

use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

/// The file below `folder`. A name also stands for the one that is spelled alike with its accents composed otherwise (NFC,
/// NFD): copying between systems changes that, and no eye sees it.
///
/// # Errors
/// There is none; the text says what was looked for, and what is likely meant.
pub fn find(folder: &Path, name: &Path) -> Result<PathBuf, String> {
    let path = folder.join(name);
    // What cannot be asked about is for opening to complain about.
    if path.try_exists().unwrap_or(true) {
        return Ok(path);
    }
    if let Some(found) = in_other_form(folder, name) {
        return Ok(found);
    }
    let text = name.to_string_lossy();
    Err(format!(
        "no file {}{}",
        path.display(),
        hint(folder, name, &text)
    ))
}

/// The file below `folder` whose name is spelled like this one in Unicode's other form.
pub(crate) fn in_other_form(folder: &Path, name: &Path) -> Option<PathBuf> {
    let text = name.to_str()?;
    let other = [text.nfc().collect::<String>(), text.nfd().collect()];
    let other = other.iter().filter(|other| *other != text);
    let mut other = other.map(|other| folder.join(other));
    other.find(|other| other.exists())
}

fn hint(folder: &Path, name: &Path, text: &str) -> String {
    if text.contains('\\') {
        let slashes = text.replace('\\', "/");
        let there = if folder.join(&slashes).exists() {
            ", which is there"
        } else {
            ""
        };
        return format!(
            " (the name has back slashes; here names are parted by /, as in `{slashes}`{there})"
        );
    }
    let mut parts = name.components();
    let doubled = folder
        .file_name()
        .is_some_and(|last| parts.next().is_some_and(|first| first.as_os_str() == last));
    let rest = parts.as_path();
    if doubled && folder.join(rest).exists() {
        return format!(
            " (the name begins with the image folder's own; give the folder above as image folder, or take it off the names: `{}` \
             is there)",
            rest.display()
        );
    }
    String::new()
}
