//! What the tensors of an adapter make of a model's parameters.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::{DType, Device, Tensor, TensorData};
use qtl_model::parts::Parts;
use qtl_model::tuning::{LoraSpec, Matrix};
use qtl_model::weights::{NamedTensor, Parameter, values};

use super::Adapter;
use crate::peft::AdapterError;
use crate::tune::Part;

/// The head's parameter, in which a tied token embedding is found again.
pub(super) const HEAD: &str = "language_model.lm_head.weight";

/// What one tensor of an adapter is to the parameter that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes the parameter's place.
    Whole,
    /// Factors of a branch beside a linear map: `[rank, in]` and `[out, rank]`.
    A,
    B,
    /// Factors of a branch beside a table: `[rank, rows]` and `[columns, rank]`.
    TableA,
    TableB,
    /// The lengths of a matrix's rows (DoRA).
    Lengths,
    /// Rows that take the places of some of a table's.
    Rows,
}
use Role::{A, B, Lengths, Rows, TableA, TableB, Whole};

const ENDS: [(&str, Role); 7] = [
    (".lora_A.weight", A),
    (".lora_B.weight", B),
    (".lora_embedding_A", TableA),
    (".lora_embedding_B", TableB),
    (".lora_magnitude_vector", Lengths),
    (".lora_magnitude_vector.weight", Lengths),
    (".token_adapter.trainable_tokens_delta", Rows),
];

impl Role {
    /// The module that a tensor changes, if it does not simply take a parameter's place, and its role there.
    pub(super) fn of(name: &str) -> (&str, Self) {
        let found = ENDS
            .iter()
            .find_map(|(end, role)| Some((name.strip_suffix(end)?, *role)));
        found.unwrap_or((name, Whole))
    }

    /// Whether it is part of a branch that training keeps beside its matrix.
    fn is_kept_apart(self) -> bool {
        matches!(self, A | B | Lengths)
    }
}

/// What happens to one parameter.
#[derive(Default)]
struct Change<'a> {
    whole: Option<&'a NamedTensor>,
    factors: [Option<&'a NamedTensor>; 2],
    lengths: Option<&'a NamedTensor>,
    rows: Option<(&'a NamedTensor, &'a [usize])>,
    spec: Option<&'a LoraSpec>,
}

/// What does not fit.
#[derive(Default)]
struct Unfit {
    missing: Vec<String>,
    surplus: Vec<String>,
    misshaped: Vec<String>,
}

impl Adapter {
    /// Makes the adapter's tensors of some parts a part of the weights. Those of branches beside linear maps are left out
    /// unless `all` are wanted: training keeps them apart. `tied` says whether head and token embedding are one.
    pub(super) fn apply<H: Parts>(
        &self,
        half: H,
        parts: &[Part],
        all: bool,
        tied: bool,
    ) -> Result<H, AdapterError> {
        let parameters = half.parameters();
        let known: HashMap<&str, &Parameter> =
            parameters.iter().map(|p| (p.name.as_str(), p)).collect();
        let mut changes: BTreeMap<String, Change<'_>> = BTreeMap::new();
        let mut unfit = Unfit::default();
        for tensor in &self.tensors {
            let (module, role) = Role::of(&tensor.name);
            let held = match Part::of(module) {
                // Either half has a part of each.
                Part::Quantizer => known.contains_key(module),
                part => parts.contains(&part),
            };
            let name = match role {
                Whole => module.to_owned(),
                _ => format!("{module}.weight"),
            };
            let again = role == Rows && tied && Part::of(module) == Part::EmbedTokens;
            let again = again.then(|| HEAD.to_owned());
            let again = again.filter(|head| known.contains_key(head.as_str()));
            for name in [Some(name).filter(|_| held), again].into_iter().flatten() {
                if !role.is_kept_apart() || all {
                    let fits =
                        self.fits(tensor, module, role, known.get(name.as_str()), &mut unfit);
                    if fits {
                        self.note(changes.entry(name).or_default(), tensor, module, role);
                    }
                }
            }
        }
        self.complete(&parameters, parts, all, &mut unfit);
        self.listed([
            ("missing in the adapter", unfit.missing),
            ("in the adapter, but not in the model", unfit.surplus),
            ("other shape", unfit.misshaped),
        ])?;
        if tied
            && changes
                .iter()
                .any(|(n, c)| Part::of(n) == Part::EmbedTokens && c.spec.is_some())
        {
            return Err(self.unfit(
                "it has a branch on the token embedding, which in this model is the head as well: PEFT's own model changes one \
                 of them before it is merged and both after. Untie them before training, or leave the embedding out"
                    .to_owned(),
            ));
        }
        let device = half.device();
        Ok(half.replace(&mut |name, value| {
            let shape = &known.get(name)?.shape;
            Some(changes.get(name)?.made(value, shape, &device))
        }))
    }

