use std::fs;
use std::path::Path;

use qtl_model::weights::{NamedTensor, Tensors};

use super::*;

fn tensors(value: f32) -> Tensors<'static> {
    Tensors::new(vec![("a.weight".into(), vec![2, 2])], move |take| {
        take(&NamedTensor {
            name: "a.weight".into(),
            shape: vec![2, 2],
            data: vec![value; 4],
        });
    })
}

fn state(step: u64) -> State {
    State::new(Side::Server, "run", step, None, String::new())
}

fn save(store: &Store, step: u64) {
    store
        .save(&state(step), &tensors(step as f32), &tensors(0.5))
        .unwrap();
}

fn value(saved: &Saved) -> f32 {
    let file = qtl_model::weights::Checkpoint::open(&saved.weights()).unwrap();
    file.read("a.weight").unwrap()[0]
}

/// Names below `checkpoints`, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_newest_are_kept_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    for step in [100, 200, 300] {
        save(&store, step);
    }
    assert_eq!(names(dir.path()), ["step-00000200", "step-00000300"]);
    let saved = store.load(300, Side::Server, "run").unwrap();
    assert_eq!(
        saved.optimizer().unwrap(),
        [("a.weight".to_owned(), vec![0.5; 4])]
    );
    assert_eq!(value(&saved), 300.0);
    assert_eq!(store.run().as_deref(), Some("run"));
    let error = store
        .load(200, Side::Client, "run")
        .unwrap_err()
        .to_string();
    assert!(error.contains("side = Server, expected Client"), "{error}");
}

#[test]
fn a_checkpoint_under_another_steps_name_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 9).unwrap();
    save(&store, 10);
    save(&store, 20);
    fs::rename(store.path(20), store.path(30)).unwrap();
    assert!(Saved::open(&store.path(30)).is_err());
    let store = Store::open(dir.path(), 9).unwrap();
    assert_eq!(
        names(dir.path()),
        ["step-00000010", "step-00000030.damaged"]
    );
    assert_eq!(store.whole("run"), [10]);
}

#[test]
fn what_somebody_else_has_put_there_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 9).unwrap();
    save(&store, 10);
    let at = |name: &str| dir.path().join("checkpoints").join(name);
    for name in [
        "step-00000020",
        "step-00000030.partial",
        "step-00000040.gone",
    ] {
        fs::write(at(name), "a file").unwrap();
    }
    // Neither name is one that a step is looked for under.
    fs::create_dir(at("step-20")).unwrap();
    fs::create_dir(at("step-+0000020")).unwrap();
    let store = Store::open(dir.path(), 9).unwrap();
    assert_eq!(store.whole("run"), [10]);
    save(&store, 20);
    store.settle(20).unwrap();
    let left = ["step-+0000020", "step-00000010", "step-00000020", "step-20"];
    assert_eq!(names(dir.path()), left);
}

#[test]
fn what_lies_behind_is_set_aside_until_as_much_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 9).unwrap();
    for step in [10, 20, 30] {
        save(&store, step);
    }
    store.set_aside_after(10).unwrap();
    assert_eq!(store.steps(), [10]);
    // It can still be gone on from, by this process and the next one.
    assert_eq!(store.whole("run"), [10, 20, 30]);
    assert_eq!(store.whole("another"), [10]);
    let store = Store::open(dir.path(), 9).unwrap();
    assert_eq!(store.whole("run"), [10, 20, 30]);
    save(&store, 15);
    store.settle(15).unwrap();
    assert_eq!(store.whole("run"), [10, 15, 20, 30]);
    save(&store, 20);
    store.settle(20).unwrap();
    let want = [
        "step-00000010",
        "step-00000015",
        "step-00000020",
        "step-00000030.aside",
    ];
    assert_eq!(names(dir.path()), want);
    // Both sides agree on 30 after all.
    let saved = store.load(30, Side::Server, "run").unwrap();
    assert_eq!(value(&saved), 30.0);
    store.set_aside_after(30).unwrap();
    assert_eq!(store.steps(), [10, 15, 20, 30]);
}

#[test]
fn nothing_set_aside_is_overwritten_and_the_same_is_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 9).unwrap();
    save(&store, 20);
    store.set_aside_after(0).unwrap();
    save(&store, 20);
    store.set_aside_after(0).unwrap();
    assert_eq!(names(dir.path()), ["step-00000020.aside"]);
    store
        .save(&state(20), &tensors(-1.0), &tensors(0.5))
        .unwrap();
    store.set_aside_after(0).unwrap();
    let want = ["step-00000020.aside", "step-00000020.aside-2"];
    assert_eq!(names(dir.path()), want);
    store.settle(19).unwrap();
    assert_eq!(names(dir.path()), want);
    save(&store, 21);
    store.settle(21).unwrap();
    assert_eq!(names(dir.path()), ["step-00000021"]);
}

