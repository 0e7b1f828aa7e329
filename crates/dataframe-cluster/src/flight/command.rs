//! What a client asks for: from the bytes of a descriptor, a ticket or an action.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any, Command,
};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightDescriptor};
use bytes::Bytes;
use dataframe_jobs::operation::{self, CsvOptions, Operation, ReadCsv};
use dataframe_jobs::packet::MAX_HEADER_BYTES;
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use tonic::Status;
use ulid::{ULID_LEN, Ulid};

use super::answers::invalid;

/// What the messages of Flight SQL have in their names.
const FLIGHT_SQL: &str = "type.googleapis.com/arrow.flight.protocol.sql.";

/// The actions, and what they do.
pub(super) const ACTIONS: [(&str, &str); 5] = [
    ("workers", "Gives a JSON object for each worker."),
    ("cancel", "Gives up the job whose id (a ULID) is the body. Nothing happens if it has ended."),
    ("CancelFlightInfo", "Gives up the job of a FlightInfo. Nothing happens if it has ended."),
    ("CreatePreparedStatement", "Flight SQL: prepares a query, whose parameters are written ? or $1."),
    ("ClosePreparedStatement", "Flight SQL: forgets a prepared query."),
];

/// What a descriptor asks for.
#[derive(Debug)]
pub(super) enum FlightCommand {
    /// Rows that a job gives.
    Rows(WantedRows),
    /// Something about this server.
    Metadata(Command),
}

/// Rows that a job gives.
#[derive(Debug)]
pub(super) enum WantedRows {
    /// Those of a list of operations.
    Of(JobList),
    /// Those of a query.
    OfQuery(String),
    /// Those of a prepared query, by its handle.
    OfPrepared(Bytes),
}

/// A list of operations, and how it is run.
#[derive(Debug)]
pub(super) struct JobList {
    pub(super) operations: Vec<Operation>,
    /// The client's own id.
    pub(super) job: Option<Ulid>,
    /// Whether the plan is wanted, in place of the rows.
    pub(super) explain: bool,
    /// The tasks that were done, and all tasks, when the client asked last.
    pub(super) seen: Option<(u32, u32)>,
}

impl JobList {
    /// The rows of these operations.
    pub(super) fn new(operations: Vec<Operation>) -> JobList {
        JobList { operations, job: None, explain: false, seen: None }
    }

    /// The id of the client's, or a new one.
    pub(super) fn job_id(&self) -> String {
        self.job.unwrap_or_else(|| service::new_ulid(rand::random())).to_string()
    }
}

/// The keys of a command that is an object in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobKeys {
    operations: Value,
    job: Option<String>,
    #[serde(default)]
    explain: bool,
    seen: Option<(u32, u32)>,
}

/// Reads a descriptor.
pub(super) fn read(descriptor: &FlightDescriptor) -> Result<FlightCommand, Status> {
    match descriptor.r#type() {
        DescriptorType::Path if descriptor.path.is_empty() => {
            Err(invalid("a descriptor by path has at least one path, such as data/*.csv"))
        }
        DescriptorType::Path => {
            let operations = vec![read_csv(descriptor.path.clone())];
            operation::check(&operations).map_err(invalid)?;
            Ok(FlightCommand::Rows(WantedRows::Of(JobList::new(operations))))
        }
        _ => match flight_sql(&descriptor.cmd)? {
            Some(Command::CommandStatementQuery(query)) => {
                Ok(FlightCommand::Rows(WantedRows::OfQuery(query.query)))
            }
            Some(Command::CommandPreparedStatementQuery(query)) => {
                Ok(FlightCommand::Rows(WantedRows::OfPrepared(query.prepared_statement_handle)))
            }
            Some(other) => Ok(FlightCommand::Metadata(other)),
            None => Ok(FlightCommand::Rows(WantedRows::Of(json(&descriptor.cmd)?))),
        },
    }
}

/// A command of Flight SQL. `None` if the bytes are none.
fn flight_sql(bytes: &[u8]) -> Result<Option<Command>, Status> {
    match Any::decode(bytes) {
        Ok(any) if any.type_url.starts_with(FLIGHT_SQL) => {
            let name = any.type_url.clone();
            Command::try_from(any).map(Some).map_err(|error| invalid(format!("{name}: {error}")))
        }
        _ => Ok(None),
    }
}

