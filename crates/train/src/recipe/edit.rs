//! Changes a recipe file's quantizer and leaves everything else, comments and order included, as it was.

use std::ops::Range;
use std::path::Path;

use qtl_model::quant::{EcsqSpec, FsqSpec, QuantizerSpec};
use serde::Deserialize;
use toml::Spanned;

use crate::recipe::{Recipe, RecipeError};

/// The places of a recipe that can change.
#[derive(Deserialize)]
struct Places {
    quantizer: Option<Modalities>,
}

#[derive(Deserialize)]
struct Modalities {
    image: Option<Spanned<Fields>>,
    text: Option<Spanned<Fields>>,
}

#[derive(Deserialize)]
struct Fields {
    kind: Spanned<String>,
    levels: Option<Spanned<toml::Value>>,
    width: Option<Spanned<toml::Value>>,
    bits: Option<Spanned<toml::Value>>,
}

/// What a plan can choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// `fsq`: equally spaced levels, clipped at so many deviations.
    Fsq {
        /// Number of levels.
        levels: u32,
        /// Deviations.
        width: f32,
    },
    /// `ecsq`: designed for so many bits.
    Ecsq {
        /// Bits per element.
        bits: f64,
    },
}

impl Choice {
    fn kind(self) -> &'static str {
        match self {
            Self::Fsq { .. } => "fsq",
            Self::Ecsq { .. } => "ecsq",
        }
    }

    /// The fields that only some kinds have, with their values where this one has them.
    fn fields(self) -> [(&'static str, Option<String>); 3] {
        let [levels, width, bits] = match self {
            Self::Fsq { levels, width } => {
                [Some(levels.to_string()), Some(format!("{width:?}")), None]
            }
            Self::Ecsq { bits } => [None, None, Some(format!("{bits:?}"))],
        };
        [("levels", levels), ("width", width), ("bits", bits)]
    }

    /// As a recipe spells it.
    fn toml(self, between: &str) -> String {
        let mut parts = vec![format!("kind = {}", quoted(self))];
        let fields = self.fields().into_iter();
        parts.extend(fields.filter_map(|(name, value)| Some(format!("{name} = {}", value?))));
        parts.join(between)
    }

    /// The quantizer with the choice in it, what else was set kept; `None` for one that is not chosen this way.
    fn applied(self, spec: &QuantizerSpec) -> Option<QuantizerSpec> {
        let plain: QuantizerSpec = toml::from_str(&self.toml("\n")).ok()?;
        let (statistics, code_dim, penalty, rate) = match spec {
            QuantizerSpec::None(_) => return Some(plain),
            QuantizerSpec::Fsq(old) => (old.statistics, old.code_dim, old.penalty, old.rate),
            QuantizerSpec::Ecsq(old) => (old.statistics, old.code_dim, old.penalty, old.rate),
            _ => return None,
        };
        Some(match plain {
            QuantizerSpec::Fsq(new) => QuantizerSpec::Fsq(FsqSpec {
                statistics,
                code_dim,
                penalty,
                rate,
                ..new
            }),
            QuantizerSpec::Ecsq(new) => QuantizerSpec::Ecsq(EcsqSpec {
                statistics,
                code_dim,
                penalty,
                rate,
                ..new
            }),
            other => other,
        })
    }
}

/// Puts a choice into a modality's quantizer (`image` or `text`) in the text of a recipe. The quantizer may be `none`,
/// `fsq` or `ecsq`, or there may be none yet. Fields that the chosen kind does not have go, with the comments behind them.
///
/// # Errors
/// [`RecipeError`] if the text is no recipe, the modality's quantizer is of another kind, the values are out of range,
/// or the file is written in a way that leaves no place for them; `path` is for the messages.
pub fn set_quantizer(
    text: &str,
    path: &Path,
    modality: &str,
    choice: Choice,
) -> Result<String, RecipeError> {
    let fail = |message: String| RecipeError::Parse {
        path: path.to_owned(),
        message,
    };
    let mut wanted = Recipe::parse(text, &[], path)?;
    let spec = match modality {
        "image" => &mut wanted.quantizer.image,
        _ => &mut wanted.quantizer.text,
    };
    *spec = choice.applied(spec).ok_or_else(|| {
        fail(format!(
            "quantizer.{modality}.kind is none of \"none\", \"fsq\" and \"ecsq\": it has its own way to choose"
        ))
    })?;
    wanted.check()?;
    let places: Places = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
    let own = places.quantizer.and_then(|q| match modality {
        "image" => q.image,
        _ => q.text,
    });
    let after = match own {
        Some(fields) => spliced(text, &fields, choice),
        None => {
            let gap = if text.ends_with('\n') { "" } else { "\n" };
            format!(
                "{text}{gap}\n[quantizer.{modality}]\n{}\n",
                choice.toml("\n")
            )
        }
    };
    // Whatever the file's style: it now says what it should and nothing else has changed, or it is not touched.
    match Recipe::parse(&after, &[], path) {
        Ok(recipe) if recipe == wanted => Ok(after),
        _ => Err(fail(format!(
            "no place for the choice was found; set quantizer.{modality} to {} by hand",
            choice.toml(", ")
        ))),
    }
}

