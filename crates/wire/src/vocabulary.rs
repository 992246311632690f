//! What the two peers say about a session, as plain types. What is asked within one is in [`crate::verb`].

use std::collections::BTreeMap;

use crate::Site;

/// The recipe fields that both peers must agree on, compared one by one in the greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Dotted recipe field to its printed value.
    pub fields: BTreeMap<String, String>,
}

impl Terms {
    /// SHA-256 over the sorted fields, as 64 hexadecimal digits. Every string is preceded by its
    /// length, so two different sets of fields never feed the same bytes.
    pub fn hash(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for (field, value) in &self.fields {
            for text in [field, value] {
                context.update(&(text.len() as u64).to_le_bytes());
                context.update(text.as_bytes());
            }
        }
        let digest = context.finish();
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Where one peer stands in a run. All counts are of micro-batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Identifier of the run, fixed by the client at the run's start. On a server: empty until a
    /// client has begun a run there. At most 128 printable ASCII characters and no slash.
    pub run: String,
    /// Counts of which a checkpoint is safely on disk (the state after so many). 0, the
    /// beginning, is always available and need not be listed.
    pub saved: Vec<u64>,
    /// On a server: number applied in memory; `None` if nothing was restored yet, or if what is in memory is of no use
    /// after a failure. A client that greets goes to a checkpoint and leaves this empty.
    pub live: Option<u64>,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Training; generation is allowed between steps.
    Train,
    /// Generation only.
    Generate,
}

/// Where a session goes on: the answer to a greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Number of micro-batches applied. Training: to the checkpoint that the caller must go back to before it goes on (0: the
    /// beginning), as the server has; where several sites train, a site's own may be an earlier one than the server's. Generation: to the server's weights; the caller compares it with its
    /// own half.
    pub at: u64,
    /// Where several sites train one model: which of them the caller is, and of which run.
    pub site: Option<Site>,
}
