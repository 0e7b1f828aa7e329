//! The name of an agency.

use std::fmt;
use std::str::FromStr;

use super::field::{BetError, BetField, check_text};
use super::limits::MAX_AGENCY_BYTES;

/// A name under which an agency can send.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgencyName(String);

impl AgencyName {
    /// Returns the name as it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that `name` can be an agency's.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(name: &str) -> Result<(), BetError> {
        check_text(BetField::Agency, name)?;
        if name.len() > MAX_AGENCY_BYTES {
            return Err(BetError::LongAgency { bytes: name.len() });
        }
        Ok(())
    }
}

impl FromStr for AgencyName {
    type Err = BetError;

    fn from_str(name: &str) -> Result<Self, BetError> {
        Self::check(name)?;
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for AgencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
