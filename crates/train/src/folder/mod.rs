//! A run's directory: whose it is, what is in it, whether it is whole, and how it is written.

pub mod changes;
pub mod checkpoint;
pub(crate) mod companions;
pub mod digest;
pub mod files;
pub mod lock;
pub mod metrics;
pub mod record;
pub mod secret;
pub mod stamp;
pub mod verify;
pub mod whole;
