//! The promise that splitting changes nothing.

use crate::world::{Outcome, SHORT, World};

#[test]
fn one_process_and_two_over_mutual_tls_end_in_the_same_bits() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [local, client, server] = ["local", "client", "server"].map(|name| dir.path().join(name));
    world.local(&local, SHORT).finish().succeeds();
    let (_server, address) = world.serve(&server, "127.0.0.1:0", SHORT);
    world
        .connect(&client, &address, "certs", SHORT)
        .finish()
        .succeeds();
    let whole = Outcome::read(&local, &local.join("server"), 20);
    Outcome::read(&client, &server, 20).is(&whole);
    // Weights that never moved would be equal too.
    assert!(whole.losses.windows(2).any(|pair| pair[0] != pair[1]));
    let early = std::fs::read(server.join("checkpoints/step-00000010/model.safetensors")).unwrap();
    assert!(whole.server != early, "ten steps have changed nothing");
}
