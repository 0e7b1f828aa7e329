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
//! numbers; the sender is text of 1 to [`MAX_AGENCY_BYTES`] bytes.
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

mod agency_name;
mod bet;
mod field;
mod limits;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use agency_name::AgencyName;
pub use bet::{Bet, Winner};
pub use field::{BetError, BetField};
pub use limits::{MAX_AGENCY_BYTES, MAX_BATCH_BYTES, MAX_REQUEST_BYTES, MAX_WINNER_BYTES, WINNING_NUMBER};
pub use reply::{LotteryReply, ReplyDecoder, ReplyError, ReplyPart, end_winners, start_winners};
pub use request::{
    AgencyFrame, AgencyRequest, BatchWriter, BetLines, FrameRejection, MalformedRequest, RequestDecoder,
};
