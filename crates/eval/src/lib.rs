//! A trained model into scores: benchmarks, scorers, reports.
