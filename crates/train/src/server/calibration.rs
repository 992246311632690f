//! Ranges of quantizers: those that the client sends, and those of hidden states, which the server alone sees.

use qtl_codec::{Code, Options, Plane, ScalarData};
use qtl_model::quant::Moments;
use qtl_wire::verb::{HiddenRanges, MeasureHidden};
use qtl_wire::{Calibration, WorkError};

use super::{ServerWork, invalid, no_step, trips};
use crate::half::Half;
use crate::message::{Channels, decode};

impl ServerWork {
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
    let values: Vec<f32> = moments.mean.iter().chain(&moments.std).copied().collect();
    let plane = qtl_codec::Scalars::new(2, moments.mean.len(), ScalarData::F32(values))
        .expect("a mean and a deviation per channel are two rows");
    qtl_codec::encode(&Code::new(vec![plane.into()]), &Options::default())
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
    match code.planes.as_slice() {
        [Plane::Scalars(plane)] if plane.rows == 2 => {
            let values = plane.to_f32();
            let (mean, std) = values.split_at(plane.cols);
            Ok(Some(Moments {
                mean: mean.to_vec(),
                std: std.to_vec(),
            }))
        }
        _ => Err(WorkError::Invalid(format!(
            "the {part} calibration is not two rows of numbers, means and deviations"
        ))),
    }
}
