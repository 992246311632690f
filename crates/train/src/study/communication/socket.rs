//! What the messages of a step take at a socket: TLS records, HTTP/2 frames and flow control on top of their own bytes.

use qtl_wire::{Backward, Exchange, Forward, GrpcClient, Reply, WorkError, over_loopback};

use super::MeasureError;
use super::steps::{OnlySteps, Steps, greet};

/// So many steps are counted at least. Flow control speaks every few megabytes and not once a step.
const STEPS: usize = 8;

/// Answers that are ready, for messages that come in turn.
struct Ready(Vec<Backward>);

impl Steps for Ready {
    fn answer(&mut self, step: u64, _: &Forward) -> Result<Backward, WorkError> {
        Ok(self.0[step as usize % self.0.len()].clone())
    }
}

/// Sends these messages and their answers over gRPC and mutual TLS on this machine; the bytes of a step that passed the
/// client's socket, up and down, mean. Certificates and the greeting are not among them.
pub(super) fn bytes(steps: Vec<(Forward, Backward)>) -> Result<[f64; 2], MeasureError> {
    let (messages, answers): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    if messages.is_empty() {
        return Ok([0.0; 2]);
    }
    over_loopback(OnlySteps::new(Ready(answers)), |client| {
        greet(client)?;
        // Settings, tickets and the like may still be under way after the greeting: the first step is not counted.
        send(client, &messages, 0)?;
        let start = client.meter();
        // Whole rounds, so that every message weighs the same.
        let count = STEPS.next_multiple_of(messages.len());
        for step in 1..=count {
            send(client, &messages, step)?;
        }
        let counted = client.meter().since(&start);
        if counted.connections > 0 {
            return Err(MeasureError::Interrupted);
        }
        let mean = |bytes: u64| bytes as f64 / count as f64;
        Ok([mean(counted.socket_sent), mean(counted.socket_received)])
    })
}

/// Sends the message whose turn it is as step `step`, and waits for the answer.
fn send(client: &mut GrpcClient, messages: &[Forward], step: usize) -> Result<(), MeasureError> {
    match client.step(messages[step % messages.len()].clone())? {
        Reply::Done(_) => Ok(()),
        Reply::Rewind { .. } | Reply::Moved { .. } => Err(MeasureError::Interrupted),
    }
}
