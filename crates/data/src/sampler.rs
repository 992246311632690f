//! In which order samples are visited: plain or shuffled, or LLaVA's grouping by kind and length.
//!
//! Randomness is a 32-bit Mersenne Twister used as PyTorch uses it, one stream over all epochs, so orders equal the
//! reference's for a generator seeded right before the first epoch.

use rand_mt::Mt;
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// A place in the endless sequence of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// How many samples of this epoch's order have been used up.
    pub index: u64,
}

/// How an epoch is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Order {
    /// As the file has it.
    Sequential,
    /// Uniformly shuffled.
    #[default]
    Shuffle,
    /// Batches of one kind (pictured or text-only) and of similar length, in shuffled order; with one kind only, grouped
    /// by length. For `world_size` readers that take turns.
    Grouped {
        /// Readers among which a megabatch is dealt out.
        world_size: usize,
    },
}

/// The orders of successive epochs.
#[derive(Debug)]
pub struct Orders {
    order: Order,
    lengths: Vec<i64>,
    batch_size: usize,
    seed: u64,
    generator: Mt,
    /// The epoch that `generator` draws next.
    next: u64,
}

impl Orders {
    /// `lengths` are [`crate::llava::Entry::modality_length`]s; their number is the epoch's size.
    ///
    /// # Errors
    /// A size is zero, or grouping is asked for and a length is zero.
    pub fn new(
        order: Order,
        lengths: Vec<i64>,
        batch_size: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        if let Order::Grouped { world_size } = order {
            check(&lengths, batch_size, world_size)?;
        }
        Ok(Self {
            order,
            lengths,
            batch_size,
            seed,
            generator: generator(seed),
            next: 0,
        })
    }

    /// The order of an epoch. Going on to the next epoch is cheap; going elsewhere draws the epochs before it again.
    pub fn epoch(&mut self, epoch: u64) -> Vec<usize> {
        if epoch < self.next {
            (self.generator, self.next) = (generator(self.seed), 0);
        }
        loop {
            let order = self.draw();
            self.next += 1;
            if self.next > epoch {
                return order;
            }
        }
    }

    fn draw(&mut self) -> Vec<usize> {
        let one_kind = self.lengths.iter().all(|&l| l > 0) || self.lengths.iter().all(|&l| l < 0);
        match self.order {
            Order::Sequential => (0..self.lengths.len()).collect(),
            Order::Shuffle => permutation(&mut self.generator, self.lengths.len()),
            Order::Grouped { world_size } if one_kind => {
                let all: Vec<usize> = (0..self.lengths.len()).collect();
                group(
                    &all,
                    &self.lengths,
                    self.batch_size,
                    world_size,
                    &mut self.generator,
                )
            }
            Order::Grouped { world_size } => group_kinds(
                &self.lengths,
                self.batch_size,
                world_size,
                &mut self.generator,
            ),
        }
    }
}

/// PyTorch's generator: the Twister, initialised from the seed's low 32 bits.
#[must_use]
pub fn generator(seed: u64) -> Mt {
    Mt::new((seed & u64::from(u32::MAX)) as u32)
}

/// PyTorch's `randperm`.
pub fn permutation(generator: &mut Mt, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in 0..n.saturating_sub(1) {
        order.swap(i, i + generator.next_u32() as usize % (n - i));
    }
    order
}

/// LLaVA's order for a mixture of pictured (positive length) and text-only (negative length) samples.
///
/// # Errors
/// A length is zero, a size is zero, or one of the two kinds is missing.
pub fn grouped_by_modality(
    lengths: &[i64],
    batch_size: usize,
    world_size: usize,
    generator: &mut Mt,
) -> Result<Vec<usize>, DataError> {
    check(lengths, batch_size, world_size)?;
    if lengths.iter().all(|&l| l > 0) || lengths.iter().all(|&l| l < 0) {
        return Err(DataError::Setting {
            name: "order",
            value: "grouped by modality".to_owned(),
            cure: "the data needs pictured and text-only samples for that; group by length",
        });
    }
    Ok(group_kinds(lengths, batch_size, world_size, generator))
}

