//! Which gradients go back over an edge.

/// The streams whose gradients the sender has something to learn from. Both sides know them before a step, from what is trained;
/// a gradient that nobody reads does not cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returns {
    /// The gradient of image rows.
    pub image: bool,
    /// That of text rows.
    pub text: bool,
}

impl Default for Returns {
    /// Both.
    fn default() -> Self {
        Self {
            image: true,
            text: true,
        }
    }
}
