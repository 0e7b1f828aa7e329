//! Failures and schemas in the form in which Flight carries them.

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use dataframe_jobs::failure::{Failure, FailureCode};
use tonic::{Code, Status};

/// The longest message, in both directions.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The longest message of a status on the wire, where most characters that are not ASCII letters take three bytes.
/// Clients refuse headers of more than 8 KiB.
const MAX_STATUS_BYTES: usize = 4 << 10;

/// A failure as a status. The text is the failure's.
pub(super) fn status(failure: &Failure) -> Status {
    let code = match failure.code {
        FailureCode::BadJob | FailureCode::NoModule | FailureCode::WidenType => Code::InvalidArgument,
        FailureCode::File => Code::NotFound,
        FailureCode::Resources => Code::ResourceExhausted,
        FailureCode::NoWorkers | FailureCode::Refused => Code::Unavailable,
        FailureCode::Cancelled => Code::Cancelled,
        FailureCode::Poisonous | FailureCode::Internal => Code::Internal,
    };
    Status::new(code, shortened(&failure.to_string()))
}

/// An error that is no fault of the client.
pub(super) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(shortened(&error.to_string()))
}

/// An error of what the client has sent.
pub(super) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(shortened(&error.to_string()))
}

/// As much of a text as fits into a status.
fn shortened(text: &str) -> String {
    let mut bytes = 0;
    for (at, character) in text.char_indices() {
        bytes += if character.is_ascii_alphanumeric() { 1 } else { 3 * character.len_utf8() };
        if bytes > MAX_STATUS_BYTES {
            return format!("{}…", &text[..at]);
        }
    }
    text.to_owned()
}

/// A schema as an encapsulated message of Arrow IPC.
pub(super) fn encoded_schema(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(internal)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_and_a_short_one_is_not() {
        assert_eq!(invalid("no column \"ñ\"").message(), "no column \"ñ\"");
        let long = invalid("ñ".repeat(10_000));
        assert!(long.message().len() < MAX_STATUS_BYTES && long.message().ends_with('…'));
    }
}
