//! What the rest of the system trains on: pixels and spans of token ids.

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::llava::{Conversation, Turn};
use crate::template::{IMAGE_TAG, Template, Tokenized};
use crate::tokenizer::Tokenizer;

/// The id that stands for the picture among token ids.
pub const PLACEHOLDER: i64 = -200;
/// The label of a position that is not supervised.
pub const IGNORED: i64 = -100;

/// A preprocessed picture: normalised, channel first.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Height and width.
    pub side: usize,
    /// `3 x side x side` values, channels R G B.
    pub data: Vec<f32>,
}

/// A stretch of token ids that shares one place in the attention layout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenSpan {
    /// 0: the prefix, seen by every branch. b > 0: sees the prefix and itself only.
    pub branch: u32,
    /// Token ids; [`PLACEHOLDER`] stands for the picture.
    pub ids: Vec<i64>,
    /// As long as `ids`: the id itself where supervised (not yet shifted), else [`IGNORED`].
    pub labels: Vec<i64>,
}

/// One sample, ready for the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The entry's id.
    pub id: String,
    /// The picture; `None` for text only (the reference sends zeros along, which nothing looks at).
    pub pixels: Option<Pixels>,
    /// The token ids, branch 0 first.
    pub spans: Vec<TokenSpan>,
}

/// How the turns of a conversation become spans.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Turns {
    /// One span on branch 0 with the template's ids: each turn sees all earlier ones, as in LLaVA.
    #[default]
    Conversation,
    /// A shared prefix (BOS if the tokenizer puts one, and the picture) on branch 0, then each chosen turn on a branch
    /// of its own. Many questions about one picture then cost one pass of the picture.
    Independent {
        /// How many turns are drawn per sample and epoch, without replacement, kept in order. 0: all.
        #[serde(default)]
        per_sample: usize,
        /// A curriculum: only turns whose question begins with one of these texts are drawn. Empty: all turns; so is
        /// a sample without any such turn.
        #[serde(default)]
        only: Vec<String>,
    },
}

impl Turns {
    /// Whether a question sees none of the earlier ones.
    #[must_use]
    pub fn are_alone(&self) -> bool {
        matches!(self, Self::Independent { .. })
    }
}

/// What decides a draw: the same three numbers give the same draw, whatever was drawn before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawKey {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The entry's place in its file.
    pub index: u64,
}

/// Builds the spans of one sample. `max_length` is the longest sequence of ids that any branch may see (the placeholder
/// counts as one); what is beyond is cut off.
///
/// # Errors
/// Where the tokenizer or template refuses; see [`Template::conversation`].
pub fn spans(
    template: &dyn Template,
    tokenizer: &Tokenizer,
    talk: &Conversation,
    pictured: bool,
    mode: &Turns,
    max_length: usize,
    key: DrawKey,
) -> Result<Vec<TokenSpan>, DataError> {
    match mode {
        Turns::Conversation => {
            let whole = template.conversation(talk, tokenizer, max_length)?;
            Ok(vec![span(0, whole, max_length)])
        }
        Turns::Independent { per_sample, only } => {
            let mut spans = prefix(tokenizer, pictured);
            let room = max_length.saturating_sub(spans.iter().map(|s| s.ids.len()).sum());
            let Conversation { system, turns } = talk;
            for i in draw(turns, *per_sample, only, key) {
                let branch = spans.last().map_or(1, |last| last.branch + 1);
                let tokens = template.turn(system.as_deref(), &turns[i], tokenizer)?;
                let span = span(branch, tokens, room);
                // A layout has no empty spans.
                spans.extend((!span.ids.is_empty()).then_some(span));
            }
            Ok(spans)
        }
    }
}

