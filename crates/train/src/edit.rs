//! Changes a recipe file's quantizer and leaves everything else, comments and order included, as it was.

use std::ops::Range;
use std::path::Path;

use qtl_model::quant::{FsqSpec, QuantizerSpec};
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
}

/// Sets levels and width of a modality's quantizer (`image` or `text`) in the text of a recipe. A modality without a
/// quantizer, or with `none`, gets `fsq`.
///
/// # Errors
/// [`RecipeError`] if the text is no recipe, the modality's quantizer is of another kind, the values are out of range,
/// or the file is written in a way that leaves no place for them; `path` is for the messages.
pub fn set_levels(
    text: &str,
    path: &Path,
    modality: &str,
    levels: u32,
    width: f32,
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
    *spec = chosen(spec, levels, width)
        .ok_or_else(|| fail(format!("quantizer.{modality}.kind is neither \"fsq\" nor \"none\": it has its own way to choose")))?;
    wanted.check()?;
    let places: Places = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
    let own = places.quantizer.and_then(|q| match modality {
        "image" => q.image,
        _ => q.text,
    });
    let after = match own {
        Some(fields) => spliced(text, &fields, levels, width),
        None => {
            let gap = if text.ends_with('\n') { "" } else { "\n" };
            format!(
                "{text}{gap}\n[quantizer.{modality}]\nkind = \"fsq\"\nlevels = {levels}\nwidth = {width:?}\n"
            )
        }
    };
    // Whatever the file's style: it now says what it should and nothing else has changed, or it is not touched.
    match Recipe::parse(&after, &[], path) {
        Ok(recipe) if recipe == wanted => Ok(after),
        _ => Err(fail(format!(
            "no place for the choice was found; set quantizer.{modality} to kind = \"fsq\", levels = {levels}, width = {width:?} by hand"
        ))),
    }
}

/// The quantizer with the choice in it; `None` for a kind that is not chosen this way.
fn chosen(spec: &QuantizerSpec, levels: u32, width: f32) -> Option<QuantizerSpec> {
    let mut fsq = match spec {
        QuantizerSpec::None(_) => {
            let least = toml::Table::from_iter([("levels".to_owned(), i64::from(levels).into())]);
            least.try_into::<FsqSpec>().ok()?
        }
        QuantizerSpec::Fsq(fsq) => fsq.clone(),
        _ => return None,
    };
    fsq.levels = levels;
    fsq.width = width;
    Some(QuantizerSpec::Fsq(fsq))
}

/// The text with the three values in the places where they stand, or behind the first of them.
fn spliced(text: &str, fields: &Spanned<Fields>, levels: u32, width: f32) -> String {
    let inline = text[fields.span()].starts_with('{');
    let own = fields.as_ref();
    let kind = own.kind.span();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    if own.kind.as_ref() != "fsq" {
        edits.push((kind.clone(), "\"fsq\"".to_owned()));
    }
    // Behind the kind within braces, otherwise on a line of its own below it and its comment.
    let behind = if inline {
        kind.end
    } else {
        text[kind.end..]
            .find('\n')
            .map_or(text.len(), |at| kind.end + at)
    };
    for (name, place, value) in [
        ("levels", &own.levels, levels.to_string()),
        ("width", &own.width, format!("{width:?}")),
    ] {
        edits.push(match place {
            Some(place) => (place.span(), value),
            None if inline => (behind..behind, format!(", {name} = {value}")),
            None => (behind..behind, format!("\n{name} = {value}")),
        });
    }
    edits.sort_by_key(|(range, _)| range.start);
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

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# A recipe.\nname = 'x'   # its name\n";
    const TAIL: &str = "[data]\ntemplate = 'qa'\nmax_length = 64\n\n[train]\nsteps = 10 # few\nbatch = 8\nlr = 1e-3\n";

    fn set(text: &str, modality: &str, levels: u32, width: f32) -> Result<String, RecipeError> {
        set_levels(text, Path::new("r.toml"), modality, levels, width)
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
