//! TP0, between an agency and the lottery (`server`): messages of text that end in `\r\n`, on one kept connection.
//!
//! | from | message | meaning | reply |
//! | --- | --- | --- | --- |
//! | agency | `1:4:<bet>\n<bet>\n…<bet>\n\r\n` | store these bets, all or none | `:0` on disk, `:1` none of them |
//! | agency | `1:5\r\n` | all bets are sent | `:0` remembered, `:1` not |
//! | agency | `1:6\r\n` | who of mine has won? | `:3` winners, `:2` not drawn yet |
//! | server | `server:0\r\n` | acknowledged | |
//! | server | `server:1\r\n` | refused; the server's log names the reason | |
//! | server | `server:2\r\n` | wait: ask again later | |
//! | server | `server:3:<winner>\n…<winner>\n\r\n` | the winners of this agency; `server:3:\r\n` without any | |
//!
//! A bet is `first_name,last_name,document,birthdate,number`; a winner has the agency in front of that. The types are
//! numbers; who sends is text, 1 to [`MAX_AGENCY_BYTES`] bytes.
//!
//! What a field may hold, so that it can travel, and lie in a CSV file, as it is:
//!
//! | field | allowed |
//! | --- | --- |
//! | every one | UTF-8, not empty; no `,`, no `:`, no line end or other control character; quotes and accents are fine |
//! | `birthdate` | a day that exists, `YYYY-MM-DD`, from year 1 |
//! | `number` | decimal digits, 0 to 4294967295; zeroes in front are dropped, as Python's `int` does |
//!
//! Names and documents are not looked into any further: real people have both in every shape.
//!
//! A message may come in any segments, and several may follow each other without waiting; replies come in their order.
//! An agency sends messages of at most [`MAX_BATCH_BYTES`]; the server takes up to [`MAX_REQUEST_BYTES`] and forgets a
//! longer one as it comes. Winners may be any number, each in a line of bounded length. The `\n` behind the last bet or
//! winner may be missing: `\r\n` ends it just as well.

mod bet;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use bet::{Bet, BetError, Field, Winner};
pub use reply::{Part, Reply, ReplyDecoder, ReplyError, end_winners, start_winners};
pub use request::{BatchWriter, Bets, Frame, Malformed, Rejection, Request, RequestDecoder};

/// The longest name of an agency, in bytes.
pub const MAX_AGENCY_BYTES: usize = 64;
/// The longest message that an agency sends, in bytes.
pub const MAX_BATCH_BYTES: usize = 8 * 1024;
/// The longest message that the server takes, in bytes, without its `\r\n`: others may count their 8 kB differently.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// The longest line of a winner, in bytes: the longest bet that the server takes, and its agency.
pub const MAX_WINNER_BYTES: usize = MAX_REQUEST_BYTES + MAX_AGENCY_BYTES;
/// The sender of every reply.
pub const SERVER: &str = "server";
/// The number that wins.
pub const WINNING_NUMBER: u32 = 7574;

/// Who an agency is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Agency(String);

impl Agency {
    /// The name as it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that `name` can be an agency's.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(name: &str) -> Result<(), BetError> {
        bet::check_text(Field::Agency, name)?;
        if name.len() > MAX_AGENCY_BYTES {
            return Err(BetError::LongAgency { bytes: name.len() });
        }
        Ok(())
    }
}

impl FromStr for Agency {
    type Err = BetError;

    fn from_str(name: &str) -> Result<Self, BetError> {
        Self::check(name)?;
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Agency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
