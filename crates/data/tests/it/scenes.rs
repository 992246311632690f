//! Generated scenes against their reference: parameters, pixels, texts, files.

mod files;

use std::fs;
use std::path::{Path, PathBuf};

use qtl_data::scenes::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/emoji-vqa")
        .join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().map(|b| format!("{b:02x}")).collect()
}

/// Names of everything in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn random_numbers_are_the_reference_ones() {
    let reference = read_json(&fixture("golden.json"));
    let mut rng = SplitMix64::new(42);
    let first: Vec<_> = (0..5).map(|_| rng.next_u64().to_string()).collect();
    assert_eq!(json!(first), reference["splitmix64_seed42_first5"]);
    let first = SplitMix64::for_scene(101, 7).next_u64().to_string();
    assert_eq!(json!(first), reference["scene_rng_101_7_first"]);
    assert!((0..1000).all(|_| rng.below(3) < 3));
}

#[test]
fn scenes_are_the_reference_ones() {
    let reference = read_json(&fixture("golden.json"));
    let scenes = reference["scenes"].as_array().unwrap();
    assert_eq!(scenes.len(), 12);
    for expected in scenes {
        let (seed, index) = (
            expected["seed"].as_u64().unwrap(),
            expected["index"].as_u64().unwrap(),
        );
        let draw = Draw::new(seed, index, Styles::Both);
        let scene = draw.scene();
        let object = |o: &Object| {
            json!({"cell": o.cell.index(), "concept": o.concept.name, "style": o.style.name(), "size": o.size,
                "flip": u8::from(o.flip), "x": o.x, "y": o.y})
        };
        let turns = if seed == TRAIN_SEED {
            draw.train_turns()
        } else {
            draw.test_turns()
        };
        let turns: Vec<_> = turns
            .iter()
            .map(|t| [t.kind.name(), &t.question, &t.answer])
            .collect();
        let made = json!({
            "seed": seed,
            "index": index,
            "colour": scene.colour.name(),
            "background": scene.background,
            "objects": scene.objects.iter().map(object).collect::<Vec<_>>(),
            "sha256_rgb": hex(Sha256::digest(render(scene).as_raw())),
            "turns": turns,
        });
        assert_eq!(&made, expected, "scene {index} of seed {seed}");
    }
}

#[test]
fn the_first_256_training_scenes_hash_to_the_reference() {
    let mut hash = Sha256::new();
    for index in 0..256 {
        let draw = Draw::new(TRAIN_SEED, index, Styles::Both);
        hash.update(render(draw.scene()).as_raw());
        let turns: Vec<_> = draw
            .train_turns()
            .into_iter()
            .map(|t| [t.question, t.answer])
            .collect();
        hash.update(serde_json::to_string(&turns).unwrap());
    }
    let reference = read_json(&fixture("golden.json"));
    assert_eq!(
        json!(hex(hash.finalize())),
        reference["train101_first256_sha256"]
    );
}

#[test]
fn one_style_changes_nothing_but_the_style() {
    assert_eq!(
        "google".parse::<Styles>().unwrap(),
        Styles::Only(Style::Google)
    );
    assert_eq!("twitter, google".parse::<Styles>().unwrap(), Styles::Both);
    assert_eq!(
        Styles::Both.to_string().parse::<Styles>().unwrap(),
        Styles::Both
    );
    assert!(
        "apple"
            .parse::<Styles>()
            .unwrap_err()
            .to_string()
            .contains("`apple`")
    );
    for index in 0..100 {
        let both = Draw::new(5, index, Styles::Both);
        let one = Draw::new(5, index, Styles::Only(Style::Google));
        assert!(one.scene().objects.iter().all(|o| o.style == Style::Google));
        assert_eq!(one.train_turns(), both.train_turns());
        let mut restyled = both.into_scene();
        restyled
            .objects
            .iter_mut()
            .for_each(|o| o.style = Style::Google);
        assert_eq!(one.scene(), &restyled);
    }
}

