//! Averaging what several sites train on their own side: weights as bytes, and their mean.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

/// Weights by name: shape, and values.
pub type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Writes weights as safetensors, with what else is to be told about them.
///
/// # Errors
///
/// A sentence, for shapes that do not fit their values.
pub fn to_bytes(
    weights: &Weights,
    told: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, String> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = weights
        .iter()
        .map(|(name, (shape, values))| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (name, shape, bytes.collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes);
            view.map(|view| ((*name).clone(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    serialize(views, told).map_err(|e| e.to_string())
}

/// Reads what [`to_bytes`] wrote.
///
/// # Errors
///
/// A sentence naming the tensor: no safetensors, other numbers than 32-bit floats, a value that is no finite number.
pub fn from_bytes(bytes: &[u8]) -> Result<Weights, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut weights = Weights::new();
    for (name, view) in tensors.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?}, expected F32", view.dtype()));
        }
        let chunks = view.data().chunks_exact(4);
        let values: Vec<f32> = chunks
            .filter_map(|four| four.try_into().ok().map(f32::from_le_bytes))
            .collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(format!("{name} has a value that is no finite number"));
        }
        weights.insert(name, (view.shape().to_vec(), values));
    }
    Ok(weights)
}

/// The step that a file says it is of.
pub fn step_of(bytes: &[u8]) -> Option<u64> {
    let (_, told) = SafeTensors::read_metadata(bytes).ok()?;
    told.metadata().as_ref()?.get("step")?.parse().ok()
}

/// The mean of several sites' weights, each with its own weight (all of them 0: the same for all), added in the order given.
///
/// # Errors
///
/// The number of the first that has other tensors than the one before, and a sentence that names one.
pub fn mean(of: &[(Weights, u64)]) -> Result<Weights, (usize, String)> {
    let Some(((first, _), rest)) = of.split_first() else {
        return Ok(Weights::new());
    };
    for (number, (other, _)) in rest.iter().enumerate() {
        let shape = |weights: &Weights, name| weights.get(name).map(|(shape, _)| shape.clone());
        let names = first.keys().chain(other.keys());
        if let Some(name) = names
            .into_iter()
            .find(|name| shape(first, *name) != shape(other, *name))
        {
            let what = format!(
                "{name} is not averaged by all sites, or in other shapes; all sites have to share the same parts"
            );
            return Err((number + 1, what));
        }
    }
    let all: f64 = of.iter().map(|(_, samples)| *samples as f64).sum();
    let share = |samples: u64| match all > 0.0 {
        true => samples as f64 / all,
        false => 1.0 / of.len() as f64,
    };
    let mut mean = Weights::new();
    for (name, (shape, values)) in first {
        let mut sums = vec![0.0f64; values.len()];
        for (weights, samples) in of {
            let share = share(*samples);
            let values = weights.get(name).map(|(_, values)| values);
            for (sum, value) in sums.iter_mut().zip(values.into_iter().flatten()) {
                *sum += share * f64::from(*value);
            }
        }
        let values = sums.into_iter().map(|sum| sum as f32).collect();
        mean.insert(name.clone(), (shape.clone(), values));
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(values: &[f32]) -> Weights {
        [("a".to_owned(), (vec![values.len()], values.to_vec()))].into()
    }

    #[test]
    fn the_mean_is_weighted_and_comes_back_from_bytes() {
        let of = [(weights(&[1.0, 2.0]), 3), (weights(&[5.0, -2.0]), 1)];
        let got = mean(&of).unwrap();
        assert_eq!(got["a"].1, [2.0, 1.0]);
        assert_eq!(from_bytes(&to_bytes(&got, None).unwrap()).unwrap(), got);
        let idle = [(weights(&[1.0]), 0), (weights(&[2.0]), 0)];
        assert_eq!(mean(&idle).unwrap()["a"].1, [1.5]);
        // One alone keeps its bits.
        let odd = [(weights(&[0.1, f32::MIN_POSITIVE]), 7)];
        assert_eq!(mean(&odd).unwrap(), odd[0].0);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (number, what) = mean(&[(weights(&[1.0]), 1), (weights(&[1.0, 2.0]), 1)]).unwrap_err();
        assert!(number == 1 && what.contains("a is not averaged"), "{what}");
        assert!(from_bytes(b"none").is_err());
        let error = from_bytes(&to_bytes(&weights(&[f32::NAN]), None).unwrap()).unwrap_err();
        assert!(error.contains("a has a value"), "{error}");
    }
}
