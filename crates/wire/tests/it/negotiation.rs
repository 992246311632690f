//! Where two peers go on: the table.

use qtl_wire::session::negotiate::negotiate;
use qtl_wire::{Resume, Standing};

fn at(saved: &[u64], live: Option<u64>) -> Standing {
    Standing {
        run: String::new(),
        saved: saved.to_vec(),
        live,
    }
}

#[test]
fn peers_go_on_where_both_can() {
    let live = |at, fresh| Resume {
        at,
        fresh,
        live: true,
    };
    let back = |at| Resume {
        at,
        fresh: at == 0,
        live: false,
    };
    let table = [
        // Nobody has anything: the beginning.
        (at(&[], None), at(&[], None), back(0)),
        // Both in memory, in step.
        (at(&[], Some(0)), at(&[], Some(0)), live(0, true)),
        (at(&[4], Some(7)), at(&[4], Some(7)), live(7, false)),
        // The server applied the step whose answer was lost.
        (at(&[4], Some(7)), at(&[4], Some(8)), live(7, false)),
        (at(&[], Some(0)), at(&[], Some(1)), live(0, false)),
        // Further apart than one step: only checkpoints help.
        (at(&[4], Some(7)), at(&[4], Some(9)), back(4)),
        (at(&[4], Some(7)), at(&[4], Some(6)), back(4)),
        // One process was restarted.
        (at(&[4, 6], Some(7)), at(&[4, 6], None), back(6)),
        (at(&[4, 6], None), at(&[4, 6], Some(7)), back(6)),
        // One side wrote a checkpoint that the other did not.
        (at(&[4, 6], None), at(&[4], None), back(4)),
        (at(&[4], None), at(&[4, 6], None), back(4)),
        (at(&[2, 4], None), at(&[4, 6], None), back(4)),
        // No checkpoint in common.
        (at(&[3], None), at(&[4], None), back(0)),
        (at(&[3], None), at(&[], None), back(0)),
        // The list need not be sorted.
        (at(&[6, 2, 4], None), at(&[4, 2, 6], None), back(6)),
        // The largest step there is.
        (at(&[], Some(u64::MAX)), at(&[], Some(0)), back(0)),
    ];
    for (client, server, expected) in table {
        assert_eq!(
            negotiate(&client, &server),
            expected,
            "{client:?} meets {server:?}"
        );
    }
}
