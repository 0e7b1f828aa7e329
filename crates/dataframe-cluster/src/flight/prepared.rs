//! Prepared queries. The handle of one is its text and its parameters, so that the master keeps nothing.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    ActionCreatePreparedStatementResult, Any, Command, DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use dataframe_engine::sql_text;
use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::{Status, Streaming};

use super::answers::{MAX_MESSAGE_BYTES, encoded_schema, internal, invalid, status};
use super::literals::literal;
use crate::threads::ComputeThreads;

/// Messages that bring the parameters of a query.
const MAX_MESSAGES: usize = 16;

/// How long the parameters may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A query whose parameters may have values.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PreparedQuery {
    query: String,
    /// The values as literals in SQL.
    values: Vec<String>,
    #[serde(skip)]
    parameters: usize,
}

impl PreparedQuery {
    /// A query whose parameters have no values yet.
    pub(super) fn new(query: String) -> Result<PreparedQuery, Status> {
        let parameters = parameters(&query)?;
        Ok(PreparedQuery { query, values: Vec::new(), parameters })
    }

    /// Reads a handle. One that a client has made up is as good as a query that it has made up.
    pub(super) fn read(handle: &[u8]) -> Result<PreparedQuery, Status> {
        let unknown = |error| invalid(format!("this is no prepared query of this master: {error}"));
        let mut prepared: PreparedQuery = serde_json::from_slice(handle).map_err(unknown)?;
        prepared.parameters = parameters(&prepared.query)?;
        Ok(prepared)
    }

    fn handle(&self) -> Result<Bytes, Status> {
        Ok(serde_json::to_vec(self).map_err(internal)?.into())
    }

    /// The query as it was written.
    pub(super) fn query(&self) -> &str {
        &self.query
    }

    /// The number of parameters.
    pub(super) fn parameters(&self) -> usize {
        self.parameters
    }

    /// The query with the values of its parameters.
    pub(super) fn query_text(&self) -> Result<String, Status> {
        sql_text::with_parameters(&self.query, &self.values).map_err(|error| status(&error.into()))
    }

    /// What tells a client of this query.
    pub(super) fn announcement(&self, schema: Option<&Schema>) -> Result<arrow_flight::Result, Status> {
        // A parameter takes whatever type its value has.
        let parameters: Vec<_> = (1..=self.parameters)
            .map(|number| Field::new(format!("${number}"), DataType::Null, true))
            .collect();
        let announcement = ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.handle()?,
            dataset_schema: schema.map(encoded_schema).transpose()?.unwrap_or_default(),
            parameter_schema: encoded_schema(&Schema::new(parameters))?,
        };
        Ok(arrow_flight::Result { body: announcement.as_any().encode_to_vec().into() })
    }

    fn with_values(mut self, row: &RecordBatch) -> Result<PreparedQuery, Status> {
        if row.num_columns() != self.parameters {
            let columns = row.num_columns();
            return Err(invalid(format!(
                "the query has {} parameters, and {columns} were given",
                self.parameters
            )));
        }
        self.values = row.columns().iter().map(literal).collect::<Result<_, _>>()?;
        Ok(self)
    }
}

fn parameters(query: &str) -> Result<usize, Status> {
    sql_text::parameters(query).map_err(|error| status(&error.into()))
}

/// Takes one row of parameters for a prepared query. The answer has the handle of the query with these values.
pub(super) async fn bind(
    threads: &ComputeThreads,
    mut data: Streaming<FlightData>,
) -> Result<PutResult, Status> {
    let messages = tokio::time::timeout(PATIENCE, received(&mut data)).await;
    let messages =
        messages.map_err(|_| Status::deadline_exceeded("the parameters have not come in time"))??;
    // The bytes of a client may be such that decoding them panics. Then this work alone ends.
    let bound = threads.spawn(bound(messages)).await;
    bound.unwrap_or_else(|_| Err(invalid("the parameters cannot be decoded")))
}

async fn received(data: &mut Streaming<FlightData>) -> Result<Vec<FlightData>, Status> {
    let mut messages = Vec::new();
    let mut bytes = 0;
    while let Some(message) = data.message().await? {
        bytes += message.encoded_len();
        if messages.len() == MAX_MESSAGES || bytes > MAX_MESSAGE_BYTES {
            return Err(invalid(
                "this server takes one row of parameters for a prepared query, and no other data",
            ));
        }
        messages.push(message);
    }
    Ok(messages)
}

async fn bound(messages: Vec<FlightData>) -> Result<PutResult, Status> {
    let descriptor = messages.first().and_then(|message| message.flight_descriptor.as_ref());
    let command = descriptor.and_then(|descriptor| Any::decode(descriptor.cmd.as_ref()).ok());
    let Some(Ok(Command::CommandPreparedStatementQuery(command))) = command.map(Command::try_from) else {
        return Err(Status::unimplemented(
            "this server reads files, and takes no data but parameters of a prepared query",
        ));
    };
    let prepared = PreparedQuery::read(&command.prepared_statement_handle)?;
    let messages = stream::iter(messages.into_iter().map(Ok::<_, FlightError>)).boxed();
    let rows: Vec<RecordBatch> =
        FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await.map_err(invalid)?;
    let mut rows = rows.into_iter().filter(|batch| batch.num_rows() > 0);
    let prepared = match (rows.next(), rows.next()) {
        (Some(row), None) if row.num_rows() == 1 => prepared.with_values(&row)?,
        _ => return Err(invalid("a query runs with one row of parameters at a time")),
    };
    let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(prepared.handle()?) };
    Ok(PutResult { app_metadata: result.encode_to_vec().into() })
}
