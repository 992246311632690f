//! `match`: which of a gallery of pictures is it?

use super::{Attack, Case, Found, Stream, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::Finding;
use crate::matrix::Matrix;
use crate::seen::capture;

/// Pictures in a gallery.
const GALLERIES: [usize; 2] = [100, 1000];

/// See the module.
pub struct Match;

impl Attack for Match {
    fn name(&self) -> &'static str {
        "match"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "a client's half, and the victim's picture among others; looks for the picture whose code is nearest to what came"
    }

    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let world = case.world;
        // The gallery's codes are the attacker's own. It has the pictures in the batches that the victim sends them in, which
        // is more than it would know.
        let again = capture(case.known, world.recipe, world.victims, &case.seen.entries)?;
        if again.pictures.len() != case.seen.pictures.len() {
            return unfit("the victims' pictures are not the same when read again");
        }
        let (ours, theirs) = (again.image.scale(), case.seen.image.scale());
        let fold = |rows: Matrix| rows.folded(case.seen.tokens.max(1));
        let (own, asked) = (
            fold(ours.of(&again.image)),
            fold(theirs.of(&case.seen.image)),
        );
        let others = fold(case.own.image.scale().of(&case.own.image));
        let mut findings = Vec::new();
        for size in GALLERIES {
            // The picture itself, other victims', and auxiliary ones.
            let mine = own.rows.min(size);
            if mine + others.rows < size {
                continue;
            }
            let mut gallery = own.pick(0..mine);
            gallery.append(others.pick(0..size - mine));
            let asked = asked.pick(0..mine);
            let near = gallery.nearest(&asked, 5, &world.device);
            for top in [1, 5] {
                let right = near
                    .iter()
                    .enumerate()
                    .filter(|(victim, near)| near.iter().take(top).any(|one| one.0 == *victim));
                let measure = format!("top-{top} of {size} %");
                findings.push(Finding::share(measure, right.count(), asked.rows));
            }
        }
        if findings.is_empty() {
            return unfit("a gallery needs 100 pictures, victims' and auxiliary ones together");
        }
        Ok(Found::numbers(findings))
    }
}
