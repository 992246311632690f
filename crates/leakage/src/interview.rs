//! Asking a model about pictures that it is shown, or about rows that a server has received.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use qtl_codec::Code;
use qtl_data::example::ask;
use qtl_data::{Processor, Reader, Turn};
use qtl_model::edge::{Cut, StepError};
use qtl_model::generate::{InProcess, Remote, answers};
use qtl_model::splice::{Sample, splice};
use qtl_model::stage::{self, Batch};
use qtl_model::text::Answering;
use qtl_train::Recipe;

use crate::error::LeakageError;
use crate::finding::Finding;
use crate::halves::Halves;
use crate::pictures::Pictures;
use crate::questions::{Asked, Catalogue};
use crate::seen::Seen;

/// Questions that are answered together.
const TOGETHER: usize = 64;
/// The longest answer in tokens.
const LONGEST: usize = 8;

/// Who is asked, and how.
pub struct Interview<'a> {
    /// The model.
    pub halves: &'a Halves,
    /// Tokenizer, template and processor.
    pub reader: &'a Reader,
    /// How turns are laid out.
    pub recipe: &'a Recipe,
    /// The questions.
    pub catalogue: &'a Catalogue,
}

impl Interview<'_> {
    /// The answers to questions about pictures that the model is shown.
    ///
    /// # Errors
    ///
    /// [`LeakageError`]
    pub fn shown(&self, asked: &[Asked], pictures: &Pictures) -> Result<Vec<String>, LeakageError> {
        let processor = self.reader.processor();
        let mut said = Vec::with_capacity(asked.len());
        for some in asked.chunks(TOGETHER) {
            let bytes = some.iter().map(|one| pictures.at(one.picture));
            let batch = self.batch(some, processor, bytes)?;
            let mut server = InProcess::new(&self.halves.server);
            said.extend(self.answers(&batch, &mut server)?);
        }
        Ok(said)
    }

    /// The answers to questions about the pictures of messages that were received: their rows as they came, the question's
    /// from the half that the asker has.
    ///
    /// # Errors
    ///
    /// [`LeakageError`]
    pub fn received(&self, asked: &[Asked], seen: &Seen) -> Result<Vec<String>, LeakageError> {
        let processor = self.reader.processor();
        let blank = vec![128u8; 3 * processor.side() * processor.side()];
        let mut said: Vec<Option<String>> = vec![None; asked.len()];
        let mut of_sample: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, one) in asked.iter().enumerate() {
            of_sample
                .entry(seen.shown_by[one.picture])
                .or_default()
                .push(place);
        }
        let mut first = 0;
        for cut in &seen.cuts {
            let samples = first..first + cut.layout.sequences.len();
            first = samples.end;
            // One question about each sample at a time: the message's code stays as it came. Samples without one are asked
            // anything.
            let rounds = samples
                .clone()
                .map(|s| of_sample.get(&s).map_or(0, Vec::len));
            let Some(image) = cut.image.as_ref().filter(|_| whole(cut, seen.tokens)) else {
                continue;
            };
            let Some(any) = samples.clone().find_map(|s| of_sample.get(&s)?.first()) else {
                continue;
            };
            for round in 0..rounds.max().unwrap_or(0) {
                let place = |s: usize| of_sample.get(&s).and_then(|own| own.get(round)).copied();
                let places: Vec<Option<usize>> = samples.clone().map(place).collect();
                let some: Vec<Asked> = places
                    .iter()
                    .map(|p| asked[p.unwrap_or(*any)].clone())
                    .collect();
                let bytes = some.iter().map(|_| blank.as_slice());
                let batch = self.batch(&some, processor, bytes)?;
                let mut server = Replayed {
                    server: InProcess::new(&self.halves.server),
                    image: image.clone(),
                };
                let answers = self.answers(&batch, &mut server)?;
                for (place, answer) in places.into_iter().zip(answers) {
                    if let Some(place) = place {
                        said[place] = Some(answer);
                    }
                }
            }
        }
        Ok(said.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// How many answers are right, in all and by form of question.
    pub fn score(&self, what: &str, asked: &[Asked], said: &[String]) -> Vec<Finding> {
        let mut forms: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
        for (one, said) in asked.iter().zip(said) {
            let form = &self.catalogue.questions[one.question].form;
            let [right, count] = forms.entry(form).or_default();
            *right += usize::from(one.answer == *said);
            *count += 1;
        }
        let all = forms
            .values()
            .fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
        let each = forms.iter().map(|(form, [right, count])| {
            Finding::share(format!("{what} '{form}..' %"), *right, *count)
        });
        let all = Finding::share(format!("{what} %"), all[0], all[1]);
        std::iter::once(all).chain(each).collect()
    }

    fn batch<'b>(
        &self,
        asked: &[Asked],
        processor: &Processor,
        pictures: impl Iterator<Item = &'b [u8]>,
    ) -> Result<Batch, LeakageError> {
        let mut pixels = Vec::new();
        pictures.for_each(|bytes| pixels.extend(processor.normalised(bytes).data));
        let spans = asked.iter().map(|one| {
            let turn = Turn {
                question: self.catalogue.questions[one.question].text.clone(),
                answer: None,
            };
            let (template, tokenizer) = (self.reader.template(), self.reader.tokenizer());
            ask(
                template,
                tokenizer,
                &[turn],
                true,
                &self.recipe.data.turns(),
            )
        });
        let spans = spans.collect::<Result<Vec<_>, _>>()?;
        let samples: Vec<Sample<'_>> = spans
            .iter()
            .enumerate()
            .map(|(i, spans)| Sample {
                spans,
                pictures: i..i + 1,
            })
            .collect();
        let tokens = self.halves.client.tokens_per_picture();
        let side = processor.side();
        let data = TensorData::new(pixels, [asked.len(), 3, side, side]);
        Ok(Batch {
            pictures: Some(stage::Pictures::Pixels(Tensor::from_data(
                data,
                &self.halves.client.device(),
            ))),
            spliced: splice(&samples, tokens, self.recipe.data.max_length)?,
        })
    }

    fn answers<R>(&self, batch: &Batch, server: &mut R) -> Result<Vec<String>, LeakageError>
    where
        R: Remote<Error = StepError>,
    {
        let tokenizer = self.reader.tokenizer();
        let own = self.reader.template().end(tokenizer)?;
        let end = tokenizer.eos().into_iter().chain(own);
        let how = Answering::greedy(end.map(|id| id as u32).collect(), LONGEST);
        let ids = answers(&self.halves.client, batch, server, &how, &mut |_, _| true)?;
        let texts = ids.iter().map(|ids| tokenizer.answer(ids));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        Ok(texts.iter().map(|text| text.trim().to_owned()).collect())
    }
}

