//! The 68 concepts, the two drawing styles and their embedded pictures.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};

use super::SceneError;

/// Side of an embedded picture in pixels.
pub(super) const PICTURE_SIDE: usize = 64;

static ASSETS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/emoji-vqa");

/// Something a picture can show. All values live in [`concepts`].
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Concept {
    /// Place in [`concepts`].
    pub index: usize,
    /// One English word, for example `dog`.
    pub name: &'static str,
    /// `a` or `an`.
    pub article: &'static str,
    /// `animal`, `food`, `vehicle`, `plant` or `object`.
    pub category: &'static str,
    /// Unicode code point in hexadecimal; names the picture file.
    pub unified: &'static str,
    /// A popular concept is drawn about twice as often.
    pub popular: bool,
}

impl Concept {
    /// Article and name, for example `an apple`.
    pub fn with_article(&self) -> String {
        format!("{} {}", self.article, self.name)
    }
}

/// A row of the embedded table.
#[derive(Deserialize)]
struct Row {
    index: usize,
    name: &'static str,
    article: &'static str,
    category: &'static str,
    unified: &'static str,
    popular: bool,
}

static CONCEPTS: LazyLock<Vec<Concept>> = LazyLock::new(|| {
    let table = include_str!("../../assets/emoji-vqa/concepts.json");
    let rows: Vec<Row> = serde_json::from_str(table).expect("the embedded concept table is valid");
    rows.into_iter()
        .map(|r| Concept {
            index: r.index,
            name: r.name,
            article: r.article,
            category: r.category,
            unified: r.unified,
            popular: r.popular,
        })
        .collect()
});

/// All concepts in their fixed order; the order is part of the data set's definition.
pub fn concepts() -> &'static [Concept] {
    &CONCEPTS
}

/// The lists that scenes and questions draw from.
pub(super) struct Tables {
    /// Every concept, then the popular ones again.
    pub weighted: Vec<&'static Concept>,
    /// The popular concepts, ascending.
    pub popular: Vec<&'static Concept>,
    /// Per concept: all concepts of its category, ascending.
    pub category: Vec<Vec<&'static Concept>>,
}

pub(super) static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let all = concepts();
    let popular: Vec<_> = all.iter().filter(|c| c.popular).collect();
    let weighted = all.iter().chain(popular.iter().copied()).collect();
    let category = all
        .iter()
        .map(|c| all.iter().filter(|d| d.category == c.category).collect())
        .collect();
    Tables {
        weighted,
        popular,
        category,
    }
});

/// Who drew a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Twemoji.
    Twitter,
    /// Noto Emoji.
    Google,
}

impl Style {
    /// All styles in the order the generator draws from.
    pub const ALL: [Style; 2] = [Style::Twitter, Style::Google];

    /// `twitter` or `google`, also the folder of the pictures.
    pub fn name(self) -> &'static str {
        match self {
            Style::Twitter => "twitter",
            Style::Google => "google",
        }
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which styles a data set uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Styles {
    /// Every object in a style of its own, drawn evenly.
    #[default]
    Both,
    /// One style only. Scenes differ from those of [`Styles::Both`] under the same seed in nothing but the style:
    /// the style is drawn all the same.
    Only(Style),
}

impl Styles {
    /// The styles to draw from, in order.
    pub fn list(&self) -> &[Style] {
        match self {
            Styles::Both => &Style::ALL,
            Styles::Only(style) => std::slice::from_ref(style),
        }
    }
}

impl fmt::Display for Styles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.list().iter().map(|s| s.name()).collect();
        f.write_str(&names.join(","))
    }
}

/// Reads `twitter`, `google`, or both separated by a comma.
impl FromStr for Styles {
    type Err = SceneError;

    fn from_str(text: &str) -> Result<Self, SceneError> {
        let mut seen = [false; 2];
        for name in text.split(',').map(str::trim) {
            match Style::ALL.iter().position(|s| s.name() == name) {
                Some(place) => seen[place] = true,
                None => {
                    return Err(SceneError::UnknownStyle {
                        value: name.to_owned(),
                    });
                }
            }
        }
        Ok(match seen {
            [true, false] => Styles::Only(Style::Twitter),
            [false, true] => Styles::Only(Style::Google),
            _ => Styles::Both,
        })
    }
}

/// RGBA values of one embedded picture, row by row.
pub(super) type Picture = Vec<[u8; 4]>;

// Decoded once: rendering a data set reads each picture thousands of times.
static PICTURES: LazyLock<Vec<Picture>> = LazyLock::new(|| {
    let pairs = Style::ALL
        .iter()
        .flat_map(|style| concepts().iter().map(move |concept| (style, concept)));
    pairs
        .map(|(style, concept)| decode(&format!("{style}/{}.png", concept.unified)))
        .collect()
});

fn decode(name: &str) -> Picture {
    let file = ASSETS
        .get_file(name)
        .expect("every concept has an embedded picture in every style");
    let picture = image::load_from_memory_with_format(file.contents(), image::ImageFormat::Png);
    let picture = picture
        .expect("the embedded pictures are valid PNG")
        .into_rgba8();
    picture.pixels().map(|p| p.0).collect()
}

/// The picture of a concept in a style.
pub(super) fn picture(style: Style, concept: &Concept) -> &'static Picture {
    &PICTURES[style as usize * CONCEPTS.len() + concept.index]
}
