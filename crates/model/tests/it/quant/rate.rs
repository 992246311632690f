//! Bits: what the entropy-constrained quantizer costs, and the term of the loss that estimates them.

use burn::tensor::{Device, Tensor};
use qtl_codec::Options;
use qtl_model::quant::{
    ClientHalf, Design, EcsqSpec, FsqSpec, Moments, Phase, ServerHalf, Spec, Statistics,
    level_values, soft_entropy,
};
use qtl_model::recompute::leaf;
use qtl_model::weights::Stream;

use crate::golden::floats;

fn gaussian(rows: usize, cols: usize, device: &Device) -> Tensor<2> {
    let mut stream = Stream::new(11, "features");
    let values: Vec<f32> = (0..rows * cols).map(|_| stream.normal() as f32).collect();
    Tensor::<1>::from_data(values.as_slice(), device).reshape([rows, cols])
}

fn spec(bits: f64) -> EcsqSpec {
    EcsqSpec {
        bits,
        statistics: Statistics::Channel,
        code_dim: 0,
        penalty: 0.0,
        rate: 0.0,
    }
}

/// Whole containers of a Gaussian, side information and tables included, and the error of what the server reads:
/// (bits per element, mean squared error).
fn measured<S: Spec>(spec: &S, x: &Tensor<2>) -> (f64, f32) {
    let (device, dim) = (x.device(), x.dims()[1]);
    let (mut client, mut server) = (spec.client(dim, 0, &device), spec.server(dim, 0, &device));
    let moments = Moments {
        mean: vec![0.0; dim],
        std: vec![1.0; dim],
    };
    client.calibrate(&moments);
    server.calibrate(&moments);
    let z = client.bound(client.input(x.clone()));
    let code = client.quantize(z, Phase::Evaluate);
    let (bytes, account) = qtl_codec::encode_accounted(&code, &Options::default());
    let (code, _) = qtl_codec::decode(&bytes, &qtl_codec::Limits::default()).unwrap();
    let y = server.expand(server.dequantize(&code, &device).unwrap());
    let error = y - x.clone();
    let error = (error.clone() * error).mean().into_scalar::<f32>();
    (account.bits_per_element(), error)
}

#[test]
fn entropy_constrained_quantization_of_a_gaussian() {
    let x = gaussian(4000, 64, &Device::default());
    // Rate and error of optimal entropy-coded scalar quantization of a Gaussian at these rates.
    for (bits, best) in [(1.0, 0.3483), (2.0, 0.0889), (3.0, 0.0222), (4.0, 0.005_56)] {
        let design = Design::new(bits);
        assert!((design.entropy - bits).abs() < 1e-9);
        assert!((design.distortion / best - 1.0).abs() < 2e-3, "{design:?}");
        let (rate, error) = measured(&spec(bits), &x);
        let levels = design.centroids.len();
        println!("{bits} bits asked: {rate:.4} measured, {levels} levels, error {error:.5}");
        assert!((rate / bits - 1.0).abs() < 0.01, "{rate}");
        assert!((f64::from(error) / best - 1.0).abs() < 0.02, "{error}");
    }
    // At no more than 2 bits on the wire, against 0.245 of four levels at three deviations (which cost 1.27 coded).
    let (rate, error) = measured(&spec(1.99), &x);
    println!("1.99 bits asked: {rate:.4} measured, error {error:.5}");
    assert!(rate <= 2.0 && error <= 0.092, "{rate} bits, {error}");
    let (rate, error) = measured(
        &FsqSpec {
            statistics: Statistics::Channel,
            ..FsqSpec::paper(4)
        },
        &x,
    );
    println!("four levels: {rate:.4} measured, error {error:.5}");
    assert!(rate < 1.28 && error > 0.3);
}

#[test]
fn the_soft_entropy_is_the_entropy_on_the_levels() {
    let device = Device::default();
    let values = level_values(&[0, 1, 2, 3], 4);
    // Half, a quarter, an eighth, an eighth: 1.75 bits; beyond the outermost level counts as that level.
    let counts = [(values[0], 4), (values[1], 8), (values[2], 2), (1.7, 2)];
    let z: Vec<f32> = counts
        .iter()
        .flat_map(|(value, n)| vec![*value; *n])
        .collect();
    let z = Tensor::<1>::from_data(z.as_slice(), &device).reshape([4, 4]);
    let bits = soft_entropy(z, &values).into_scalar::<f32>();
    assert!((bits - 1.75).abs() < 1e-5, "{bits}");
}

#[test]
fn the_soft_entropy_is_close_to_what_a_gaussian_costs() {
    let x = gaussian(1000, 64, &Device::default());
    for bits in [1.0, 2.0, 3.0] {
        let client = spec(bits).client(64, 0, &Device::default());
        let z = client.bound(x.clone());
        let weighted = EcsqSpec {
            rate: 1.0,
            ..spec(bits)
        }
        .client(64, 0, &Device::default());
        let estimate = weighted.penalty(z).unwrap().into_scalar::<f32>();
        println!("{bits} bits: estimate {estimate:.3}");
        assert!((f64::from(estimate) - bits).abs() < 0.1, "{estimate}");
    }
}

#[test]
fn the_gradient_of_the_rate_agrees_with_finite_differences() {
    let device = Device::default();
    let values: Vec<f32> = Design::new(2.0)
        .centroids
        .iter()
        .map(|c| (c / 5.4) as f32)
        .collect();
    let plain = gaussian(20, 8, &device).mul_scalar(0.2);
    let z = leaf(plain.clone());
    let grad = floats(
        z.grad(&soft_entropy(z.clone(), &values).backward())
            .unwrap(),
    );
    let base = floats(plain);
    let mut checked = 0;
    for i in (0..160).step_by(7) {
        let step = 2e-3;
        // Not across an end of a ramp, where the estimate has a kink.
        let near = |at: f32| (at - base[i]).abs() < 2.0 * step;
        let kink = |pair: &[f32]| {
            near(0.75 * pair[0] + 0.25 * pair[1]) || near(0.25 * pair[0] + 0.75 * pair[1])
        };
        if values.windows(2).any(kink) {
            continue;
        }
        let at = |s: f32| {
            let mut z = base.clone();
            z[i] += s;
            let z = Tensor::<1>::from_data(z.as_slice(), &device).reshape([20, 8]);
            soft_entropy(z, &values).into_scalar::<f32>()
        };
        let got = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (got - grad[i]).abs() < 2e-3 + 0.02 * grad[i].abs(),
            "{i}: {got}, not {}",
            grad[i]
        );
        checked += 1;
    }
    assert!(
        checked > 10 && grad.iter().filter(|g| **g != 0.0).count() > 40,
        "{checked}"
    );
}

#[test]
fn following_the_gradient_saves_real_bytes() {
    let device = Device::default();
    let client = EcsqSpec {
        rate: 1.0,
        ..spec(2.0)
    }
    .client(32, 0, &device);
    let size = |z: &Tensor<2>| {
        let code = client.quantize(z.clone(), Phase::Evaluate);
        qtl_codec::encode(&code, &Options::default()).len()
    };
    let mut z = client.bound(gaussian(500, 32, &device));
    let before = size(&z);
    for _ in 0..20 {
        let tracked = leaf(z.clone());
        let grad = tracked
            .grad(&client.penalty(tracked.clone()).unwrap().backward())
            .unwrap();
        // The mean is over 16,000 elements.
        z = z - grad.mul_scalar(16_000.0 * 1e-3);
    }
    let after = size(&z);
    println!("{before} bytes before, {after} after");
    assert!((after as f64) < 0.97 * before as f64);
}
