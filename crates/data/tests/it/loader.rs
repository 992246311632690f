//! The same batches whatever the threads do, and after every restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use qtl_data::error::EntryError;
use qtl_data::{
    Batch, DataError, Example, Fault, Loader, LoaderOptions, Order, Position, Source, Strictness,
    TokenSpan,
};

/// Samples that know who they are, take their time, and are bad where told.
struct Slow {
    size: usize,
    bad: BTreeSet<usize>,
    panics: Option<usize>,
}

fn slow(size: usize, bad: impl IntoIterator<Item = usize>) -> Arc<Slow> {
    Arc::new(Slow {
        size,
        bad: bad.into_iter().collect(),
        panics: None,
    })
}

impl Source for Slow {
    fn lengths(&self) -> Vec<i64> {
        (1..=self.size as i64)
            .map(|i| if i % 3 == 0 { -i } else { i })
            .collect()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Example, DataError> {
        // Later samples are often ready first.
        std::thread::sleep(Duration::from_micros(
            (index as u64 * 7919 + epoch * 104_729) % 1500,
        ));
        assert!(self.panics != Some(index), "a decoder's fault");
        if self.bad.contains(&index) {
            let (field, problem) = ("image".to_owned(), "it is bad".to_owned());
            let (id, fault) = (index.to_string(), Fault::CorruptImage);
            return Err(Box::new(EntryError {
                file: "x.json".into(),
                index,
                id,
                field,
                fault,
                problem,
            })
            .into());
        }
        let ids = vec![index as i64, epoch as i64];
        Ok(Example {
            id: index.to_string(),
            pixels: None,
            spans: vec![TokenSpan {
                branch: 0,
                labels: ids.clone(),
                ids,
            }],
        })
    }
}

fn options(order: Order, threads: usize, start: Position) -> LoaderOptions {
    LoaderOptions {
        batch_size: 4,
        order,
        seed: 11,
        start,
        steps: Some(20),
        threads,
        ahead: 3 * threads,
        ..Default::default()
    }
}

fn all(loader: &mut Loader) -> Vec<Batch> {
    std::iter::from_fn(|| loader.next_batch().unwrap()).collect()
}

#[test]
fn batches_depend_neither_on_threads_nor_on_restarts() {
    for order in [
        Order::Sequential,
        Order::Shuffle,
        Order::Grouped { world_size: 2 },
    ] {
        let load = |threads, start| {
            Loader::new(slow(23, [2, 3, 17]), options(order, threads, start)).unwrap()
        };
        let batches = all(&mut load(1, Position::default()));
        assert_eq!(batches.len(), 20);
        assert_eq!(batches, all(&mut load(5, Position::default())), "{order:?}");
        for (done, batch) in batches.iter().enumerate() {
            assert_eq!(batch.examples.len(), 4);
            let text = serde_json::to_string(&batch.position_after).unwrap();
            let rest = all(&mut load(3, serde_json::from_str(&text).unwrap()));
            assert_eq!(
                rest[..19 - done],
                batches[done + 1..],
                "{order:?} after {done}"
            );
        }
        // 20 of 23 samples are good: five batches an epoch, in four epochs, no sample twice.
        for epoch in batches.chunks(5) {
            let ids: BTreeSet<&str> = epoch
                .iter()
                .flat_map(|b| &b.examples)
                .map(|e| e.id.as_str())
                .collect();
            assert_eq!(ids.len(), 20, "{order:?}");
            let numbers: BTreeSet<i64> = epoch
                .iter()
                .flat_map(|b| &b.examples)
                .map(|e| e.spans[0].ids[1])
                .collect();
            assert_eq!(numbers.len(), 1, "{order:?}");
        }
    }
}

#[test]
fn bad_samples_are_counted_or_stop() {
    let mut loader = Loader::new(
        slow(8, [1, 5]),
        options(Order::Sequential, 2, Position::default()),
    )
    .unwrap();
    let first = loader.next_batch().unwrap().unwrap();
    let ids = |batch: &Batch| {
        batch
            .examples
            .iter()
            .map(|e| e.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ["0", "2", "3", "4"]);
    assert_eq!(first.skipped.counts[&Fault::CorruptImage], 1);
    assert_eq!(first.position_after, Position { epoch: 0, index: 5 });
    // Three samples are left of the epoch: too few, so they are not even counted.
    let second = loader.next_batch().unwrap().unwrap();
    assert_eq!(
        (ids(&second), second.position_after),
        (ids(&first), Position { epoch: 1, index: 5 })
    );
    assert!(second.skipped.first[&Fault::CorruptImage].contains("entry 1"));

    let strict = LoaderOptions {
        strictness: Strictness::Stop,
        ..options(Order::Sequential, 2, Position::default())
    };
    let error = Loader::new(slow(8, [1, 5]), strict)
        .unwrap()
        .next_batch()
        .unwrap_err();
    assert!(
        matches!(&error, DataError::Entry(e) if e.index == 1),
        "{error}"
    );
}

#[test]
fn an_epoch_without_a_batch_is_an_error_not_a_hang() {
    let mut loader = Loader::new(
        slow(6, 0..3),
        options(Order::Shuffle, 2, Position::default()),
    )
    .unwrap();
    for epoch in 0..3 {
        match loader.next_batch() {
            Err(DataError::NoBatch {
                epoch: e,
                batch_size: 4,
                ..
            }) => assert_eq!(e, epoch),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_reader_that_panics_is_reported_and_the_rest_goes_on() {
    let source = Arc::new(Slow {
        size: 8,
        bad: BTreeSet::new(),
        panics: Some(2),
    });
    let mut loader =
        Loader::new(source, options(Order::Sequential, 2, Position::default())).unwrap();
    let error = loader.next_batch().unwrap_err();
    assert!(
        matches!(error, DataError::ReaderDied { index: 2, epoch: 0 }),
        "{error}"
    );
    assert_eq!(loader.next_batch().unwrap().unwrap().examples[0].id, "3");
}

#[test]
fn a_loader_can_be_dropped_at_any_time() {
    for taken in 0..4 {
        let endless = LoaderOptions {
            steps: None,
            ahead: 64,
            ..options(Order::Shuffle, 4, Position::default())
        };
        let source = slow(50, []);
        let mut loader = Loader::new(source.clone(), endless).unwrap();
        (0..taken).for_each(|_| assert!(loader.next_batch().unwrap().is_some()));
        drop(loader);
        // Every thread has ended and given its share back.
        assert_eq!(Arc::strong_count(&source), 1);
    }
}

#[test]
fn impossible_settings_are_refused() {
    let base = || options(Order::Shuffle, 1, Position::default());
    for bad in [
        LoaderOptions {
            batch_size: 0,
            ..base()
        },
        LoaderOptions {
            batch_size: 9,
            ..base()
        },
        LoaderOptions {
            threads: 0,
            ..base()
        },
        LoaderOptions { ahead: 0, ..base() },
        LoaderOptions {
            start: Position { epoch: 0, index: 9 },
            ..base()
        },
        LoaderOptions {
            order: Order::Grouped { world_size: 0 },
            ..base()
        },
    ] {
        let error = Loader::new(slow(8, []), bad).unwrap_err();
        assert!(matches!(error, DataError::Setting { .. }), "{error}");
    }
}
