use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use qtl_data::Reader;
use qtl_leakage::attack::ATTACKS;
use qtl_leakage::suite::{Event, Suite};
use qtl_leakage::{LeakageError, Setting, page};
use qtl_train::dry::{self, Messages, Origin};
use qtl_train::stamp::Stamp;

use crate::world::{base, recipe, scenes};

/// A suite on few scenes, of these attacks.
fn suite<'a>(dir: &Path, attacks: &[&str], stop: &'a AtomicBool) -> Suite<'a> {
    let recipe = recipe(&["quantizer.image={ kind = 'fsq', levels = 4 }"]);
    let wanted =
        |attack: &&&'static dyn qtl_leakage::attack::Attack| attacks.contains(&attack.name());
    let victims = scenes(&dir.join("victims"), &recipe, 21, 12);
    let auxiliary = scenes(&dir.join("auxiliary"), &recipe, 22, 60);
    let stamp = |name: &str, source: &Reader| {
        let (at, pictures) = (dir.join(name), source.entries());
        let pictures: Vec<&Path> = pictures.filter_map(|e| e.image.as_deref()).collect();
        let samples = source.entries().len();
        Stamp::of(
            &at.join("llava.json"),
            &at.join("images"),
            samples,
            &pictures,
        )
        .unwrap()
    };
    Suite {
        model: base(),
        base: Some(base()),
        data: [
            stamp("victims/21", &victims),
            stamp("auxiliary/22", &auxiliary),
        ],
        victims,
        auxiliary,
        members: None,
        most: [12, 60],
        exact: true,
        also: Vec::new(),
        attacks: ATTACKS.iter().filter(wanted).copied().collect(),
        messages: None,
        budget: Duration::from_secs(4),
        device: qtl_model::Device::flex(),
        seed: 0,
        out: dir.join("out"),
        stop,
        recipe,
    }
}

#[test]
fn a_suite_goes_on_where_it_was_and_ends_in_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let few = suite(
        &dir.path().join("a"),
        &["mean picture", "dictionary"],
        &stop,
    );
    let results = few.run(&mut |_| {}).unwrap();
    // As long as they are held, nobody else writes there.
    let error = few.run(&mut |_| {}).unwrap_err();
    assert!(matches!(error, LeakageError::Lock(_)), "{error}");
    let first = results.outcomes.clone();
    assert_eq!(results.used.map(|used| used.samples), [12, 60]);
    drop(results);
    // A picture's baseline once; the dictionary under two quantizers in two settings.
    assert_eq!(first.len(), 1 + 4);
    let settings = first.iter().map(|outcome| outcome.setting);
    assert!(
        settings.clone().any(|s| s == Setting::Base) && settings.clone().any(|s| s == Setting::Any)
    );
    let many = Suite {
        attacks: ATTACKS
            .iter()
            .filter(|attack| ["dictionary", "collage"].contains(&attack.name()))
            .copied()
            .collect(),
        out: few.out.clone(),
        recipe: few.recipe.clone(),
        ..suite(&dir.path().join("b"), &[], &stop)
    };
    let mut begun = Vec::new();
    let all = many.run(&mut |event| {
        if let Event::Begins { what, .. } = event {
            begun.push(what);
        }
    });
    let results = all.unwrap();
    let all = &results.outcomes;
    assert_eq!(all.len(), 1 + 4 + 4);
    assert_eq!(begun.len(), 4, "{begun:?}");
    assert!(begun.iter().all(|what| what.starts_with("collage")));

    let html = dir.path().join("page.html");
    page::write(&html, Vec::new(), all, &results.kept, 64, String::new()).unwrap();
    drop(results);
    let text = std::fs::read_to_string(html).unwrap();
    for expected in [
        "insider",
        "public base",
        "(mean picture)",
        "data:image/png",
        "PSNR dB",
    ] {
        assert!(text.contains(expected), "{expected}");
    }

    // Reconstructions that are lost are made again, and nothing else.
    let parts = std::fs::read_dir(many.out.join("parts")).unwrap();
    let mut pictures = parts.map(|entry| entry.unwrap().path());
    let lost = pictures.find(|path| path.extension().is_some_and(|end| end == "rgb"));
    let lost = lost.unwrap();
    let whole = std::fs::read(&lost).unwrap();
    std::fs::write(&lost, &whole[..10]).unwrap();
    begun.clear();
    let again = many.run(&mut |event| {
        if let Event::Begins { what, .. } = event {
            begun.push(what);
        }
    });
    assert_eq!((again.unwrap().outcomes.len(), begun.len()), (1 + 4 + 4, 1));
    assert_eq!(std::fs::read(&lost).unwrap(), whole);

    let other = Suite { seed: 5, ..many };
    let error = other.run(&mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("another --seed;"), "{error}");
    let data = [1, 0].map(|which: usize| other.data[which].clone());
    let others = Suite {
        seed: 0,
        data,
        ..other
    };
    let error = others.run(&mut |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("--data") && error.contains("--auxiliary"),
        "{error}"
    );
}