/// Whether every sequence shows one whole picture, as those do that are asked about.
fn whole(cut: &Cut, tokens: usize) -> bool {
    use qtl_model::splice::Kind;
    cut.layout.sequences.iter().all(|spans| {
        let rows = spans.iter().filter(|span| span.kind == Kind::Image);
        rows.map(|span| span.len).sum::<usize>() == tokens
    })
}

/// A server that looks at the image rows of a message that it has received, whatever it is shown.
struct Replayed<'a> {
    server: InProcess<'a>,
    image: Code,
}

impl Replayed<'_> {
    fn instead(&self, prompts: Cut) -> Cut {
        Cut {
            image: Some(self.image.clone()),
            ..prompts
        }
    }
}

impl Remote for Replayed<'_> {
    type Error = StepError;

    fn open(&mut self, prompts: Cut) -> Result<Vec<u32>, StepError> {
        self.server.open(self.instead(prompts))
    }

    fn next(&mut self, keep: &[usize], rows: Code) -> Result<Vec<u32>, StepError> {
        self.server.next(keep, rows)
    }

    fn open_hidden(&mut self, prompts: Cut) -> Result<Code, StepError> {
        self.server.open_hidden(self.instead(prompts))
    }

    fn next_hidden(&mut self, keep: &[usize], rows: Code) -> Result<Code, StepError> {
        self.server.next_hidden(keep, rows)
    }

    fn wrong(error: StepError) -> StepError {
        error
    }
}
