//! Arrow Flight and Flight SQL: what a master offers to clients that are not ours, such as `pyarrow.flight` and ADBC.
//!
//! | call | what is given | what comes back |
//! | --- | --- | --- |
//! | `GetFlightInfo` | a list of operations in JSON, paths, a query, a prepared query, a question of Flight SQL | the schema and a ticket; the job has ended then |
//! | `PollFlightInfo` | the same; then the descriptor of the last answer | at once, how far the job is, and a descriptor; then, when there is more to tell; in the end what `GetFlightInfo` gives |
//! | `GetSchema` | the same | the schema, without running a job |
//! | `DoGet` | a ticket | the rows |
//! | `DoAction` | `workers`; `cancel` with the id of a job; `CancelFlightInfo`; `CreatePreparedStatement`, `ClosePreparedStatement` | one result or none |
//! | `DoPut` | one row of parameters for a prepared query | the prepared query with them |
//! | `Handshake` | anything | an empty answer, because nobody proves who they are |
//!
//! A command in JSON is a list of operations, or an object with the list as `operations`, and with `job` (an id of the client's own, a ULID)
//! and `explain`. A job under an id of the client's own goes on when the client hangs up, which may ask again under this id. Any other
//! job is cancelled then, because nobody else can know of it. A job that is polled goes on until it has ended, is cancelled, or fails: between
//! two calls nobody can tell whether the client is there.
//!
//! A ticket is the id of a job whose rows are stored, or a question of Flight SQL. Nothing is kept for a ticket or a prepared query.

mod answers;
mod command;
mod literals;
mod metadata;
mod poll;
mod prepared;
mod rows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::Command;
use arrow_flight::{
    Action, ActionType, CancelFlightInfoResult, CancelStatus, Criteria, Empty, FlightData, FlightDescriptor,
    FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult,
    Ticket,
};
use async_trait::async_trait;
use dataframe_jobs::message::Finished;
use dataframe_jobs::operation::Operation;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use middleware::grpc::Routes;
use prost::Message;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::master::Master;
use crate::master::command::{JobOrder, JobStatus};
use crate::master::desk::Desk;
use answers::{MAX_MESSAGE_BYTES, encoded_schema, internal, status};
use command::{FlightAction, FlightCommand, FlightTicket, JobList, WantedRows};
use prepared::PreparedQuery;

/// How long a job waits for workers.
const WAIT: Duration = Duration::from_secs(30);

/// The Flight service of a master. It is given to the transport before there is a master, and answers as soon as it is there.
#[derive(Clone)]
pub(crate) struct FlightMaster {
    desk: Arc<Mutex<Option<Desk>>>,
    readers: Arc<Semaphore>,
}

type FlightAnswers<T> = BoxStream<'static, Result<T, Status>>;

impl FlightMaster {
    /// Makes a service that has no master yet.
    pub(crate) fn new() -> FlightMaster {
        FlightMaster { desk: Arc::default(), readers: Arc::new(Semaphore::new(rows::MAX_READERS)) }
    }

    /// Begins to answer for a master.
    pub(crate) fn serve(&self, master: &Master) {
        *self.known_desk() = Some(master.desk());
    }

    /// Answers no more, because another master leads.
    pub(crate) fn rest(&self) {
        *self.known_desk() = None;
    }

    fn known_desk(&self) -> MutexGuard<'_, Option<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service, for a gRPC port.
    pub(crate) fn services(&self) -> Routes {
        let server = FlightServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Routes::new(server)
    }

    fn desk(&self) -> Result<Desk, Status> {
        let known = self.known_desk().clone();
        known.ok_or_else(|| Status::unavailable("this master does not lead yet: call again in a moment"))
    }

    /// The operations that give these rows.
    async fn list(&self, rows: WantedRows) -> Result<JobList, Status> {
        let query = match rows {
            WantedRows::Of(list) => return Ok(list),
            WantedRows::OfQuery(query) => query,
            WantedRows::OfPrepared(handle) => PreparedQuery::read(&handle)?.query_text()?,
        };
        Ok(JobList::new(self.operations(query).await?))
    }

    /// The operations of a query. They are made where a deep query finds a stack that is large enough.
    async fn operations(&self, query: String) -> Result<Vec<Operation>, Status> {
        let desk = self.desk()?;
        let engine = desk.context.engine.clone();
        let made = desk.context.threads.spawn(async move { engine.operations_of(&query) });
        made.await.map_err(internal)?.map_err(|error| status(&error.into()))
    }

    async fn schema(&self, operations: &[Operation]) -> Result<SchemaRef, Status> {
        let schema = self.desk()?.schema(operations).await.map_err(|failure| status(&failure))?;
        Ok(rows::sent_schema(&schema))
    }

    /// Runs a job to its end.
    async fn run(&self, list: JobList) -> Result<FlightInfo, Status> {
        let desk = self.desk()?;
        let (job, owned) = (list.job_id(), list.job.is_some());
        let _cancelled = (!owned).then(|| CancelOnDrop { desk: &desk, job: &job });
        let finished = desk.complete(order(&list, &job)).await.map_err(|failure| status(&failure))?;
        self.finished(&job, &finished)
    }

    /// Tells how far a job is, which begins with the first question.
    async fn poll(&self, list: JobList) -> Result<PollInfo, Status> {
        let job = list.job_id();
        let state = self.desk()?.news(order(&list, &job), list.seen, poll::NEWS).await;
        match state.map_err(|failure| status(&failure))? {
            JobStatus::Running(progress) => poll::running(&list, &job, &progress),
            JobStatus::Done(finished) => poll::ended(self.finished(&job, &finished)?),
            JobStatus::Failed(failure) => Err(status(&failure)),
        }
    }

