//! A judge that is no tower: for generated scenes the generator knows which pixels are objects', and what each object would look
//! like if it showed something else.
//!
//! It knows the true place, size and background of every object, more than any attacker, and says of a reconstruction which of all
//! drawings it is most like there: by the cosine of their differences from the background, over the object's square.

use std::path::Path;

use image::RgbImage;
use qtl_data::Reader;
use qtl_data::scenes::{Made, Object, SIDE, Scene, Split, Styles, concepts, render};
use rayon::prelude::*;

use crate::finding::Finding;
use crate::pictures::{Pictures, psnr};
use crate::seen::Seen;

/// A pixel is an object's where its drawing covers more than this of it, in 255ths.
const COVERED: u8 = 127;
/// A picture is the scene that its name says if no byte is further off.
const NEAR: u8 = 2;

/// The scenes that the victims' pictures were drawn from.
#[derive(Debug)]
pub struct Drawn {
    /// Per picture of [`Seen::pictures`] its scene.
    scenes: Vec<Scene>,
    styles: Styles,
}

impl Drawn {
    /// Those of data that `data scenes` has written; `None` for any other, and where a picture is not the one that was drawn.
    pub fn of(seen: &Seen, reader: &Reader) -> Option<Self> {
        let dir = reader.file().parent().unwrap_or(Path::new("."));
        let made = Made::read(dir).ok().flatten()?;
        if made.split != Split::Train || made.inverted || seen.pictures.side != SIDE {
            return None;
        }
        let styles = match made.styles.as_slice() {
            [one] => Styles::Only(*one),
            _ => Styles::Both,
        };
        let scene = |sample: &usize| {
            let id = &reader.entry(seen.entries[*sample]).id;
            let index = id.rsplit('_').next()?.parse().ok()?;
            Some(Scene::generate(made.seed, index, styles))
        };
        let scenes: Option<Vec<Scene>> = seen.shown_by.iter().map(scene).collect();
        let scenes = scenes?;
        let mut pairs = scenes.iter().zip(seen.pictures.each());
        let same = |(scene, picture): (&Scene, &[u8])| {
            let mut bytes = render(scene).into_raw().into_iter().zip(picture);
            bytes.all(|(a, b)| a.abs_diff(*b) <= NEAR)
        };
        (!scenes.is_empty() && pairs.all(same)).then_some(Self { scenes, styles })
    }

    /// Decibels over the pixels that objects cover, and how many objects a drawing of the same thing is most like.
    pub fn judge(&self, truth: &Pictures, made: &Pictures) -> Vec<Finding> {
        let one = |(place, scene): (usize, &Scene)| {
            let (truth, made, covered) = (truth.at(place), made.at(place), covered(scene));
            let named = scene
                .objects
                .iter()
                .filter(|object| self.likest(scene, object, made) == Some(object.concept.index));
            (psnr(truth, made, &|at| covered[at]), named.count())
        };
        let scenes = self.scenes[..self.scenes.len().min(made.len())].par_iter();
        let (decibels, named): (Vec<Option<f64>>, Vec<usize>) = scenes.enumerate().map(one).unzip();
        let decibels: Vec<f64> = decibels.into_iter().flatten().collect();
        let mean = decibels.iter().sum::<f64>() / decibels.len().max(1) as f64;
        let objects = self.scenes[..named.len()]
            .iter()
            .map(|scene| scene.objects.len());
        let (named, objects) = (named.iter().sum(), objects.sum());
        vec![
            Finding::new("PSNR of drawn objects dB", mean, decibels.len()),
            Finding::share("named by drawings %", named, objects),
        ]
    }

    /// The concept whose drawing in the place of this object a picture is most like; `None` for a picture that has nothing but
    /// background there.
    fn likest(&self, scene: &Scene, object: &Object, made: &[u8]) -> Option<usize> {
        let square = Square::of(object);
        let shown = square.against(made, scene.background);
        let own = length(&shown);
        if own < 1.0 {
            return None;
        }
        let drawings = concepts().iter().flat_map(|concept| {
            let styles = self.styles.list().iter();
            styles.map(move |style| Object {
                concept,
                style: *style,
                ..object.clone()
            })
        });
        let likeness = |drawing: Object| {
            let concept = drawing.concept.index;
            let alone = Scene {
                objects: vec![drawing],
                ..scene.clone()
            };
            let drawn = square.against(&render(&alone).into_raw(), scene.background);
            let both: f64 = drawn.iter().zip(&shown).map(|(a, b)| a * b).sum();
            (both / (length(&drawn).max(1.0) * own), concept)
        };
        let all = drawings.map(likeness);
        let best = all.max_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|(_, concept)| concept)
    }
}

