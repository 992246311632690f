//! What a start of several clients' rows costs, beside one of all rows at once.

use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::Options;
use qtl_model::quant::{Accumulator, Encoder, Phase, Pool, QuantizerSpec, sketch};
use qtl_model::weights::Stream;

const DIM: usize = 32;

/// Rows of components that fall off.
fn rows(seed: u64, count: usize, device: &Device) -> Tensor<2> {
    let mut draw = Stream::new(seed, "rows");
    let value = |i: usize| (draw.normal() * 0.8f64.powi((i % DIM) as i32)) as f32;
    let values: Vec<f32> = (0..count * DIM).map(value).collect();
    Tensor::from_data(TensorData::new(values, [count, DIM]), device)
}

/// Rows that were coded are quieter than the rows, so a step that follows from them is finer; not by much.
#[test]
fn components_of_coded_rows_cost_little_more_than_their_bits() {
    let device = Device::default();
    for bits in [8.0, 24.0, 48.0] {
        let spec = format!("{{\"kind\":\"pca\",\"dims\":16,\"bits\":{bits}}}");
        let spec: QuantizerSpec = serde_json::from_str(&spec).unwrap();
        let half = Encoder::init(&spec, DIM, 1, &device);
        let own = [rows(1, 3000, &device), rows(2, 3000, &device)];
        let seen = |rows: &[Tensor<2>]| {
            let mut seen: Accumulator = half.accumulator();
            rows.iter()
                .for_each(|rows| seen.add(half.seen(rows.clone())));
            seen
        };
        let pool = Pool::new(&spec, DIM, &device);
        let heard = own.each_ref().map(|rows| {
            let said = sketch(&half, &seen(std::slice::from_ref(rows)), &device).unwrap();
            pool.hear(&said, 3000).unwrap()
        });
        let cost = |told| {
            let mut half = half.clone();
            half.take(told).unwrap();
            let x = rows(3, 4000, &device);
            let code = half.quantize(half.bound(half.input(x)), Phase::Evaluate);
            8.0 * qtl_codec::encode(&code, &Options::default()).len() as f64 / 4000.0
        };
        let [pooled, together] = [
            cost(&pool.start(&heard).unwrap()),
            cost(&half.clone().start(&seen(&own)).unwrap()),
        ];
        println!("{bits} bits a row: {pooled:.2} of the pool, {together:.2} of all rows");
        assert!(
            (pooled / together - 1.0).abs() < 0.2,
            "{pooled} for {together}"
        );
    }
}
