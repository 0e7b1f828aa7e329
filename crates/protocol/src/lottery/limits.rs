//! Limits of the messages, and the number that wins.

/// The longest name of an agency, in bytes.
pub const MAX_AGENCY_BYTES: usize = 64;
/// The longest message that an agency sends, in bytes.
pub const MAX_BATCH_BYTES: usize = 8 * 1024;
/// The longest message that the server takes, in bytes, without its `\r\n`: others may count their 8 kB differently.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// The longest line of a winner, in bytes: the longest bet that the server takes, and its agency.
pub const MAX_WINNER_BYTES: usize = MAX_REQUEST_BYTES + MAX_AGENCY_BYTES;
/// The number that wins.
pub const WINNING_NUMBER: u32 = 7574;
