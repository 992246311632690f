//! How one part is tuned.

use qtl_model::tuning::{LoraSpec, Storage};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Part, block, is_branch};

/// How a part is tuned, how what it freezes is kept, and its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct PartSpec {
    /// What is trained.
    pub method: Method,
    /// How matrices that are not trained are kept in memory.
    pub base: Storage,
    /// The learning rate, where it differs from `train.lr`.
    pub lr: Option<f64>,
}

/// What of a part is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Nothing.
    Frozen,
    /// All its parameters.
    Full,
    /// Blocks from this one on (the first is 0), and in the language model what comes after them.
    FromLayer(usize),
    /// Low-rank branches beside its linear maps, and nothing else.
    Lora(Branches),
}

/// Low-rank branches as the recipe describes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Branches {
    /// Width between the two factors.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Share of the inputs that are dropped in training.
    pub dropout: f64,
    /// Last components of the names of the linear maps, such as `q_proj`; none for all linear maps of all blocks (of a
    /// connector, which has no blocks, for all).
    pub targets: Vec<String>,
    /// Scale by `alpha / sqrt(rank)` instead of `alpha / rank`.
    pub rslora: bool,
}

/// What is wrong with a part of `[tune]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tune.{part}: {message}")]
pub struct TuneError {
    /// The part.
    pub part: &'static str,
    /// The field, its value and the cure.
    pub message: String,
}

impl From<Method> for PartSpec {
    fn from(method: Method) -> Self {
        Self {
            method,
            base: Storage::F32,
            lr: None,
        }
    }
}

impl Method {
    /// Whether the parameter of this name is trained, if it belongs to the part.
    pub(super) fn trains(&self, name: &str) -> bool {
        match self {
            Self::Frozen => false,
            Self::Full => true,
            Self::FromLayer(first) => match block(name) {
                Some(block) => block >= *first,
                None => Part::of(name) == Part::Llm,
            },
            Self::Lora(_) => is_branch(name),
        }
    }
}

impl Branches {
    /// The branch itself.
    pub fn spec(&self) -> LoraSpec {
        LoraSpec {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            rslora: self.rslora,
        }
    }

    /// Whether the linear map with this weight gets a branch.
    pub fn wants(&self, weight: &str) -> bool {
        if self.targets.is_empty() {
            return Part::of(weight) == Part::Connector || block(weight).is_some();
        }
        let module = weight.strip_suffix(".weight").unwrap_or(weight);
        let last = module.rsplit('.').next();
        self.targets
            .iter()
            .any(|target| Some(target.as_str()) == last)
    }
}

impl PartSpec {
    pub(super) fn check(&self, part: Part) -> Result<(), TuneError> {
        let wrong = |message: String| {
            Err(TuneError {
                part: part.field(),
                message,
            })
        };
        let kinds = match part {
            Part::VisionTower | Part::Llm => "frozen, full, from_layer, lora",
            Part::Connector => "frozen, full, lora",
            Part::Quantizer | Part::EmbedTokens => "frozen, full",
        };
        let kind = Kind::of(&self.method).name();
        if !kinds.split(", ").any(|known| known == kind) {
            return wrong(format!(
                "kind = \"{kind}\" is not possible here; use one of {kinds}"
            ));
        }
        if let Some(lr) = self.lr
            && !(lr.is_finite() && lr > 0.0)
        {
            return wrong(format!("lr = {lr}: expected a number above 0"));
        }
        let bases = match part {
            Part::Quantizer => "f32",
            Part::Llm => "f32, bf16, nf4",
            _ => "f32, bf16",
        };
        let base = name_of(self.base);
        if !bases.split(", ").any(|known| known == base) {
            return wrong(format!(
                "base = \"{base}\" is not possible here; use one of {bases}"
            ));
        }
        if self.method == Method::Full && self.base != Storage::F32 {
            return wrong(format!(
                "base = \"{base}\" is for what stays frozen, and kind = \"full\" freezes nothing; trained weights are f32"
            ));
        }
        if let Method::Lora(branches) = &self.method {
            let Branches {
                rank,
                alpha,
                dropout,
                targets,
                ..
            } = branches;
            if !(1..=4096).contains(rank) {
                return wrong(format!("rank = {rank}: expected 1 to 4096"));
            }
            if !(alpha.is_finite() && *alpha > 0.0) {
                return wrong(format!("alpha = {alpha}: expected a number above 0"));
            }
            if !(0.0..1.0).contains(dropout) {
                return wrong(format!(
                    "dropout = {dropout}: expected 0 or more and below 1"
                ));
            }
            if let Some(odd) = targets.iter().find(|t| t.is_empty() || t.contains('.')) {
                return wrong(format!(
                    "targets holds {odd:?}: expected the last component of a name, such as \"q_proj\""
                ));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Frozen,
    Full,
    FromLayer,
    Lora,
}

impl Method {
    /// What the recipe calls it.
    pub fn name(&self) -> &'static str {
        Kind::of(self).name()
    }
}

impl Kind {
    fn of(method: &Method) -> Self {
        match method {
            Method::Frozen => Self::Frozen,
            Method::Full => Self::Full,
            Method::FromLayer(_) => Self::FromLayer,
            Method::Lora(_) => Self::Lora,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Full => "full",
            Self::FromLayer => "from_layer",
            Self::Lora => "lora",
        }
    }
}

fn name_of(storage: Storage) -> &'static str {
    match storage {
        Storage::F32 => "f32",
        Storage::Bf16 => "bf16",
        Storage::Nf4 => "nf4",
    }
}

/// A part as it is written: its kind alone, or a table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rslora: Option<bool>,
    #[serde(default)]
    base: Storage,
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
}

