//! Whole models against everything that the reference computed for them: features, spliced rows, logits, loss, gradients to
//! pictures and weights, the layout padded on the left, generated tokens.

use burn::tensor::{Device, Int, Tensor, TensorData};
use qtl_model::edge::TextRows;
use qtl_model::generate::{InProcess, answers};
use qtl_model::llm::{IGNORED, Supervision};
use qtl_model::nn::Mask;
use qtl_model::params::{self, Named};
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::{BLOCKS, CONNECTOR, VISION_TOWER};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::{Phase, QuantizerSpec};
use qtl_model::splice::{Grid, Spliced};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::targets;
use qtl_model::text::Answering;

use crate::golden::{Case, each, floats};
use crate::partition::{
    blueprint, check_named, distortion, over_the_wire, quantizer, spliced, spliced_prompt, symbols,
};

struct Whole {
    blueprint: Blueprint,
    client: ClientPartition,
    server: ServerPartition,
    spliced: Spliced,
}

fn open(case: &Case, spec: &QuantizerSpec) -> Whole {
    let device = Device::default();
    let blueprint = blueprint(case, spec);
    let mut client = blueprint.client(&device).unwrap().partition;
    // The reference counts and sends every row.
    client.uplink.text_rows = TextRows::All;
    let server = blueprint.server(&device).unwrap().partition;
    let cut = case.json["batch"]["tokenizer_model_max_length"].as_u64();
    assert_eq!(cut, Some(blueprint.config.max_length as u64));
    Whole {
        spliced: spliced(
            case,
            client.tokens_per_picture(),
            blueprint.config.max_length,
        ),
        blueprint,
        client,
        server,
    }
}

/// The names of a prefix that the case holds.
fn listed<'a>(case: &'a Case, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    case.names()
        .filter_map(move |name| name.strip_prefix(prefix))
}

/// Rows of `streams` by number.
fn pick(streams: Tensor<2>, source: &[usize]) -> Tensor<2> {
    let ids: Vec<i64> = source.iter().map(|row| *row as i64).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::from(ids.as_slice()), &streams.device());
    streams.select(0, ids)
}

/// Checks labels, attention mask and image mask of a grid whose cells hold the rows `source` (`None`: padding).
fn check_layout(
    case: &Case,
    prefix: &str,
    source: &[Option<usize>],
    images: usize,
    spliced: &Spliced,
) -> Vec<i64> {
    let labels: Vec<i64> = source
        .iter()
        .map(|row| match row {
            Some(row) if *row >= images => spliced.labels[row - images],
            _ => IGNORED,
        })
        .collect();
    assert_eq!(
        labels,
        case.ints(&format!("{prefix}labels")),
        "{prefix}labels"
    );
    let real: Vec<i64> = source.iter().map(|row| i64::from(row.is_some())).collect();
    assert_eq!(real, case.ints(&format!("{prefix}attention_mask")));
    labels
}

/// The language model's rows from left to right, and the same pushed against the right end.
fn pushed_right(source: &[Option<usize>], width: usize) -> Vec<Option<usize>> {
    let rows = source.chunks(width).flat_map(|row| {
        let kept = row.iter().filter(|cell| cell.is_some());
        let padding = width - kept.clone().count();
        std::iter::repeat_n(None, padding).chain(kept.copied())
    });
    rows.collect()
}