/// The spans of a conversation whose last turn is open, laid out as in training, for generating its answer. A picture is
/// shown by the first turn. [`Turns::Independent`] knows no conversation: there the last turn stands alone.
///
/// # Errors
/// Where the tokenizer or template refuses.
pub fn ask(
    template: &dyn Template,
    tokenizer: &Tokenizer,
    turns: &[Turn],
    pictured: bool,
    mode: &Turns,
) -> Result<Vec<TokenSpan>, DataError> {
    let (mode, first) = match mode {
        Turns::Conversation => (Turns::Conversation, 0),
        Turns::Independent { .. } => {
            let all = Turns::Independent {
                per_sample: 0,
                only: Vec::new(),
            };
            (all, turns.len().saturating_sub(1))
        }
    };
    let shown = |(i, turn): (usize, &Turn)| {
        let bare = turn.question.replace(IMAGE_TAG, "");
        let question = match (pictured && i == 0, &mode) {
            (true, Turns::Conversation) => format!("{IMAGE_TAG}\n{}", bare.trim()),
            _ => bare.trim().to_owned(),
        };
        Turn {
            question,
            answer: turn.answer.clone(),
        }
    };
    let turns: Vec<Turn> = turns[first..].iter().enumerate().map(shown).collect();
    let key = DrawKey {
        seed: 0,
        epoch: 0,
        index: 0,
    };
    let (talk, unlimited) = (Conversation::from(turns), usize::MAX);
    spans(template, tokenizer, &talk, pictured, &mode, unlimited, key)
}

/// Tokens of a sample that are learned when its picture takes `picture_rows` rows and the sequence is cut at `max_length`.
#[must_use]
pub fn supervised(spans: &[TokenSpan], picture_rows: usize, max_length: usize) -> usize {
    let (mut room, mut count, mut prefix) = (max_length, 0, false);
    for span in spans {
        // What stands first has nothing before it that could predict it.
        let mut predicted = prefix;
        for (&id, &label) in span.ids.iter().zip(&span.labels) {
            let rows = if id == PLACEHOLDER { picture_rows } else { 1 };
            let learned = predicted && id != PLACEHOLDER && label != IGNORED;
            count += usize::from(learned && room >= rows);
            room = room.saturating_sub(rows);
            predicted |= rows > 0;
        }
        prefix |= span.branch == 0 && predicted;
    }
    count
}

/// Rows of a sample's sequence before it is cut.
#[must_use]
pub fn rows(spans: &[TokenSpan], picture_rows: usize) -> usize {
    let ids = spans.iter().flat_map(|span| &span.ids);
    ids.map(|&id| if id == PLACEHOLDER { picture_rows } else { 1 })
        .sum()
}

fn prefix(tokenizer: &Tokenizer, pictured: bool) -> Vec<TokenSpan> {
    let mut ids: Vec<i64> = tokenizer.leading_bos().into_iter().collect();
    ids.extend(pictured.then_some(PLACEHOLDER));
    if ids.is_empty() {
        return Vec::new();
    }
    vec![TokenSpan {
        branch: 0,
        labels: vec![IGNORED; ids.len()],
        ids,
    }]
}

fn span(branch: u32, tokens: Tokenized, room: usize) -> TokenSpan {
    let Tokenized {
        mut ids,
        mut labels,
        ..
    } = tokens;
    ids.truncate(room);
    labels.truncate(room);
    TokenSpan {
        branch,
        ids,
        labels,
    }
}

fn draw(turns: &[Turn], per_sample: usize, only: &[String], key: DrawKey) -> Vec<usize> {
    let wanted = |turn: &Turn| {
        let question = turn.question.replace(IMAGE_TAG, "");
        only.iter()
            .any(|prefix| question.trim().starts_with(prefix.as_str()))
    };
    let mut pool: Vec<usize> = (0..turns.len()).filter(|&i| wanted(&turns[i])).collect();
    if pool.is_empty() {
        pool = (0..turns.len()).collect();
    }
    if per_sample == 0 || per_sample >= pool.len() {
        return pool;
    }
    for i in 0..per_sample {
        let left = (pool.len() - i) as u64;
        // Multiply-shift maps 64 random bits onto 0..left; the bias is below left / 2^64.
        let pick = (u128::from(random(key, i as u64)) * u128::from(left)) >> 64;
        pool.swap(i, i + usize::try_from(pick).unwrap_or(0));
    }
    pool.truncate(per_sample);
    pool.sort_unstable();
    pool
}

