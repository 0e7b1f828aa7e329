//! The methods of a master: `listWorkers`, `getWorkers`, `createWorker`, `addWorker`, `deleteWorker`, and `compute`.

use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataframe_engine::OutputFormat;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{NodesCommand, WorkerStatus};

use middleware::xmlrpc::{MethodFault, Methods, Value, method};

use super::values::{fault, text, wrong_call};
use crate::client::ClusterClient;
use crate::master::Master;

/// How long `compute` waits for workers.
const WAIT: Duration = Duration::from_secs(30);

/// How long a worker that `createWorker` starts may take until it answers.
const START: Duration = Duration::from_secs(10);

/// Workers that `createWorker` starts at most.
const MAX_STARTED: usize = 64;

/// The methods of a master. They are given to the transport before there is a master, and answer as soon as it is there.
#[derive(Clone, Default)]
pub(crate) struct MasterMethods {
    shared: Arc<MethodsShared>,
}

#[derive(Default)]
struct MethodsShared {
    /// The master that leads, and its address. There is none while the program starts or stands by.
    leading: Mutex<Option<(ClusterClient, Option<String>)>>,
    /// Workers that `createWorker` has started. They end with the master.
    started: Mutex<Vec<StartedWorker>>,
}

struct StartedWorker(Child);

impl Drop for StartedWorker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl MasterMethods {
    /// Begins to answer for a master.
    pub(crate) fn serve(&self, master: &Master) {
        *self.shared.leading() = Some((master.client(WAIT), master.address()));
    }

    /// Stops answering until there is a master again.
    pub(crate) fn rest(&self) {
        *self.shared.leading() = None;
    }

    /// The methods by their names.
    pub(crate) fn table(&self) -> Methods {
        let mut methods = Methods::new();
        for name in ["listWorkers", "getWorkers"] {
            let shared = Arc::clone(&self.shared);
            let list = method(move |_| {
                let shared = Arc::clone(&shared);
                async move { Ok(addresses(&shared.nodes(NodesCommand::List).await?)) }
            });
            methods.insert(name.to_owned(), list);
        }
        for (name, change) in [("addWorker", add as fn(String) -> NodesCommand), ("deleteWorker", remove)] {
            let shared = Arc::clone(&self.shared);
            let order = method(move |parameters| {
                let shared = Arc::clone(&shared);
                async move {
                    let address =
                        host_and_port(text(&parameters, 0, &format!("{name}(\"http://HOST:PORT\")"))?);
                    shared.nodes(change(address)).await?;
                    Ok(Value::Boolean(true))
                }
            });
            methods.insert(name.to_owned(), order);
        }
        let shared = Arc::clone(&self.shared);
        let create = method(move |parameters| create_worker(Arc::clone(&shared), parameters));
        methods.insert("createWorker".to_owned(), create);
        let shared = Arc::clone(&self.shared);
        methods
            .insert("compute".to_owned(), method(move |parameters| compute(Arc::clone(&shared), parameters)));
        methods
    }
}

