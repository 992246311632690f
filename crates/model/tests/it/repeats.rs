//! Equal text rows that cross once: the same loss, the same gradients, fewer rows; and row numbers that lie.

use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Symbols};
use qtl_data::TokenSpan;
use qtl_model::edge::repeats::IndexError;
use qtl_model::edge::{Cut, StepError, TextRows};
use qtl_model::params::Named;
use qtl_model::partition::Step;
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::{FsqSpec, QuantizerSpec, Statistics, TopkSpec};
use qtl_model::splice::{IMAGE_TOKEN, Sample, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::targets;

use crate::golden::{Case, each_fixture, floats};

/// Two pictures with texts of four different tokens.
fn batch(case: &Case, tokens: usize, device: &Device) -> Batch {
    let text = |ids: &[i64]| {
        let mut ids = ids.to_vec();
        ids.insert(1, IMAGE_TOKEN);
        [TokenSpan {
            branch: 0,
            labels: ids.clone(),
            ids,
        }]
    };
    let (a, b) = (
        text(&[1, 5, 6, 5, 5, 6, 9, 5, 6, 5, 6, 6, 5, 9, 9, 5]),
        text(&[1, 6, 6, 9, 5, 6, 5, 5, 9, 9, 6, 5]),
    );
    let samples = [&a, &b].map(|spans| Sample {
        spans,
        pictures: 0..1,
    });
    Batch {
        pictures: Some(Pictures::Pixels(
            case.tensor::<4>("in.images", device).narrow(0, 0, 1),
        )),
        spliced: splice(&samples, tokens, 64).unwrap(),
    }
}

struct Run {
    cut: Cut,
    step: Step,
    client: Named,
}

/// The case's architecture with weights of our own: its quantizers have no recorded statistics.
fn blueprint(case: &Case, spec: &QuantizerSpec) -> Blueprint {
    let mut blueprint = Blueprint::read(&case.dir, spec.clone(), spec.clone(), 3).unwrap();
    blueprint.fresh = true;
    blueprint
}

fn run(case: &Case, spec: &QuantizerSpec, rows: TextRows) -> Run {
    let device = Device::default();
    let blueprint = blueprint(case, spec);
    let mut client = blueprint.client(&device).unwrap().partition;
    client.uplink.text_rows = rows;
    let server = blueprint.server(&device).unwrap().partition;
    let batch = batch(case, client.tokens_per_picture(), &device);
    let (cut, pending) = client.forward(&batch, 0, &|_| true);
    let targets = targets::encode(&batch.spliced.labels, server.vocab_size());
    let step = server.step(&cut, &targets, &|_| true, &device).unwrap();
    let came = step
        .returned
        .rows
        .each_ref()
        .map(|g| g.as_ref().map(Tensor::dims));
    assert_eq!(came, pending.gradient_shapes());
    let client = pending.backward(step.returned.rows.clone());
    Run { cut, step, client }
}

/// The gradient of the text rows that crossed.
fn text(run: &Run) -> Tensor<2> {
    run.step.returned.rows[1].clone().unwrap()
}

/// Equal up to the order of summation. `scale`: the largest gradient there is, beside which some (a key's bias) are sums
/// that cancel.
fn close(what: &str, got: &[f32], want: &[f32], scale: f32) {
    let top = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!(
            (got - want).abs() <= 1e-5 * top + 1e-6 * scale,
            "{what}: {got} for {want}, largest {top}"
        );
    }
}

fn same(what: &str, got: Named, want: Named) {
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>(),
        "{what}"
    );
    let want: Vec<Vec<f32>> = want.into_values().map(floats).collect();
    let scale = want.iter().flatten().fold(0.0f32, |m, v| m.max(v.abs()));
    for ((name, got), want) in got.into_iter().zip(want) {
        close(&format!("{what} {name}"), &floats(got), &want, scale);
    }
}

fn fsq(statistics: Statistics) -> QuantizerSpec {
    QuantizerSpec::Fsq(FsqSpec {
        width: 2.0,
        statistics,
        ..FsqSpec::paper(4)
    })
}

