//! How many bytes things take.

use crate::planes::{correlated, features, skewed, spread};
use qtl_codec::entropy::order0_bits;
use qtl_codec::pack::{packed_len, unpack};
use qtl_codec::{
    Account, Code, Grid, Limits, Options, Ragged, ScalarData, Scalars, Symbols, decode, encode,
    encode_accounted,
};

fn size(alphabet: u32, rows: usize, cols: usize, data: Vec<u32>) -> (usize, Account) {
    let plane = Symbols::from_u32(alphabet, rows, cols, data).unwrap();
    let (bytes, account) = encode_accounted(&Code::new(vec![plane.into()]), &Options::default());
    (bytes.len(), account)
}

#[test]
fn degenerate_planes_are_a_few_bytes() {
    assert_eq!(encode(&Code::default(), &Options::default()).len(), 10);
    for (rows, cols) in [(0, 0), (0, 1280), (729, 0)] {
        assert!(size(4, rows, cols, vec![]).0 <= 18, "{rows} x {cols}");
    }
    for alphabet in [2, 3, 4, 256, 300, 65_536] {
        let (len, account) = size(alphabet, 729, 1280, vec![alphabet - 1; 729 * 1280]);
        assert!(len <= 24, "alphabet {alphabet}: {len} bytes");
        assert!(account.bits_per_element() < 0.001);
        assert!(size(alphabet, 1, 1, vec![1]).0 <= 20);
    }
}

#[test]
fn never_larger_than_packing_and_64_bytes() {
    for alphabet in [2, 3, 4, 5, 16, 100, 256, 257, 5000, 65_536] {
        for count in [0, 1, 2, 10, 100, 1000, 4095, 4096, 20_000] {
            for (seed, shape) in [0.0, 0.01, 0.1, 0.5, 1.0].into_iter().enumerate() {
                let (len, _) = size(
                    alphabet,
                    count,
                    1,
                    skewed(count, alphabet, shape, seed as u64),
                );
                let packed = packed_len(alphabet, count);
                assert!(
                    len <= packed + 64,
                    "{count} of {alphabet}: {len} bytes, packed {packed}"
                );
            }
        }
    }
}

#[test]
fn gaussian_features_at_four_levels_take_less_than_1_28_bits() {
    let data = features(832 * 1280, 4, 3.0, 7);
    let plane = Symbols::from_u32(4, 832, 1280, data.clone()).unwrap();
    let (len, account) = size(4, 832, 1280, data);
    let (rate, entropy) = (account.bits_per_element(), order0_bits(&plane));
    println!("{len} bytes, {rate:.5} bits per element, entropy {entropy:.5}");
    assert!(rate <= 1.28);
    assert!(rate <= entropy * 1.0025, "{rate} bits, entropy {entropy}");
    // The entropy of this quantizer's output for an ideal Gaussian, by numerical integration: 1.2670.
    assert!((entropy - 1.2670).abs() < 0.005, "{entropy}");
}

#[test]
fn contexts_find_correlation_and_spread() {
    // Bits per element, containers included. The floors by numerical integration, for endless planes: 0.924 for a
    // correlation of 0.8 given the previous symbol, 1.121 for channels of spread 1 given the channel.
    let (rows, cols) = (1664, 320);
    let rate = |data| size(4, rows, cols, data).1.bits_per_element();
    let ar = rate(correlated(rows, cols, 4, 0.8, 1));
    let channels = rate(spread(rows, cols, 4, 1));
    println!("correlated {ar:.4}, spread {channels:.4}");
    assert!((0.91..=0.935).contains(&ar), "{ar}");
    assert!((1.0..=1.135).contains(&channels), "{channels}");
}