#[test]
fn golden_full_model_in_one_graph() {
    let device = Device::default();
    each(&["full_"], |case| {
        if case.json["vq_type"] == "FSQ" {
            return Err("with quantizers; another test's".to_owned());
        }
        let Whole {
            blueprint,
            client,
            server,
            spliced,
        } = open(case, &QuantizerSpec::NONE);
        let all = |_: &str| true;
        let tower = params::track(&*client.bottom.vision_tower, VISION_TOWER.prefix, &all);
        let connector = params::track(&*client.bottom.connector, CONNECTOR.prefix, &all);
        let table = params::track(&*client.bottom.embed_tokens, BLOCKS.prefix, &all);
        let decoder = params::track(&server.language_model().unwrap(), BLOCKS.prefix, &all);

        let pictures: Tensor<4> = case.tensor("in.images", &device);
        let pictures = pictures.autodiff().require_grad();
        let features = connector.forward(tower.forward(pictures.clone()));
        let mut worst = case.check("out.image_features", features.clone());
        let [count, tokens, hidden] = features.dims();
        let shown = pick(
            features.reshape([count * tokens, hidden]),
            &spliced.image_rows,
        );
        let images = spliced.image_rows.len();
        let zero = Tensor::zeros([1, hidden], &device);
        let rows = Tensor::cat(vec![shown, table.embed(&spliced.text_ids), zero], 0);
        let grid = Grid::new(&spliced.layout);
        let last = images + spliced.text_ids.len();
        let source: Vec<Option<usize>> = grid
            .source
            .iter()
            .map(|row| (*row < last).then_some(*row))
            .collect();
        let place = |source: &[Option<usize>]| {
            let cells: Vec<usize> = source.iter().map(|row| row.unwrap_or(last)).collect();
            pick(rows.clone(), &cells).reshape([grid.height, grid.width, hidden])
        };

        let x = place(&source);
        worst = worst.max(case.check("out.inputs_embeds", x.clone()));
        let labels = check_layout(case, "out.", &source, images, &spliced);
        let pictured: Vec<i64> = source
            .iter()
            .map(|row| i64::from(row.is_some_and(|row| row < images)))
            .collect();
        assert_eq!(pictured, case.ints("out.image_mask"));
        let context = decoder.blocks.causal_context(grid.width, &device);
        let output = decoder.blocks.forward(x, &context);
        let vocab = server.vocab_size();
        let logits = floats(decoder.head.forward(output.clone()));
        worst = worst.max(case.check_where("out.logits", &logits, |i| source[i / vocab].is_some()));
        let rows_of = |labels: &[i64]| -> Vec<Vec<i64>> {
            labels.chunks(grid.width).map(<[i64]>::to_vec).collect()
        };
        let supervision = Supervision::shifted(&rows_of(&labels), grid.width);
        let loss = decoder.head.loss(output, &supervision);
        worst = worst.max(case.check_loss("out.loss", loss.clone().into_scalar()));

        let mut left = "";
        if listed(case, "out.left.").next().is_some() {
            let source = pushed_right(&source, grid.width);
            let x = place(&source);
            case.check("out.left.inputs_embeds", x.clone());
            let labels = check_layout(case, "out.left.", &source, images, &spliced);
            // Positions count over the padded row.
            let positions = vec![(0..grid.width).collect(); grid.height];
            let shape = [grid.height, grid.width, grid.width];
            let mask = Mask::new(shape, &device, |b, q, k| {
                q == k || k < q && source[b * grid.width + k].is_some()
            });
            let context = decoder.blocks.context(&positions, mask, &device);
            let supervision = Supervision::shifted(&rows_of(&labels), grid.width);
            let loss = decoder
                .head
                .loss(decoder.blocks.forward(x, &context), &supervision);
            case.check_loss("out.left.loss", loss.into_scalar());
            left = ", left padding";
        }

        let mut grads = loss.backward();
        case.check_grad("grad.images", pictures.grad(&grads));
        let mut named = Named::new();
        params::collect(&tower, VISION_TOWER.prefix, &mut grads, &mut named);
        params::collect(&connector, CONNECTOR.prefix, &mut grads, &mut named);
        params::collect(&table, BLOCKS.prefix, &mut grads, &mut named);
        params::collect(&decoder, BLOCKS.prefix, &mut grads, &mut named);
        if blueprint.config.text.tied_head {
            // There the table is also the head; here the head is the server's own copy with its own part of the gradient.
            let table = BLOCKS.prefix.to_owned() + &blueprint.config.text.embedding_name();
            let head = named[&format!("{}lm_head.weight", BLOCKS.prefix)].clone();
            named.entry(table).and_modify(|g| *g = g.clone() + head);
        }
        let checked = check_named(case, "grad.weight:", &named);

        let generated = case.names().any(|name| name == "out.gen.new_ids");
        if generated {
            generates(case, &client, &server, blueprint.config.max_length);
        }
        through_the_cut(case, client, &server, spliced);
        Ok(format!("within {worst:.1e}, {checked} gradients{left}"))
    });
}

