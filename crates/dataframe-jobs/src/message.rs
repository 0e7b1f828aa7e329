//! What the parts say to each other. A message is encoded by [`packet`](crate::packet).
//!
//! | from → to | request | pieces of the reply |
//! | --- | --- | --- |
//! | worker → master | `join`, `heartbeat`, `leave` | `accepted` or `failed`; a heartbeat also `draining` |
//! | worker → master | `fetch` | `result` pieces (Arrow IPC in the body), then `finished`; or `failed` |
//! | worker → master | `fetch_module` | `result` pieces (the module's bytes in the body), then `finished`; or `failed` |
//! | client → master | `submit` | `progress` at least once a second, then `result` pieces (Arrow IPC in the body), then `finished`; or `failed` |
//! | client → master | `cancel` | `accepted` |
//! | client → master | `nodes` | `nodes`; or `failed` |
//! | client → master | `module` (the next bytes of a WebAssembly module in the body, or none) | `module`: how many bytes of it the master has; or `failed` |
//! | client → master | `probe` | `progress`, then `finished`; or `failed` |
//! | client, standby → master | `watch` | `nodes` at once and at each change of the workers, and `leads` five times a second |
//! | master → standby | `supersede` | `leads`; or `failed` |
//! | master → worker | `run` (the plan in the body) | `started`, `alive` three times a lease, `result` pieces, then `finished`; or `failed` |
//! | master → worker | `inspect` | `inspected` (JSON in the body); or `failed` |
//! | master → worker | `stop` | `accepted` |
//! | master → worker | `identify` | `identity` |

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::operation::Operation;

/// A request to a master or a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A worker offers itself.
    Join(WorkerInfo),
    /// A worker is there; the tasks that it runs.
    Heartbeat {
        /// Who it is.
        worker: WorkerInfo,
        /// What it runs.
        running: Vec<TaskId>,
        /// The memory of its process in bytes, as far as it knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resident_bytes: Option<u64>,
    },
    /// A worker ends.
    Leave {
        /// Its name.
        worker: String,
        /// Its run.
        incarnation: String,
    },
    /// A worker that runs a task wants what tasks of earlier stages have made for it.
    Fetch {
        /// The task that it runs.
        task: TaskId,
        /// Which shuffle of the job.
        shuffle: u32,
        /// Which partition of it.
        partition: u32,
        /// How many pieces it has already, where an earlier reply broke off.
        from: u32,
    },
    /// A client wants a frame computed.
    Submit {
        /// The client's id for the job. A job that is sent again under its id is not run again.
        job: String,
        /// What to compute.
        operations: Vec<Operation>,
        /// How long to wait for workers, in milliseconds.
        wait_ms: u64,
        /// Whether to give the plan and the places of its tasks, in place of the rows.
        #[serde(default)]
        explain: bool,
    },
    /// A client sends a WebAssembly module that its jobs name, piece by piece. A piece that the master has already changes nothing, so
    /// that a client can ask with no bytes how far it is.
    Module {
        /// The SHA-256 of the whole module.
        module: String,
        /// The length of the whole module in bytes.
        bytes: u64,
        /// Where the body begins in the module.
        from: u64,
    },
    /// A worker wants a module that its task needs.
    FetchModule {
        /// The SHA-256 of the module.
        module: String,
    },
    /// A client gives a job up.
    Cancel {
        /// The job.
        job: String,
    },
    /// A client asks about the workers, or changes them.
    Nodes(NodesCommand),
    /// A client wants empty tasks run, to see how long the way of a task takes.
    Probe {
        /// The client's id for the job.
        job: String,
        /// How many tasks.
        tasks: u32,
    },
    /// A client or a standby master wants to hear of each change of the workers, and that the master is there.
    Watch,
    /// A master that has taken the lead tells the other one of its pair, which steps down unless its own lead is newer.
    Supersede(Lead),
    /// A master gives a task to a worker. The plan is the body.
    Run(Task),
    /// A master asks a worker for the files behind paths that only the worker has, and for their types.
    Inspect {
        /// The source.
        operation: Operation,
    },
    /// A master does not need a task any more.
    Stop(TaskId),
    /// A master wants to know who the worker at this address is.
    Identify,
}