    fn note<'a>(
        &'a self,
        change: &mut Change<'a>,
        tensor: &'a NamedTensor,
        module: &str,
        role: Role,
    ) {
        match role {
            Whole => change.whole = Some(tensor),
            A | TableA => {
                change.factors[0] = Some(tensor);
                change.spec = self.branches.get(module);
            }
            B | TableB => change.factors[1] = Some(tensor),
            Lengths => change.lengths = Some(tensor),
            Rows => change.rows = self.rows.get(module).map(|rows| (tensor, rows.as_slice())),
        }
    }

    /// Compares a tensor with the parameter that it is for.
    fn fits(
        &self,
        tensor: &NamedTensor,
        module: &str,
        role: Role,
        parameter: Option<&&Parameter>,
        unfit: &mut Unfit,
    ) -> bool {
        let name = &tensor.name;
        let rank = self.branches.get(module).map_or(0, |spec| spec.rank);
        let want = match (parameter, role) {
            (Some(p), Whole) => Some(p.shape.clone()),
            (Some(p), _) => match (p.matrix, role, p.shape.as_slice()) {
                (Some(Matrix::Linear), A, [_, input]) => Some(vec![rank, *input]),
                (Some(Matrix::Linear), B, [out, _]) => Some(vec![*out, rank]),
                (Some(Matrix::Linear), Lengths, [out, _]) if self.dora => Some(vec![*out]),
                (Some(Matrix::Table), TableA, [rows, _]) => Some(vec![rank, *rows]),
                (Some(Matrix::Table), TableB, [_, columns]) => Some(vec![*columns, rank]),
                (Some(_), Rows, [rows, columns]) => {
                    let own = self.rows.get(module).map_or(&[][..], Vec::as_slice);
                    if let Some(outside) = own.iter().find(|row| *row >= rows) {
                        let line = format!("{name}: row {outside} of a table of {rows}");
                        unfit.misshaped.push(line);
                        return false;
                    }
                    Some(vec![own.len(), *columns])
                }
                _ => None,
            },
            (None, _) => None,
        };
        match want {
            None => unfit.surplus.push(name.clone()),
            Some(want) if want != tensor.shape => unfit.misshaped.push(format!(
                "{name}: {:?} in the adapter, {want:?} in the model",
                tensor.shape
            )),
            Some(_) => return true,
        }
        false
    }

    /// Notes what the adapter should hold and does not.
    fn complete(&self, parameters: &[Parameter], parts: &[Part], all: bool, unfit: &mut Unfit) {
        let mut need = |names: &[String]| {
            if !names.iter().any(|name| self.has(name)) {
                unfit.missing.extend(names.first().cloned());
            }
        };
        for module in self
            .branches
            .keys()
            .filter(|m| parts.contains(&Part::of(m)))
        {
            let linear = self.has(&format!("{module}.lora_A.weight"));
            if linear && all {
                need(&[format!("{module}.lora_B.weight")]);
            } else if !linear {
                need(&[format!("{module}.lora_embedding_B")]);
            }
            if self.dora && all {
                let lengths = format!("{module}.lora_magnitude_vector");
                need(&[lengths.clone(), format!("{lengths}.weight")]);
            }
        }
        if self.has_part(Part::Quantizer) {
            let own = parameters.iter().map(|parameter| &parameter.name);
            for name in own.filter(|name| Part::of(name) == Part::Quantizer) {
                need(std::slice::from_ref(name));
            }
        }
    }
}

impl Change<'_> {
    /// The parameter's new value, flattened.
    fn made(&self, value: Tensor<1>, shape: &[usize], device: &Device) -> Tensor<1> {
        let value = match self.whole {
            Some(whole) => Tensor::from_data(TensorData::from(whole.data.as_slice()), device),
            None => value,
        };
        let [rows, columns] = match *shape {
            [rows, columns] if self.spec.is_some() || self.rows.is_some() => [rows, columns],
            _ => return value,
        };
        // What stays frozen may be kept in bfloat16.
        let mut value = value.cast(DType::F32).reshape([rows, columns]);
        if let ([Some(a), Some(b)], Some(spec)) = (self.factors, self.spec) {
            let (_, role) = Role::of(&a.name);
            let delta = matrix(b, device).matmul(matrix(a, device)) * spec.scale();
            value = value
                + if role == TableA {
                    delta.transpose()
                } else {
                    delta
                };
            if let Some(lengths) = self.lengths {
                let lengths = TensorData::from(lengths.data.as_slice());
                let lengths = Tensor::<1>::from_data(lengths, device).unsqueeze_dim::<2>(1);
                let norm = value.clone().powi_scalar(2).sum_dim(1).sqrt();
                value = value * (lengths / norm);
            }
        }
        if let Some((tensor, places)) = self.rows {
            let mut table = values(value);
            for (place, row) in places.iter().zip(tensor.data.chunks_exact(columns)) {
                table[place * columns..][..columns].copy_from_slice(row);
            }
            value = Tensor::from_data(TensorData::new(table, [rows, columns]), device);
        }
        value.reshape([rows * columns])
    }
}

fn matrix(tensor: &NamedTensor, device: &Device) -> Tensor<2> {
    let shape = [tensor.shape[0], tensor.shape[1]];
    Tensor::from_data(TensorData::new(tensor.data.clone(), shape), device)
}
