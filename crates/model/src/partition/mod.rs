//! The model in two partitions. The client holds pictures, text, the vision tower, the connector and the token
//! embedding; the server holds the language model. The single-process model is these two without a wire.

mod client;
mod pending;
pub mod repeats;
mod server;
mod tower;

pub use client::{Batch, ClientPartition, Cut, Features};
pub use pending::Pending;
pub use repeats::TextRows;
pub use server::{ServerPartition, Step, StepError};

/// Checkpoint names of the parts, as TinyLLaVA's merged files have them.
pub mod names {
    /// The vision tower (client).
    pub const VISION_TOWER: &str = "vision_tower._vision_tower.";
    /// The connector (client).
    pub const CONNECTOR: &str = "connector.";
    /// The language model: its token embedding (client), everything else (server).
    pub const LANGUAGE_MODEL: &str = "language_model.";
    /// The image quantizer; each side has its half.
    pub const QUANTIZER_IMAGE: &str = "VQ.quantizer_image.quantizer.";
    /// The text quantizer; each side has its half.
    pub const QUANTIZER_TEXT: &str = "VQ.quantizer_text.quantizer.";
}