/// One piece of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Accepted,
    /// The answer to a sign of life of a worker that is drained: it takes no more tasks, finishes those that it has, and leaves.
    Draining,
    /// A worker has begun a task.
    Started {
        /// Which task.
        task: TaskId,
        /// The worker's name.
        worker: String,
    },
    /// The task is still being worked on.
    Alive {
        /// Which task.
        task: TaskId,
    },
    /// How many bytes of a module the master has, from its beginning. All of them mean that it keeps the module.
    Module {
        /// The number of bytes.
        held: u64,
    },
    /// How far a job is.
    Progress(Progress),
    /// A piece of a result, in order. The body holds Arrow IPC, a stream cut anywhere.
    Result {
        /// Counts from 0, whatever stream it belongs to.
        piece: u32,
        /// The worker that computed it. A broker may give one request to two workers, whose pieces then come mixed.
        /// Empty in the reply to a client.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        worker: String,
        /// Which stream of Arrow IPC it belongs to, where there are several: from a task, the partition of its rows; in the reply to
        /// `fetch`, the task that made the rows, among those of its stage that were shuffled together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<u32>,
    },
    /// The result is complete.
    Finished(Finished),
    /// The workers.
    Nodes {
        /// In the order of their names.
        workers: Vec<WorkerStatus>,
    },
    /// The master that answers, and has the lead as far as it knows.
    Leads(Lead),
    /// The files and types behind a source: JSON in the body.
    Inspected,
    /// Who the worker is.
    Identity(WorkerInfo),
    /// It failed. The last piece.
    Failed(Failure),
}

/// One master's time at the head of the cluster. The newer one is the greater one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lead {
    /// Greater by one than that of the lead before, as far as the master knew of one. It counts from 1.
    pub term: u64,
    /// A ULID, made when the lead was taken. It decides between two masters that took the lead at the same time.
    pub incarnation: String,
}

/// Names one attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The job: a ULID that its client made.
    pub job: String,
    /// Which set of tasks of the job: each stage is a round, and a job whose types are widened begins again.
    pub round: u32,
    /// Counts from 0.
    pub task: u32,
    /// Counts from 1.
    pub attempt: u32,
}

/// What a worker is to do. The plan, DataFusion's physical plan in protobuf, is the body of the packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which task, and which attempt.
    pub id: TaskId,
    /// How long the master waits for a sign of life, in milliseconds.
    pub lease_ms: u64,
    /// What it reads. The worker refuses a file that has changed.
    pub files: Vec<FileRange>,
    /// The WebAssembly modules that its plan calls, by their SHA-256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
}

/// A part of a file, and what the file was like when the job was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRange {
    /// The path on the machine that reads it.
    pub path: String,
    /// The first byte.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
    /// The size of the whole file in bytes.
    pub size: u64,
    /// When the file was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// Who a worker is, and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its name, which is unique in the cluster.
    pub name: String,
    /// This run of it: a ULID.
    pub incarnation: String,
    /// Where the worker is called, where the middleware calls workers directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The version of DataFusion, to which the format of plans is tied.
    pub datafusion: String,
    /// The release of the worker.
    pub release: String,
    /// How many tasks it runs at a time.
    pub slots: u32,
    /// Functions for `apply`.
    pub functions: Vec<String>,
    /// Whether it runs WebAssembly modules of clients.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wasm: bool,
}

/// A client's question or order about the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodesCommand {
    /// All workers.
    List,
    /// Calls the worker at this address, and takes it in.
    Add {
        /// `HOST:PORT`, or a name where a broker stands between.
        address: String,
    },
    /// Removes a worker at once. Its tasks start elsewhere.
    Remove {
        /// Name or address.
        worker: String,
    },
    /// Gives a worker no further task, and removes it when it has finished those that it has.
    Drain {
        /// Name or address.
        worker: String,
    },
}

/// A worker, as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Who it is.
    pub info: WorkerInfo,
    /// What it does.
    pub state: WorkerState,
    /// Tasks that it runs.
    pub running: u32,
    /// Tasks that it has finished.
    pub finished: u64,
    /// The time since its last sign of life, in milliseconds.
    pub silent_ms: u64,
}

/// What the master thinks of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It gets tasks.
    Ready,
    /// It finishes its tasks and gets no others.
    Draining,
    /// It has been silent for too long.
    Lost,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Tasks whose result is there.
    pub done: u32,
    /// All tasks; 0 while the job is being planned.
    pub total: u32,
    /// Tasks that workers have now.
    pub running: u32,
    /// What the job waits for, where it waits: a text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// What a finished task or job has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Rows of the result.
    pub rows: u64,
    /// Pieces of the result.
    pub pieces: u32,
    /// From beginning to end, in microseconds.
    pub micros: u64,
    /// The worker that ran the task. Empty for a job.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub worker: String,
    /// Where each task of a job ran: `(task, worker, attempt)`. Empty for a task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<(u32, String, u32)>,
}
