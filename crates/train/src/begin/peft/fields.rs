//! The fields of `adapter_config.json`, and what becomes of each: no field that changes what an adapter computes is passed
//! over.

use std::path::Path;

use serde_json::{Map, Value};

use super::AdapterError;

/// What becomes of a field.
enum Rule {
    /// It is part of what is computed.
    Honoured,
    /// Training and bookkeeping: the tensors in the file are the same whatever it says.
    Irrelevant,
    /// Only these values are computed (written as JSON, `null` always among them); the cure for others.
    Only(&'static [&'static str], &'static str),
    /// Only if it says nothing: absent, null, false or empty.
    Refused(&'static str),
}
use Rule::{Honoured, Irrelevant, Only, Refused};

const MERGE: &str = "in Python, merge it into its base with merge_and_unload() and save the model with save_pretrained(DIR)";
/// Starting values that leave the base as it is, so that the two factors are all there is to the branch.
const STARTS: &[&str] = &["true", "false", "\"gaussian\"", "\"eva\"", "\"orthogonal\""];
const CHANGED: &str = "starting values that leave the base as it is (true, false, gaussian, eva, orthogonal): others change the \
                       base's matrices, which the adapter does not hold. In Python, save it with \
                       save_pretrained(DIR, path_initial_model_for_weight_conversion=...), which makes an ordinary adapter of \
                       it, or save the merged model";

/// All fields of PEFT's `LoraConfig` and of its parents.
const FIELDS: &[(&str, Rule)] = &[
    ("peft_type", Only(&["\"LORA\""], MERGE)),
    ("r", Honoured),
    ("lora_alpha", Honoured),
    ("lora_dropout", Honoured),
    ("use_rslora", Honoured),
    ("use_dora", Honoured),
    ("rank_pattern", Honoured),
    ("alpha_pattern", Honoured),
    ("modules_to_save", Honoured),
    ("trainable_token_indices", Honoured),
    ("init_lora_weights", Only(STARTS, CHANGED)),
    ("bias", Only(&["\"none\""], MERGE)),
    ("fan_in_fan_out", Refused(MERGE)),
    ("lora_bias", Refused(MERGE)),
    ("layer_replication", Refused(MERGE)),
    (
        "alora_invocation_tokens",
        Refused(
            "such an adapter acts behind its invocation tokens only, which no merged model can: use it with peft in Python",
        ),
    ),
    ("target_parameters", Refused(MERGE)),
    ("ensure_weight_tying", Refused(MERGE)),
    ("use_qalora", Refused(MERGE)),
    ("use_bdlora", Refused(MERGE)),
    ("arrow_config", Refused(MERGE)),
    ("kasa_config", Refused(MERGE)),
    ("monteclora_config", Refused(MERGE)),
    ("velora_config", Refused(MERGE)),
    ("megatron_config", Refused(MERGE)),
    // Which modules have a branch, the tensors' names say.
    ("target_modules", Irrelevant),
    ("exclude_modules", Irrelevant),
    ("layers_to_transform", Irrelevant),
    ("layers_pattern", Irrelevant),
    // Belong to init_lora_weights, whose rule decides.
    ("loftq_config", Irrelevant),
    ("eva_config", Irrelevant),
    ("corda_config", Irrelevant),
    ("lora_ga_config", Irrelevant),
    ("qalora_group_size", Irrelevant),
    ("megatron_core", Irrelevant),
    ("auto_mapping", Irrelevant),
    ("base_model_name_or_path", Irrelevant),
    ("inference_mode", Irrelevant),
    ("peft_version", Irrelevant),
    ("revision", Irrelevant),
    ("runtime_config", Irrelevant),
    ("task_type", Irrelevant),
    ("unsloth_fixed", Irrelevant),
];

/// Checks every field that is there.
///
/// # Errors
///
/// [`AdapterError::Unsupported`] naming the first field whose value is not computed.
pub(super) fn check(path: &Path, config: &Map<String, Value>) -> Result<(), AdapterError> {
    for (name, value) in config {
        let rule = FIELDS.iter().find(|(field, _)| field == name);
        let rule = rule.map(|(_, rule)| rule);
        let want = match rule {
            Some(Honoured | Irrelevant) => continue,
            Some(Only(values, want)) => {
                if value.is_null() || values.contains(&value.to_string().as_str()) {
                    continue;
                }
                let values = values.join(", ");
                match *want {
                    CHANGED => CHANGED.to_owned(),
                    cure => format!("{values}; {cure}"),
                }
            }
            _ if says_nothing(value) => continue,
            Some(Refused(cure)) => format!("none; {cure}"),
            None => format!(
                "none: a field that may change what is computed and is not known here; {MERGE}"
            ),
        };
        let mut value = value.to_string();
        if value.chars().count() > 60 {
            value = value.chars().take(60).chain("...".chars()).collect();
        }
        return Err(AdapterError::Unsupported {
            path: path.to_owned(),
            field: name.clone(),
            value,
            want,
        });
    }
    Ok(())
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(field: &str, value: Value) -> Option<String> {
        let Value::Object(config) = json!({ "peft_type": "LORA", field: value }) else {
            return None;
        };
        let error = check(Path::new("adapter_config.json"), &config).err();
        error.map(|error| error.to_string())
    }

    #[test]
    fn what_changes_the_computation_is_refused_by_name() {
        for (field, value) in [
            ("peft_type", json!("LOHA")),
            ("init_lora_weights", json!("pissa")),
            ("init_lora_weights", json!("pissa_niter_16")),
            ("init_lora_weights", json!("olora")),
            ("init_lora_weights", json!("corda")),
            ("init_lora_weights", json!("loftq")),
            ("init_lora_weights", json!("lora_ga")),
            ("bias", json!("all")),
            ("fan_in_fan_out", json!(true)),
            ("lora_bias", json!(true)),
            ("layer_replication", json!([[0, 1], [0, 1]])),
            ("alora_invocation_tokens", json!([3, 65])),
            ("target_parameters", json!(["mlp.experts"])),
            ("use_bdlora", json!({"blocks": 2})),
            ("of_next_year", json!("x")),
            ("of_next_year", json!(1)),
        ] {
            let error = refused(field, value.clone()).unwrap_or_default();
            let says = format!("{field} = {value} is not supported");
            assert!(error.contains(&says), "{field} = {value}: {error:?}");
        }
    }

    #[test]
    fn what_does_not_is_read() {
        for (field, value) in [
            ("init_lora_weights", json!(true)),
            ("init_lora_weights", json!("eva")),
            ("use_dora", json!(true)),
            ("rank_pattern", json!({"q_proj": 8})),
            ("layers_to_transform", json!([1])),
            ("layer_replication", json!(null)),
            ("target_parameters", json!([])),
            ("loftq_config", json!({})),
            ("of_next_year", json!(false)),
            ("of_next_year", json!({})),
        ] {
            assert_eq!(refused(field, value.clone()), None, "{field} = {value}");
        }
    }
}