fn generates(case: &Case, client: &ClientPartition, server: &ServerPartition, cut: usize) {
    let want = case.ints("out.gen.new_ids");
    let prompt = Batch {
        pictures: Some(Pictures::Pixels(
            case.tensor("in.gen.images", &Device::default()),
        )),
        spliced: spliced_prompt(
            &case.rows("in.gen.input_ids"),
            client.tokens_per_picture(),
            cut,
        ),
    };
    let mut remote = InProcess::new(server);
    let how = Answering::greedy(Vec::new(), want.len());
    let answers = answers(client, &prompt, &mut remote, &how, &mut |_, _| true).unwrap();
    let answer: Vec<i64> = answers[0].iter().map(|id| i64::from(*id)).collect();
    assert_eq!(answer, want, "{}: generated tokens", case.name);
}

/// Features cross as 16-bit floats where the reference computes in 32 bits.
fn through_the_cut(
    case: &Case,
    mut client: ClientPartition,
    server: &ServerPartition,
    spliced: Spliced,
) {
    let device = Device::default();
    let labels = spliced.labels.clone();
    let pictures = Some(Pictures::Pixels(case.tensor("in.images", &device)));
    let (cut, _) = client.forward(&Batch { pictures, spliced }, 0, &|_| true);
    let targets = targets::encode(&labels, server.vocab_size());
    let step = server
        .step(&over_the_wire(&cut), &targets, &|_| true, &device)
        .unwrap();
    let error = (step.loss as f32 - case.scalar("out.loss")).abs();
    assert!(error < 2e-3, "{}: loss is off by {error}", case.name);
}

/// What stands in the cells of the split case's batch before anything is quantized.
#[test]
fn golden_split_batch_before_the_quantizers() {
    each(&["split_"], |case| {
        let Whole {
            client, spliced, ..
        } = open(case, &quantizer(case));
        let pixels = case.tensor("in.images", &Device::default());
        let features = client
            .bottom
            .connector
            .forward(client.bottom.vision_tower.forward(pixels));
        let [count, tokens, hidden] = features.dims();
        let rows = features.reshape([count * tokens, hidden]);
        let worst = case.check("out.inputs_embeds", embedded(&client, rows, &spliced));
        let images = spliced.image_rows.len();
        let last = images + spliced.text_ids.len();
        let source: Vec<Option<usize>> = Grid::new(&spliced.layout)
            .source
            .into_iter()
            .map(|row| (row < last).then_some(row))
            .collect();
        check_layout(case, "out.", &source, images, &spliced);
        // There, padding counts as text.
        let text = source
            .iter()
            .map(|row| i64::from(row.is_none_or(|row| row >= images)));
        assert_eq!(text.collect::<Vec<_>>(), case.ints("out.text_positions"));
        Ok(format!("within {worst:.1e}"))
    });
}

/// What the language model would read without quantizers: [sequences, longest, hidden], padding zero. `features`: the
/// rows of all pictures.
fn embedded(client: &ClientPartition, features: Tensor<2>, spliced: &Spliced) -> Tensor<3> {
    let hidden = features.dims()[1];
    let shown = pick(features, &spliced.image_rows);
    let text = client.bottom.embed_tokens.embed(&spliced.text_ids);
    let zero = Tensor::zeros([1, hidden], &shown.device());
    // Where the grid shows no row it names the one after the last.
    let grid = Grid::new(&spliced.layout);
    let rows = Tensor::cat(vec![shown, text, zero], 0);
    pick(rows, &grid.source).reshape([grid.height, grid.width, hidden])
}

/// Checks that `u` was bounded to `z` by the range that the case holds: `[q_min, q_max]`.
fn check_range(case: &Case, name: &str, u: Tensor<2>, z: Tensor<2>) {
    let range = case.bytes(name);
    let (low, high) = (range[0], range[1]);
    for (u, z) in floats(u).into_iter().zip(floats(z)) {
        let want = 2.0 * (u.clamp(low, high) - low + 1e-4) / (high - low + 1e-4) - 1.0;
        assert!((z - want).abs() < 1e-4, "{}: {name}: {u} to {z}", case.name);
    }
}

