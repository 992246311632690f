//! Short names of settings, for tables.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The `kind` of a recipe's section and those of its fields that differ from their defaults: `fsq levels=4 width=1.5`.
pub(super) fn label<T: Serialize + DeserializeOwned + PartialEq>(spec: &T) -> String {
    // By way of text, which has the shortest form of 32-bit floats; a `Value` made at once would widen them.
    let text = serde_json::to_string(spec).unwrap_or_default();
    match serde_json::from_str(&text) {
        Ok(Value::String(kind)) => kind,
        Ok(Value::Object(fields)) => {
            let mut parts = Vec::new();
            let tells = |others: Map<String, Value>| {
                let same = serde_json::from_value::<T>(Value::Object(others));
                !same.is_ok_and(|same| same == *spec)
            };
            for (name, value) in &fields {
                let mut others = fields.clone();
                others.remove(name);
                if !tells(others) {
                    continue;
                }
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Object(inner) => {
                        let own = inner.iter().filter(|(field, _)| {
                            let mut others = fields.clone();
                            if let Some(Value::Object(inner)) = others.get_mut(name) {
                                inner.remove(*field);
                            }
                            tells(others)
                        });
                        let own = own.map(|(field, value)| format!("{field}={value}"));
                        format!("({})", own.collect::<Vec<_>>().join(" "))
                    }
                    value => value.to_string(),
                };
                match name.as_str() {
                    "kind" => parts.insert(0, value),
                    _ => parts.push(format!("{name}={value}")),
                }
            }
            parts.join(" ")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use crate::quant::QuantizerSpec;
    use crate::quant::gradient::GradientCodec;

    #[test]
    fn a_label_says_what_is_not_the_default() {
        let label = |json: &str| {
            serde_json::from_str::<QuantizerSpec>(json)
                .unwrap()
                .to_string()
        };
        assert_eq!(label(r#"{"kind":"none"}"#), "none");
        assert_eq!(
            label(r#"{"kind":"fsq","levels":8,"width":2.05}"#),
            "fsq levels=8 width=2.05"
        );
        assert_eq!(
            label(r#"{"kind":"fsq","levels":4,"statistics":"batch"}"#),
            "fsq levels=4 statistics=batch"
        );
        let codec = |json: &str| {
            serde_json::from_str::<GradientCodec>(json)
                .unwrap()
                .to_string()
        };
        assert_eq!(codec(r#""int8""#), "int8");
        assert_eq!(
            codec(r#"{"kind":"tiled","bits":4,"tile":128}"#),
            "tiled bits=4 tile=128"
        );
        assert_eq!(
            codec(r#"{"kind":"rows","keep":0.5,"tiled":{"bits":4,"tile":32,"even":1}}"#),
            "rows keep=0.5 tiled=(bits=4 even=1.0)"
        );
    }
}
