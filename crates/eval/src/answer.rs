//! A model's answers to questions about pictures, wherever its two halves are.

use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use qtl_data::example::{PLACEHOLDER, ask, rows};
use qtl_data::image::{ImageFault, PictureRules};
use qtl_data::{Aspect, DataError, Processor, Template, TokenSpan, Tokenizer, Turn, Turns};
use qtl_model::edge::StepError;
use qtl_model::generate::{Remote, answers};
use qtl_model::partition::ClientPartition;
use qtl_model::prompts::{Prompts, splice_prompts};
use qtl_model::sampling::Sampling;
use qtl_model::splice::{Sample, SpliceError, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::text::Answering;

use crate::benchmark::{Picture, Question};

/// Everything of a client that answers questions.
#[derive(Debug, Clone)]
pub struct Answerer<'a> {
    /// The client's half of the model.
    pub client: &'a ClientPartition,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its conversation template.
    pub template: &'a dyn Template,
    /// How its tower wants pictures.
    pub processor: &'a Processor,
    /// What to do with pictures that are not square.
    pub aspect: Aspect,
    /// How picture files are read.
    pub pictures: &'a PictureRules,
    /// How turns were laid out in training.
    pub turns: Turns,
    /// Prompts are cut at this many tokens, pictures included.
    pub max_length: usize,
    /// The longest answer in tokens, if not what each question's benchmark has.
    pub longest: Option<usize>,
    /// Positions that the language model has.
    pub positions: usize,
    /// Whether every picture is replaced by one of the tower's mean colour: what a model scores without looking.
    pub blank: bool,
    /// How tokens are chosen. Only a client that has the labels can draw them.
    pub sampling: Sampling,
    /// Questions decoded together at most; one, where a quantizer looks at a whole message.
    pub batch: usize,
    /// Their number times the square of the longest of them, its answer included, at most: what attention takes memory for.
    pub scores: u64,
}

/// Why a question has no answer. `E` is the error of the way to the server.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// A picture cannot be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A question cannot be tokenized.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A prompt shows more pictures than it has.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// A conversation that leaves no room for an answer.
    #[error(
        "the conversation has {length} tokens, picture included, and the model takes {longest}; shorten it or begin a new one"
    )]
    Length {
        /// Its length.
        length: usize,
        /// The longest that leaves room.
        longest: usize,
    },
    /// The server or the way to it.
    #[error("{0}")]
    Remote(E),
    /// The answers cannot be kept.
    #[error("the answers cannot be written: {0}")]
    Written(std::io::Error),
}

/// Pictures, and which of a batch's they are.
type Shown<'a> = (&'a [Picture], Result<Range<usize>, Miss>);

/// What became of one question of many.
pub type Outcome = Result<Answer, Miss>;

/// Is told of questions and what became of them.
pub type Told<'a> = dyn FnMut(&[&Question], &[Outcome]) -> std::io::Result<()> + 'a;

/// Questions that are asked together: of one length of answers, as many pictures as there is room for with all their questions.
/// Questions stand picture by picture.
fn chunks(questions: &[Question], most: usize) -> impl Iterator<Item = &[Question]> {
    let runs = questions.chunk_by(|a, b| a.longest == b.longest);
    runs.flat_map(move |mut rest| {
        std::iter::from_fn(move || {
            let mut end = 0;
            for about_one in rest.chunk_by(|a, b| a.pictures == b.pictures) {
                if end > 0 && end + about_one.len() > most {
                    break;
                }
                end += about_one.len();
            }
            let (chunk, left) = rest.split_at(end.min(most));
            rest = left;
            (!chunk.is_empty()).then_some(chunk)
        })
    })
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the model says.
    pub text: String,
    /// Whether the question was longer than the model takes, so that its end was not read. The reference cuts it, too.
    pub cut: bool,
}

/// Why one question of many has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Miss(pub String);

/// A picture that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{problem}")]
pub struct PictureError {
    /// The picture.
    pub path: PathBuf,
    /// Why not, with its path and the cure.
    pub problem: String,
}