#[test]
fn practice_asks_everything_and_where_each_object_is() {
    let place = |turn: &Turn| match turn.answer.as_str() {
        "top left" => Cell::TopLeft,
        "top right" => Cell::TopRight,
        "bottom left" => Cell::BottomLeft,
        "bottom right" => Cell::BottomRight,
        other => panic!("{other}"),
    };
    for index in 0..200 {
        let draw = Draw::new(7, index, Styles::Both);
        let (scene, turns) = (draw.scene(), draw.practice_turns());
        assert_eq!(turns, draw.practice_turns());
        let of = |kind| turns.iter().filter(move |turn| turn.kind == kind);
        for turn in of(Kind::Where) {
            let object = scene.at(place(turn)).unwrap();
            let asked = format!("What is the {} in?", object.concept.name);
            assert_eq!(turn.question, asked);
        }
        assert_eq!(of(Kind::Where).count(), scene.objects.len());
        assert_eq!(of(Kind::What).count(), 2);
        for pair in [
            Kind::Pope,
            Kind::MmeExistence,
            Kind::MmePosition,
            Kind::MmeCount,
            Kind::MmeColor,
        ] {
            let answers: Vec<_> = of(pair).map(|turn| turn.answer.as_str()).collect();
            assert_eq!(answers, ["yes", "no"]);
        }
        // What the reference defines stays as it is.
        assert_eq!(draw.train_turns().len(), 9);
        assert_eq!(draw.test_turns().len(), 21);
    }
}

#[test]
fn a_relation_tells_two_objects_apart_by_one_half() {
    let (mut by_half, mut first_named, mut all) = ([0; 4], 0, 0);
    for index in 0..400 {
        let draw = Draw::new(TEST_SEED, index, Styles::Both);
        let (before, scene) = (draw.test_turns(), draw.scene());
        let turns = draw.relation_turns();
        assert_eq!(turns, draw.relation_turns());
        assert_eq!(before, draw.test_turns());
        let in_half = |name: &str, half: &str| {
            let object = scene.objects.iter().find(|o| o.concept.name == name);
            object.unwrap().cell.name().split(' ').any(|h| h == half)
        };
        for turn in &turns {
            assert_eq!(turn.kind, Kind::Relation);
            let words: Vec<_> = turn.question.split([' ', ',', '?']).collect();
            let [
                "What",
                "is",
                "in",
                "the",
                half,
                "",
                "the",
                one,
                "or",
                "the",
                other,
                "",
            ] = words[..]
            else {
                panic!("{}", turn.question);
            };
            let (right, wrong) = if turn.answer == one {
                (one, other)
            } else {
                (other, one)
            };
            assert_eq!(turn.answer, right);
            assert!(in_half(right, half) && !in_half(wrong, half));
            let halves = ["left", "right", "top", "bottom"];
            by_half[halves.iter().position(|h| *h == half).unwrap()] += 1;
            first_named += usize::from(turn.answer == one);
            all += 1;
        }
        // Every two that share no half are asked about twice, every two that share one once.
        let mut expected = 0;
        for (place, one) in scene.objects.iter().enumerate() {
            for other in &scene.objects[place + 1..] {
                expected += 2 - usize::from((one.cell.index() + other.cell.index()) != 3);
            }
        }
        assert_eq!(turns.len(), expected);
    }
    // Neither the order nor the half gives the answer away.
    assert!(first_named * 20 > all * 9 && first_named * 20 < all * 11);
    assert!(
        by_half.iter().all(|n| n * 20 > all * 4 && n * 20 < all * 6),
        "{by_half:?} of {all}"
    );
}

#[test]
fn a_scene_can_be_made_by_hand() {
    let background = [10, 20, 30];
    let crown = concepts().iter().find(|c| c.name == "crown").unwrap();
    let object = |size, x, y| Object {
        cell: Cell::TopLeft,
        concept: crown,
        style: Style::Twitter,
        size,
        flip: false,
        x,
        y,
    };
    let scene = |objects| Scene {
        colour: Colour::Grey,
        background,
        objects,
    };
    assert!(render(&scene(vec![])).pixels().all(|p| p.0 == background));
    let outside = scene(vec![
        object(30, 64, 0),
        object(30, 500, 70),
        object(0, 3, 3),
    ]);
    assert!(render(&outside).pixels().all(|p| p.0 == background));

    // Cut at the edge: the part inside is the same as without the edge.
    let (whole, cut) = (
        render(&scene(vec![object(32, 0, 0)])),
        render(&scene(vec![object(32, 48, 50)])),
    );
    assert!(
        (0..14).all(|y| (0..16).all(|x| whole.get_pixel(x, y) == cut.get_pixel(x + 48, y + 50)))
    );

    // At its own size and without neighbours to average, a picture is composited as it is; mirrored, it is mirrored.
    let plain = render(&scene(vec![object(64, 0, 0)]));
    let mirrored = render(&scene(vec![Object {
        flip: true,
        ..object(64, 0, 0)
    }]));
    assert_eq!(image::imageops::flip_horizontal(&plain), mirrored);
    assert_ne!(plain, mirrored);
    assert_eq!(
        scene(vec![object(32, 0, 0)])
            .at(Cell::TopLeft)
            .unwrap()
            .concept
            .name,
        "crown"
    );
    assert!(scene(vec![]).at(Cell::TopLeft).is_none());
}