/// The text with the choice's values in the places where they stand, or behind the kind, and without those of other kinds.
fn spliced(text: &str, fields: &Spanned<Fields>, choice: Choice) -> String {
    let span = fields.span();
    let edits = if text[span.clone()].starts_with('{') {
        vec![(span.clone(), braces(&text[span], fields.as_ref(), choice))]
    } else {
        lines(text, fields.as_ref(), choice)
    };
    let mut after = String::with_capacity(text.len() + 64);
    let mut at = 0;
    for (range, value) in edits {
        after.push_str(&text[at..range.start]);
        after.push_str(&value);
        at = range.end;
    }
    after.push_str(&text[at..]);
    after
}

/// The choice in `{ ... }`, whose other entries stay. (An entry with a comma of its own comes out broken, which the caller
/// notices.)
fn braces(text: &str, own: &Fields, choice: Choice) -> String {
    let entries = text.trim_matches(['{', '}']).split(',').map(str::trim);
    let entries: Vec<(&str, &str)> = entries
        .filter(|entry| !entry.is_empty())
        .map(|entry| (entry.split('=').next().unwrap_or_default().trim(), entry))
        .collect();
    let mut after = Vec::with_capacity(entries.len() + 2);
    for (key, entry) in &entries {
        match choice.fields().into_iter().find(|(name, _)| name == key) {
            Some((name, Some(value))) => after.push(format!("{name} = {value}")),
            Some((_, None)) => {}
            None if *key == "kind" && own.kind.as_ref() != choice.kind() => {
                after.push(format!("kind = {}", quoted(choice)));
            }
            None => after.push((*entry).to_owned()),
        }
        if *key == "kind" {
            let missing = choice.fields().into_iter().filter_map(|(name, value)| {
                let there = entries.iter().any(|(key, _)| *key == name);
                value.filter(|_| !there).map(|value| (name, value))
            });
            after.extend(missing.map(|(name, value)| format!("{name} = {value}")));
        }
    }
    format!("{{ {} }}", after.join(", "))
}

/// What to put where in a table with a line for each field, in order and without overlaps.
fn lines(text: &str, own: &Fields, choice: Choice) -> Vec<(Range<usize>, String)> {
    let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |end| at + end);
    let kind = own.kind.span();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    if own.kind.as_ref() != choice.kind() {
        edits.push((kind.clone(), quoted(choice)));
    }
    // On a line of its own below the kind and its comment.
    let behind = line_end(kind.end);
    let places = [&own.levels, &own.width, &own.bits];
    for ((name, value), place) in choice.fields().into_iter().zip(places) {
        edits.extend(match (place, value) {
            (Some(place), Some(value)) => Some((place.span(), value)),
            // With its line.
            (Some(place), None) => {
                let place = place.span();
                let start = text[..place.start].rfind('\n').unwrap_or(0);
                Some((start..line_end(place.end), String::new()))
            }
            (None, Some(value)) => Some((behind..behind, format!("\n{name} = {value}"))),
            (None, None) => None,
        });
    }
    // What is put in front of a line that goes comes first.
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    edits
}

