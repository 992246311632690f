//! What can go wrong while a data set is written.

use std::path::{Path, PathBuf};

/// Why scenes or their files could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SceneError {
    /// A style name that is not known.
    #[error("style `{value}` is not known: use `twitter`, `google` or `twitter,google`")]
    UnknownStyle {
        /// The name as given.
        value: String,
    },
    /// A data set of no scenes.
    #[error("count is 0: a data set needs at least one scene")]
    NoScenes,
    /// The target holds something already.
    #[error("{} exists and is not empty: choose another folder, or ask to overwrite it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// Overwriting was asked for, but the target is not a data set written by this module.
    #[error(
        "{} is not a generated data set (it holds no {record}), so it is not overwritten: choose another folder",
        path.display()
    )]
    NotGenerated {
        /// The target.
        path: PathBuf,
        /// The file that marks a generated data set.
        record: &'static str,
    },
    /// The target has no name of its own, or is a file.
    #[error("{} cannot become a data set folder: give the path of a folder that is new or empty", path.display())]
    BadTarget {
        /// The target.
        path: PathBuf,
    },
    /// The record of a generated data set cannot be understood.
    #[error("{}: not a record of a generated data set: {source}", path.display())]
    Record {
        /// The record file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A scene could not be encoded as PNG.
    #[error("{}: cannot encode the scene as PNG: {source}", path.display())]
    Png {
        /// The picture file.
        path: PathBuf,
        /// What the encoder says.
        source: image::ImageError,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl SceneError {
    /// Names the attempt and the path of a failed file operation.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
