//! Messages that `train --dry-run` wrote, as the server of that run reads them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use qtl_data::Reader;
use qtl_data::loader::Source;
use qtl_model::quant::Moments;
use qtl_train::Recipe;
use qtl_train::changes::matters;
use qtl_train::deltas::Received;
use qtl_train::dry::{self, Line, Origin};
use qtl_train::message::decode;
use qtl_train::stamp::Stamp;
use qtl_wire::message::{ClientMessage, decode_client};
use qtl_wire::verb::Request;
use qtl_wire::{Calibration, Limits};

use crate::error::LeakageError;
use crate::halves::Halves;
use crate::seen::{Seen, receive};

/// A directory of messages.
pub struct Messages<'a> {
    dir: &'a Path,
    lines: Vec<Line>,
}

impl<'a> Messages<'a> {
    /// Those in `dir`, if they are of the model with this digest, of this data and this recipe.
    ///
    /// # Errors
    ///
    /// [`LeakageError::Other`] naming what they are of instead.
    pub fn open(
        dir: &'a Path,
        model: &str,
        data: &Stamp,
        recipe: &Recipe,
    ) -> Result<Self, LeakageError> {
        let lines = dry::read(dir)?;
        let other = |problem: String| LeakageError::Other {
            path: dir.to_owned(),
            problem,
        };
        let Origin {
            model: theirs,
            adapter,
            data: samples,
        } = dry::origin(dir)?;
        if adapter.is_some() {
            return Err(other(
                "these messages are of a model with an adapter on it, on which attacks are not built: fold it first with `merge \
                 --from-adapter`, and make them again with that as --model"
                    .to_owned(),
            ));
        }
        if theirs != model {
            return Err(other(format!(
                "these messages are of another model, whose files have BLAKE3 {theirs}, and those of --model {model}; give the \
                 --model that they were made with"
            )));
        }
        if !samples.agrees(data) {
            return Err(other(format!(
                "these messages are of {samples}, and --data is {data}; give the --data and --images that they were made with"
            )));
        }
        let path = dir.join(dry::RECIPE);
        let text = std::fs::read_to_string(&path).map_err(LeakageError::file(&path))?;
        // Of both as a file has them: numbers are written in their shortest form there.
        let [before, now] = [text, recipe.to_toml()].map(|text| Recipe::fields_of(&text));
        let names = before.keys().chain(now.keys());
        let differs = |name: &&String| before.get(*name) != now.get(*name) && matters(name);
        if let Some(name) = names.into_iter().find(differs) {
            let said = |fields: &std::collections::BTreeMap<String, String>| {
                fields.get(name).cloned().unwrap_or("not set".to_owned())
            };
            return Err(other(format!(
                "these messages are of another recipe: {name} is {} in {} and {} in --recipe; give that recipe",
                said(&before),
                path.display(),
                said(&now)
            )));
        }
        Ok(Self { dir, lines })
    }

    /// Halves whose quantizers start as those of the run did, by what its client said of ranges. A server knows them.
    ///
    /// # Errors
    ///
    /// [`LeakageError`] naming the message.
    pub fn started(&self, mut halves: Halves) -> Result<Halves, LeakageError> {
        for line in self.lines.iter().filter(|line| line.is_calibration()) {
            let message = decode_client(&self.bytes(line)?, &Limits::default());
            let request = message.map_err(|error| self.wrong(line, error))?;
            let ClientMessage::Request(_, Request::Calibration(Calibration { image, text })) =
                request
            else {
                return Err(self.wrong(line, "it is no calibration"));
            };
            let (sender, receiver) = (&mut *halves.client.uplink, &mut *halves.server.uplink);
            let both = [
                (image, &mut *sender.image, &mut *receiver.image),
                (text, &mut *sender.text, &mut *receiver.text),
            ];
            for (bytes, encoder, decoder) in both {
                if bytes.is_empty() {
                    continue;
                }
                let [rows, cols] = decoder.start_shape();
                let told = decode("calibration", &bytes, rows, cols);
                let told = told.map_err(|error| self.wrong(line, error))?;
                let Some(moments) = Moments::read(&told) else {
                    return Err(LeakageError::Unfit(
                        "attacks on messages with codebooks or components that the client has made of its own features are \
                         not built; leave --messages out"
                            .to_owned(),
                    ));
                };
                decoder
                    .start(&told)
                    .map_err(|error| self.wrong(line, error))?;
                encoder.calibrate(&moments);
            }
        }
        Ok(halves)
    }

    /// What the server has of the first `most` samples, which are of `source`.
    ///
    /// # Errors
    ///
    /// [`LeakageError`] naming the message, also where it is of other samples.
    pub fn seen(
        &self,
        halves: &Halves,
        recipe: &Recipe,
        source: &Arc<Reader>,
        most: usize,
    ) -> Result<Seen, LeakageError> {
        let mut seen = Seen::of(halves, source);
        let places: HashMap<&str, usize> = source
            .entries()
            .enumerate()
            .map(|(place, entry)| (entry.id.as_str(), place))
            .collect();
        let all: Arc<dyn Source> = Arc::<Reader>::clone(source);
        let mut batches = dry::batches(recipe, &all)?;
        let mut received = Received::of(recipe, halves.server.vocab_size());
        for line in self.lines.iter().filter(|line| line.is_step()) {
            let examples = batches.next().transpose()?.unwrap_or_default();
            if seen.entries.len() + examples.len() > most {
                break;
            }
            let sent = receive(&self.bytes(line)?, &halves.server, &mut received);
            let sent = sent.map_err(|error| self.wrong(line, error))?;
            if examples.iter().map(|example| &example.id).ne(&line.samples) {
                return Err(self.wrong(line, "it is of other samples than the account says"));
            }
            let batch = halves.batch(&examples, recipe)?;
            if batch.spliced.layout != sent.cut.layout {
                return Err(self.wrong(line, "its samples have other lengths than those of --data"));
            }
            let entries = examples
                .iter()
                .filter_map(|example| places.get(example.id.as_str()));
            let entries: Vec<usize> = entries.copied().collect();
            let taken = seen.take(&halves.server, sent, &batch, (&entries, &examples), source);
            taken.map_err(|error| self.wrong(line, error))?;
        }
        if seen.entries.is_empty() {
            return Err(LeakageError::Other {
                path: self.dir.to_owned(),
                problem: format!(
                    "no message of a step has at most --victims {most} samples: each has {}; give more victims, or make \
                     messages of smaller batches (train.batch)",
                    recipe.train.batch
                ),
            });
        }
        Ok(seen)
    }

    fn bytes(&self, line: &Line) -> Result<Vec<u8>, LeakageError> {
        let path = self.dir.join(&line.file);
        std::fs::read(&path).map_err(LeakageError::file(&path))
    }

    fn wrong(&self, line: &Line, problem: impl std::fmt::Display) -> LeakageError {
        LeakageError::Other {
            path: self.dir.join(&line.file),
            problem: format!("{problem}; make the messages again with `train --dry-run`"),
        }
    }
}