fn quoted(choice: Choice) -> String {
    format!("\"{}\"", choice.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# A recipe.\nname = 'x'   # its name\n";
    const TAIL: &str = "[data]\ntemplate = 'qa'\nmax_length = 64\n\n[train]\nsteps = 10 # few\nbatch = 8\nlr = 1e-3\n";

    fn set(text: &str, modality: &str, levels: u32, width: f32) -> Result<String, RecipeError> {
        set_quantizer(
            text,
            Path::new("r.toml"),
            modality,
            Choice::Fsq { levels, width },
        )
    }

    #[test]
    fn only_two_values_change() {
        let quantizer = |levels: u32, width: f32| {
            format!(
                "[quantizer.image]\nkind = 'fsq'\nlevels = {levels}  # per channel\nwidth = {width} # deviations\n\n"
            )
        };
        let before = format!("{HEAD}{}{TAIL}", quantizer(4, 1.5));
        let after = set(&before, "image", 7, 2.25).unwrap();
        assert_eq!(after, format!("{HEAD}{}{TAIL}", quantizer(7, 2.25)));
        // 1.3 has no exact form.
        assert!(
            set(&before, "image", 7, 1.3)
                .unwrap()
                .contains("width = 1.3 #")
        );
    }

    #[test]
    fn what_is_not_there_is_added() {
        let before = format!("{HEAD}{TAIL}");
        let after = set(&before, "text", 5, 2.0).unwrap();
        let recipe = Recipe::parse(&after, &[], Path::new("r.toml")).unwrap();
        let QuantizerSpec::Fsq(fsq) = recipe.quantizer.text else {
            panic!("{after}");
        };
        assert_eq!((fsq.levels, fsq.width), (5, 2.0));
        assert_eq!(recipe.quantizer.image, QuantizerSpec::NONE);
        for line in before.lines() {
            assert!(after.contains(line), "{line} is gone from\n{after}");
        }
        let inline =
            format!("{HEAD}quantizer.image = {{ kind = 'fsq', levels = 4 }} # short\n{TAIL}");
        let after = set(&inline, "image", 9, 3.5).unwrap();
        // What is inserted stands behind the kind.
        assert!(
            after.contains("{ kind = 'fsq', width = 3.5, levels = 9 } # short"),
            "{after}"
        );
        let none = format!("{HEAD}[quantizer.image]\nkind = 'none' # not yet\n{TAIL}");
        let after = set(&none, "image", 9, 3.5).unwrap();
        let part = "[quantizer.image]\nkind = \"fsq\" # not yet\nlevels = 9\nwidth = 3.5\n";
        assert!(after.contains(part), "{after}");
    }

    #[test]
    fn kinds_change_and_what_no_longer_applies_goes() {
        let ecsq = |text: &str| {
            set_quantizer(
                text,
                Path::new("r.toml"),
                "image",
                Choice::Ecsq { bits: 2.0 },
            )
        };
        let table =
            |own: &str| format!("{HEAD}[quantizer.image]\n{own}penalty = 0.02 # small\n\n{TAIL}");
        let before = table(
            "levels = 4  # per channel\nkind = 'fsq' # equal steps\nwidth = 1.5\nstatistics = 'batch'\n",
        );
        let after = ecsq(&before).unwrap();
        let want = table("kind = \"ecsq\" # equal steps\nbits = 2.0\nstatistics = 'batch'\n");
        assert_eq!(after, want);
        // And back.
        let back = set(&after, "image", 4, 1.5).unwrap();
        let want =
            table("kind = \"fsq\" # equal steps\nlevels = 4\nwidth = 1.5\nstatistics = 'batch'\n");
        assert_eq!(back, want);
        let inline = |own: &str| format!("{HEAD}quantizer.image = {{ {own} }} # short\n{TAIL}");
        for before in [
            "levels = 4, kind = 'fsq', width = 1.5",
            "kind = 'fsq', levels = 4",
        ] {
            let after = ecsq(&inline(before)).unwrap();
            assert!(
                after.contains("kind = \"ecsq\", bits = 2.0 } # short"),
                "{after}"
            );
        }
        let none = ecsq(&inline("kind = 'none'")).unwrap();
        assert!(none.contains("{ kind = \"ecsq\", bits = 2.0 }"), "{none}");
        let topk = ecsq(&inline("kind = 'topk', keep = 0.25")).unwrap_err();
        assert!(topk.to_string().contains("its own way"), "{topk}");
    }

    #[test]
    fn nonsense_is_refused() {
        let recipe = format!("{HEAD}{TAIL}");
        assert!(set("name = ", "image", 4, 3.0).is_err());
        assert!(set(&recipe, "image", 1, 3.0).is_err());
        assert!(set(&recipe, "image", 4, -1.0).is_err());
        // Keys that would need their prefix: nothing is guessed.
        let dotted =
            format!("{HEAD}quantizer.image.kind = 'fsq'\nquantizer.image.levels = 4\n{TAIL}");
        let error = set(&dotted, "image", 9, 3.5).unwrap_err().to_string();
        assert!(error.contains("by hand"), "{error}");
    }
}
