//! Where two peers go back to: the table.

use qtl_wire::session::negotiate::negotiate;

#[test]
fn peers_go_back_to_the_latest_checkpoint_that_both_have() {
    let table: [(&[u64], &[u64], u64); 8] = [
        // Nobody has anything: the beginning.
        (&[], &[], 0),
        (&[4, 6], &[4, 6], 6),
        // One side wrote a checkpoint that the other did not.
        (&[4, 6], &[4], 4),
        (&[4], &[4, 6], 4),
        (&[2, 4], &[4, 6], 4),
        // No checkpoint in common.
        (&[3], &[4], 0),
        (&[3], &[], 0),
        // The list need not be sorted.
        (&[6, 2, 4], &[4, 2, 6], 6),
    ];
    for (client, server, expected) in table {
        assert_eq!(
            negotiate(client, server),
            expected,
            "{client:?} meets {server:?}"
        );
    }
}
