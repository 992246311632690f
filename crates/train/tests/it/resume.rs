//! Runs that are interrupted, with every way of tuning.

use crate::world::{KINDS, recipe, saved, train};

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
