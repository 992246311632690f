//! A recipe into trained weights: the split training step on both sides, checkpoints, resume.
