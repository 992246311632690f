//! Ranges of quantizers: those that the client sends, and those of hidden states, which the server alone sees.

use qtl_codec::Options;
use qtl_model::quant::{Decoder, Moments, QuantError};
use qtl_wire::verb::{HiddenRanges, MeasureHidden};
use qtl_wire::{Calibration, WorkError};

use super::{ServerWork, invalid, no_step, trips};
use crate::half::Half;
use crate::message::{Channels, decode};

impl ServerWork {
    /// Both quantizers' halves as a calibration starts them, checked, before either takes its own.
    pub(super) fn started(&self, c: &Calibration) -> Result<[Option<Decoder>; 2], WorkError> {
        let uplink = &self.half.stages.uplink;
        let start = |part, bytes: &[u8], quantizer: &Decoder| {
            if bytes.is_empty() {
                return Ok(None);
            }
            let mut quantizer = quantizer.clone();
            let [rows, cols] = quantizer.start_shape();
            let told = decode("calibration", bytes, rows, cols).map_err(invalid)?;
            let started = quantizer.start(&told);
            started
                .map_err(|error| WorkError::Invalid(format!("the {part} calibration: {error}")))?;
            Ok(Some(quantizer))
        };
        Ok([
            start("image", &c.image, &uplink.image)?,
            start("text", &c.text, &uplink.text)?,
        ])
    }

    /// Both moments of a calibration, checked, before either quantizer takes its own.
    pub(super) fn moments(&self, c: &Calibration) -> Result<[Option<Moments>; 2], WorkError> {
        let Channels { image, text } = self.channels;
        let read = |part, bytes: &[u8], channels| {
            let moments = moments(part, bytes, channels)?;
            let checked = moments.as_ref().map(|moments| moments.check(channels));
            checked
                .transpose()
                .map_err(|error| WorkError::Invalid(format!("the {part} calibration: {error}")))?;
            Ok(moments)
        };
        Ok([
            read("image", &c.image, image)?,
            read("text", &c.text, text)?,
        ])
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
        if let Some(rows) = rows.map_err(no_step)? {
            self.measured.add(rows);
        }
        Ok(())
    }

    /// Calibrates the quantizer of hidden states on all that were measured, if there were any.
    pub(super) fn surveyed(&mut self) -> Result<Option<Moments>, WorkError> {
        let Some(moments) = self.measured.moments() else {
            return Ok(None);
        };
        moments
            .check(moments.mean.len())
            .map_err(|error| WorkError::NotFinite {
                what: format!("the hidden states: {error}"),
                sequence: None,
            })?;
        self.half.moves();
        if let Some(edge) = self.half.stages.downlink_mut() {
            edge.hidden.calibrate(&moments);
        }
        Ok(Some(moments))
    }

    /// Measures the hidden states of a batch; after the last the quantizer of hidden states is calibrated on all.
    pub(super) fn measure(&mut self, s: &MeasureHidden) -> Result<HiddenRanges, WorkError> {
        self.survey(s)?;
        let moments = match s.last {
            true => self.surveyed()?,
            false => None,
        };
        Ok(HiddenRanges {
            hidden: moments.as_ref().map(calibration_code).unwrap_or_default(),
        })
    }
}

/// Means and deviations as one container: two rows.
pub fn calibration_code(moments: &Moments) -> Vec<u8> {
    qtl_codec::encode(&moments.code(), &Options::default())
}

/// Reads what [`calibration_code`] wrote.
pub(crate) fn moments(
    part: &'static str,
    bytes: &[u8],
    channels: usize,
) -> Result<Option<Moments>, WorkError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let code = decode("calibration", bytes, 2, channels).map_err(invalid)?;
    match Moments::read(&code) {
        Some(moments) => Ok(Some(moments)),
        None => Err(WorkError::Invalid(format!(
            "the {part} calibration: {}",
            QuantError::Ranges
        ))),
    }
}