#[test]
fn a_suite_that_is_stopped_says_so_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(true);
    let suite = suite(dir.path(), &["inverse"], &stop);
    assert!(matches!(suite.run(&mut |_| {}), Err(LeakageError::Stopped)));
    let left = std::fs::read_dir(suite.out.join("parts")).unwrap().count();
    assert_eq!(left, 0);
}

/// The messages of one step of the suite's model on the victims, in a directory.
fn messages(suite: &Suite<'_>, dir: &Path) -> std::path::PathBuf {
    let (recipe, device) = (&suite.recipe, qtl_model::Device::default);
    let start = recipe.blueprint(&base()).unwrap();
    let source: std::sync::Arc<dyn qtl_data::loader::Source> = suite.victims.clone();
    let run = dir.join("run");
    let client = qtl_train::Client::open(
        recipe.clone(),
        &start,
        source.clone(),
        &run,
        "run",
        device(),
    );
    let server =
        qtl_train::ServerWork::open(recipe.clone(), &start, Some(&run.join("server")), device());
    let mut link = qtl_wire::LocalLink::local(server.unwrap());
    let out = dir.join("messages");
    let messages = Messages::into_dir(&out).unwrap();
    let origin = Origin {
        model: qtl_train::digest::of_dir(&base()).unwrap(),
        adapter: None,
        data: suite.data[0].clone(),
    };
    messages.are_of(&origin).unwrap();
    link.listened(messages.listener());
    let enough = AtomicBool::new(false);
    let trained = client.unwrap().train(&mut link, &enough, &mut |event| {
        let step = matches!(event, qtl_train::client::Event::Step(_));
        enough.fetch_or(step, std::sync::atomic::Ordering::Relaxed);
    });
    trained.unwrap();
    let lines = messages.close(recipe, &source).unwrap();
    assert_eq!(lines.iter().filter(|line| line.is_step()).count(), 1);
    assert!(dry::read(&out).unwrap().len() == lines.len());
    out
}

#[test]
fn messages_of_a_run_are_read_as_they_crossed_and_no_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let mut suite = suite(dir.path(), &["targets", "dictionary", "collage"], &stop);
    let made = messages(&suite, dir.path());
    suite.messages = Some(made.clone());
    let results = suite.run(&mut |_| {}).unwrap();
    let outcomes = &results.outcomes;
    let told = outcomes.iter().find(|outcome| outcome.attack == "targets");
    assert_eq!(told.unwrap().findings[0].value, Some(100.0));
    let own = |outcome: &qtl_leakage::Outcome| outcome.view.starts_with("the recipe's");
    assert!(outcomes.iter().all(own));
    // One batch, not all victims.
    assert_eq!(results.used[0].samples, 8);
    drop(results);

    suite.out = dir.path().join("other");
    let refused = |suite: &Suite<'_>, expected: &str| {
        let error = suite.run(&mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!suite.out.exists() || !suite.out.join("leakage.json").exists());
    };
    suite.most[0] = 7;
    refused(&suite, "at most --victims 7");
    suite.out = dir.path().join("third");
    suite.most[0] = 12;
    let plain = suite.recipe.clone();
    suite.recipe = recipe(&["quantizer.image={ kind = 'fsq', levels = 8 }"]);
    refused(&suite, "quantizer.image.levels is 4");
    suite.recipe = plain;
    suite.data.swap(0, 1);
    refused(&suite, "give the --data");
    suite.data.swap(0, 1);
    let note = made.join("made-of.json");
    let origin = std::fs::read_to_string(&note).unwrap();
    let model = qtl_train::digest::of_dir(&base()).unwrap();
    std::fs::write(&note, origin.replace(&model, "00")).unwrap();
    refused(&suite, "another model");
    std::fs::remove_file(&note).unwrap();
    refused(&suite, "made-of.json");
    std::fs::write(&note, origin).unwrap();
    // A message that is broken is named.
    let line = dry::read(&made)
        .unwrap()
        .into_iter()
        .find(dry::Line::is_step);
    let file = made.join(line.unwrap().file);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused(&suite, &file.display().to_string());
}

#[test]
fn pictures_of_the_victims_are_not_the_attackers_and_broken_ones_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let mut suite = suite(dir.path(), &["mean picture"], &stop);
    // Of the same seed: the first pictures are the victims'.
    suite.auxiliary = scenes(&dir.path().join("more"), &suite.recipe, 21, 40);
    let broken = suite.victims.entry(3).image.clone().unwrap();
    let images = dir.path().join("victims/21/images");
    std::fs::write(images.join(broken), b"no picture").unwrap();
    suite.out = dir.path().join("out");
    let [victims, own] = suite.run(&mut |_| {}).unwrap().used;
    assert_eq!((victims.samples, victims.unread), (11, 1));
    assert_eq!((own.samples, own.shared), (29, 11));

    suite.data[1] = suite.data[0].clone();
    let error = suite.run(&mut |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("--auxiliary has the same samples"),
        "{error}"
    );
}
