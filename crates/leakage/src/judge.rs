//! How good reconstructions of pictures are.

use crate::attack::World;
use crate::drawn::Drawn;
use crate::error::LeakageError;
use crate::finding::Finding;
use crate::interview::Interview;
use crate::pictures::{Pictures, objects, psnr, ssim};
use crate::seen::Seen;

/// Compares reconstructions with the pictures themselves: in decibels over all pixels and over those of objects, in structure,
/// by what the victim's own model says when it is asked about
/// them, and, of generated scenes, by the drawings that they are like.
///
/// # Errors
///
/// [`LeakageError`]
pub fn judge(
    world: &World<'_>,
    seen: &Seen,
    made: &Pictures,
) -> Result<Vec<Finding>, LeakageError> {
    let truth = &seen.pictures;
    let count = truth.len();
    let pairs: Vec<(&[u8], &[u8])> = truth.each().zip(made.each()).collect();
    let mean = |values: Vec<f64>| {
        let count = values.len();
        (values.iter().sum::<f64>() / count.max(1) as f64, count)
    };
    let all = pairs.iter().filter_map(|(a, b)| psnr(a, b, &|_| true));
    let own = pairs.iter().filter_map(|(a, b)| {
        let objects = objects(a);
        psnr(a, b, &|at| objects[at])
    });
    let alike = pairs.iter().map(|(a, b)| ssim(a, b, truth.side));
    let (all, own) = (mean(all.collect()), mean(own.collect()));
    let mut findings = vec![
        Finding::new("PSNR dB", all.0, all.1),
        Finding::new("PSNR of objects dB", own.0, own.1),
        Finding::new("SSIM", mean(alike.collect()).0, count),
    ];
    if let Some(drawn) = Drawn::of(seen, world.victims) {
        findings.extend(drawn.judge(truth, made));
    }
    if !world.asked.is_empty() {
        let interview = Interview {
            halves: world.victim,
            reader: world.victims,
            recipe: world.recipe,
            catalogue: world.catalogue,
        };
        let said = interview.shown(world.asked, made)?;
        findings.extend(interview.score("still named", world.asked, &said));
    }
    Ok(findings)
}