/// One flipped bit anywhere, a file cut short, a file gone.
#[test]
fn damage_is_noticed_named_and_gone_round() {
    let files = [WEIGHTS, OPTIMIZER, STATE, STATE_DIGEST];
    type Harm = fn(&Path);
    let harms: [Harm; 5] = [
        |path| flip(path, |len| len - 1),
        |path| flip(path, |_| 0),
        |path| flip(path, |len| len / 2),
        |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 3]).unwrap();
        },
        |path| fs::remove_file(path).unwrap(),
    ];
    for file in files {
        for harm in harms {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), 2).unwrap();
            save(&store, 10);
            save(&store, 20);
            let path = store.path(20).join(file);
            harm(&path);
            let error = store.load(20, Side::Server, "run").unwrap_err().to_string();
            assert!(
                error.contains("step-00000020") && error.contains("damaged"),
                "{error}"
            );
            if ![STATE_DIGEST, STATE].contains(&file) {
                assert!(error.contains(file), "{error}");
            }
            // It is not offered again, by this process or the next one.
            let left = ["step-00000010", "step-00000020.damaged"];
            assert_eq!(
                (store.whole("run"), names(dir.path())),
                (vec![10], left.map(str::to_owned).to_vec())
            );
            fs::rename(store.path(20).with_extension("damaged"), store.path(20)).unwrap();
            let store = Store::open(dir.path(), 2).unwrap();
            assert_eq!(
                (store.whole("run"), names(dir.path())),
                (vec![10], left.map(str::to_owned).to_vec())
            );
            assert_eq!(store.run().as_deref(), Some("run"));
            // Done again, and only then gone.
            save(&store, 20);
            store.settle(20).unwrap();
            assert_eq!(names(dir.path()), ["step-00000010", "step-00000020"]);
            store.load(20, Side::Server, "run").unwrap();
        }
    }
}

/// A whole copy that was set aside is worth more than a damaged one.
#[test]
fn a_damaged_checkpoint_does_not_displace_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    save(&store, 20);
    store.set_aside_after(0).unwrap();
    save(&store, 20);
    flip(&store.path(20).join(WEIGHTS), |len| len - 1);
    let store = Store::open(dir.path(), 2).unwrap();
    let want = ["step-00000020.aside", "step-00000020.damaged"];
    assert_eq!(names(dir.path()), want);
    assert_eq!(store.whole("run"), [20]);
    assert_eq!(value(&store.load(20, Side::Server, "run").unwrap()), 20.0);
}

/// Every state of the disk that a process killed while removing a checkpoint can leave, now and in earlier releases.
#[test]
fn a_removal_cut_short_anywhere_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    let files = [WEIGHTS, OPTIMIZER, STATE, STATE_DIGEST];
    for end in ["", ".gone", ".partial"] {
        for left in 0..1 << files.len() {
            fs::remove_dir_all(dir.path().join("checkpoints")).unwrap();
            fs::create_dir(dir.path().join("checkpoints")).unwrap();
            save(&store, 10);
            save(&store, 20);
            for (n, file) in files.iter().enumerate() {
                if left & 1 << n == 0 {
                    fs::remove_file(store.path(10).join(file)).unwrap();
                }
            }
            let to = dir.path().join(format!("checkpoints/step-00000010{end}"));
            fs::rename(store.path(10), to).unwrap();
            let store = Store::open(dir.path(), 2).unwrap();
            let whole = left + 1 == 1 << files.len();
            let steps: &[u64] = if end.is_empty() && whole {
                &[10, 20]
            } else {
                &[20]
            };
            assert_eq!(store.whole("run"), steps, "{end:?} {left}");
            save(&store, 30);
            store.settle(30).unwrap();
            assert!(!store.path(30).with_extension("gone").exists());
            let names = names(dir.path());
            assert_eq!(names.len(), 2, "{names:?}");
        }
    }
}

/// What the release before wrote: no digests.
fn as_before(dir: &Path) {
    let path = dir.join(STATE);
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["format"] = 2.into();
    for later in ["files", "arithmetic"] {
        state.as_object_mut().unwrap().remove(later);
    }
    fs::write(&path, state.to_string()).unwrap();
    fs::remove_file(dir.join(STATE_DIGEST)).unwrap();
}

#[test]
fn the_format_before_is_read_and_others_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    save(&store, 20);
    as_before(&store.path(20));
    let store = Store::open(dir.path(), 2).unwrap();
    assert_eq!(store.whole("run"), [20]);
    let saved = store.load(20, Side::Server, "run").unwrap();
    assert!(!saved.has_digests());
    assert_eq!(saved.state.arithmetic, None);
    let weights = fs::read(saved.weights()).unwrap();
    fs::write(saved.weights(), &weights[..weights.len() - 1]).unwrap();
    let error = store.load(20, Side::Server, "run").unwrap_err();
    assert!(error.to_string().contains(WEIGHTS), "{error}");

    fs::rename(store.path(20).with_extension("damaged"), store.path(20)).unwrap();
    fs::write(saved.weights(), &weights).unwrap();
    let path = store.path(20).join(STATE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\":2", "\"format\":9")).unwrap();
    let error = Store::open(dir.path(), 2).unwrap_err().to_string();
    assert!(error.contains("format = 9, expected 4"), "{error}");
    assert_eq!(names(dir.path()), ["step-00000020"]);
}

#[test]
fn numbers_of_micro_batches_are_read_where_they_are_those_of_steps() {
    for (accumulate, fits) in [(1, true), (2, false)] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 2).unwrap();
        let mut before = state(20);
        before.format = IN_MICRO_BATCHES;
        before.recipe = format!("[train]\naccumulate = {accumulate}\n");
        store.save(&before, &tensors(1.0), &tensors(0.5)).unwrap();
        match Store::open(dir.path(), 2) {
            Ok(store) => assert!(fits && store.whole("run") == [20]),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !fits && error.contains("micro-batches, 2 to a step"),
                    "{error}"
                );
            }
        }
    }
}

/// `/dev/full` answers every write with "no space left on device".
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_previous_checkpoint_and_no_partial_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    save(&store, 100);
    let partial = store.path(200).with_extension("partial");
    fs::create_dir_all(&partial).unwrap();
    std::os::unix::fs::symlink("/dev/full", partial.join("state.partial")).unwrap();
    let error = store
        .save(&state(200), &tensors(1.0), &tensors(2.0))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("step-00000200") && text.contains("Free some space"),
        "{text}"
    );
    assert_eq!(names(dir.path()), ["step-00000100"]);
    store.load(100, Side::Server, "run").unwrap();
}