impl Answerer<'_> {
    /// Asks every question whose answer is not `known`, in their order. `done` is told of each chunk's questions and what became
    /// of them, as it goes: a question whose picture cannot be read, or that cannot be tokenized, is a miss and does not end the
    /// rest.
    ///
    /// # Errors
    ///
    /// What the server reports, or what `done` says.
    pub fn ask<R: Remote>(
        &self,
        questions: &[Question],
        mut known: Vec<Option<String>>,
        remote: &mut R,
        done: &mut Told<'_>,
    ) -> Result<Vec<Outcome>, AnswerError<R::Error>> {
        known.resize(questions.len(), None);
        let mut known = known.into_iter();
        let mut answers = Vec::with_capacity(questions.len());
        for chunk in chunks(questions, self.batch.max(1)) {
            let known: Vec<Option<String>> = known.by_ref().take(chunk.len()).collect();
            let both = chunk.iter().zip(&known);
            let left = both.filter(|(_, known)| known.is_none());
            let left: Vec<&Question> = left.map(|(question, _)| question).collect();
            let mut given = Vec::new();
            if !left.is_empty() {
                given = self.chunk(&left, remote)?;
                done(&left, &given).map_err(AnswerError::Written)?;
            }
            let mut given = given.into_iter();
            answers.extend(known.into_iter().filter_map(|known| match known {
                Some(text) => Some(Ok(Answer { text, cut: false })),
                None => given.next(),
            }));
        }
        Ok(answers)
    }

    /// Answers the last turn of a conversation, which is open, about a picture that its first turn shows, or about none.
    /// Ends before a token of `end`, after the longest answer, or when `seen`, which is told of every token as it comes,
    /// says so by `false`. Unlike the questions of a suite, a conversation that is too long is not cut.
    ///
    /// # Errors
    ///
    /// [`AnswerError`], also what the server reports.
    pub fn converse<R: Remote>(
        &self,
        turns: &[Turn],
        picture: Option<&[f32]>,
        end: &[u32],
        remote: &mut R,
        seen: &mut dyn FnMut(u32) -> bool,
    ) -> Result<(), AnswerError<R::Error>> {
        let pictured = picture.is_some();
        let spans = ask(self.template, self.tokenizer, turns, pictured, &self.turns)?;
        let sample = Sample {
            spans: &spans,
            pictures: 0..usize::from(pictured),
        };
        let spliced = splice(&[sample], self.client.tokens_per_picture(), usize::MAX)?;
        let length = spliced.layout.lengths().iter().sum();
        let longest = self.max_length.saturating_sub(1);
        if length > longest {
            return Err(AnswerError::Length { length, longest });
        }
        let batch = Batch {
            pictures: picture.map(|pixels| Pictures::Pixels(self.tensor(pixels.to_vec(), 1))),
            spliced,
        };
        let how = Answering {
            end: end.to_vec(),
            longest: self
                .longest
                .unwrap_or(usize::MAX)
                .min(self.max_length - length),
            sampling: self.sampling,
        };
        answers(self.client, &batch, remote, &how, &mut |_, id| seen(id))
            .map_err(AnswerError::Remote)?;
        Ok(())
    }

    /// The pixels of a picture as the tower wants them: [3, side, side].
    ///
    /// # Errors
    ///
    /// The picture is missing or cannot be decoded.
    pub fn picture(&self, path: &Path) -> Result<Vec<f32>, PictureError> {
        let pixels = self.processor.read(path, self.aspect, self.pictures);
        let pixels = pixels.map_err(|fault| PictureError {
            path: path.to_owned(),
            problem: match fault {
                ImageFault::Sample(fault, problem) => format!("{problem}; {}", fault.cure()),
                ImageFault::System(source) => format!("{}: {source}", path.display()),
            },
        })?;
        Ok(pixels.data)
    }

    /// The pixels of a question's picture.
    fn seen(&self, picture: &Picture) -> Result<Vec<f32>, Miss> {
        match &picture.absent {
            Some(why) => Err(Miss(why.clone())),
            None if self.blank => Ok(vec![0.0; 3 * self.processor.side().pow(2)]),
            None => self
                .picture(&picture.path)
                .map_err(|error| Miss(error.to_string())),
        }
    }

    fn tensor(&self, pixels: Vec<f32>, pictures: usize) -> Tensor<4> {
        let side = self.processor.side();
        let data = TensorData::new(pixels, [pictures, 3, side, side]);
        Tensor::from_data(data, &self.client.device())
    }

    /// The ids that ask a question. Several pictures stand where the template puts the one, in a row: the reference knows no
    /// prompt with several.
    fn prompt(&self, question: &Question) -> Result<Vec<TokenSpan>, Miss> {
        let turn = Turn {
            question: question.text.clone(),
            answer: None,
        };
        let pictures = question.pictures.len();
        let spans = ask(
            self.template,
            self.tokenizer,
            &[turn],
            pictures > 0,
            &self.turns,
        );
        let mut spans = spans.map_err(|error| Miss(error.to_string()))?;
        if pictures > 1 {
            for span in &mut spans {
                let both = span.ids.iter().copied().zip(span.labels.iter().copied());
                let times = |id| if id == PLACEHOLDER { pictures } else { 1 };
                let each = both.flat_map(|(id, label)| std::iter::repeat_n((id, label), times(id)));
                (span.ids, span.labels) = each.unzip();
            }
        }
        Ok(spans)
    }

    fn chunk<R: Remote>(
        &self,
        questions: &[&Question],
        remote: &mut R,
    ) -> Result<Vec<Outcome>, AnswerError<R::Error>> {
        let mut pixels = Vec::new();
        let mut pictures = 0;
        let mut shown: Option<Shown<'_>> = None;
        let mut prompts: Vec<(Vec<TokenSpan>, Range<usize>)> = Vec::with_capacity(questions.len());
        let mut outcomes = Vec::with_capacity(questions.len());
        for question in questions {
            let seen = match shown.take() {
                Some((pictures, seen)) if *pictures == question.pictures => seen,
                _ => {
                    let all = question.pictures.iter().map(|picture| self.seen(picture));
                    all.collect::<Result<Vec<_>, _>>().map(|all| {
                        let first = pictures;
                        pictures += all.len();
                        pixels.extend(all.into_iter().flatten());
                        first..pictures
                    })
                }
            };
            shown = Some((&question.pictures, seen.clone()));
            let prompt = seen.and_then(|shown| Ok((self.prompt(question)?, shown)));
            outcomes.push(prompt.map(|(spans, shown)| {
                let cut = rows(&spans, self.client.tokens_per_picture()) > self.max_length;
                prompts.push((spans, shown));
                cut
            }));
        }
        if prompts.is_empty() {
            let missed = outcomes.into_iter().filter_map(Result::err);
            return Ok(missed.map(Err).collect());
        }
        let samples: Vec<Sample<'_>> = prompts
            .iter()
            .map(|(spans, pictures)| Sample {
                spans,
                pictures: pictures.clone(),
            })
            .collect();
        let spliced = splice_prompts(&samples, self.client.tokens_per_picture(), self.max_length)?;
        let wrong = |error: StepError| AnswerError::Remote(R::wrong(error));
        let laid = Prompts::of(&spliced.layout).map_err(|error| wrong(error.into()))?;
        let longest = self
            .longest
            .or(questions.first().map(|question| question.longest));
        let asked = laid.lengths().into_iter().max().unwrap_or(0);
        let longest = longest
            .unwrap_or(1)
            .min(self.positions.saturating_sub(asked))
            .max(1);
        let scores = ((laid.slots() + longest) as u64).pow(2) * questions.len() as u64;
        if scores > self.scores && questions.len() > 1 {
            let (first, second) = questions.split_at(questions.len() / 2);
            let mut answers = self.chunk(first, remote)?;
            answers.extend(self.chunk(second, remote)?);
            return Ok(answers);
        }
        let batch = Batch {
            pictures: (pictures > 0).then(|| Pictures::Pixels(self.tensor(pixels, pictures))),
            spliced,
        };
        let own = self.template.end(self.tokenizer)?;
        let end = self.tokenizer.eos().into_iter().chain(own);
        let how = Answering {
            end: end.map(|id| id as u32).collect(),
            longest,
            sampling: self.sampling,
        };
        let ids = answers(self.client, &batch, remote, &how, &mut |_, _| true)
            .map_err(AnswerError::Remote)?;
        let mut answers = ids.iter().map(|ids| self.tokenizer.answer(ids));
        let answered = |outcome: Result<bool, Miss>| match outcome {
            Ok(cut) => {
                let text = answers.next().transpose()?.unwrap_or_default();
                Ok(Ok(Answer { text, cut }))
            }
            Err(miss) => Ok(Err(miss)),
        };
        outcomes.into_iter().map(answered).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_questions_about_a_picture_are_asked_together() {
        let question = |picture: usize, longest| Question {
            id: String::new(),
            pictures: vec![Picture {
                path: picture.to_string().into(),
                absent: None,
            }],
            text: String::new(),
            form: "pope",
            truth: String::new(),
            longest,
        };
        let of = |pictures: &[usize], most| {
            let all: Vec<_> = pictures.iter().map(|p| question(*p, 9)).collect();
            chunks(&all, most).map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(of(&[1, 1, 1, 2, 2, 2, 3], 4), [3, 4]);
        assert_eq!(of(&[1, 1, 2, 3, 4, 4], 4), [4, 2]);
        assert_eq!(of(&[1, 1, 1, 1, 1, 2, 2], 2), [2, 2, 1, 2]);
        assert_eq!(of(&[1, 2, 3], 1), [1, 1, 1]);
        assert_eq!(of(&[], 3), [0; 0]);
        let two = [question(1, 9), question(1, 8)];
        assert_eq!(chunks(&two, 4).count(), 2);
    }
}