/// Counter-based generator: SplitMix64's finaliser over a chain of the four numbers, so no state has to be stored.
fn random(key: DrawKey, counter: u64) -> u64 {
    [key.seed, key.epoch, key.index, counter]
        .into_iter()
        .fold(0, |state, word| {
            let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_count_where_something_predicts_them_and_there_is_room() {
        let span = |branch, ids: &[i64], asked: usize| TokenSpan {
            branch,
            ids: ids.to_vec(),
            labels: [&vec![IGNORED; asked], &ids[asked..]].concat(),
        };
        // An answer alone: its first token has nothing before it.
        assert_eq!(supervised(&[span(0, &[7], 0)], 4, 9), 0);
        assert_eq!(supervised(&[span(0, &[7, 8], 0)], 4, 9), 1);
        assert_eq!(
            supervised(&[span(1, &[7, 8], 0), span(2, &[7], 0)], 4, 9),
            1
        );
        // Behind a picture of four rows there is room for five.
        let spans = [
            span(0, &[PLACEHOLDER], 1),
            span(1, &[5, 7, 8], 1),
            span(2, &[5, 7, 8], 1),
        ];
        assert_eq!(rows(&spans, 4), 10);
        assert_eq!(supervised(&spans, 4, 10), 4);
        assert_eq!(supervised(&spans, 4, 9), 3);
        assert_eq!(supervised(&spans, 4, 5), 0);
        assert_eq!(supervised(&spans, 784, 100), 0);
    }

    fn turns(n: usize) -> Vec<Turn> {
        let question = |i| {
            if i % 3 == 0 {
                format!("color of {i}?")
            } else {
                format!("<image>\nwhere is {i}?")
            }
        };
        (0..n)
            .map(|i| Turn {
                question: question(i),
                answer: Some("x".into()),
            })
            .collect()
    }

    #[test]
    fn a_draw_depends_on_its_key_alone_and_covers_all_turns() {
        let turns = turns(10);
        let mut seen = [0u32; 10];
        for epoch in 0..300 {
            let key = DrawKey {
                seed: 7,
                epoch,
                index: 3,
            };
            let drawn = draw(&turns, 4, &[], key);
            assert_eq!(drawn, draw(&turns, 4, &[], key));
            assert_eq!(drawn.len(), 4);
            assert!(drawn.windows(2).all(|w| w[0] < w[1]), "{drawn:?}");
            drawn.iter().for_each(|&i| seen[i] += 1);
        }
        // 120 expected each; binomial standard deviation 8.5.
        assert!(seen.iter().all(|&n| (80..160).contains(&n)), "{seen:?}");
        let other = DrawKey {
            seed: 8,
            epoch: 0,
            index: 3,
        };
        assert!(
            (0..20).any(|epoch| draw(&turns, 4, &[], DrawKey { epoch, ..other })
                != draw(
                    &turns,
                    4,
                    &[],
                    DrawKey {
                        seed: 7,
                        epoch,
                        index: 3
                    }
                ))
        );
    }

    #[test]
    fn a_curriculum_restricts_the_draw_and_falls_back() {
        let turns = turns(10);
        let key = DrawKey {
            seed: 1,
            epoch: 0,
            index: 0,
        };
        assert_eq!(draw(&turns, 0, &["color".into()], key), [0, 3, 6, 9]);
        assert_eq!(
            draw(&turns, 0, &["where is 4".into(), "where is 5".into()], key),
            [4, 5]
        );
        assert_eq!(draw(&turns, 0, &["shape".into()], key).len(), 10);
        assert!(
            draw(&turns, 2, &["color".into()], key)
                .iter()
                .all(|i| i % 3 == 0)
        );
    }
}
