//! Connectors against the reference.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_model::config::Fields;
use qtl_model::connector::{Connector, ConnectorError, ConnectorSpec};
use qtl_model::weights::{Checkpoint, KeyMap, load_into, parameters};

use crate::golden::{each, floats};

fn spec(kind: &str, input: usize, output: usize) -> ConnectorSpec {
    ConnectorSpec::new(kind, input, output)
}

#[test]
fn golden_connector() {
    let device = Device::default();
    each(&["connector_"], |case| {
        let fields = Fields::read(&case.dir).unwrap();
        // A mixture's case has the towers' features apart; here they stand side by side.
        let parts = match case.family() {
            "mof_mlp" => vec!["features_clip", "features_dinov2"],
            _ => vec!["features"],
        };
        let width = fields.size("vision_hidden_size", 0).unwrap();
        let output = fields.size("hidden_size", 0).unwrap();
        let input = width * parts.len();
        let spec = ConnectorSpec::from_config(&fields, input, parts.len(), output).unwrap();
        let connector = match Connector::new(&spec, &device) {
            Err(ConnectorError::Kind(kind)) => {
                return Err(format!("connector {kind} is not supported"));
            }
            other => other.unwrap(),
        };
        let file = Checkpoint::open(&case.dir).unwrap();
        let connector = load_into(connector, &file, &KeyMap::connector()).unwrap();
        let read = |part: &&str| case.tensor::<3>(&format!("in.{part}"), &device);
        let beside = |features| Tensor::cat(features, 2);
        let out = connector.forward(beside(parts.iter().map(read).collect()));
        let tokens = connector.tokens(read(&parts[0]).dims()[1]);
        assert_eq!(out.dims()[1], tokens, "{}", case.name);
        let forward = case.check("out.features", out);

        let connector = connector.train();
        let leaves: Vec<_> = parts
            .iter()
            .map(|part| read(part).autodiff().require_grad())
            .collect();
        let cotangent: Tensor<3> = case.tensor("in.cotangent", &device);
        let out = connector.forward(beside(leaves.clone()));
        let grads = (out * cotangent).sum().backward();
        let mut backward = case.check_parameters("grad.weight:", &connector, &grads);
        for (part, leaf) in parts.iter().zip(leaves) {
            let error = case.check_grad(&format!("grad.{part}"), leaf.grad(&grads));
            backward = backward.max(error);
        }
        Ok(format!(
            "outputs within {forward:.1e}, gradients within {backward:.1e}"
        ))
    });
}

#[test]
fn names_are_those_of_tinyllava() {
    let device = Device::default();
    let names = |kind: &str| -> Vec<String> {
        let connector = Connector::new(&spec(kind, 4, 6), &device).unwrap();
        let all = parameters(&connector, "connector.");
        all.into_iter()
            .map(|p| format!("{} {:?}", p.name, p.shape))
            .collect()
    };
    assert_eq!(
        names("linear"),
        [
            "connector._connector.weight [6, 4]",
            "connector._connector.bias [6]"
        ]
    );
    assert_eq!(
        names("mlp2x_gelu"),
        [
            "connector._connector.0.weight [6, 4]",
            "connector._connector.0.bias [6]",
            "connector._connector.2.weight [6, 6]",
            "connector._connector.2.bias [6]"
        ]
    );
    assert_eq!(names("mlp1x_gelu").len(), 2);
}

#[test]
fn unknown_kinds_and_impossible_widths_are_refused() {
    let device = Device::default();
    for kind in [
        "mof",
        "mlp0x_gelu",
        "mlp12x_gelu",
        "mlpx_gelu",
        "mlp2x_relu",
        "qformer2",
    ] {
        let error = Connector::new(&spec(kind, 4, 4), &device).unwrap_err();
        assert_eq!(error, ConnectorError::Kind(kind.to_owned()));
        assert!(error.to_string().contains("mlpNx_gelu"));
    }
    let error = Connector::new(&spec("identity", 4, 6), &device).unwrap_err();
    assert_eq!(
        error,
        ConnectorError::Width {
            input: 4,
            output: 6
        }
    );
    let error = Connector::new(&spec("mof_mlp", 4, 4), &device).unwrap_err();
    assert!(
        error.to_string().contains("joins the features of 2"),
        "{error}"
    );
}

#[test]
fn output_norm_gives_every_token_unit_mean_square() {
    let device = Device::default();
    let mut spec = spec("identity", 3, 3);
    spec.norm = true;
    let connector = Connector::new(&spec, &device).unwrap();
    let x = Tensor::<3>::from_floats([[[3.0, 4.0, 0.0], [100.0, -100.0, 100.0]]], &device);
    let y = floats(connector.forward(x));
    for token in y.chunks(3) {
        let square: f32 = token.iter().map(|v| v * v).sum::<f32>() / 3.0;
        assert!((square - 1.0).abs() < 1e-5, "{square}");
    }
    assert!((y[0] / y[1] - 0.75).abs() < 1e-6);
}
