//! What crosses the cut: quantized rows and how they form sequences. Training and generation send the same.

use super::{layout, packed};
use crate::Layout;
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, containers};
use crate::meter::Parts;

/// The rows of a batch at the cut. All but the layout are containers of the codec: opaque bytes here, and empty when there
/// is nothing to carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Container of quantized image features.
    pub image: Vec<u8>,
    /// Container of quantized text features.
    pub text: Vec<u8>,
    /// Container of the row of `text` that each text row is; empty if `text` has a row for each.
    pub text_index: Vec<u8>,
    /// How the features form sequences.
    pub layout: Layout,
    /// Whether the layout travels in fewer bytes, as the recipe's `messages.layout` has it.
    pub packed: bool,
}

impl Cut {
    /// Where its message has parts that need a bound of their own.
    pub(super) const SHAPE: Shape = Shape {
        containers: &[1, 2, 3, 5],
        lists: &[4],
        inside: &[],
    };

    /// Sizes of the containers in it.
    pub(super) fn parts(&self) -> Parts {
        Parts::of(&self.image, &self.text, &self.text_index, &[])
    }

    pub(super) fn into_proto(self, limits: &Limits) -> Result<proto::Cut, MessageError> {
        containers(&[&self.image, &self.text, &self.text_index], limits)?;
        layout::check(&self.layout, limits)?;
        let (layout, packed) = match self.packed {
            false => (layout::to_proto(&self.layout), Vec::new()),
            true => (Vec::new(), packed::to_bytes(&self.layout)),
        };
        Ok(proto::Cut {
            image: self.image,
            text: self.text,
            text_index: self.text_index,
            layout,
            packed,
        })
    }

    pub(super) fn from_proto(cut: proto::Cut, limits: &Limits) -> Result<Cut, MessageError> {
        Ok(Cut {
            image: cut.image,
            text: cut.text,
            text_index: cut.text_index,
            packed: !cut.packed.is_empty(),
            layout: match (cut.layout.as_slice(), cut.packed.as_slice()) {
                (list, []) => layout::from_proto(list, limits)?,
                ([], bytes) => layout::checked(packed::from_bytes(bytes, limits)?, limits)?,
                (..) => {
                    return Err(MessageError::Field {
                        field: "Cut.packed",
                        value: "a layout twice".to_owned(),
                        expected: "one of layout and packed must be empty",
                    });
                }
            },
        })
    }
}
