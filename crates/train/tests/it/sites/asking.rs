//! Answers for a site, while it and the others train.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use qtl_model::Device;
use qtl_model::generate::answers;
use qtl_model::text::Answering;
use qtl_train::answer::Linked;
use qtl_train::client::batch;
use qtl_train::start::Start;
use qtl_train::terms::Facts;
use qtl_train::{Recipe, ServerWork};
use qtl_wire::verb::Request;
use qtl_wire::{Exchange, Purpose, Shared, SharedLink, Standing};

use super::{NAMES, client, key, of_sites, one, run, same, server};
use crate::world::{Drawn, Tapped, blueprint, saved};

/// Answers of four tokens, one after the other, for the first site, each token behind a step that began; how many tokens.
fn asks(recipe: &Recipe, shared: &Shared<ServerWork>, began: &Receiver<()>) -> usize {
    let start = Start::from(&blueprint(recipe));
    let device = Device::default();
    let half = start.client(&device).unwrap();
    let half = half.sending(recipe.quantizer.text_rows);
    let prompts = batch(&half, &[Drawn::example(1)], 256, &device).unwrap();
    let mut link = shared.client(key(NAMES[0]));
    let terms = Facts::of(&start, &half, recipe).with(recipe);
    let standing = Standing::default();
    link.greet(&terms, &standing, Purpose::Generate).unwrap();
    let how = Answering::greedy(Vec::new(), 4);
    let (mut tokens, mut over) = (0, false);
    while !over {
        let mut seen = |_, _| {
            tokens += 1;
            over = began.recv().is_err();
            !over
        };
        let mut remote = Linked::new(&mut link, &half);
        answers(&half, &prompts, &mut remote, &how, &mut seen).unwrap();
    }
    tokens
}

#[test]
fn answers_for_a_site_leave_the_training_of_all_alone() {
    for (mode, sets) in [
        ("sites.mode=rounds", &[][..]),
        ("sites.mode=rounds", &["split.labels=client"]),
        ("sites.mode=turns", &[]),
    ] {
        let recipe = of_sites("", 2, &[&[mode, "sites.average_every=2"], sets].concat());
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [alone, beside] = [dirs[0].path(), dirs[1].path()];
        run(&recipe, alone);
        let shared = Shared::new(server(&recipe, beside));
        let steps = if mode.ends_with("turns") { 3 } else { 6 };
        thread::scope(|scope| {
            let recipe = &recipe;
            // It begins no step before the token is there: an answer is open over several of them.
            let (begins, began) = sync_channel(0);
            let (asked, south) = (shared.clone(), shared.clone());
            let asked = scope.spawn(move || asks(recipe, &asked, &began));
            scope.spawn(move || one(recipe, beside, 1, &south, None));
            let mut link = Tapped {
                link: shared.client(key(NAMES[0])),
                ask: |link: &mut SharedLink<ServerWork>, request: Request| {
                    if matches!(request, Request::Forward(_) | Request::ForwardHidden(_)) {
                        begins.send(()).unwrap();
                    }
                    link.ask(request)
                },
            };
            let never = AtomicBool::new(false);
            let mut north = client(recipe, beside, 0);
            north.train(&mut link, &never, &mut |_| {}).unwrap();
            drop(link);
            drop(begins);
            assert_eq!(asked.join().unwrap(), steps + 1, "{mode} {sets:?}");
        });
        same(alone, beside, 6);
        for name in &NAMES[..2] {
            let of = |dir| saved(dir, name, 6, "model.safetensors");
            assert!(of(alone) == of(beside), "{mode} {sets:?} {name}");
        }
    }
}
