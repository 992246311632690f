//! What is looked at without training: sizes, features, costs on the wire, what holds whatever a client says.

pub mod accountant;
pub mod communication;
pub mod dry;
pub mod features;
pub mod fuzzing;
pub mod inspect;
pub mod machine;
