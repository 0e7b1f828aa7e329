//! The two programs, from their arguments to their end.

use std::sync::Arc;

use anyhow::Context as _;
use middleware::TlsHolder;
use middleware::connect::{TransportSettings, connect};
use middleware::grpc::ServiceServer;
use middleware::xmlrpc::MethodServer;
use service::{Shutdown, net};
use tokio_util::sync::DropGuard;

use crate::arguments::{MasterArguments, WorkerArguments, reachable};
use crate::flight::FlightMaster;
use crate::master::{Master, MasterConfig, MasterEnd, MasterLead, MasterWatch, stand_by};
use crate::methods::{MasterMethods, worker_methods};
use crate::worker::{self, WorkerConfig};

/// The port of a master's page, unless a flag says otherwise.
const PAGE_PORT: u16 = 5081;

/// Runs a master until `shutdown`.
///
/// # Errors
/// Fails if the middleware or the folder cannot be used.
pub async fn run_master(arguments: MasterArguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let (methods, flight) = (MasterMethods::default(), FlightMaster::new());
    let settings = arguments.middleware.settings(TlsHolder::Node, arguments.flight_listen.is_some())?;
    let tls = settings.tls.clone();
    let settings = TransportSettings { methods: methods.table(), services: flight.services(), ..settings };
    let pair = arguments.pair()?;
    let transport = connect(arguments.middleware.middleware, settings).await?;
    let _beside = match arguments.flight_listen {
        Some(listen) => {
            let server = ServiceServer::start(&listen.to_string(), flight.services(), tls).await?;
            tracing::info!(address = server.address(), "listening for Arrow Flight");
            Some(server)
        }
        None => None,
    };
    let config = MasterConfig::from(&arguments);
    let page_config = arguments.page.config(PAGE_PORT);
    net::make_room_for(page_config.connections()).map_err(anyhow::Error::msg)?;
    let watch = MasterWatch::new();
    let page = Arc::new(watch.page());
    let listener = page::bind(&page_config)?;
    let serve = |listener| beside("page", page::serve(listener, Arc::clone(&page), shutdown.clone()));
    let _page = listener.map(serve).transpose()?;
    let mut heard = 0;
    loop {
        let term = match &pair {
            Some(pair) => tokio::select! {
                term = stand_by(&transport, pair, heard) => term,
                () = shutdown.requested() => return Ok(()),
            },
            None => 1,
        };
        let lead = MasterLead { term, pair: pair.clone(), watch: watch.clone() };
        let master = Master::lead(config.clone(), transport.clone(), lead).await?;
        page.serve(master.desk());
        methods.serve(&master);
        flight.serve(&master);
        match master.run(shutdown.clone()).await {
            MasterEnd::Shutdown => return Ok(()),
            MasterEnd::Superseded(lead) => {
                page.rest();
                methods.rest();
                flight.rest();
                heard = lead.term;
            }
        }
    }
}

/// Runs a worker until `shutdown`, or one task where a worker has started this process for it.
///
/// # Errors
/// Fails if the arguments are wrong, the worker cannot listen, or the master refuses it.
pub async fn run_worker(arguments: WorkerArguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = WorkerConfig::try_from(&arguments)?;
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("--data-dir {}: the folder cannot be made", config.data_dir.display()))?;
    // What a worker starts for a task has the worker's environment, and listens nowhere.
    let serves_beside = arguments.csv_listen.is_some() || arguments.function;
    let settings = arguments.middleware.settings(TlsHolder::Node, serves_beside)?;
    if arguments.function {
        let transport = connect(arguments.middleware.middleware, settings).await?;
        return worker::function::serve(config, transport).await;
    }
    let methods = match &arguments.csv {
        Some(file) => worker_methods(file.clone(), config.threads, config.memory_bytes)?,
        None => Default::default(),
    };
    let _beside = match arguments.csv_listen {
        Some(listen) => {
            Some(MethodServer::start(&listen.to_string(), methods.clone(), settings.tls.clone()).await?)
        }
        None => None,
    };
    let settings = TransportSettings { methods, ..settings };
    let transport = connect(arguments.middleware.middleware, settings).await?;
    if arguments.end_with_stdin {
        end_with_stdin(&shutdown);
    }
    let towards = arguments.middleware.broker_address().unwrap_or_else(|| config.masters[0].clone());
    worker::run(config, transport, Arc::new(move |listening| reachable(listening, &towards)), shutdown).await
}

/// Runs what people and monitors look at on a thread of its own, until the guard is dropped.
fn beside(name: &str, future: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<DropGuard> {
    let beside = service::run_beside(name, future);
    beside.with_context(|| format!("cannot start the thread of the {name}"))
}

/// Standard input ends when the program that started this one ends, however it ends.
fn end_with_stdin(shutdown: &Shutdown) {
    let shutdown = shutdown.clone();
    std::thread::spawn(move || {
        // Nothing is ever written there.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::info!("the program that started this worker has ended");
        shutdown.request();
    });
}
