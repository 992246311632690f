//! Our stream against an independent implementation of the same coder.

use super::stream::Sink;
use super::*;
use crate::planes;
use constriction::stream::model::ContiguousCategoricalEntropyModel;
use constriction::stream::stack::DefaultAnsCoder;

/// Bits of our words and states; of constriction's coder with the same frequencies; and of our table.
fn lengths(plane: &Symbols) -> (f64, f64, f64) {
    let mut out = Vec::new();
    let parts = (Rans.plan(plane).unwrap().write)(&mut out);
    let bits = if plane.alphabet <= 256 { 12 } else { 16 };
    let frequencies = frequency::quantize(&entropy::histogram(plane), bits).unwrap();
    // It has no zero probabilities, so the symbols that occur are renumbered.
    let present: Vec<u32> = frequencies.iter().copied().filter(|&f| f > 0).collect();
    let mut renumbered = vec![0; frequencies.len()];
    let occurring = frequencies.iter().enumerate().filter(|&(_, &f)| f > 0);
    for (next, (symbol, _)) in occurring.enumerate() {
        renumbered[symbol] = next;
    }
    let message: Vec<usize> = plane.data.iter().map(|s| renumbered[s as usize]).collect();
    let mut coder = DefaultAnsCoder::new();
    if bits == 12 {
        let model = ContiguousCategoricalEntropyModel::<u32, Vec<u32>, 12>::from_nonzero_fixed_point_probabilities(
            present, false,
        );
        coder
            .encode_iid_symbols_reverse(&message, &model.unwrap())
            .unwrap();
    } else {
        let model = ContiguousCategoricalEntropyModel::<u32, Vec<u32>, 16>::from_nonzero_fixed_point_probabilities(
            present, false,
        );
        coder
            .encode_iid_symbols_reverse(&message, &model.unwrap())
            .unwrap();
    }
    let ours = 8.0 * (parts.symbols + parts.header) as f64;
    (ours, coder.num_bits() as f64, 8.0 * parts.tables as f64)
}

#[test]
fn as_short_as_an_independent_coder_and_as_the_entropy() {
    const COUNT: usize = 1 << 20;
    let gaussian = |levels| {
        (
            levels,
            planes::features(COUNT, levels, 3.0, u64::from(levels)),
        )
    };
    let skewed = |alphabet, shape| (alphabet, planes::skewed(COUNT, alphabet, shape, 11));
    let cases = [
        gaussian(2),
        gaussian(3),
        gaussian(4),
        gaussian(5),
        gaussian(8),
        gaussian(16),
        gaussian(64),
        skewed(4, 0.1),
        skewed(256, 0.3),
        skewed(256, 1.0),
        skewed(1000, 0.3),
    ];
    for (alphabet, symbols) in cases {
        let plane = Symbols::from_u32(alphabet, 1, COUNT, symbols).unwrap();
        let (ours, theirs, table) = lengths(&plane);
        let floor = entropy::order0_bits(&plane) * COUNT as f64;
        println!(
            "{alphabet:5} symbols: {:.5} bits each, constriction {:.5}, entropy {:.5}, table {table} bits",
            ours / COUNT as f64,
            theirs / COUNT as f64,
            floor / COUNT as f64,
        );
        assert!(
            (ours - theirs).abs() <= 0.0025 * theirs,
            "{alphabet}: {ours} bits, constriction {theirs}"
        );
        assert!(
            ours <= 1.0025 * floor,
            "{alphabet}: {ours} bits, entropy {floor}"
        );
        assert!(
            ours >= floor,
            "{alphabet}: {ours} bits, below the entropy {floor}"
        );
    }
}