/// The pixels of an object.
struct Square {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Square {
    fn of(object: &Object) -> Self {
        let [x, y, size] = [object.x, object.y, object.size].map(|n| n as usize);
        Self {
            rows: y..(y + size).min(SIDE),
            columns: x..(x + size).min(SIDE),
        }
    }

    /// What differs in them from a background.
    fn against(&self, picture: &[u8], background: [u8; 3]) -> Vec<f64> {
        let rows = self.rows.clone();
        let pixels = rows.flat_map(|y| self.columns.clone().map(move |x| 3 * (y * SIDE + x)));
        let differs = |at: usize| {
            (0..3)
                .map(move |colour| f64::from(picture[at + colour]) - f64::from(background[colour]))
        };
        pixels.flat_map(differs).collect()
    }
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Which pixels objects cover: what is the same on black as on white.
fn covered(scene: &Scene) -> Vec<bool> {
    let on = |shade: u8| -> RgbImage {
        render(&Scene {
            background: [shade; 3],
            ..scene.clone()
        })
    };
    let (black, white) = (on(0).into_raw(), on(255).into_raw());
    let both = black.chunks_exact(3).zip(white.chunks_exact(3));
    both.map(|(black, white)| white[0] - black[0] < 255 - COVERED)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenes() -> Drawn {
        let scenes = (0..12).map(|i| Scene::generate(5, i, Styles::Both));
        Drawn {
            scenes: scenes.collect(),
            styles: Styles::Both,
        }
    }

    fn pictures(drawn: &Drawn, change: impl Fn(&Scene, Vec<u8>) -> Vec<u8>) -> Pictures {
        let mut pictures = Pictures::new(SIDE);
        for scene in &drawn.scenes {
            let bytes = change(scene, render(scene).into_raw());
            pictures.bytes.extend(bytes);
        }
        pictures
    }

    #[test]
    fn drawings_name_what_is_drawn_and_nothing_else() {
        let drawn = scenes();
        let truth = pictures(&drawn, |_, bytes| bytes);
        let value = |made: &Pictures, which: usize| drawn.judge(&truth, made)[which].value.unwrap();
        assert!(value(&truth, 0) > 50.0);
        assert!(value(&truth, 1) > 99.0);
        // Half as strong it is still the same thing; a bare background is none.
        let faint = pictures(&drawn, |scene, bytes| {
            let own = scene.background;
            let each = bytes.iter().enumerate();
            let mixed =
                each.map(|(i, byte)| ((u16::from(*byte) + u16::from(own[i % 3])) / 2) as u8);
            mixed.collect()
        });
        assert!(value(&faint, 1) > 95.0);
        let bare = pictures(&drawn, |scene, bytes| {
            scene.background.repeat(bytes.len() / 3)
        });
        assert_eq!(value(&bare, 1), 0.0);
        // Others' pictures name next to nothing.
        let mut others = truth.clone();
        others.bytes.rotate_left(truth.size());
        assert!(value(&others, 1) < 40.0, "{}", value(&others, 1));
    }

    #[test]
    fn pixels_are_objects_where_they_cover_the_background() {
        let drawn = scenes();
        let scene = &drawn.scenes[0];
        let covered = covered(scene);
        let squares: Vec<Square> = scene.objects.iter().map(Square::of).collect();
        let inside = |at: usize| {
            let (x, y) = (at % SIDE, at / SIDE);
            let mut squares = squares.iter();
            squares.any(|s| s.rows.contains(&y) && s.columns.contains(&x))
        };
        let count = covered.iter().filter(|covered| **covered).count();
        assert!(count > 100 && (0..covered.len()).all(|at| !covered[at] || inside(at)));
    }
}
