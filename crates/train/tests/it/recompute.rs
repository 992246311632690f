//! Which blocks are run again in backward.

use qtl_model::Device;
use qtl_model::recompute::Graphs;
use qtl_train::inspect::{Keeping, inspect};

use crate::world::{KINDS, base, blueprint, kind, recipe};

/// Blocks of the server's, of the client's and of the tower that keep their graphs for 140 rows, with so much memory free.
fn kept(tune: &str, sets: &[&str], free: u64) -> [usize; 3] {
    let recipe = recipe(tune, &[sets, &["split.bottom_blocks=1"]].concat());
    let (blueprint, device) = (blueprint(&recipe), Device::default());
    let client = blueprint.client_without_values(&device).unwrap();
    let server = blueprint.server_without_values(&device);
    let of_client = Keeping::of_client(&client, &recipe, free);
    let of_server = Keeping::of_server(&server, &recipe, free);
    let rows = |graphs: Graphs, count| graphs.kept(count, 140);
    [
        rows(of_server.blocks, 1),
        rows(of_client.blocks, 1),
        rows(of_client.tower, 3),
    ]
}

#[test]
fn graphs_are_kept_where_there_is_room_for_them() {
    for (_, tune) in KINDS {
        let auto = |free| kept(tune, &[], free);
        assert_eq!(auto(0), [0; 3]);
        assert_eq!(auto(1 << 40)[..2], [1, 1]);
        let sizes = (20..36).map(|bits| auto(1 << bits)).collect::<Vec<_>>();
        assert!(
            sizes
                .windows(2)
                .all(|two| two[0].iter().zip(&two[1]).all(|(a, b)| a <= b))
        );
        assert_eq!(kept(tune, &["train.recompute=always"], 1 << 40), [0; 3]);
        assert_eq!(kept(tune, &["train.recompute=never"], 0), [1, 1, 3]);
    }
    // A tower that learns nothing has no graphs; one that learns has as many as there is room for.
    assert_eq!(kept(kind("full"), &[], 1 << 40)[2], 3);
}

#[test]
fn inspect_reckons_with_the_graphs_that_are_kept() {
    for (name, tune) in KINDS {
        let of = |setting: &str| {
            let recipe = recipe(tune, &[setting]);
            inspect(&base(), Some(&recipe), 20).unwrap().cost.unwrap()
        };
        let [always, never] = ["always", "never"].map(|how| of(&format!("train.recompute={how}")));
        let [_, again] = always.recomputing;
        let [_, keeping] = always.keeping;
        assert!(again.activations < keeping.activations, "{name}");
        assert!(again.training <= keeping.training, "{name}");
        assert_eq!((again.graphs, keeping.graphs), (0, 2), "{name}");
        assert_eq!(always.server, again, "{name}");
        assert_eq!(never.server, keeping, "{name}");
    }
}
