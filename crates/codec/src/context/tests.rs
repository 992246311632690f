//! The kernels against the loops.

use super::batches::batches;
#[cfg(target_arch = "x86_64")]
use super::kernels::Kernels;
use super::model::Model;
use super::spec::Spec;
use super::*;
use crate::rans::LOW;
use crate::rans::stream::Sink;

/// A context for each column: any of its channel's, or the first.
fn contexts(
    rng: &mut fastrand::Rng,
    spec: Spec,
    alphabet: usize,
    cols: usize,
    any: bool,
) -> Vec<u32> {
    let most = spec.neighbours.contexts(alphabet) as u32;
    let step = spec.channel.map_or(0, |_| most);
    let context = |column| column * step + rng.u32(..most) * u32::from(any);
    (0..cols as u32).map(context).collect()
}

/// The kernels that this processor has.
#[cfg(target_arch = "x86_64")]
fn kernels() -> Vec<&'static Kernels> {
    let (have, lack): (Vec<_>, Vec<_>) = kernels::ALL
        .into_iter()
        .partition(|kernels| (kernels.available)());
    for kernels in lack {
        println!("skipped: this processor has no {}", kernels.name);
    }
    have
}

/// Every model, on random words: every state occurs. Some are all zero or all one.
#[cfg(target_arch = "x86_64")]
#[test]
fn kernels_give_what_the_loop_gives() {
    let mut rng = fastrand::Rng::with_seed(9);
    for round in 0..600 {
        let alphabet = 2 + round % (MOST_SYMBOLS - 1);
        let specs: Vec<Spec> = Spec::all(true).collect();
        let spec = specs[rng.usize(..specs.len())];
        let cols = rng.usize(1..300);
        let Some(mut model) = Model::new(spec, alphabet, cols) else {
            continue;
        };
        let contexts = contexts(&mut rng, spec, alphabet, cols, true);
        let anchor = rng.u8(..alphabet as u8);
        for _ in 0..rng.usize(..200) {
            let symbol = |rng: &mut fastrand::Rng| match rng.u8(..8) {
                0 => rng.u8(..alphabet as u8),
                _ => anchor,
            };
            let symbols: Vec<u8> = (0..cols).map(|_| symbol(&mut rng)).collect();
            model.count(&contexts, &symbols);
        }
        let mut tables = model.empty_tables();
        model.tables(&mut tables);
        let mut words = vec![0; 2 * rng.usize(..200)];
        match round % 4 {
            0 => words.fill(0xff),
            1 => {}
            _ => rng.fill(&mut words),
        }
        let states = std::array::from_fn(|_| rng.u32(LOW..));
        let source = || Source::<MOST_LANES> {
            states,
            words: &words,
            at: 0,
        };
        for kernels in kernels() {
            let (mut plain, mut fast) = (source(), source());
            let (mut expected, mut got) = (vec![0; cols], vec![0; cols]);
            let done = kernels.pop_row(&mut fast, &tables, &contexts, &mut got);
            assert_eq!(done % MOST_LANES, 0);
            let loops = match tables.stride {
                2 => decode::pop_row::<MOST_LANES, 2>,
                4 => decode::pop_row::<MOST_LANES, 4>,
                8 => decode::pop_row::<MOST_LANES, 8>,
                _ => decode::pop_row::<MOST_LANES, 16>,
            };
            let (contexts, all) = (&contexts[..done], &mut expected[..done]);
            loops(&mut plain, &tables, contexts, all, 0).unwrap();
            let (plain, fast) = ((plain.at, plain.states), (fast.at, fast.states));
            assert_eq!(
                plain, fast,
                "{}, {spec:?}, {alphabet} symbols",
                kernels.name
            );
            assert_eq!(expected[..done], got[..done]);
            // It stops only where a group might run out of words, or of columns.
            assert!(words.len() - fast.0 < 2 * MOST_LANES || cols - done < MOST_LANES);
        }
    }
}

/// The same for the encoder.
#[cfg(target_arch = "x86_64")]
#[test]
fn kernels_write_what_the_loop_writes() {
    let mut rng = fastrand::Rng::with_seed(10);
    for round in 0..400 {
        let alphabet = 2 + round % (MOST_SYMBOLS - 1);
        let specs: Vec<Spec> = Spec::all(true).collect();
        let spec = specs[rng.usize(..specs.len())];
        let cols = MOST_LANES * rng.usize(1..9);
        let mut model = Model::new(spec, alphabet, cols).unwrap();
        let contexts = contexts(&mut rng, spec, alphabet, cols, true);
        let symbols = |rng: &mut fastrand::Rng, odd: u8| -> Vec<u8> {
            let symbol = |_| rng.u8(..alphabet as u8) * u8::from(rng.u8(..) < odd);
            (0..cols).map(symbol).collect()
        };
        for _ in 0..rng.usize(..200) {
            model.count(&contexts, &symbols(&mut rng, 20));
        }
        let mut tables = model.empty_tables();
        model.tables(&mut tables);
        let symbols = symbols(&mut rng, if round % 2 == 0 { 255 } else { 20 });
        let mut plain = Sink::<MOST_LANES>::new();
        plain.reserve(cols);
        // Every state that an encoder can be in.
        plain.states = std::array::from_fn(|_| rng.u32(LOW..));
        let states = plain.states;
        match tables.stride {
            2 => encode::push_row::<MOST_LANES, 2>(&mut plain, &tables, &contexts, &symbols),
            4 => encode::push_row::<MOST_LANES, 4>(&mut plain, &tables, &contexts, &symbols),
            8 => encode::push_row::<MOST_LANES, 8>(&mut plain, &tables, &contexts, &symbols),
            _ => encode::push_row::<MOST_LANES, 16>(&mut plain, &tables, &contexts, &symbols),
        }
        for kernels in kernels() {
            let mut fast = Sink::<MOST_LANES>::new();
            fast.reserve(cols);
            fast.states = states;
            assert!(kernels.push_row(&mut fast, &tables, &contexts, &symbols));
            let (loops, kernel) = ((plain.at, plain.states), (fast.at, fast.states));
            assert_eq!(
                loops, kernel,
                "{}, {spec:?}, {alphabet} symbols",
                kernels.name
            );
            assert_eq!(plain.buffer[plain.at..], fast.buffer[fast.at..]);
        }
    }
}

