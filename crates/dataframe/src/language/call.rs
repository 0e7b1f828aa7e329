//! The arguments of a call.

use std::ops::Range;

use serde_json::Value;

use crate::language::fault::LineFault;
use crate::language::value::ShellValue;

/// The arguments of one call. A method takes those that it knows, and [`CallArguments::finish`] refuses the rest.
#[derive(Debug)]
pub struct CallArguments {
    function: String,
    at: Range<usize>,
    given: Vec<GivenArgument>,
}

/// One argument.
#[derive(Debug)]
pub struct GivenArgument {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Where it stands.
    pub at: Range<usize>,
    /// What it is.
    pub value: ShellValue,
}

impl CallArguments {
    /// Returns the arguments of a call of `function`, whose name stands at `at`.
    #[must_use]
    pub fn new(function: &str, at: Range<usize>, given: Vec<GivenArgument>) -> Self {
        Self { function: function.to_owned(), at, given }
    }

    /// A fault of the call as a whole.
    #[must_use]
    pub fn fault(&self, message: impl Into<String>) -> LineFault {
        LineFault::new(self.at.clone(), message)
    }

    /// Takes the argument with one of these names, or else the first one without a name.
    pub fn take(&mut self, names: &[&str]) -> Option<GivenArgument> {
        self.take_named(names).or_else(|| {
            let first = self.given.iter().position(|given| given.name.is_none())?;
            Some(self.given.remove(first))
        })
    }

    /// Takes the argument with one of these names.
    pub fn take_named(&mut self, names: &[&str]) -> Option<GivenArgument> {
        let named =
            self.given.iter().position(|given| given.name.as_deref().is_some_and(|n| names.contains(&n)))?;
        Some(self.given.remove(named))
    }

    /// Takes the argument with this name, which has only these values here.
    ///
    /// # Errors
    /// Fails with `advice` if it has another value.
    pub fn only(&mut self, name: &str, values: &[Value], advice: &str) -> Result<(), LineFault> {
        match self.take_named(&[name]) {
            Some(GivenArgument { value: ShellValue::Literal(value), .. }) if values.contains(&value) => {
                Ok(())
            }
            Some(given) => {
                Err(LineFault::new(given.at, format!("`{name}` has no other value here: {advice}")))
            }
            None => Ok(()),
        }
    }

    /// Takes all that are left.
    pub fn take_all(&mut self) -> Vec<GivenArgument> {
        std::mem::take(&mut self.given)
    }

    /// Fails if an argument is missing.
    ///
    /// # Errors
    /// Fails with the way to write the call.
    pub fn require(&self, given: Option<GivenArgument>, usage: &str) -> Result<GivenArgument, LineFault> {
        given.ok_or_else(|| self.fault(format!("`{}` needs an argument: {usage}", self.function)))
    }

    /// Takes a text.
    ///
    /// # Errors
    /// Fails if it is missing or something else.
    pub fn text(&mut self, names: &[&str], usage: &str) -> Result<String, LineFault> {
        let given = self.take(names);
        let given = self.require(given, usage)?;
        given.text().map(str::to_owned).ok_or_else(|| given.wrong("a text", usage))
    }

    /// Takes a text or a list of texts. Several arguments without names are a list too.
    ///
    /// # Errors
    /// Fails if it is missing or something else.
    pub fn texts(&mut self, names: &[&str], usage: &str) -> Result<Vec<String>, LineFault> {
        let first = self.take(names);
        let first = self.require(first, usage)?;
        let mut texts = first.texts(usage)?;
        while let Some(place) = self.given.iter().position(|given| given.name.is_none()) {
            texts.extend(self.given.remove(place).texts(usage)?);
        }
        Ok(texts)
    }

    /// Takes a text or a list of texts with one of these names; nothing if there is none.
    ///
    /// # Errors
    /// Fails if it is something else.
    pub fn named_texts(&mut self, names: &[&str], usage: &str) -> Result<Vec<String>, LineFault> {
        self.take_named(names).map_or_else(|| Ok(Vec::new()), |given| given.texts(usage))
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// Fails if it is something else.
    pub fn whole_number(&mut self, names: &[&str], default: i64, usage: &str) -> Result<i64, LineFault> {
        let Some(given) = self.take(names) else { return Ok(default) };
        match &given.value {
            ShellValue::Literal(Value::Number(number)) => {
                number.as_i64().ok_or_else(|| given.wrong("a whole number", usage))
            }
            _ => Err(given.wrong("a whole number", usage)),
        }
    }

    /// Takes a number or a text or a list of such, or a map.
    ///
    /// # Errors
    /// Fails if it is missing, or a frame or a column.
    pub fn literal(&mut self, names: &[&str], usage: &str) -> Result<Value, LineFault> {
        let given = self.take(names);
        match self.require(given, usage)? {
            GivenArgument { value: ShellValue::Literal(value), .. } => Ok(value),
            given => Err(given.wrong("a value or a list", usage)),
        }
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// Fails if an argument is left.
    pub fn finish(self, usage: &str) -> Result<(), LineFault> {
        match self.given.first() {
            None => Ok(()),
            Some(given) => {
                let what =
                    given.name.as_ref().map_or("another argument".to_owned(), |name| format!("`{name}`"));
                Err(LineFault::new(
                    given.at.clone(),
                    format!("`{}` does not take {what}: {usage}", self.function),
                ))
            }
        }
    }
}

impl GivenArgument {
    /// Returns the text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            ShellValue::Literal(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns a text or a list of texts as a list. A column of a frame stands for its name.
    ///
    /// # Errors
    /// Fails if it is something else.
    pub fn texts(&self, usage: &str) -> Result<Vec<String>, LineFault> {
        match &self.value {
            ShellValue::Literal(Value::String(text)) => Ok(vec![text.clone()]),
            ShellValue::Literal(Value::Array(items)) => items
                .iter()
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| self.wrong("a list of texts", usage))
                })
                .collect(),
            ShellValue::Series(series) => series.column.clone().map(|column| vec![column]).ok_or_else(|| {
                LineFault::new(
                    self.at.clone(),
                    "give the computed column a name first: df[\"key\"] = …, and then use \"key\"",
                )
            }),
            _ => Err(self.wrong("a text or a list of texts", usage)),
        }
    }

    /// A fault: the argument is something else than what is expected.
    #[must_use]
    pub fn wrong(&self, expected: &str, usage: &str) -> LineFault {
        let message = format!("{expected} is expected here and not {}: {usage}", self.value.kind());
        LineFault::new(self.at.clone(), message)
    }
}