impl Table {
    fn spec(self) -> Result<PartSpec, String> {
        let kind = self.kind.name();
        let missing = |field: &str| format!("kind = \"{kind}\" needs {field}");
        let given = [
            ("layer", self.layer.is_some(), Kind::FromLayer),
            ("rank", self.rank.is_some(), Kind::Lora),
            ("alpha", self.alpha.is_some(), Kind::Lora),
            ("dropout", self.dropout.is_some(), Kind::Lora),
            ("targets", self.targets.is_some(), Kind::Lora),
            ("rslora", self.rslora.is_some(), Kind::Lora),
        ];
        for (field, given, owner) in given {
            if given && owner != self.kind {
                let owner = owner.name();
                return Err(format!(
                    "{field} belongs to kind = \"{owner}\", but kind is \"{kind}\"; leave {field} out or change kind"
                ));
            }
        }
        let method = match self.kind {
            Kind::Frozen => Method::Frozen,
            Kind::Full => Method::Full,
            Kind::FromLayer => Method::FromLayer(
                self.layer
                    .ok_or_else(|| missing("layer, the first block to train"))?,
            ),
            Kind::Lora => Method::Lora(Branches {
                rank: self.rank.ok_or_else(|| missing("rank"))?,
                alpha: self.alpha.ok_or_else(|| missing("alpha"))?,
                dropout: self.dropout.unwrap_or(0.0),
                targets: self.targets.unwrap_or_default(),
                rslora: self.rslora.unwrap_or(false),
            }),
        };
        Ok(PartSpec {
            method,
            base: self.base,
            lr: self.lr,
        })
    }

    fn of(spec: &PartSpec) -> Self {
        let mut table = Self {
            kind: Kind::of(&spec.method),
            layer: None,
            rank: None,
            alpha: None,
            dropout: None,
            targets: None,
            rslora: None,
            base: spec.base,
            lr: spec.lr,
        };
        match &spec.method {
            Method::Frozen | Method::Full => {}
            Method::FromLayer(first) => table.layer = Some(*first),
            Method::Lora(branches) => {
                table.rank = Some(branches.rank);
                table.alpha = Some(branches.alpha);
                table.dropout = Some(branches.dropout);
                table.targets = Some(branches.targets.clone());
                table.rslora = Some(branches.rslora);
            }
        }
        table
    }
}

impl Serialize for PartSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Table::of(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PartSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = PartSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"frozen\", \"full\" or a table with a kind")
            }

            fn visit_str<E: serde::de::Error>(self, kind: &str) -> Result<PartSpec, E> {
                let kind = Kind::deserialize(StrDeserializer::<E>::new(kind))?;
                let table = Table {
                    kind,
                    ..Table::of(&Method::Full.into())
                };
                table.spec().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PartSpec, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                table.spec().map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}