/// Tables from random counts, from none to as many as there can be.
#[cfg(target_arch = "x86_64")]
#[test]
fn kernels_renew_what_the_loop_renews() {
    let mut rng = fastrand::Rng::with_seed(12);
    for round in 0..1000 {
        let alphabet = 3 + round % (MOST_SYMBOLS - 2);
        let stride = alphabet.next_power_of_two();
        let (contexts, channels) = (rng.usize(1..30), rng.usize(1..40));
        let parents: Vec<u32> = (0..contexts)
            .flat_map(|_| {
                let mut sums: Vec<u32> = (0..stride).map(|_| rng.u32(..=1 << 16)).collect();
                sums[0] = 0;
                sums.sort_unstable();
                sums
            })
            .collect();
        // All of a context are below 2^15.
        let most = 1 << rng.u32(0..=15 - stride.ilog2());
        let counts: Vec<u32> = (0..channels * contexts * stride)
            .map(|_| rng.u32(..most) * u32::from(rng.bool()))
            .collect();
        let weight = rng.u32(16..64);
        let mut plain = vec![0; counts.len()];
        tables::renew(&counts, weight, &parents, alphabet, &mut plain);
        let mut fast = vec![0; counts.len()];
        if avx2::takes(stride) {
            avx2::renew(&counts, weight, &parents, alphabet, &mut fast);
            assert_eq!(plain, fast, "AVX2, {alphabet} symbols");
        }
        if avx512::available() {
            fast.fill(0);
            assert!(avx512::renew(
                &counts, weight, &parents, alphabet, &mut fast
            ));
            assert_eq!(plain, fast, "AVX-512, {alphabet} symbols");
        }
    }
}

#[test]
fn counts_are_counts() {
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..300 {
        let alphabet = rng.usize(2..=MOST_SYMBOLS);
        let specs: Vec<Spec> = Spec::all(true).collect();
        let spec = specs[round % specs.len()];
        // Long enough, now and then, for a byte to overflow.
        let (cols, rows) = match round % 10 {
            0 => (20_000, 3),
            1 => (rng.usize(1..100), 600),
            _ => (rng.usize(1..300), 3),
        };
        let Some(mut model) = Model::new(spec, alphabet, cols) else {
            continue;
        };
        let mut expected = vec![0; model.counts().len()];
        for _ in 0..rows {
            let even = rng.bool();
            let contexts = contexts(&mut rng, spec, alphabet, cols, even);
            let symbols: Vec<u8> = (0..cols)
                .map(|_| rng.u8(..alphabet as u8) * u8::from(even))
                .collect();
            model.count(&contexts, &symbols);
            for (&context, &symbol) in contexts.iter().zip(&symbols) {
                expected[context as usize * alphabet.next_power_of_two() + usize::from(symbol)] +=
                    1;
            }
        }
        assert_eq!(model.counts(), expected, "{spec:?}, {cols} columns");
    }
}

#[test]
fn tables_are_probabilities() {
    let mut rng = fastrand::Rng::with_seed(4);
    for alphabet in 2..=MOST_SYMBOLS {
        for spec in Spec::all(true) {
            let cols = 3;
            let mut model = Model::new(spec, alphabet, cols).unwrap();
            for batch in batches(40) {
                let mut tables = model.empty_tables();
                model.tables(&mut tables);
                for row in tables.starts.chunks_exact(tables.stride) {
                    assert_eq!(row[0], 0);
                    assert!(row[..alphabet].windows(2).all(|pair| pair[0] < pair[1]));
                    assert!(row[alphabet - 1] < 1 << tables::BITS);
                    assert!(
                        row[alphabet..]
                            .iter()
                            .all(|&start| start == 1 << tables::BITS)
                    );
                }
                for _ in batch {
                    let any = rng.bool();
                    let contexts = contexts(&mut rng, spec, alphabet, cols, any);
                    model.count(&contexts, &[0, rng.u8(..alphabet as u8), 1]);
                }
            }
        }
    }
}

#[test]
fn models_have_names() {
    for grid in [false, true] {
        for code in 0..=255 {
            match Spec::named(code, grid) {
                Some(spec) => assert_eq!(spec.code(), code),
                None => assert!(Spec::all(grid).all(|spec| spec.code() != code)),
            }
        }
    }
}
