//! Orders of the reference's sampler.

use qtl_data::sampler::{self, Order, Orders};

use crate::golden::{self, indices, integers};
use crate::set;

#[test]
fn golden_sampler_permutations() {
    let Some(cases) = golden::part("sampler/cases.json") else {
        return;
    };
    let cases = golden::list(&cases, "randperm");
    set::ran(cases.len(), "permutations");
    for case in cases {
        let seed = case["seed"].as_u64().unwrap();
        let mut raw = sampler::generator(seed);
        for expected in integers(&case["first_u32"]) {
            assert_eq!(i64::from(raw.next_u32()), expected, "seed {seed}");
        }
        let mut generator = sampler::generator(seed);
        for one in case["successive_randperms"].as_array().unwrap() {
            let n = usize::try_from(one["n"].as_u64().unwrap()).unwrap();
            assert_eq!(
                sampler::permutation(&mut generator, n),
                indices(&one["order"]),
                "seed {seed}, n {n}"
            );
        }
    }
}

#[test]
fn golden_sampler_orders() {
    let Some(cases) = golden::part("sampler/cases.json") else {
        return;
    };
    let list = golden::list(&cases, "cases");
    set::ran(list.len(), "orders");
    for case in list {
        let number = |key: &str| case[key].as_u64().unwrap();
        let (seed, batch, world) = (
            number("seed"),
            number("batch_size") as usize,
            number("world_size") as usize,
        );
        let lengths = integers(&case["modality_lengths"]);
        let mut generator = sampler::generator(seed);
        for epoch in ["order_epoch_1", "order_epoch_2"] {
            let order =
                sampler::grouped_by_modality(&lengths, batch, world, &mut generator).unwrap();
            assert_eq!(order, indices(&case[epoch]), "seed {seed}, {epoch}");
        }
        let plain =
            sampler::grouped_by_length(&lengths, batch, world, &mut sampler::generator(seed))
                .unwrap();
        assert_eq!(
            plain,
            indices(&case["plain_length_grouped_order"]),
            "seed {seed}"
        );

        // The same through the loader's view, visited out of order.
        let mut orders =
            Orders::new(Order::Grouped { world_size: world }, lengths, batch, seed).unwrap();
        assert_eq!(
            orders.epoch(1),
            indices(&case["order_epoch_2"]),
            "seed {seed}"
        );
        assert_eq!(
            orders.epoch(0),
            indices(&case["order_epoch_1"]),
            "seed {seed}"
        );
    }
    for case in golden::list(&cases, "errors") {
        let lengths = integers(&case["modality_lengths"]);
        let error = sampler::grouped_by_modality(&lengths, 2, 1, &mut sampler::generator(0));
        assert!(error.is_err(), "{}", case["name"]);
    }
}

#[test]
fn every_order_visits_every_sample_once() {
    let lengths: Vec<i64> = (1..=37).map(|i| if i % 4 == 0 { -i } else { i }).collect();
    let pictured: Vec<i64> = lengths.iter().map(|l| l.abs()).collect();
    for lengths in [lengths, pictured] {
        for order in [
            Order::Sequential,
            Order::Shuffle,
            Order::Grouped { world_size: 3 },
        ] {
            let mut orders = Orders::new(order, lengths.clone(), 2, 5).unwrap();
            let mut first = orders.epoch(0);
            let second = orders.epoch(1);
            assert_eq!(first == second, order == Order::Sequential);
            first.sort_unstable();
            assert_eq!(first, (0..37).collect::<Vec<_>>());
        }
    }
}
