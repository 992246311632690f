//! Labels that stay at the client: what no message says, and what rows tell all the same.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qtl_codec::Plane;
use qtl_data::example::IGNORED;
use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_model::Device;
use qtl_train::ServerWork;
use qtl_train::client::{Client, Ended};
use qtl_train::start::Start;
use qtl_wire::limits::Limits;
use qtl_wire::message::{ClientMessage, On, encode_client};
use qtl_wire::verb::Request;
use qtl_wire::{Exchange, LocalLink};

use crate::world::{Drawn, Tapped, blueprint, recipe};

/// The same pictures, questions and masks, other answers.
struct Otherwise;

impl Source for Otherwise {
    fn lengths(&self) -> Vec<i64> {
        Drawn.lengths()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Example, DataError> {
        let mut example = Drawn::example(index);
        for span in &mut example.spans {
            for label in span.labels.iter_mut().filter(|label| **label != IGNORED) {
                *label = 4 + (*label + 51) % 110;
            }
        }
        Ok(example)
    }
}

/// What the client of a run has sent, message by message.
fn sent(source: Arc<dyn Source>, sets: &[&str], dir: &Path) -> Vec<Request> {
    let (recipe, device) = (recipe("", sets), Device::default());
    let start = Start::from(&blueprint(&recipe));
    let server_dir = dir.join("server");
    let server = ServerWork::open(recipe.clone(), &start, Some(&server_dir), device.clone());
    let mut said = Vec::new();
    let mut link = Tapped {
        link: LocalLink::local(server.unwrap()),
        ask: |link: &mut LocalLink<ServerWork>, request: Request| {
            said.push(request.clone());
            link.ask(request)
        },
    };
    let mut client = Client::open(recipe, &start, source, dir, "test", device).unwrap();
    let stop = AtomicBool::new(false);
    let ended = client.train(&mut link, &stop, &mut |_| {}).unwrap();
    assert_eq!(ended, Ended::Finished);
    said
}

/// The first of them that is wanted, as it travels.
fn first(said: &[Request], wanted: fn(&Request) -> bool) -> Vec<u8> {
    let found = said.iter().find(|request| wanted(request)).unwrap().clone();
    let on = On {
        lane: 0,
        sequence: 0,
    };
    let message = encode_client(ClientMessage::Request(on, found), &Limits::default());
    message.unwrap().bytes.to_vec()
}

#[test]
fn the_first_message_says_nothing_of_the_targets_and_the_server_keeps_no_loss() {
    let sets = &[
        "split.labels=client",
        "quantizer.image={kind='fsq', levels=4, statistics='channel'}",
        "quantizer.text={kind='fsq', levels=4, statistics='channel'}",
        "quantizer.calibration_batches=1",
        "train.steps=2",
    ][..];
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let sources: [Arc<dyn Source>; 2] = [Arc::new(Drawn), Arc::new(Otherwise)];
    let runs: Vec<Vec<Request>> = sources
        .into_iter()
        .zip(&dirs)
        .map(|(source, dir)| sent(source, sets, dir.path()))
        .collect();
    let rises: Vec<_> = runs
        .iter()
        .map(|run| first(run, |r| matches!(r, Request::ForwardHidden(_))))
        .collect();
    assert_eq!(rises[0], rises[1]);
    let falls: Vec<_> = runs
        .iter()
        .map(|run| first(run, |r| matches!(r, Request::BackwardHidden(_))))
        .collect();
    assert_ne!(falls[0], falls[1], "the gradient of the hidden states does");
    for request in &runs[0] {
        let quiet = !matches!(
            request,
            Request::Forward(_) | Request::Open(_) | Request::Next(_)
        );
        assert!(quiet, "a message with room for a target or a token");
    }
    for file in walk(&dirs[0].path().join("server")) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("loss"), "{}", file.display());
    }
    assert!(
        std::fs::read_to_string(dirs[0].path().join("metrics.jsonl"))
            .unwrap()
            .contains("loss")
    );
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    assert!(!found.is_empty());
    found
}

/// With the cut at the input the answers' own rows tell them: whoever holds the public base looks each row up.
#[test]
fn labels_at_the_client_are_read_off_the_rows_of_the_answers() {
    let sets = &[
        "split.labels=client",
        "quantizer.text_rows=all",
        "train.steps=1",
    ][..];
    let dir = tempfile::tempdir().unwrap();
    let said = sent(Arc::new(Drawn), sets, dir.path());
    let rise = said.into_iter().find_map(|request| match request {
        Request::ForwardHidden(rise) => Some(rise),
        _ => None,
    });
    let rise = rise.unwrap();
    // What the server has: the message, and the base that everybody has.
    let device = Device::default();
    let public = blueprint(&recipe("", sets))
        .client(&device)
        .unwrap()
        .partition;
    let table = public.bottom.embed_tokens.table();
    let [vocab, width] = table.dims();
    let table: Vec<f32> = table.into_data().iter::<f32>().collect();
    let (text, _) = qtl_codec::decode(&rise.cut.text, &Default::default()).unwrap();
    let [Plane::Scalars(rows)] = text.planes.as_slice() else {
        panic!("16-bit floats");
    };
    let read: Vec<i64> = rows
        .to_f32()
        .chunks_exact(width)
        .map(|row| {
            let far = |token: &usize| -> f32 {
                let own = &table[token * width..][..width];
                own.iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum()
            };
            let nearest = (0..vocab).min_by(|a, b| far(a).total_cmp(&far(b)));
            nearest.unwrap() as i64
        })
        .collect();
    let (mask, _) = qtl_codec::decode(&rise.wanted, &Default::default()).unwrap();
    let [Plane::Symbols(mask)] = mask.planes.as_slice() else {
        panic!("bits");
    };
    let supervised = mask.data.iter().map(|bit| bit == 1);
    let mut told: Vec<i64> = read
        .iter()
        .zip(supervised)
        .filter(|(_, s)| *s)
        .map(|(id, _)| *id)
        .collect();
    // Every answer of the batch, whichever two samples it was.
    assert_eq!(told.len(), 6);
    let answers: Vec<Vec<i64>> = (0..16)
        .map(|index| Drawn::example(index).spans[0].labels[4..].to_vec())
        .collect();
    let second = told.split_off(3);
    assert!(
        answers.contains(&told) && answers.contains(&second),
        "{told:?} {second:?}"
    );
}