#[test]
fn features_of_the_demo_are_a_tenth_below_order_0() {
    // The image codes of training scenes 0 to 31 (seed 101) under the shipped base: 16 tokens of 128 channels each, 4
    // levels at 1.494 deviations of each channel, packed.
    let packed = include_bytes!("../data/demo-4-levels.bin");
    let symbols = unpack(4, 32 * 16 * 128, packed).unwrap();
    let symbols: Vec<u32> = symbols.iter().collect();
    let (mut floor, mut flat, mut grid) = (0.0, 0.0, 0.0);
    // Messages of 8 pictures, as the demo sends them.
    for message in symbols.chunks(8 * 16 * 128) {
        let plane = Symbols::from_u32(4, 128, 128, message.iter().copied()).unwrap();
        floor += order0_bits(&plane) / 4.0;
        let rate = |plane: Symbols| {
            let code = Code::new(vec![plane.into()]);
            let (bytes, account) = encode_accounted(&code, &Options::default());
            assert_eq!(decode(&bytes, &Limits::default()).unwrap().0, code);
            account.bits_per_element() / 4.0
        };
        let cells = Grid {
            tokens: 16,
            width: 4,
            first: 0,
        };
        grid += rate(plane.clone().on_grid(cells).unwrap());
        flat += rate(plane);
    }
    println!("order 0 {floor:.4}, without a grid {flat:.4}, with it {grid:.4} bits per element");
    assert!(grid < 0.9 * floor, "{grid} bits, order 0 {floor}");
    assert!(grid < flat);
}

#[test]
fn three_levels_pack_close_to_their_logarithm() {
    let rate = 8.0 * packed_len(3, 1_000_000) as f64 / 1e6;
    assert!((1.5849..1.5875).contains(&rate), "{rate}");
}

#[test]
fn accounts_name_every_byte() {
    let symbols = Symbols::from_u32(4, 64, 128, features(64 * 128, 4, 3.0, 1)).unwrap();
    let scalars = Scalars::new(64, 1, ScalarData::F32(vec![1.0; 64])).unwrap();
    let code = Code::new(vec![symbols.into(), scalars.clone().into()]);
    let (bytes, account) = encode_accounted(&code, &Options::default());
    assert_eq!(account.total(), bytes.len() as u64);
    assert_eq!(account.scalars, 256);
    assert_eq!(account.elements, 64 * 128);
    assert!((4..=12).contains(&account.tables), "{account:?}");
    assert!(account.header <= 26, "{account:?}");
    let (_, packed) = encode_accounted(&code, &Options { entropy: false });
    assert_eq!((packed.symbols, packed.tables), (64 * 128 / 4, 0));
    let (_, alone) = encode_accounted(&Code::new(vec![scalars.into()]), &Options::default());
    assert_eq!(alone.elements, 64, "scalars are what was sent");
    let both: Account = [account, alone].iter().sum();
    assert_eq!(both, account + alone);
    assert_eq!(both.total(), account.total() + alone.total());
}

#[test]
fn a_sparse_mask_takes_less_than_a_bit() {
    let mut rng = fastrand::Rng::with_seed(2);
    let bits: Vec<bool> = (0..100_000).map(|_| rng.u32(..8) == 0).collect();
    let mask = Symbols::mask(100, 1000, &bits).unwrap();
    let (_, account) = encode_accounted(&Code::new(vec![mask.into()]), &Options::default());
    // One position in eight: 0.5436 bits.
    let rate = account.bits_per_element();
    assert!((0.53..0.555).contains(&rate), "{rate}");
}

#[test]
fn ragged_columns_cost_what_their_own_alphabets_do() {
    let alphabets: Vec<u16> = (0..128).map(|j| [1, 2, 4, 16][j % 4]).collect();
    let mut rng = fastrand::Rng::with_seed(3);
    let data = (0..1000 * 128).map(|i| rng.u16(..alphabets[i % 128]) as u8);
    let plane = Ragged::new(alphabets.clone(), 1000, data.collect()).unwrap();
    let code = Code::new(vec![plane.into()]);
    let (bytes, account) = encode_accounted(&code, &Options { entropy: false });
    assert_eq!(account.symbols, 1000 * 32 * (1 + 2 + 4) / 8);
    assert_eq!(account.scalars, 128 / 2, "a column's alphabet: 4 bits");
    assert_eq!(account.elements, 128_000);
    assert!(account.header < 24 && account.total() == bytes.len() as u64);
}

#[test]
fn encoding_is_deterministic() {
    let code = || {
        // In integers, so that the symbols themselves are the same on every machine.
        let mut rng = fastrand::Rng::with_seed(5);
        let data = (0..10_000).map(|_| rng.u32(..200).min(rng.u32(..200)).min(rng.u32(..200)));
        let plane = Symbols::from_u32(200, 100, 100, data).unwrap();
        encode(&Code::new(vec![plane.into()]), &Options::default())
    };
    assert_eq!(code(), code());
    // The bytes themselves, so that a change of the format cannot go unnoticed.
    assert_eq!(crc32fast::hash(&code()), 558_161_692);
}
