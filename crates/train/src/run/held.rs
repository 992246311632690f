//! Something large that is updated piece by piece, without its old and its new state side by side.

use std::ops::{Deref, DerefMut};

/// Holds a half of the model. [`change`](Self::change) takes it out, so that each tensor of the old state is freed as soon
/// as its successor exists.
#[derive(Debug)]
pub(crate) struct Held<T>(Option<T>);

/// It is out during [`Held::change`] only, and that borrows what holds it.
const OUT: &str = "put back when it was changed";

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Turns the value into another.
    pub(crate) fn change(&mut self, turn: impl FnOnce(T) -> T) {
        self.0 = self.0.take().map(turn);
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(OUT)
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(OUT)
    }
}
