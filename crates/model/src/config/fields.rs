//! Typed access to the fields of a JSON object, with errors that say where they are.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigError;
use crate::nn::Activation;

/// A `model_type` and what reads its configuration.
pub type Family<T> = (&'static str, fn(&Fields) -> Result<T, ConfigError>);

/// An object inside a configuration file. A field that is `null` counts as left out.
#[derive(Clone, Debug)]
pub struct Fields {
    file: PathBuf,
    /// Path of this object inside the file, ending in a dot unless empty.
    prefix: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads `config.json` in a folder, or the file itself.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not a JSON object.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = if path.is_dir() {
            path.join("config.json")
        } else {
            path.to_owned()
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Read { file, source }),
        };
        Self::parse(&file, &text)
    }

    /// Parses the text of a configuration; `file` is for messages only.
    ///
    /// # Errors
    ///
    /// If the text is not a JSON object.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |reason: String| ConfigError::Syntax {
            file: file.to_owned(),
            reason,
        };
        // Editors on Windows put a byte order mark in front.
        match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(Value::Object(map)) => Ok(Self {
                file: file.to_owned(),
                prefix: String::new(),
                map,
            }),
            Ok(_) => Err(syntax("it holds another JSON value".to_owned())),
            Err(error) => Err(syntax(error.to_string())),
        }
    }

    /// A path that stands in the file, from the file's folder on.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.file.with_file_name(path)
    }

    /// The object in the field `name`.
    pub fn child(&self, name: &str) -> Result<Self, ConfigError> {
        match self.get(name) {
            Some(Value::Object(map)) => Ok(Self {
                file: self.file.clone(),
                prefix: format!("{}{name}.", self.prefix),
                map: map.clone(),
            }),
            Some(other) => Err(self.wrong(name, other, "an object")),
            None => Err(self.missing(name, "it holds the configuration of one half of the model")),
        }
    }

    /// The value of a field, unless left out or `null`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A positive integer.
    pub fn size(&self, name: &str, default: usize) -> Result<usize, ConfigError> {
        Ok(self.optional_size(name)?.unwrap_or(default))
    }

    /// A positive integer that may be left out. What no model has is refused before memory is asked for it.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let most: u64 = match name {
            _ if name.ends_with("layers") => 4096,
            _ if name.contains("vocab") => 1 << 24,
            _ if name.contains("position") || name.contains("length") => u32::MAX.into(),
            _ => 1 << 17,
        };
        match value.as_u64() {
            Some(size) if (1..=most).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.wrong(name, value, &format!("a positive integer, at most {most}"))),
        }
    }

    /// An integer of either sign.
    pub fn integer(&self, name: &str, default: i64) -> Result<i64, ConfigError> {
        self.typed(name, default, Value::as_i64, "an integer")
    }

    /// A finite number.
    pub fn number(&self, name: &str, default: f64) -> Result<f64, ConfigError> {
        self.typed(name, default, Value::as_f64, "a number")
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        self.typed(name, default, Value::as_bool, "true or false")
    }

    /// Refuses a flag that is set: no model that we know of sets it, and we do not compute what it means.
    pub fn unsupported(&self, name: &str) -> Result<(), ConfigError> {
        if self.flag(name, false)? {
            return Err(self.wrong(name, true, "false: models that set it are not supported"));
        }
        Ok(())
    }

    /// A string that must be there.
    pub fn text(&self, name: &str, cure: &str) -> Result<&str, ConfigError> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(name, other, "a string")),
            None => Err(self.missing(name, cure)),
        }
    }

    /// The name of an activation, if it is not the usual one.
    pub fn activation_or(&self, name: &str, usual: Activation) -> Result<Activation, ConfigError> {
        match self.get(name) {
            None => Ok(usual),
            Some(_) => self.activation(name, ""),
        }
    }

    /// The name of an activation.
    pub fn activation(&self, name: &str, default: &str) -> Result<Activation, ConfigError> {
        let value = match self.get(name) {
            None => default,
            Some(_) => self.text(name, "")?,
        };
        Activation::from_name(value).ok_or_else(|| {
            let known: Vec<&str> = Activation::NAMES.iter().map(|(name, _)| *name).collect();
            self.wrong(name, value, &format!("one of {}", known.join(", ")))
        })
    }

    /// The value of a field that must be there; `cure` says why or what to do.
    pub fn required(&self, name: &str, cure: &str) -> Result<&Value, ConfigError> {
        self.get(name).ok_or_else(|| self.missing(name, cure))
    }

    /// Picks the entry whose name equals `model_type` and lets it read these fields.
    pub fn family<T>(&self, families: &[Family<T>]) -> Result<T, ConfigError> {
        let names: Vec<String> = families
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        let supported = names.join(", ");
        let value = self.text("model_type", &format!("set it to one of {supported}"))?;
        match families.iter().find(|(name, _)| *name == value) {
            Some((_, read)) => read(self),
            None => Err(self.unknown_family(families.iter().map(|(name, _)| *name))),
        }
    }

    /// The error for a `model_type` that is none of the `supported` ones.
    pub fn unknown_family<'a>(&self, supported: impl Iterator<Item = &'a str>) -> ConfigError {
        let supported: Vec<String> = supported.map(|name| format!("{name:?}")).collect();
        let value = self.get("model_type").and_then(Value::as_str);
        ConfigError::Family {
            file: self.file.clone(),
            field: format!("{}model_type", self.prefix),
            value: value.unwrap_or_default().to_owned(),
            supported: supported.join(", "),
        }
    }

    /// Checks that one count divides another.
    pub fn divides(
        &self,
        name: &str,
        divisor: usize,
        whole_name: &str,
        whole: usize,
    ) -> Result<(), ConfigError> {
        if whole.is_multiple_of(divisor) {
            return Ok(());
        }
        Err(self.wrong(
            name,
            divisor,
            &format!("a divisor of {whole_name} = {whole}"),
        ))
    }

    /// The error for a field whose value will not do.
    pub fn wrong(&self, name: &str, value: impl Display, expected: &str) -> ConfigError {
        ConfigError::Value {
            file: self.file.clone(),
            field: format!("{}{name}", self.prefix),
            value: value.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn missing(&self, name: &str, cure: &str) -> ConfigError {
        ConfigError::Missing {
            file: self.file.clone(),
            field: format!("{}{name}", self.prefix),
            cure: cure.to_owned(),
        }
    }

    fn typed<T>(
        &self,
        name: &str,
        default: T,
        read: impl Fn(&Value) -> Option<T>,
        expected: &str,
    ) -> Result<T, ConfigError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => read(value).ok_or_else(|| self.wrong(name, value, expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_model_has_are_refused_by_name() {
        let text = r#"{"hidden_size": 131073, "num_hidden_layers": 2147483648, "vocab_size": 16777217,
            "max_position_embeddings": 10485760, "image_size": 0, "head_dim": null}"#;
        let fields = Fields::parse(Path::new("config.json"), text).unwrap();
        for name in [
            "hidden_size",
            "num_hidden_layers",
            "vocab_size",
            "image_size",
        ] {
            let error = fields.size(name, 1).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("at most"), "{error}");
        }
        assert_eq!(
            fields.size("max_position_embeddings", 1).unwrap(),
            10_485_760
        );
        assert_eq!(fields.size("head_dim", 7).unwrap(), 7);
    }
}
