//! `ask`: the server asks its own language model about the rows that it has received.

use super::{Attack, Case, Found, Stream, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::Finding;
use crate::interview::Interview;

/// See the module.
pub struct Ask;

impl Attack for Ask {
    fn name(&self) -> &'static str {
        "ask"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "the server's own blocks, and token embedding (and head, where that is the client's) of a client's half; asks the model about \
         the rows that came, in the questions of the data"
    }

    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let world = case.world;
        if world.asked.is_empty() {
            return unfit("the data asks no question often enough to compare answers");
        }
        let mut halves = crate::halves::Halves {
            client: case.known.client.clone(),
            server: case.victim.server.clone(),
        };
        // Its own questions need no protection.
        halves.client.uplink.private = None;
        let with = |halves| Interview {
            halves,
            reader: world.victims,
            recipe: world.recipe,
            catalogue: world.catalogue,
        };
        let said = with(&halves).received(world.asked, case.seen)?;
        let mut findings = with(&halves).score("answers", world.asked, &said);
        // What the client itself would be told about its own picture.
        let honest = with(case.victim).shown(world.asked, &case.seen.pictures)?;
        let same = said.iter().zip(&honest).filter(|(a, b)| a == b).count();
        findings.push(Finding::share(
            "as the client is answered %",
            same,
            said.len(),
        ));
        findings.push(guess(case));
        Ok(Found::numbers(findings))
    }
}

/// What a guess of the most frequent answer to each question scores.
pub(super) fn guess(case: &Case<'_>) -> Finding {
    let (catalogue, asked) = (case.world.catalogue, case.world.asked);
    let right = asked.iter().filter(|one| {
        let guess = catalogue.questions[one.question].guess;
        catalogue.classes[guess].1 == one.answer
    });
    Finding::share("a guess %", right.count(), asked.len())
}