fn json(bytes: &[u8]) -> Result<JobList, Status> {
    if bytes.len() > MAX_HEADER_BYTES {
        return Err(invalid(format!(
            "the command has {} bytes, and may have {MAX_HEADER_BYTES}",
            bytes.len()
        )));
    }
    let no_command = |error: &dyn std::fmt::Display| {
        invalid(format!(
            "the command is no message of Flight SQL, and no list of operations in JSON, such as [{{\"read_csv\": {{\"paths\": [\"data/*.csv\"]}}}}]: {error}"
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| no_command(&error))?;
    if !text.trim_start().starts_with('{') {
        let operations = operation::parse(text).map_err(|error| no_command(&error))?;
        return Ok(JobList::new(operations));
    }
    let keys: JobKeys = serde_json::from_str(text).map_err(|error| no_command(&error))?;
    let operations = operation::parse(&keys.operations.to_string()).map_err(invalid)?;
    let job = keys.job.as_deref().map(ulid).transpose()?;
    Ok(JobList { operations, job, explain: keys.explain, seen: keys.seen })
}

/// The rows of these files.
pub(super) fn read_csv(paths: Vec<String>) -> Operation {
    Operation::ReadCsv(ReadCsv { paths, options: CsvOptions::default() })
}

fn ulid(job: &str) -> Result<Ulid, Status> {
    let wrong = |_| {
        let shown: String = job.chars().take(64).collect();
        invalid(format!("{shown:?} is no id of a job: make a ULID, as https://github.com/ulid/spec tells"))
    };
    job.parse().map_err(wrong)
}

/// What a ticket stands for.
#[derive(Debug)]
pub(super) enum FlightTicket {
    /// The stored rows of a job.
    Job(Ulid),
    /// Something about this server.
    Metadata(Command),
}

impl FlightTicket {
    /// Reads a ticket. Its bytes become an id or a message, and nothing else.
    pub(super) fn read(bytes: &[u8]) -> Result<FlightTicket, Status> {
        let job = (bytes.len() == ULID_LEN).then(|| std::str::from_utf8(bytes).ok()?.parse().ok()).flatten();
        if let Some(job) = job {
            return Ok(FlightTicket::Job(job));
        }
        match flight_sql(bytes)? {
            Some(command) => Ok(FlightTicket::Metadata(command)),
            None => Err(invalid("this is no ticket of this master: GetFlightInfo gives one")),
        }
    }
}

/// What an action does.
#[derive(Debug)]
pub(super) enum FlightAction {
    /// Lists the workers.
    Workers,
    /// Gives up a job.
    Cancel(Ulid),
    /// The same, by the client's standard call.
    CancelInfo(Ulid),
    /// Prepares a query.
    Prepare(String),
    /// Forgets a prepared query. Nothing is kept for one.
    Close,
}

/// Reads an action.
pub(super) fn action(action: &Action) -> Result<FlightAction, Status> {
    let body = &action.body;
    match action.r#type.as_str() {
        "workers" => Ok(FlightAction::Workers),
        "cancel" => match std::str::from_utf8(body) {
            Ok(job) => ulid(job).map(FlightAction::Cancel),
            Err(_) => Err(invalid("the body of cancel is the id of a job")),
        },
        "CancelFlightInfo" => job_of_info(body).map(FlightAction::CancelInfo),
        "CreatePreparedStatement" => {
            let message: ActionCreatePreparedStatementRequest = unpacked(body, &action.r#type)?;
            Ok(FlightAction::Prepare(message.query))
        }
        "ClosePreparedStatement" => {
            let _: ActionClosePreparedStatementRequest = unpacked(body, &action.r#type)?;
            Ok(FlightAction::Close)
        }
        other => {
            let shown: String = other.chars().take(64).collect();
            let known = ACTIONS.map(|(name, _)| name).join(", ");
            Err(Status::unimplemented(format!("there is no action {shown:?}: there are {known}")))
        }
    }
}

/// The job that a FlightInfo of this server tells.
fn job_of_info(body: &[u8]) -> Result<Ulid, Status> {
    let request = CancelFlightInfoRequest::decode(body).map_err(invalid)?;
    let told = request.info.unwrap_or_default().app_metadata;
    let text = std::str::from_utf8(&told).map_err(|_| invalid("the FlightInfo is not one of this server"))?;
    ulid(text)
}

/// The message inside the body of an action.
fn unpacked<M: arrow_flight::sql::ProstMessageExt>(body: &[u8], name: &str) -> Result<M, Status> {
    let message = Any::decode(body).ok().and_then(|any| any.unpack().ok().flatten());
    message.ok_or_else(|| invalid(format!("the body of {name} is not the message of Flight SQL")))
}
