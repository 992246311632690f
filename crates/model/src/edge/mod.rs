//! An edge: what lies between two stages that run in different places. The sender's half of it makes codes of rows, the
//! receiver's half makes rows of codes; gradients go the other way.
//!
//! The uplink's edge lies between bottom and trunk, and what crosses it is a [`Cut`]. Where the labels are the client's there is
//! a second one, between trunk and top, whose sender is the server: see [`HiddenSender`].

pub mod adversary;
mod error;
mod hidden;
pub mod ids;
pub mod nopeek;
mod private;
mod receiver;
pub mod repeats;
mod returns;
mod sender;

use qtl_codec::Code;

use crate::splice::Layout;
pub use adversary::Adversary;
pub use error::StepError;
pub use hidden::{HiddenReceiver, HiddenReceiverTape, HiddenSender, HiddenSenderTape};
pub use private::{Added, Private, Stream as PrivateStream};
pub use receiver::{Gradients, Received, Receiver, ReceiverTape};
pub use repeats::TextRows;
pub use returns::Returns;
pub use sender::{Sender, SenderTape, Shown};
pub(crate) use sender::{are_whole_pictures, used};

/// What crosses the cut upward.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Code of the image rows; `None` without pictures.
    pub image: Option<Code>,
    /// Code of the text rows, or of the different ones among them, or of their token ids.
    pub text: Code,
    /// Which row of `text` each text row is (see [`repeats`]); `None` if `text` holds them all in order.
    pub index: Option<Code>,
    /// How the two interleave.
    pub layout: Layout,
}