#[test]
fn distinct_rows_teach_what_all_rows_teach() {
    each_fixture(&["split_"], |case| {
        for spec in [
            QuantizerSpec::NONE,
            fsq(Statistics::Channel),
            fsq(Statistics::Batch),
            QuantizerSpec::Topk(TopkSpec {
                keep: 0.3,
                rescale: true,
            }),
        ] {
            let all = run(case, &spec, TextRows::All);
            let few = run(case, &spec, TextRows::Distinct);
            assert!(all.cut.index.is_none() && few.cut.index.is_some());
            assert_eq!(text(&few).dims()[0], 4);
            assert_eq!(text(&all).dims()[0], 28);
            assert_eq!(all.step.loss, few.step.loss, "{spec:?}");
            let images = |run: &Run| floats(run.step.returned.rows[0].clone().unwrap());
            close("image gradient", &images(&few), &images(&all), 0.0);
            // The rows of one token add up.
            let row = |run: &Run, row: usize| -> Vec<f32> { floats(text(run).narrow(0, row, 1)) };
            let mut sums = vec![vec![0.0; text(&all).dims()[1]]; 4];
            let ids = [
                1, 5, 6, 5, 5, 6, 9, 5, 6, 5, 6, 6, 5, 9, 9, 5, 1, 6, 6, 9, 5, 6, 5, 5, 9, 9, 6, 5,
            ];
            for (at, id) in ids.iter().enumerate() {
                let token = [1, 5, 6, 9].iter().position(|known| known == id).unwrap();
                for (sum, value) in sums[token].iter_mut().zip(row(&all, at)) {
                    *sum += value;
                }
            }
            for (token, sum) in sums.iter().enumerate() {
                close("summed rows", &row(&few, token), sum, 0.0);
            }
            same(
                "server",
                few.step.returned.parameters,
                all.step.returned.parameters,
            );
            same("client", few.client, all.client);
        }
        Ok("4 quantizers".into())
    });
}

#[test]
fn a_batch_without_repeats_crosses_whole() {
    each_fixture(&["split_"], |case| {
        let device = Device::default();
        let spec = fsq(Statistics::Channel);
        let client = blueprint(case, &spec).client(&device).unwrap().partition;
        let spans = [TokenSpan {
            branch: 0,
            ids: vec![1, 2, 3, 4],
            labels: vec![1, 2, 3, 4],
        }];
        let sample = Sample {
            spans: &spans,
            pictures: 0..0,
        };
        let spliced = splice(&[sample], 1, 64).unwrap();
        let cut = client.encode(&Batch {
            pictures: None,
            spliced,
        });
        assert!(cut.index.is_none());
        Ok("one".into())
    });
}

#[test]
fn row_numbers_that_do_not_fit_are_refused() {
    each_fixture(&["split_"], |case| {
        let device = Device::default();
        let spec = fsq(Statistics::Channel);
        let Run { cut, .. } = run(case, &spec, TextRows::Distinct);
        let server = blueprint(case, &spec).server(&device).unwrap().partition;
        let try_index = |index: Option<Code>| {
            let cut = Cut {
                index,
                ..cut.clone()
            };
            server.input(&cut, &device).map(|_: (Tensor<3>, _)| ())
        };
        let numbers = |alphabet, numbers: &[u32]| {
            let plane = Symbols::from_u32(alphabet, numbers.len(), 1, numbers.iter().copied());
            Some(Code::new(vec![plane.unwrap().into()]))
        };
        let good: Vec<u32> = (0..28).map(|i| i % 4).collect();
        assert_eq!(try_index(numbers(4, &good)), Ok(()));
        // Four rows cannot be the 28 of the layout.
        assert!(matches!(try_index(None), Err(StepError::Rows { .. })));
        let mut beyond = good.clone();
        beyond[7] = 4;
        let error = IndexError::Beyond {
            at: 7,
            number: 4,
            rows: 4,
        };
        assert_eq!(try_index(numbers(9, &beyond)), Err(error.into()));
        let unused: Vec<u32> = (0..28).map(|i| i % 3).collect();
        let error = IndexError::Unused { row: 3 };
        assert_eq!(try_index(numbers(4, &unused)), Err(error.into()));
        let error = IndexError::Count { got: 27, want: 28 };
        assert_eq!(try_index(numbers(4, &good[1..])), Err(error.into()));
        let error = IndexError::Plane;
        assert_eq!(try_index(Some(Code::default())), Err(error.into()));
        Ok("five ways".into())
    });
}
