//! What is made of models: one of two halves, one for other programs, one of parts; answers.

pub mod align;
pub mod answer;
pub mod compose;
pub mod export;
pub mod merge;
pub mod plain;
pub mod random;
