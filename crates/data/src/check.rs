//! A data set looked over before a run: every text and every picture's header, and some pictures decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use serde::Serialize;

use crate::error::{DataError, EntryError, Strictness};
use crate::example::{rows, supervised};
use crate::reader::Reader;

/// Samples that a thread takes at a time.
const BLOCK: usize = 32;

/// Smallest and largest width and height of pictures of one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// How many there are.
    pub count: usize,
    /// The fewest pixels from left to right, and from top to bottom.
    pub least: (u32, u32),
    /// The most.
    pub most: (u32, u32),
}

impl Sizes {
    fn and(self, other: Self) -> Self {
        let ((a, b), (c, d)) = (self.least, other.least);
        let ((e, f), (g, h)) = (self.most, other.most);
        Self {
            count: self.count + other.count,
            least: (a.min(c), b.min(d)),
            most: (e.max(g), f.max(h)),
        }
    }
}

/// Sum and largest of something that samples have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Over all samples.
    pub total: u64,
    /// Of one sample.
    pub most: u64,
}

impl Spread {
    fn add(&mut self, value: u64) {
        self.total += value;
        self.most = self.most.max(value);
    }

    fn merge(&mut self, other: Self) {
        self.total += other.total;
        self.most = self.most.max(other.most);
    }
}

/// What there is to learn from, as the first epoch sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries of the file.
    pub entries: usize,
    /// Entries that can be used.
    pub samples: usize,
    /// Of them: without a picture.
    pub text_only: usize,
    /// Questions with answers in them.
    pub turns: u64,
    /// Of them: longer than `max_length`.
    pub cut: usize,
    /// Tokens before cutting, pictures included.
    pub tokens: Spread,
    /// Tokens after cutting.
    pub tokens_left: Spread,
    /// Supervised tokens before cutting.
    pub supervised: u64,
    /// Supervised tokens after cutting.
    pub supervised_left: u64,
    /// Pictures by form.
    pub pictures: BTreeMap<String, Sizes>,
    /// Pictures that were decoded.
    pub decoded: usize,
    /// Every entry that is left out, in the file's order.
    pub refused: Vec<EntryError>,
}

impl Report {
    /// Entries that would be read, but from which nothing is learned.
    pub fn empty(&self) -> impl Iterator<Item = &EntryError> {
        self.refused
            .iter()
            .filter(|error| error.fault.teaches_nothing())
    }

    /// The share of such entries.
    #[must_use]
    pub fn empty_share(&self) -> f64 {
        self.empty().count() as f64 / self.entries.max(1) as f64
    }

    fn merge(&mut self, other: Self) {
        self.samples += other.samples;
        self.text_only += other.text_only;
        self.turns += other.turns;
        self.cut += other.cut;
        self.tokens.merge(other.tokens);
        self.tokens_left.merge(other.tokens_left);
        self.supervised += other.supervised;
        self.supervised_left += other.supervised_left;
        self.decoded += other.decoded;
        self.refused.extend(other.refused);
        for (form, sizes) in other.pictures {
            let known = self.pictures.get(&form).copied();
            let all = known.map_or(sizes, |known| known.and(sizes));
            self.pictures.insert(form, all);
        }
    }
}

/// Looks at every sample; `decode` pictures, evenly spread over the file, are decoded as well (`None`: all).
/// `seen(done, samples)` is called as it goes.
///
/// # Errors
/// What is not one entry's fault; with [`Strictness::Stop`] also the first entry that would be left out.
pub fn check(
    reader: &Reader,
    decode: Option<usize>,
    seen: &mut dyn FnMut(usize, usize),
) -> Result<Report, DataError> {
    let size = reader.entries().len();
    let pictured: Vec<usize> = reader
        .entries()
        .enumerate()
        .filter_map(|(index, entry)| entry.image.is_some().then_some(index))
        .collect();
    let chosen: Option<BTreeSet<usize>> = decode.filter(|&n| n < pictured.len()).map(|n| {
        let spread = |i| pictured[i * pictured.len() / n];
        (0..n).map(spread).collect()
    });
    let decoded = |index: usize| chosen.as_ref().is_none_or(|chosen| chosen.contains(&index));

    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut report = Report {
        entries: size + reader.refused().len(),
        refused: reader.refused().to_vec(),
        ..Report::default()
    };
    std::thread::scope(|scope| {
        let (sender, done) = channel();
        let workers: Vec<_> = (0..threads.min(size.div_ceil(BLOCK)))
            .map(|_| {
                let (sender, next, failed, decoded) = (sender.clone(), &next, &failed, &decoded);
                scope.spawn(move || {
                    let found = work(reader, size, next, failed, decoded, &sender);
                    failed.fetch_or(found.is_err(), Ordering::Relaxed);
                    found
                })
            })
            .collect();
        drop(sender);
        let mut count = 0;
        for block in done {
            count += block;
            seen(count, size);
        }
        for worker in workers {
            let found = worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            report.merge(found?);
        }
        Ok::<_, DataError>(())
    })?;
    report.refused.sort_by_key(|error| error.index);
    if reader.options().strictness == Strictness::Stop && !report.refused.is_empty() {
        return Err(Box::new(report.refused.swap_remove(0)).into());
    }
    Ok(report)
}

fn work(
    reader: &Reader,
    size: usize,
    next: &AtomicUsize,
    failed: &AtomicBool,
    decoded: &(dyn Fn(usize) -> bool + Sync),
    done: &Sender<usize>,
) -> Result<Report, DataError> {
    let mut report = Report::default();
    while !failed.load(Ordering::Relaxed) {
        let first = next.fetch_add(BLOCK, Ordering::Relaxed);
        if first >= size {
            break;
        }
        let last = size.min(first + BLOCK);
        for index in first..last {
            match sample(reader, index, decoded(index)) {
                Ok(found) => report.merge(found),
                Err(DataError::Entry(error)) => report.refused.push(*error),
                Err(other) => return Err(other),
            }
        }
        // Nobody listens any more after an error elsewhere.
        let _ = done.send(last - first);
    }
    Ok(report)
}

/// One sample's part of the report.
fn sample(reader: &Reader, index: usize, decode: bool) -> Result<Report, DataError> {
    let options = reader.options();
    let spans = reader.spans(index, 0)?;
    let left = rows(&spans, options.picture_rows).min(options.max_length);
    let learned = supervised(&spans, options.picture_rows, options.max_length);
    // A sample that fills the whole length may have been longer.
    let (mut tokens, mut all) = (left, learned);
    if spans.iter().map(|span| span.ids.len()).sum::<usize>() + options.picture_rows
        > options.max_length
    {
        let uncut = reader.uncut(index, 0)?;
        tokens = rows(&uncut, options.picture_rows);
        all = supervised(&uncut, options.picture_rows, usize::MAX);
    }
    let mut report = Report {
        samples: 1,
        cut: usize::from(tokens > left),
        supervised: all as u64,
        supervised_left: learned as u64,
        ..Report::default()
    };
    report.tokens.add(tokens as u64);
    report.tokens_left.add(left as u64);
    report.turns = reader.entry(index).talk.turns.len() as u64;
    match reader.picture_header(index)? {
        None => report.text_only = 1,
        Some(header) => {
            let size = (header.width, header.height);
            let sizes = Sizes {
                count: 1,
                least: size,
                most: size,
            };
            report.pictures.insert(header.form, sizes);
            if decode {
                reader.picture(index)?;
                report.decoded = 1;
            }
        }
    }
    Ok(report)
}
