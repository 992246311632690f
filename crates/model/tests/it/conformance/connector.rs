//! Every connector.

use qtl_model::connector::{Connector, ConnectorSpec};
use qtl_model::weights::{Checkpoint, KeyMap, SaveType, load_into, save, tensors_of};

use super::{
    connectors, exactly_the_trained_get_gradients, gradients_agree, noise, random_connector,
    rows_are_independent,
};

const TOKENS: usize = 5;

fn features(spec: &ConnectorSpec, count: usize) -> burn::tensor::Tensor<3> {
    noise([count, TOKENS, spec.input], "features")
}

/// In the Q-Former, softmax is blind to a shift of all keys.
fn is_key_bias(name: &str) -> bool {
    name.ends_with("key.bias")
}

#[test]
fn gradients_agree_with_finite_differences() {
    for spec in connectors() {
        let connector = random_connector(&spec, 1);
        gradients_agree(
            &spec.kind,
            &connector,
            features(&spec, 2),
            Connector::forward,
        );
    }
}

#[test]
fn exactly_the_trained_parameters_get_gradients() {
    for spec in connectors() {
        let connector = random_connector(&spec, 2);
        let (input, forward) = (features(&spec, 2), Connector::forward);
        exactly_the_trained_get_gradients(&spec.kind, &connector, input, forward, is_key_bias);
    }
}

#[test]
fn saved_and_loaded_is_the_same_under_every_spelling() {
    for spec in connectors() {
        for prefix in ["", "connector."] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("model.safetensors");
            let written = random_connector(&spec, 3);
            save(&file, &tensors_of(&written, prefix), SaveType::F32).unwrap();
            let file = Checkpoint::open(folder.path()).unwrap();
            let read = load_into(random_connector(&spec, 4), &file, &KeyMap::connector()).unwrap();
            assert_eq!(
                tensors_of(&read, ""),
                tensors_of(&written, ""),
                "{}",
                spec.kind
            );
        }
    }
}

#[test]
fn a_pictures_tokens_do_not_depend_on_its_neighbours() {
    for spec in connectors() {
        let connector = random_connector(&spec, 5);
        let input = features(&spec, 3);
        rows_are_independent(&spec.kind, input, |x| connector.forward(x));
    }
}

#[test]
fn the_number_of_tokens_is_the_promised_one() {
    for mut spec in connectors() {
        for norm in [false, true] {
            spec.norm = norm;
            let connector = random_connector(&spec, 6);
            let [_, tokens, width] = connector.forward(features(&spec, 2)).dims();
            let promised = (connector.tokens(TOKENS), spec.output);
            assert_eq!((tokens, width), promised, "{}", spec.kind);
        }
    }
}