impl MethodsShared {
    fn started(&self) -> MutexGuard<'_, Vec<StartedWorker>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leading(&self) -> MutexGuard<'_, Option<(ClusterClient, Option<String>)>> {
        self.leading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Result<(ClusterClient, Option<String>), MethodFault> {
        self.leading().clone().ok_or_else(|| {
            let message = "the master is starting, or stands by: call again in a moment".to_owned();
            fault(&Failure { code: FailureCode::NoWorkers, message, worker: None })
        })
    }

    async fn nodes(&self, command: NodesCommand) -> Result<Vec<WorkerStatus>, MethodFault> {
        self.client()?.0.nodes(command).await.map_err(|failure| fault(&failure))
    }
}

fn add(address: String) -> NodesCommand {
    NodesCommand::Add { address }
}

fn remove(worker: String) -> NodesCommand {
    NodesCommand::Remove { worker }
}

/// Clients write addresses as URLs.
fn host_and_port(address: &str) -> String {
    address.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

fn addresses(nodes: &[WorkerStatus]) -> Value {
    let addresses = nodes.iter().map(|node| match &node.info.address {
        Some(address) => format!("http://{address}"),
        None => node.info.name.clone(),
    });
    Value::Array(addresses.map(Value::String).collect())
}

/// `compute(json)` or `compute(json, "csv")`: the result as text, one JSON object a row unless told otherwise.
async fn compute(shared: Arc<MethodsShared>, parameters: Vec<Value>) -> Result<Value, MethodFault> {
    const USAGE: &str =
        r#"compute('[{"read_csv": {"paths": ["x.csv"]}}, {"head": {"n": 3}}]', "json"|"csv"|"table")"#;
    let json = text(&parameters, 0, USAGE)?;
    let format = match parameters.get(1) {
        None => OutputFormat::Json,
        Some(_) => match text(&parameters, 1, USAGE)? {
            "json" => OutputFormat::Json,
            "csv" => OutputFormat::Csv,
            "table" => OutputFormat::Table { rows: usize::MAX },
            _ => return Err(wrong_call(USAGE)),
        },
    };
    let bad = |message: String| fault(&Failure { code: FailureCode::BadJob, message, worker: None });
    let operations = dataframe_jobs::operation::parse(json).map_err(|error| bad(error.to_string()))?;
    let (client, _) = shared.client()?;
    let result = client.submit(&operations).await.map_err(|failure| fault(&failure))?;
    let mut output = Vec::new();
    result.frame.write(format, &mut output).map_err(|error| bad(error.to_string()))?;
    String::from_utf8(output).map(Value::String).map_err(|error| bad(error.to_string()))
}

/// `createWorker(address)`: starts a worker on the master's computer, which listens at `address`.
async fn create_worker(shared: Arc<MethodsShared>, parameters: Vec<Value>) -> Result<Value, MethodFault> {
    let address = host_and_port(text(&parameters, 0, "createWorker(\"http://127.0.0.1:PORT\")")?);
    let failed = |message: String| fault(&Failure { code: FailureCode::Refused, message, worker: None });
    let (_, master) = shared.client()?;
    let master = master
        .as_deref()
        .ok_or_else(|| failed("workers of this master are not called at addresses".to_owned()))?;
    let listen = address.replace("localhost", "127.0.0.1");
    let loopback = listen.parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
    if !loopback {
        let message = format!(
            "{address}: the master starts workers on its own computer only, such as 127.0.0.1:9001; start dataframe-worker there, and call addWorker"
        );
        return Err(failed(message));
    }
    let program = std::env::current_exe()
        .map_err(|error| failed(error.to_string()))?
        .with_file_name("dataframe-worker");
    if shared.started().len() >= MAX_STARTED {
        return Err(failed(format!(
            "the master has started {MAX_STARTED} workers already, which is the most it starts"
        )));
    }
    let port = listen.rsplit(':').next().unwrap_or_default();
    let child = Process::new(&program)
        .args([
            "--name",
            &format!("worker-{port}"),
            "--listen",
            &listen,
            "--master",
            &master.replace("0.0.0.0", "127.0.0.1"),
        ])
        .args(["--middleware", "xmlrpc", "--end-with-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| failed(format!("{} cannot be started: {error}", program.display())))?;
    // A worker that does not answer is killed when this is dropped.
    let worker = StartedWorker(child);
    let there = async {
        loop {
            let nodes = shared.nodes(NodesCommand::List).await?;
            if nodes.iter().any(|node| node.info.address.as_deref() == Some(&listen)) {
                return Ok(Value::Boolean(true));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answered = tokio::time::timeout(START, there).await.unwrap_or_else(|_| {
        Err(failed(format!("the worker at {address} does not answer: is the port taken?")))
    })?;
    shared.started().push(worker);
    Ok(answered)
}
