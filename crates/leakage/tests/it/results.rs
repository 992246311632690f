use std::sync::atomic::AtomicBool;
use std::time::Duration;

use qtl_leakage::attack::ATTACKS;
use qtl_leakage::kept::Kept;
use qtl_leakage::suite::{Event, Suite};
use qtl_leakage::{LeakageError, Setting, page};

use crate::world::{base, recipe, scenes};

/// A suite on few scenes, of these attacks.
fn suite<'a>(dir: &std::path::Path, attacks: &[&str], stop: &'a AtomicBool) -> Suite<'a> {
    let recipe = recipe(&["quantizer.image={ kind = 'fsq', levels = 4 }"]);
    let wanted =
        |attack: &&&'static dyn qtl_leakage::attack::Attack| attacks.contains(&attack.name());
    Suite {
        model: base(),
        base: Some(base()),
        victims: scenes(&dir.join("victims"), &recipe, 21, 12),
        auxiliary: scenes(&dir.join("auxiliary"), &recipe, 22, 60),
        most: [12, 60],
        also: Vec::new(),
        attacks: ATTACKS.iter().filter(wanted).copied().collect(),
        budget: Duration::from_secs(4),
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
