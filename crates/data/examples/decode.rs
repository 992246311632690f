//! Pictures as a run sees them before they are resized, as PNG files in a directory: for a comparison with other decoders, see
//! `runs/jpeg_in_python.py`.
//!
//! `cargo run --release -p qtl-data --example decode -- DIR PICTURE...`

use std::error::Error;
use std::path::{Path, PathBuf};

use qtl_data::image::{PictureRules, open};

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let into = paths.next().ok_or("give a directory and pictures")?;
    for path in paths {
        let picture = open(&path, &PictureRules::default())?;
        let name = path.file_stem().ok_or("a picture has a name")?;
        picture.save(into.join(Path::new(name).with_extension("png")))?;
    }
    Ok(())
}
