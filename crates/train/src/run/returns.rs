//! Which gradients of the rows at the cut go back: those that the client's half has something to learn from.

use qtl_model::Device;
use qtl_model::edge::Returns;
use qtl_model::parts::{Part, QUANTIZER_IMAGE, QUANTIZER_TEXT, Row};
use qtl_model::quant::{Encoder, QuantizerSpec};
use qtl_model::weights::parameters;

use crate::recipe::Recipe;
use crate::tune::Method;

/// Of the features of a quantizer whose parameters' names alone are asked for.
const WIDTH: usize = 8;

/// What `recipe` has come back. Both sides ask this, so neither waits for what the other leaves out; where a part that is to be
/// trained has nothing to train, a gradient comes for nothing.
pub(crate) fn returns(recipe: &Recipe, device: &Device) -> Returns {
    let tune = &recipe.tune;
    let trained = |part| {
        recipe.split.client_parts().contains(&part) && tune.part(part).method != Method::Frozen
    };
    let quantizer = |row: &Row, spec: &QuantizerSpec| {
        let half = Encoder::init(spec, WIDTH, 0, device);
        let parameters = parameters(&half, row.prefix);
        parameters.iter().any(|p| tune.trains(&p.name))
    };
    let mut rows = Returns {
        image: trained(Part::VisionTower) || trained(Part::Connector),
        text: trained(Part::EmbedTokens),
    };
    if recipe.split.bottom_blocks > 0 {
        // Behind a block every row depends on rows of both kinds.
        let any = rows.image || rows.text || tune.part(Part::Llm).method != Method::Frozen;
        rows = Returns {
            image: any,
            text: any,
        };
    }
    let spec = &recipe.quantizer;
    Returns {
        image: rows.image || quantizer(&QUANTIZER_IMAGE, &spec.image),
        text: rows.text || quantizer(&QUANTIZER_TEXT, &spec.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantizer_has_the_same_parameters_for_features_of_any_width() {
        let device = Device::flex();
        for spec in QuantizerSpec::settings() {
            let names = [WIDTH, 72].map(|width| {
                let half = Encoder::init(&spec, width, 0, &device);
                let parameters = parameters(&half, "").into_iter();
                parameters.map(|p| p.name).collect::<Vec<_>>()
            });
            assert_eq!(names[0], names[1], "{spec}");
        }
    }
}
