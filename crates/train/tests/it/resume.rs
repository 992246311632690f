//! Runs that are interrupted, with every way of tuning.

use std::sync::Arc;

use qtl_data::example::IGNORED;
use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_train::start::Start;

use crate::world::{Drawn, KINDS, blueprint, recipe, records_of, saved, train};

#[test]
fn an_interrupted_run_ends_in_the_same_bits_with_every_tuning() {
    for (name, tune) in KINDS {
        let recipe = recipe(
            tune,
            &["quantizer.image.kind=fsq", "quantizer.image.levels=4"],
        );
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [whole, broken] = [dirs[0].path(), dirs[1].path()];
        let losses = train(&recipe, whole, None);
        assert_eq!(losses.len(), 6);
        let before = train(&recipe, broken, Some(2));
        assert_eq!(before, losses[..3]);
        // As if both processes had died before saving step 3: they go back to step 2.
        for side in ["", "server"] {
            let checkpoints = broken.join(side).join("checkpoints");
            std::fs::remove_dir_all(checkpoints.join("step-00000003")).unwrap();
        }
        let after = train(&recipe, broken, None);
        assert_eq!(after, losses[2..], "{name}");
        for side in ["", "server"] {
            for file in ["model.safetensors", "optimizer.safetensors"] {
                let same = saved(whole, side, 6, file) == saved(broken, side, 6, file);
                assert!(same, "{name}: {side}/{file} differs");
            }
        }
    }
}

/// Examples of which nothing is supervised.
struct Silent;

impl Source for Silent {
    fn lengths(&self) -> Vec<i64> {
        Drawn.lengths()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Example, DataError> {
        let mut example = Drawn::example(index);
        example.spans[0].labels.fill(IGNORED);
        Ok(example)
    }
}

/// A loss of 0 would be the best there is.
#[test]
fn a_step_without_supervised_tokens_has_no_loss() {
    let recipe = recipe("", &["train.steps=2"]);
    let dir = tempfile::tempdir().unwrap();
    let start = Start::from(&blueprint(&recipe));
    let records = records_of(Arc::new(Silent), &start, &recipe, dir.path(), None);
    for record in &records {
        assert_eq!((record.tokens, record.loss), (0, None));
    }
    let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
    assert_eq!(text.matches("\"loss\":null").count(), 2, "{text}");
    let read = qtl_train::metrics::read(&dir.path().join("metrics.jsonl"));
    assert_eq!(read.unwrap().len(), 2);
}
