//! How pictures are prepared for a tower, and the tower for their size.

use std::path::Path;

use qtl_data::Processor;

use super::VisionSpec;
use crate::config::ConfigError;

const FILE: &str = "preprocessor_config.json";

/// The processor of the model in `dir`, and the tower as it takes what the processor gives. The processor is read from its
/// `preprocessor_config.json`; without one it is [`VisionSpec::processor`].
///
/// # Errors
///
/// If the file cannot be followed, or its pictures do not fit the tower.
pub fn prepared(dir: &Path, spec: VisionSpec) -> Result<(Processor, VisionSpec), ConfigError> {
    let file = dir.join(FILE);
    let processor = if file.is_file() {
        Processor::open(&file)?
    } else {
        spec.processor()
    };
    let takes = spec.image_size;
    match spec.resized(processor.side()) {
        Some(spec) => Ok((processor, spec)),
        None => Err(ConfigError::Pictures {
            file,
            gives: processor.side(),
            takes,
        }),
    }
}
