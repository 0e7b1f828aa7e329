//! Where values come from: a file that the `config` crate parses, and the environment.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use config::{Config, File, FileFormat, Map, Value, ValueKind};

use super::ConfigError;

/// The values of a file by their path in it, lower case, and the environment.
pub(super) struct Sources<'a> {
    file: BTreeMap<String, String>,
    name: String,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Sources<'a> {
    /// Reads `file`, which must be there, or else `usual`, which may be missing.
    pub(super) fn read(
        file: Option<&Path>,
        usual: &str,
        format: FileFormat,
        environment: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(usual));
        let source = File::from(path).format(format).required(file.is_some());
        let values =
            Config::builder().add_source(source).build().and_then(|config| config.cache.into_table());
        let values = values.map_err(|error| ConfigError::File {
            path: path.to_owned(),
            cause: error.to_string().replace('\n', " "),
        })?;
        let mut sources = Self { file: BTreeMap::new(), name: path.display().to_string(), environment };
        sources.flatten("", values)?;
        Ok(sources)
    }

    fn flatten(&mut self, prefix: &str, table: Map<String, Value>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.to_lowercase());
            match value.kind {
                ValueKind::Table(inner) => self.flatten(&format!("{key}."), inner)?,
                ValueKind::Nil => {}
                ValueKind::Array(_) => {
                    return Err(ConfigError::Value {
                        key,
                        value: "a list".to_owned(),
                        origin: self.name.clone(),
                        allowed: "a single value".to_owned(),
                    });
                }
                scalar => {
                    self.file.insert(key, scalar.to_string());
                }
            }
        }
        Ok(())
    }

    /// Takes a value: from the first of `variables` that is set to something, or else from the first of `keys`.
    pub(super) fn take(&mut self, keys: &[&str], variables: &[&str]) -> Found {
        let in_file: Vec<_> = keys
            .iter()
            .filter_map(|key| {
                let value = self.file.remove(&key.to_lowercase())?;
                Some(Given { key: (*key).to_owned(), value, origin: self.name.clone() })
            })
            .collect();
        let in_environment = variables.iter().find_map(|name| {
            let value = (self.environment)(name).filter(|value| !value.is_empty())?;
            Some(Given { key: (*name).to_owned(), value, origin: "environment".to_owned() })
        });
        Found(in_environment.or_else(|| in_file.into_iter().next()))
    }

    /// Warns about keys that nobody took: a misspelt one would silently leave its default in force.
    pub(super) fn warn_about_the_rest(&self) {
        for key in self.file.keys() {
            tracing::warn!(key, file = self.name, "unknown key in the configuration: it has no effect");
        }
    }
}

/// A value that may have been given.
pub(super) struct Found(Option<Given>);

struct Given {
    key: String,
    value: String,
    origin: String,
}

impl Found {
    /// This one, or else the other.
    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0.or(other.0))
    }

    /// The text itself.
    pub(super) fn text(self) -> Option<String> {
        self.0.map(|given| given.value.trim().to_owned())
    }

    /// What `FromStr` makes of it.
    pub(super) fn parse<T: FromStr>(self, default: T, allowed: &str) -> Result<T, ConfigError> {
        self.read(default, allowed, |text| text.parse().ok())
    }

    /// What `read` makes of it.
    pub(super) fn read<T>(
        self,
        default: T,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let Some(given) = self.0 else { return Ok(default) };
        read(given.value.trim()).ok_or_else(|| ConfigError::Value {
            key: given.key,
            value: given.value,
            origin: given.origin,
            allowed: allowed.to_owned(),
        })
    }
}
