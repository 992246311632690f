//! What attacks on pictures are compared with.

use super::{Attack, Case, Found, Stream, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::matrix::Matrix;
use crate::pictures::{Pictures, background};

/// Of so many auxiliary pictures exactly the nearest is taken, so that numbers compare between runs.
const AMONG: usize = 1000;

/// The mean of the auxiliary pictures.
pub struct MeanPicture;

impl Attack for MeanPicture {
    fn name(&self) -> &'static str {
        "mean picture"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "auxiliary pictures; shows their mean, whatever has crossed"
    }
    fn is_baseline(&self) -> bool {
        true
    }
    fn is_blind(&self) -> bool {
        true
    }
    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let mut shown = Pictures::new(case.seen.pictures.side);
        let mean = case.own.pictures.mean();
        for _ in 0..case.seen.pictures.len() {
            shown.push_values(mean.iter().copied());
        }
        Ok(Found::pictures(shown))
    }
}

/// The victim's own most frequent colour, all over.
pub struct Background;

impl Attack for Background {
    fn name(&self) -> &'static str {
        "own background"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "the victim's picture itself; shows the colour that most of its pixels have"
    }
    fn is_baseline(&self) -> bool {
        true
    }
    fn is_blind(&self) -> bool {
        true
    }
    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let victims = &case.seen.pictures;
        let mut shown = Pictures::new(victims.side);
        for picture in victims.each() {
            let colour = background(picture);
            shown
                .bytes
                .extend(colour.iter().cycle().take(victims.size()));
        }
        Ok(Found::pictures(shown))
    }
}

/// The auxiliary picture that is nearest in its pixels: an oracle.
pub struct NearestPixels;

impl Attack for NearestPixels {
    fn name(&self) -> &'static str {
        "nearest by pixels"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "the victim's picture itself; shows the nearest of 1,000 auxiliary pictures"
    }
    fn is_baseline(&self) -> bool {
        true
    }
    fn is_blind(&self) -> bool {
        true
    }
    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let numbers = |pictures: &Pictures| {
            let values = pictures.bytes.iter().map(|byte| f32::from(*byte) / 255.0);
            Matrix::new(pictures.size(), values.collect())
        };
        let among = numbers(&case.own.pictures.first(AMONG));
        shown(case, &among, &numbers(&case.seen.pictures))
    }
}

/// The auxiliary picture whose code is nearest.
pub struct NearestCode;

impl Attack for NearestCode {
    fn name(&self) -> &'static str {
        "nearest by code"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "auxiliary pictures and a client's half; shows the one of 1,000 whose code is nearest"
    }
    fn is_baseline(&self) -> bool {
        true
    }
    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let scale = case.own.image.scale();
        let own = scale.of(&case.own.image).folded(case.own.tokens);
        let among = own.pick(0..own.rows.min(AMONG));
        let victims = scale.of(&case.seen.image).folded(case.seen.tokens);
        shown(case, &among, &victims)
    }
}

fn shown(case: &Case<'_>, among: &Matrix, victims: &Matrix) -> Result<Found, LeakageError> {
    if among.rows < AMONG {
        return unfit(format!(
            "there are {} auxiliary pictures, and this compares with exactly {AMONG}",
            among.rows
        ));
    }
    let mut shown = Pictures::new(case.seen.pictures.side);
    for near in among.nearest(victims, 1, &case.world.device) {
        let (nearest, _) = near[0];
        shown.bytes.extend(case.own.pictures.at(nearest));
    }
    Ok(Found::pictures(shown))
}
