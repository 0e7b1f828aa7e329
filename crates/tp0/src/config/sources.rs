//! Reads settings from a file, which the `config` crate parses, and from the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError as ParseFailure, File, FileFormat, Map, Value, ValueKind};
use serde::de::DeserializeOwned;

/// Configuration that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is not what its name says.
    #[error("cannot read the configuration {}: {cause}", path.display())]
    File { path: PathBuf, cause: String },
    /// A value that is not allowed, with its key as the file or the environment calls it.
    #[error("invalid value {value:?} for {key} ({origin}): allowed: {allowed}")]
    Value { key: String, value: String, origin: String, allowed: String },
}

/// Where a setting may be given, from the place that wins to the one that loses.
pub struct Setting {
    pub variables: &'static [&'static str],
    /// Keys in the file; the first one is the setting's name in the struct.
    pub keys: &'static [&'static str],
    pub last_variables: &'static [&'static str],
}

/// A value as it was given.
struct GivenValue {
    key: String,
    value: String,
    origin: String,
}

/// Returns the value of an environment variable.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the `settings` of a program from `environment` and from `file`, which must be there, or else from `usual`, which
/// may be missing. A variable that is set to nothing counts as not set.
///
/// Whatever reads a value gives what is allowed as the text of its error.
pub fn read<C: DeserializeOwned>(
    settings: &[Setting],
    file: Option<&Path>,
    usual: &str,
    format: FileFormat,
    environment: Variables<'_>,
) -> Result<C, ConfigError> {
    let path = file.unwrap_or(Path::new(usual));
    let name = path.display().to_string();
    let mut in_file = read_file(path, format, file.is_some())?;
    let mut given = BTreeMap::new();
    for Setting { variables, keys, last_variables } in settings {
        let variable = |name: &&str| {
            let value = environment(name).filter(|value| !value.is_empty())?;
            Some(GivenValue { key: (*name).to_owned(), value, origin: "environment".to_owned() })
        };
        // Each key is removed, also where an earlier one wins: it is known.
        let found = keys.iter().filter_map(|key| {
            let value = in_file.remove(&key.to_lowercase())?;
            Some(GivenValue { key: (*key).to_owned(), value, origin: name.clone() })
        });
        let found = found.reduce(|first, _| first);
        let over = variables.iter().find_map(variable);
        if let Some(value) = over.or(found).or_else(|| last_variables.iter().find_map(variable)) {
            given.insert(keys[0], value);
        }
    }
    for key in in_file.keys() {
        // A misspelt key would silently leave its default in force.
        tracing::warn!(key, file = name, "unknown key in the configuration: it has no effect");
    }
    let table: Map<_, _> =
        given.iter().map(|(key, given)| ((*key).to_owned(), given.value.trim().into())).collect();
    Value::new(None, ValueKind::Table(table)).try_deserialize().map_err(|error| refused(error, &given))
}

/// Returns the values of a file by their path in it, in lower case.
fn read_file(
    path: &Path,
    format: FileFormat,
    is_required: bool,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let source = File::from(path).format(format).required(is_required);
    let table = Config::builder().add_source(source).build().and_then(|config| config.cache.into_table());
    let table = table.map_err(|error| ConfigError::File {
        path: path.to_owned(),
        cause: error.to_string().replace('\n', " "),
    })?;
    let mut values = BTreeMap::new();
    flatten("", table, &mut values).map_err(|key| ConfigError::Value {
        key,
        value: "a list".to_owned(),
        origin: path.display().to_string(),
        allowed: "a single value".to_owned(),
    })?;
    Ok(values)
}

/// Adds the values of a table and of the tables in it; fails with the key of a list.
fn flatten(
    prefix: &str,
    table: Map<String, Value>,
    values: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.to_lowercase());
        match value.kind {
            ValueKind::Table(inner) => flatten(&format!("{key}."), inner, values)?,
            ValueKind::Nil => {}
            ValueKind::Array(_) => return Err(key),
            scalar => drop(values.insert(key, scalar.to_string())),
        }
    }
    Ok(())
}

/// Returns the error for a value that was refused with `error`.
fn refused(error: ParseFailure, given: &BTreeMap<&str, GivenValue>) -> ConfigError {
    let (key, allowed) = match error {
        ParseFailure::At { error, key, .. } => (key.unwrap_or_default(), error.to_string()),
        other => (String::new(), other.to_string()),
    };
    match given.get(key.as_str()) {
        Some(GivenValue { key, value, origin }) => {
            ConfigError::Value { key: key.clone(), value: value.clone(), origin: origin.clone(), allowed }
        }
        None => ConfigError::Value { key, value: String::new(), origin: String::new(), allowed },
    }
}
