//! What Flight SQL asks about the server and its tables.
//!
//! A table is a file that a query names, so that no list of tables is possible: the lists of catalogs, schemas and tables are empty. A table
//! whose path is asked for is found, with its schema.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    Command, CommandGetSqlInfo, CommandGetTables, SqlInfo, SqlSupportedCaseSensitivity,
    SqlSupportedTransaction,
};
use arrow_flight::{FlightEndpoint, FlightInfo, Ticket};
use prost::Message;
use tonic::Status;

use super::answers::{internal, invalid};

/// The type of every table.
const TABLE: &str = "TABLE";

/// Questions about the server in one message. There are fewer than 600 that a server could answer.
const MAX_INFOS: usize = 1_000;

/// How rows are found that answer a question: its ticket is the question.
pub(super) fn info(command: Command) -> Result<FlightInfo, Status> {
    let schema = schema(&command)?;
    let ticket = Ticket::new(command.into_any().encode_to_vec());
    let endpoint = FlightEndpoint::new().with_ticket(ticket);
    Ok(FlightInfo::new().try_with_schema(&schema).map_err(internal)?.with_endpoint(endpoint))
}

/// The schema of an answer.
pub(super) fn schema(command: &Command) -> Result<SchemaRef, Status> {
    match command {
        Command::CommandGetCatalogs(question) => Ok(question.into_builder().schema()),
        Command::CommandGetDbSchemas(question) => Ok(question.clone().into_builder().schema()),
        Command::CommandGetTables(question) => Ok(question.clone().into_builder().schema()),
        Command::CommandGetTableTypes(question) => Ok(question.into_builder().schema()),
        Command::CommandGetSqlInfo(_) => Ok(Arc::new(SqlInfoDataBuilder::schema().clone())),
        other => Err(unsupported(other)),
    }
}

/// The path of the table that a question is about.
pub(super) fn named_table(command: &Command) -> Option<&str> {
    match command {
        Command::CommandGetTables(CommandGetTables {
            table_name_filter_pattern: Some(path),
            table_types,
            ..
        }) if is_path(path) && (table_types.is_empty() || table_types.iter().any(|kind| kind == TABLE)) => {
            Some(path)
        }
        _ => None,
    }
}

fn is_path(name: &str) -> bool {
    // `%` stands for any characters in a question: then many tables are asked for.
    !name.contains('%') && name.contains(['/', '.', '*'])
}

/// The answer to a question, with the schema of the table that it names.
pub(super) fn answer(command: Command, table: Option<&Schema>) -> Result<RecordBatch, Status> {
    let built = match command {
        Command::CommandGetCatalogs(question) => question.into_builder().build(),
        Command::CommandGetDbSchemas(question) => question.into_builder().build(),
        Command::CommandGetTables(question) => return tables(question, table),
        Command::CommandGetTableTypes(question) => {
            let mut types = question.into_builder();
            types.append(TABLE);
            types.build()
        }
        Command::CommandGetSqlInfo(question) => return server(question),
        other => return Err(unsupported(&other)),
    };
    built.map_err(internal)
}

fn tables(mut question: CommandGetTables, table: Option<&Schema>) -> Result<RecordBatch, Status> {
    // The path is the name, and not a pattern: `_` stands for itself.
    let path = question.table_name_filter_pattern.take();
    let mut tables = question.into_builder();
    if let (Some(path), Some(schema)) = (path, table) {
        tables.append("", "", path, TABLE, schema).map_err(internal)?;
    }
    tables.build().map_err(internal)
}

fn server(question: CommandGetSqlInfo) -> Result<RecordBatch, Status> {
    if question.info.len() > MAX_INFOS {
        return Err(invalid(format!("at most {MAX_INFOS} pieces of information can be asked for at a time")));
    }
    question.into_builder(&about().map_err(internal)?).build().map_err(internal)
}

fn about() -> Result<SqlInfoData, FlightError> {
    let mut about = SqlInfoDataBuilder::new();
    about.append(SqlInfo::FlightSqlServerName, "dataframe-master");
    about.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    about.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    about.append(SqlInfo::FlightSqlServerReadOnly, true);
    about.append(SqlInfo::FlightSqlServerSql, true);
    about.append(SqlInfo::FlightSqlServerSubstrait, false);
    about.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    about.append(SqlInfo::FlightSqlServerCancel, false);
    about.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    about.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64);
    about.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    about.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i64,
    );
    about.append(SqlInfo::SqlTransactionsSupported, false);
    about.build()
}

fn unsupported(command: &Command) -> Status {
    let name = command.type_url().rsplit('.').next().unwrap_or_default();
    Status::unimplemented(format!(
        "this server does not answer {name}: it runs queries, prepares them, and tells of itself and of a file that is named"
    ))
}
