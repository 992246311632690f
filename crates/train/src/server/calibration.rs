//! What quantizers start from: what clients send, and what comes of hidden states, which the server alone sees.

use qtl_codec::Code;
use qtl_model::quant::{Decoder, Heard, Pool, QuantError};
use qtl_wire::verb::{HiddenRanges, MeasureHidden};
use qtl_wire::{Calibration, WorkError};

use super::{ServerWork, invalid, no_step, trips};
use crate::client::container;
use crate::half::Half;
use crate::message::{ContainerError, decode};

impl ServerWork {
    /// Both quantizers' halves as a calibration starts them, checked, before either takes its own.
    pub(super) fn started(&self, c: &Calibration) -> Result<[Option<Decoder>; 2], WorkError> {
        let uplink = &self.half.stages.uplink;
        let start = |part, bytes: &[u8], quantizer: &Decoder| {
            let Some(told) = told(bytes, quantizer.start_shape()).map_err(invalid)? else {
                return Ok(None);
            };
            let mut quantizer = quantizer.clone();
            quantizer.start(&told).map_err(|e| unfit(part, &e))?;
            Ok(Some(quantizer))
        };
        Ok([
            start("image", &c.image, &uplink.image)?,
            start("text", &c.text, &uplink.text)?,
        ])
    }

    /// Reads what a site says of one quantizer's features; `None` where it has seen none.
    pub(super) fn heard(
        part: &str,
        bytes: &[u8],
        rows: u64,
        pool: &Pool<'_>,
    ) -> Result<Option<Heard>, WorkError> {
        let said = told(bytes, pool.shape()).map_err(invalid)?;
        let heard = said.map(|said| pool.hear(&said, rows)).transpose();
        heard.map_err(|error| unfit(part, &error))
    }

    /// Adds the hidden states of a batch to what was measured.
    pub(super) fn survey(&mut self, s: &MeasureHidden) -> Result<(), WorkError> {
        if self.due()? > 0 {
            return Err(WorkError::Invalid("the run has begun".to_owned()));
        }
        self.training.check(&s.cut.layout).map_err(invalid)?;
        let cut = self.cut(&s.cut)?;
        let wanted = trips::wanted(&s.wanted, &cut)?;
        let Half { stages, device, .. } = &self.half;
        let rows = stages.measure_hidden(&cut, wanted.as_ref(), device);
        let rows = rows.map_err(no_step)?;
        if let (Some(rows), Some(edge)) = (rows, stages.downlink()) {
            let fresh = || edge.hidden.accumulator();
            self.measured.get_or_insert_with(fresh).add(rows);
        }
        Ok(())
    }

    /// Starts the quantizer of hidden states from all that were measured, if there were any, and says what the client's half
    /// starts from.
    pub(super) fn surveyed(&mut self) -> Result<Option<Code>, WorkError> {
        let Some(measured) = &self.measured else {
            return Ok(None);
        };
        let Some(moments) = measured.moments() else {
            return Ok(None);
        };
        moments
            .check(moments.mean.len())
            .map_err(|error| WorkError::NotFinite {
                what: format!("the hidden states: {error}"),
                sequence: None,
            })?;
        self.half.moves();
        let Some(edge) = self.half.stages.downlink_mut() else {
            return Ok(None);
        };
        let told = edge.hidden.start(measured);
        if let Some(told) = &told {
            // As a server that was started anew starts from what was told before.
            let taken = edge.hidden.take(told);
            taken.map_err(|error| unfit("hidden", &error))?;
        }
        Ok(told)
    }

    /// Measures the hidden states of a batch; after the last the quantizer of hidden states is calibrated on all.
    pub(super) fn measure(&mut self, s: &MeasureHidden) -> Result<HiddenRanges, WorkError> {
        self.survey(s)?;
        let told = match s.last {
            true => self.surveyed()?,
            false => None,
        };
        Ok(HiddenRanges {
            hidden: told.as_ref().map(container).unwrap_or_default(),
        })
    }
}

fn unfit(part: &str, error: &QuantError) -> WorkError {
    WorkError::Invalid(format!("the {part} calibration: {error}"))
}

/// Reads what a quantizer starts from, of so many rows and columns at most; `None` for an empty container.
pub(crate) fn told(bytes: &[u8], [rows, cols]: [usize; 2]) -> Result<Option<Code>, ContainerError> {
    match bytes {
        [] => Ok(None),
        bytes => decode("calibration", bytes, rows, cols).map(Some),
    }
}