#[test]
fn concepts_and_tokenizer_cover_each_other() {
    assert_eq!(concepts().len(), 68);
    for (place, concept) in concepts().iter().enumerate() {
        assert_eq!((concept.index, concept.popular), (place, place % 4 == 0));
        assert!(vocabulary().contains(&concept.name));
    }
    assert_eq!(vocabulary().len(), 114);
    assert!(vocabulary()[4..].is_sorted());
}

#[test]
fn a_tokenizer_filled_up_encodes_the_same() {
    let temp = tempfile::tempdir().unwrap();
    write_tokenizer(temp.path(), 200).unwrap();
    let file = temp.path().join("tokenizer.json");
    let tokenizer = tokenizers::Tokenizer::from_file(file).unwrap();
    assert_eq!(tokenizer.get_vocab_size(true), 200);
    for (id, word) in (0..).zip(vocabulary()) {
        assert_eq!(tokenizer.encode(*word, true).unwrap().get_ids(), [id]);
    }
}

#[test]
fn the_tokenizer_reads_and_writes_every_text() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    write_tokenizer(&dir, 0).unwrap();
    assert_eq!(
        names(&dir),
        [
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let tokenizer = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.get_vocab_size(true), vocabulary().len());
    for (id, word) in (0..).zip(vocabulary()) {
        assert_eq!(tokenizer.token_to_id(word), Some(id), "{word}");
        assert_eq!(tokenizer.encode(*word, true).unwrap().get_ids(), [id]);
    }
    let mut used = vec![false; vocabulary().len()];
    for index in 0..300 {
        for draw in [
            Draw::new(TRAIN_SEED, index, Styles::Both),
            Draw::new(TEST_SEED, index, Styles::Both),
        ] {
            let turns = [
                draw.train_turns(),
                draw.practice_turns(),
                draw.test_turns(),
                draw.relation_turns(),
            ];
            for turn in turns.concat() {
                for text in [turn.question, turn.answer] {
                    let ids = tokenizer
                        .encode(text.as_str(), true)
                        .unwrap()
                        .get_ids()
                        .to_vec();
                    ids.iter().for_each(|&id| used[id as usize] = true);
                    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
                }
            }
        }
    }
    let unused: Vec<_> = vocabulary()
        .iter()
        .zip(used)
        .filter(|(_, used)| !used)
        .map(|(word, _)| *word)
        .collect();
    assert_eq!(unused, ["<pad>", "<image>", "<bos>", "<eos>"]);

    let ids = |text: &str| tokenizer.encode(text, true).unwrap().get_ids().to_vec();
    assert_eq!(
        ids("<image>\nHow many\tobjects are there?"),
        [vec![1], ids("How many objects are there ?")].concat()
    );
    assert_eq!(ids("a dog.<eos>"), [ids("a dog ."), vec![3]].concat());
    assert_eq!(
        tokenizer.decode(&ids("a dog.<eos><pad>"), true).unwrap(),
        "a dog."
    );
    assert!(
        tokenizer.encode("a unicorn", true).is_err(),
        "the vocabulary is closed"
    );
    let special = read_json(&dir.join("special_tokens_map.json"));
    assert_eq!(
        (&special["eos_token"], &special["pad_token"]),
        (&json!("<eos>"), &json!("<pad>"))
    );
    let config = read_json(&dir.join("tokenizer_config.json"));
    assert_eq!(config["added_tokens_decoder"]["1"]["content"], "<image>");
}