#[test]
fn short_streams_cost_one_lane_only() {
    let plane = Symbols::from_u32(4, 1, 600, planes::features(600, 4, 3.0, 5)).unwrap();
    let (ours, theirs, table) = lengths(&plane);
    // States of 32 bits against their 64, the number of words, and rounding to words.
    assert!(ours <= theirs + 32.0, "{ours} bits, constriction {theirs}");
    assert!(table <= 72.0);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn kernels_give_what_the_loop_gives() {
    type Decode =
        unsafe fn(&mut [u32; MOST_LANES], &[u8], &mut usize, &Slots<u8>, &mut [u8]) -> usize;
    let mut kernels: Vec<(&str, Decode)> = Vec::new();
    if avx2::available() {
        kernels.push(("AVX2", avx2::decode));
    }
    if avx512::available() {
        kernels.push(("AVX-512", avx512::decode));
    }
    if kernels.len() < 2 {
        println!("this processor has no AVX-512: {} kernels", kernels.len());
    }
    let limits = crate::Limits::default();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut packed = 0;
    for round in 0..300 {
        let bits = rng.u32(8..=16);
        let slots = Slots::<u8>::new(
            &frequencies(&mut rng, 256, bits),
            bits,
            &mut Purse::new(&limits),
        )
        .unwrap();
        packed += usize::from(slots.tables().2.is_some());
        // Random words are adversarial enough: every state and every slot occurs. Some are all zero or all one.
        let mut words = vec![0; 2 * rng.usize(..4000)];
        match round % 3 {
            0 => rng.fill(&mut words),
            1 => words.fill(0xff),
            _ => {}
        }
        let states: [u32; MOST_LANES] = std::array::from_fn(|_| rng.u32(LOW..));
        for &(name, kernel) in &kernels {
            let mut plain = Source::<MOST_LANES> {
                states,
                words: &words,
                at: 0,
            };
            let mut fast = states;
            let (mut expected, mut got) = (vec![0; 4000], vec![0; 4000]);
            let mut at = 0;
            // SAFETY: the processor was asked.
            let done = unsafe { kernel(&mut fast, &words, &mut at, &slots, &mut got) };
            assert_eq!(done % MOST_LANES, 0);
            decode::decode(&mut plain, &slots, &mut expected[..done]).unwrap();
            let loops = (plain.at, plain.states);
            assert_eq!(loops, (at, fast), "{name}, round {round}");
            assert_eq!(expected[..done], got[..done]);
            // It stops only where a group might run out of words, or of room.
            assert!(words.len() - at < 2 * MOST_LANES || got.len() - done < MOST_LANES);
        }
    }
    assert!(
        (50..250).contains(&packed),
        "{packed} rounds in one look-up"
    );
}

/// Frequencies of random scale, none of which is 0.
#[cfg(target_arch = "x86_64")]
fn frequencies(rng: &mut fastrand::Rng, most: usize, bits: u32) -> Vec<u32> {
    let weight = |rng: &mut fastrand::Rng| (rng.u64(..1 << 30) >> rng.u32(..30)) + 1;
    let counts: Vec<u64> = (0..rng.usize(1..=most)).map(|_| weight(rng)).collect();
    frequency::quantize(&counts, bits).unwrap()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn kernels_write_what_the_loop_writes() {
    type Encode = unsafe fn(&mut [u32; MOST_LANES], &mut [u16], &mut usize, &[u32], u32, &[u16]);
    let mut kernels: Vec<(&str, Encode)> = Vec::new();
    if avx2::available() {
        kernels.push(("AVX2", avx2::encode::<u16>));
    }
    if avx512::available() {
        kernels.push(("AVX-512", avx512::encode::<u16>));
    }
    let mut rng = fastrand::Rng::with_seed(6);
    for round in 0..300 {
        let bits = [12, 14, 16][round % 3];
        let frequencies = frequencies(&mut rng, 1000, bits);
        let steps = encode::Steps::new(&frequencies, bits);
        let count = MOST_LANES * rng.usize(0..40);
        let symbol = |_| rng.usize(..frequencies.len()) as u16;
        let data: Vec<u16> = (0..count).map(symbol).collect();
        // Every state that an encoder can be in.
        let states = std::array::from_fn(|_| rng.u32(LOW..));
        let sink = || {
            let mut sink = Sink::<MOST_LANES>::new();
            sink.reserve(data.len());
            sink.states = states;
            sink
        };
        let mut plain = sink();
        encode::push(&mut plain, &steps.each, &data);
        for &(name, kernel) in &kernels {
            let mut fast = sink();
            let (buffer, at) = (&mut fast.buffer, &mut fast.at);
            // SAFETY: the processor was asked.
            unsafe { kernel(&mut fast.states, buffer, at, &steps.spans, bits, &data) };
            let (loops, kernel) = ((plain.at, plain.states), (fast.at, fast.states));
            assert_eq!(loops, kernel, "{name}, round {round}, {bits} bits");
            assert_eq!(plain.buffer[plain.at..], fast.buffer[fast.at..]);
        }
    }
}

/// Holds a kernel's division against the processor's, for every frequency of the three totals.
#[cfg(target_arch = "x86_64")]
pub(super) fn check_quotients<const N: usize>(divide: impl Fn([u32; N], u32) -> [u32; N]) {
    let mut rng = fastrand::Rng::with_seed(2);
    for bits in [12, 14, 16] {
        for frequency in 1..=1u32 << bits {
            let most = ((u64::from(frequency) << (32 - bits)) - 1) as u32;
            let mut x = [0; N];
            // On both sides of steps of the quotient, at the ends, and in between.
            for x in x.as_chunks_mut::<4>().0 {
                let multiple = rng.u32(..=most / frequency) * frequency;
                let after = (multiple + 1).min(most);
                *x = [
                    multiple,
                    multiple.saturating_sub(1),
                    after,
                    rng.u32(..=most),
                ];
            }
            (x[0], x[1], x[2]) = (0, most, most - 1);
            let expected = x.map(|x| x / frequency);
            assert_eq!(divide(x, frequency), expected, "{x:?} / {frequency}");
        }
    }
}
