use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use qtl_data::Reader;
use qtl_leakage::attack::ATTACKS;
use qtl_leakage::kept::Kept;
use qtl_leakage::suite::{Event, Suite};
use qtl_leakage::{LeakageError, Setting, page};
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
        most: [12, 60],
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
    let first = few.run(&mut |_| {}).unwrap();
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
    let all = all.unwrap();
    assert_eq!(all.len(), 1 + 4 + 4);
    assert_eq!(begun.len(), 4, "{begun:?}");
    assert!(begun.iter().all(|what| what.starts_with("collage")));

    let html = dir.path().join("page.html");
    page::write(
        &html,
        Vec::new(),
        &all,
        &Kept::at(&many.out),
        64,
        String::new(),
    )
    .unwrap();
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

    let other = Suite { seed: 5, ..many };
    let error = other.run(&mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("give --out a new directory"), "{error}");
    let data = [1, 0].map(|which: usize| other.data[which].clone());
    let others = Suite {
        seed: 0,
        data,
        ..other
    };
    let error = others.run(&mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("data"), "{error}");
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

#[test]
fn messages_of_a_run_are_read_as_they_crossed() {
    use qtl_train::dry::{self, Messages};
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let mut suite = suite(dir.path(), &["targets", "dictionary", "collage"], &stop);
    let (recipe, device) = (&suite.recipe, qtl_model::Device::default);
    let start = recipe.blueprint(&base()).unwrap();
    let source: std::sync::Arc<dyn qtl_data::loader::Source> = suite.victims.clone();
    let run = dir.path().join("run");
    let mut client = qtl_train::Client::open(
        recipe.clone(),
        &start,
        source.clone(),
        &run,
        "run",
        device(),
    )
    .unwrap();
    let server =
        qtl_train::ServerWork::open(recipe.clone(), &start, Some(&run.join("server")), device());
    let mut link = qtl_wire::LocalLink::local(server.unwrap());
    let messages = Messages::into_dir(&dir.path().join("messages")).unwrap();
    link.listened(messages.listener());
    let enough = AtomicBool::new(false);
    client
        .train(&mut link, &enough, &mut |event| {
            let step = matches!(event, qtl_train::client::Event::Step(_));
            enough.fetch_or(step, std::sync::atomic::Ordering::Relaxed);
        })
        .unwrap();
    let lines = messages.close(recipe, &source).unwrap();
    assert_eq!(lines.iter().filter(|line| line.is_step()).count(), 1);
    assert!(dry::read(&dir.path().join("messages")).unwrap().len() == lines.len());

    suite.messages = Some(dir.path().join("messages"));
    let outcomes = suite.run(&mut |_| {}).unwrap();
    let told = outcomes
        .iter()
        .find(|outcome| outcome.attack == "targets")
        .unwrap();
    assert_eq!(told.findings[0].value, Some(100.0));
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.view.starts_with("the recipe's"))
    );
    // They are of these samples and of no others.
    suite.victims = scenes(&dir.path().join("others"), &suite.recipe, 23, 12);
    suite.out = dir.path().join("other");
    assert!(suite.run(&mut |_| {}).is_err());
}
