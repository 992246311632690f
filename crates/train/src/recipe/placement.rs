//! Which recipes fit a placement, and which commands.

use qtl_model::Device;
use qtl_model::config::TinyLlavaConfig;
use qtl_model::connector::Connector;
use qtl_model::partition::{Labels, Placement, Text};
use qtl_model::quant::QuantizerSpec;
use qtl_model::quant::gradient::GradientCodec;

use super::{Recipe, RecipeError};
use crate::tune::Method;

/// Checks that the model is cut at the language model's input; `range` says what needs it.
///
/// # Errors
///
/// [`RecipeError::Range`] naming the field.
pub(crate) fn cut_at_input(split: &Placement, range: &'static str) -> Result<(), RecipeError> {
    match split.bottom_blocks {
        0 => Ok(()),
        value => Err(RecipeError::Range {
            field: "split.bottom_blocks",
            value: value.to_string(),
            range,
        }),
    }
}

/// Checks that the language model is in one piece at the server but for the token embedding; `what` says what needs it, and
/// the cure.
///
/// # Errors
///
/// [`RecipeError::Placement`] naming the field.
pub(crate) fn in_one_piece(split: &Placement, what: &'static str) -> Result<(), RecipeError> {
    labels_at_server(split, what)?;
    match split.bottom_blocks {
        0 => Ok(()),
        value => Err(RecipeError::Placement {
            field: "split.bottom_blocks",
            value: value.to_string(),
            only: "0",
            what,
        }),
    }
}

/// Checks that the labels are the server's; `what` says what needs it, and the cure.
///
/// # Errors
///
/// [`RecipeError::Placement`] naming the field.
pub(crate) fn labels_at_server(split: &Placement, what: &'static str) -> Result<(), RecipeError> {
    match split.labels {
        Labels::Server => Ok(()),
        Labels::Client => Err(RecipeError::Placement {
            field: "split.labels",
            value: "\"client\"".to_owned(),
            only: "\"server\"",
            what,
        }),
    }
}

/// Checks that rows cross for the text, and no token ids; `what` says what needs it, and the cure.
///
/// # Errors
///
/// [`RecipeError::Placement`] naming the field.
pub(crate) fn text_in_rows(split: &Placement, what: &'static str) -> Result<(), RecipeError> {
    match split.text {
        Text::Rows => Ok(()),
        Text::Ids => Err(RecipeError::Placement {
            field: "split.text",
            value: "\"ids\"".to_owned(),
            only: "\"rows\"",
            what,
        }),
    }
}

/// Checks what `split.text = "ids"` needs: rows that are nothing but their tokens', in a table that does not move, and nothing that
/// would hide what is told in clear.
fn told(recipe: &Recipe) -> Result<(), RecipeError> {
    if recipe.split.text == Text::Rows {
        return Ok(());
    }
    const TABLE: &str = "where split.text = \"ids\": the server reads text rows in its own copy of the base's table";
    const CLEAR: &str = "where split.text = \"ids\", which tells the server every token";
    let split = &recipe.split;
    let text = &recipe.quantizer.text;
    let tuned = &recipe.tune.embed_tokens.method;
    let rules = [
        (
            "tune.embed_tokens",
            tuned.name().to_owned(),
            "\"frozen\"",
            TABLE,
            *tuned == Method::Frozen,
        ),
        (
            "split.bottom_blocks",
            split.bottom_blocks.to_string(),
            "0",
            TABLE,
            split.bottom_blocks == 0,
        ),
        (
            "quantizer.text",
            text.to_string(),
            "left out",
            TABLE,
            *text == QuantizerSpec::NONE,
        ),
        (
            "split.labels",
            "\"client\"".to_owned(),
            "\"server\"",
            CLEAR,
            split.labels == Labels::Server,
        ),
        (
            "privacy",
            "given".to_owned(),
            "left out",
            CLEAR,
            !recipe.privacy.adds() && recipe.privacy.padding.is_none(),
        ),
    ];
    match rules.into_iter().find(|rule| !rule.4) {
        Some((field, value, only, what, _)) => Err(RecipeError::Placement {
            field,
            value,
            only,
            what,
        }),
        None => Ok(()),
    }
}

/// Checks that a model can be cut so.
///
/// # Errors
///
/// [`RecipeError`] naming the field.
pub(super) fn stands(split: Placement, config: &TinyLlavaConfig) -> Result<(), RecipeError> {
    let Placement {
        bottom_blocks,
        top_blocks,
        ..
    } = split;
    if split.connector_at_server() {
        let connector = Connector::new(&config.connector, &Device::flex());
        if connector.is_ok_and(|connector| !connector.on_grid()) {
            return Err(RecipeError::Placement {
                field: "split.connector",
                value: "\"server\"".to_owned(),
                only: "\"client\"",
                what: "for a connector that mixes or adds rows: at the server it would not know which rows are one picture's",
            });
        }
    }
    let blocks = config.text.layers.len();
    let range = "fewer than the language model's blocks, of which the server keeps one at least";
    for (field, count, rest) in [
        ("split.bottom_blocks", bottom_blocks, blocks),
        (
            "split.top_blocks",
            top_blocks,
            blocks.saturating_sub(bottom_blocks),
        ),
    ] {
        if count >= rest {
            return Err(RecipeError::Range {
                field,
                value: count.to_string(),
                range,
            });
        }
    }
    Ok(())
}

/// What the server is told, or can tell all the same; see [`Recipe::still_told`].
pub(super) fn still_told(split: &Placement) -> Option<&'static str> {
    const ROWS: &str = "split.labels = \"client\" keeps targets, loss and chosen tokens at the client, but is no protection of \
         the labels by itself: with split.bottom_blocks = 0 the text rows of the answers are looked up in the public \
         base's embedding, which tells them, and with a public head the gradient of the hidden states tells the targets \
         at any depth";
    const IDS: &str = "split.text = \"ids\" tells the server every token of questions and answers as it is: the text does not stay at \
         the client, and only pictures are coded";
    match split.table_at_server() {
        true => Some(IDS),
        false => split.top_at_client().then_some(ROWS),
    }
}

/// Checks the fields that make sense for a placement, and whether it is one.
///
/// # Errors
///
/// [`RecipeError::Range`] naming the field.
pub(super) fn placed(recipe: &Recipe) -> Result<(), RecipeError> {
    told(recipe)?;
    if recipe.split.connector_at_server() {
        cut_at_input(
            &recipe.split,
            "0 where split.connector = \"server\": blocks read what the connector makes",
        )?;
    }
    if recipe.split.top_at_client() {
        return Ok(());
    }
    let (hidden, codec) = (&recipe.quantizer.hidden, &recipe.gradient.hidden);
    let rules = [
        (
            "split.top_blocks",
            recipe.split.top_blocks.to_string(),
            "0",
            recipe.split.top_blocks == 0,
        ),
        (
            "quantizer.hidden",
            hidden.to_string(),
            "left out",
            *hidden == QuantizerSpec::NONE,
        ),
        (
            "gradient.hidden",
            codec.to_string(),
            "left out",
            *codec == GradientCodec::default(),
        ),
    ];
    match rules.into_iter().find(|rule| !rule.3) {
        Some((field, value, only, _)) => Err(RecipeError::Placement {
            field,
            value,
            only,
            what: "where split.labels = \"server\": hidden states come to the client where it has the labels",
        }),
        None => Ok(()),
    }
}