#[test]
fn golden_full_model_with_quantizers() {
    let device = Device::default();
    each(&["full_"], |case| {
        if case.json["vq_type"] != "FSQ" {
            return Err("without quantizers; another test's".to_owned());
        }
        let Whole {
            mut client,
            server,
            mut spliced,
            ..
        } = open(case, &quantizer(case));
        let unpadded = spliced.clone();
        spliced.pad_like_the_reference();
        let labels = spliced.labels.clone();
        let pixels: Tensor<4> = case.tensor("in.images", &device);

        // All pictures are quantized, also those that nobody shows.
        let features = client
            .bottom
            .connector
            .forward(client.bottom.vision_tower.forward(pixels.clone()));
        let mut worst = case.check("out.image.quantizer_in", features.clone());
        let [count, tokens, hidden] = features.dims();
        let rows = features.reshape([count * tokens, hidden]);
        let before = embedded(&client, rows.clone(), &unpadded);
        worst = worst.max(case.check("out.inputs_embeds_before_vq", before));
        let u = client.uplink.image.input(rows);
        let z = client.uplink.image.bound(u.clone());
        check_range(case, "out.image.q_min_q_max", u, z.clone());
        worst = worst.max(case.check(
            "out.image.normalized",
            z.clone().reshape([count, tokens, z.dims()[1]]),
        ));
        assert_eq!(
            symbols(&client.uplink.image.quantize(z.clone(), Phase::Train(0))),
            case.bytes("out.image.indices")
        );
        case.check_loss("out.image.L_comm", distortion(&client.uplink.image, z));

        let batch = Batch {
            pictures: Some(Pictures::Pixels(pixels)),
            spliced,
        };
        let (cut, pending) = client.forward(&batch, 0, &|_| true);
        let text = pending.features().text.clone();
        let u = client.project(&batch).text;
        check_range(case, "out.text.q_min_q_max", u, text.clone());
        case.check_loss(
            "out.text.L_comm",
            distortion(&client.uplink.text, text.clone()),
        );
        worst = worst.max(case.check_where("out.text.normalized", &floats(text), |_| true));
        assert_eq!(symbols(&cut.text), case.bytes("out.text.indices"));
        case.check_loss("out.vq_loss", pending.penalty() as f32);

        let cut = over_the_wire(&cut);
        let (input, grid) = server.input(&cut, &device).unwrap();
        worst = worst.max(case.check("out.inputs_embeds", input));
        let images = cut.layout.rows(qtl_model::splice::Kind::Image);
        let cells = || grid.source.iter().zip(&grid.branches);
        let real: Vec<i64> = cells().map(|(_, b)| i64::from(*b == Some(0))).collect();
        assert_eq!(real, case.ints("out.attention_mask"));
        let pictured: Vec<i64> = cells().map(|(row, _)| i64::from(*row < images)).collect();
        assert_eq!(pictured, case.ints("out.image_mask"));
        let placed = grid.source.iter().map(|row| match row.checked_sub(images) {
            Some(text) => labels[text],
            None => IGNORED,
        });
        assert_eq!(placed.collect::<Vec<_>>(), case.ints("out.labels"));
        let targets = targets::encode(&labels, server.vocab_size());
        let step = server.step(&cut, &targets, &|_| true, &device).unwrap();
        worst = worst.max(case.check_loss("out.loss", step.loss as f32));
        let (logits, _) = server.logits(&cut, &device).unwrap();
        let vocab = server.vocab_size();
        worst =
            worst.max(case.check_where("out.logits", &floats(logits), |i| real[i / vocab] == 1));

        let mut gradients = pending.backward(step.returned.rows.clone());
        gradients.extend(step.returned.parameters);
        let mut checked = check_named(case, "grad.total.weight:", &gradients);
        // The penalty alone: nothing comes back from the server.
        let (_, pending) = client.forward(&batch, 0, &|_| true);
        let nothing = pending.backward([None, None]);
        checked += check_named(case, "grad.vq_loss.weight:", &nothing);
        assert!(checked > 0);
        Ok(format!("within {worst:.1e}, {checked} gradients"))
    });
}