    /// Where the rows of a job are, which has ended well.
    fn finished(&self, job: &str, finished: &Finished) -> Result<FlightInfo, Status> {
        let (_, result) = self.desk()?.context.results.find(job).ok_or_else(rows::no_result)?;
        let bytes = result.bytes();
        let schema = result.into_batches().map_err(internal)?.schema();
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(job.to_owned()));
        let info = FlightInfo::new()
            .try_with_schema(&rows::sent_schema(&schema))
            .map_err(internal)?
            .with_endpoint(endpoint)
            .with_total_records(i64::try_from(finished.rows).unwrap_or(i64::MAX))
            .with_total_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
            .with_app_metadata(job.to_owned())
            .with_ordered(true);
        Ok(info)
    }

    async fn answer_metadata(&self, command: Command) -> Result<FlightAnswers<FlightData>, Status> {
        let table = match metadata::named_table(&command) {
            Some(path) => self.table_schema(path).await?,
            None => None,
        };
        Ok(rows::of_batch(metadata::answer(command, table.as_deref())?))
    }

    /// The schema of a file that is a table, if there is such a file.
    async fn table_schema(&self, path: &str) -> Result<Option<SchemaRef>, Status> {
        match self.schema(&[command::read_csv(vec![path.to_owned()])]).await {
            Ok(schema) => Ok(Some(schema)),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn prepare(&self, query: String) -> Result<arrow_flight::Result, Status> {
        let prepared = PreparedQuery::new(query)?;
        let operations = self.operations(prepared.query().to_owned()).await?;
        // The types of a query with parameters are known when the values are.
        let schema = match prepared.parameters() {
            0 => Some(self.schema(&operations).await?),
            _ => None,
        };
        prepared.announcement(schema.as_deref())
    }

    async fn workers(&self) -> Result<Vec<arrow_flight::Result>, Status> {
        let workers = self.desk()?.workers().await.map_err(|failure| status(&failure))?;
        let lines =
            workers.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>().map_err(internal)?;
        Ok(lines.into_iter().map(|body| arrow_flight::Result { body: body.into() }).collect())
    }
}

fn order(list: &JobList, job: &str) -> JobOrder {
    JobOrder::Compute {
        job: job.to_owned(),
        operations: list.operations.clone(),
        wait: WAIT,
        explain: list.explain,
    }
}

/// Gives a job up if it has not ended when this is dropped, such as when the client hangs up.
struct CancelOnDrop<'a> {
    desk: &'a Desk,
    job: &'a str,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.desk.cancel(self.job);
    }
}

#[async_trait]
impl FlightService for FlightMaster {
    type HandshakeStream = FlightAnswers<HandshakeResponse>;
    type ListFlightsStream = FlightAnswers<FlightInfo>;
    type DoGetStream = FlightAnswers<FlightData>;
    type DoPutStream = FlightAnswers<PutResult>;
    type DoActionStream = FlightAnswers<arrow_flight::Result>;
    type ListActionsStream = FlightAnswers<ActionType>;
    type DoExchangeStream = FlightAnswers<FlightData>;

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Ok(Response::new(stream::iter([Ok(HandshakeResponse::default())]).boxed()))
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        // A result belongs to the client that asked for it.
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        let info = match command::read(&descriptor)? {
            FlightCommand::Rows(rows) => self.run(self.list(rows).await?).await?,
            FlightCommand::Metadata(command) => metadata::info(command)?,
        };
        Ok(Response::new(info.with_descriptor(descriptor)))
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let descriptor = request.into_inner();
        let mut polled = match command::read(&descriptor)? {
            FlightCommand::Rows(rows) => self.poll(self.list(rows).await?).await?,
            FlightCommand::Metadata(command) => poll::ended(metadata::info(command)?)?,
        };
        polled.info = polled.info.map(|info| info.with_descriptor(descriptor));
        Ok(Response::new(polled))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let schema = match command::read(request.get_ref())? {
            FlightCommand::Rows(rows) => self.schema(&self.list(rows).await?.operations).await?,
            FlightCommand::Metadata(command) => metadata::schema(&command)?,
        };
        Ok(Response::new(SchemaResult { schema: encoded_schema(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let rows = match FlightTicket::read(&request.get_ref().ticket)? {
            FlightTicket::Job(job) => rows::of_job(&self.desk()?, &job.to_string(), &self.readers)?,
            FlightTicket::Metadata(command) => self.answer_metadata(command).await?,
        };
        Ok(Response::new(rows))
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let result = prepared::bind(&self.desk()?.context.threads, request.into_inner()).await?;
        Ok(Response::new(stream::iter([Ok(result)]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let results = match command::action(request.get_ref())? {
            FlightAction::Workers => self.workers().await?,
            FlightAction::Cancel(job) => {
                self.desk()?.cancel(&job.to_string());
                Vec::new()
            }
            FlightAction::CancelInfo(job) => {
                self.desk()?.cancel(&job.to_string());
                let cancelled = CancelFlightInfoResult::new(CancelStatus::Cancelled);
                vec![arrow_flight::Result { body: cancelled.encode_to_vec().into() }]
            }
            FlightAction::Prepare(query) => vec![self.prepare(query).await?],
            FlightAction::Close => Vec::new(),
        };
        Ok(Response::new(stream::iter(results.into_iter().map(Ok)).boxed()))
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let actions = command::ACTIONS.map(|(name, description)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        });
        Ok(Response::new(stream::iter(actions).boxed()))
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("this server takes no data: it reads files"))
    }
}