/// The order by length alone (absolute values).
///
/// # Errors
/// A length or a size is zero.
pub fn grouped_by_length(
    lengths: &[i64],
    batch_size: usize,
    world_size: usize,
    generator: &mut Mt,
) -> Result<Vec<usize>, DataError> {
    check(lengths, batch_size, world_size)?;
    let all: Vec<usize> = (0..lengths.len()).collect();
    Ok(group(&all, lengths, batch_size, world_size, generator))
}

fn check(lengths: &[i64], batch_size: usize, world_size: usize) -> Result<(), DataError> {
    let wrong = |name, value: String, cure| Err(DataError::Setting { name, value, cure });
    if batch_size == 0 || world_size == 0 {
        return wrong(
            "batch_size or world_size",
            "0".to_owned(),
            "give at least 1",
        );
    }
    match lengths.iter().position(|&l| l == 0) {
        Some(at) => wrong(
            "lengths",
            format!("0 at sample {at}"),
            "remove samples without a word",
        ),
        None => Ok(()),
    }
}

fn group_kinds(
    lengths: &[i64],
    batch_size: usize,
    world_size: usize,
    generator: &mut Mt,
) -> Vec<usize> {
    let mega = batch_size * world_size;
    let mut aside = Vec::new();
    let mut megabatches: Vec<Vec<usize>> = Vec::new();
    for pictured in [true, false] {
        let members: Vec<usize> = (0..lengths.len())
            .filter(|&i| (lengths[i] > 0) == pictured)
            .collect();
        let order = group(&members, lengths, batch_size, world_size, generator);
        let mut cut: Vec<Vec<usize>> = order.chunks(mega).map(<[usize]>::to_vec).collect();
        // Each kind's last megabatch may be short; the two together may fill one.
        aside.extend(cut.pop().unwrap_or_default());
        megabatches.extend(cut);
    }
    let permuted = permutation(generator, megabatches.len());
    let front = if aside.len() >= mega { mega } else { 0 };
    let middle = permuted
        .into_iter()
        .flat_map(|i| megabatches[i].iter().copied());
    aside[..front]
        .iter()
        .copied()
        .chain(middle)
        .chain(aside[front..].iter().copied())
        .collect()
}

/// Permutes `members`, cuts them into megabatches, sorts each by falling length and deals it out to the ranks.
fn group(
    members: &[usize],
    lengths: &[i64],
    batch_size: usize,
    world_size: usize,
    generator: &mut Mt,
) -> Vec<usize> {
    let length = |i: usize| lengths[i].unsigned_abs();
    let shuffled: Vec<usize> = permutation(generator, members.len())
        .into_iter()
        .map(|i| members[i])
        .collect();
    let mut order = Vec::with_capacity(members.len());
    for megabatch in shuffled.chunks(batch_size * world_size) {
        let mut megabatch = megabatch.to_vec();
        megabatch.sort_by_key(|&i| std::cmp::Reverse(length(i)));
        order.extend(deal(&megabatch, length, world_size).into_iter().flatten());
    }
    order
}

/// One share per rank: each sample goes to the rank with the least so far that is not yet full.
fn deal(samples: &[usize], length: impl Fn(usize) -> u64, ranks: usize) -> Vec<Vec<usize>> {
    if !samples.len().is_multiple_of(ranks) {
        return (0..ranks)
            .map(|rank| samples.iter().copied().skip(rank).step_by(ranks).collect())
            .collect();
    }
    let full = samples.len() / ranks;
    let mut shares: Vec<(u64, Vec<usize>)> = vec![(0, Vec::with_capacity(full)); ranks];
    for &sample in samples {
        let open = shares.iter_mut().filter(|(_, share)| share.len() < full);
        if let Some((load, share)) = open.min_by_key(|(load, _)| *load) {
            *load += length(sample);
            share.push(sample);
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}
