//! The two programs, from their arguments to their end.

use std::sync::Arc;

use anyhow::Context as _;
use middleware::connect::{TransportSettings, connect};
use middleware::grpc::ServiceServer;
use middleware::xmlrpc::MethodServer;
use service::Shutdown;

use crate::arguments::{MasterArguments, WorkerArguments, reachable};
use crate::flight::FlightMaster;
use crate::master::{Master, MasterConfig, MasterEnd, stand_by};
use crate::methods::{MasterMethods, worker_methods};
use crate::worker::{self, WorkerConfig};

/// Runs a master until `shutdown`.
///
/// # Errors
/// Fails if the middleware or the folder cannot be used.
pub async fn run_master(arguments: MasterArguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let (methods, flight) = (MasterMethods::default(), FlightMaster::new());
    let settings = TransportSettings {
        methods: methods.table(),
        services: flight.services(),
        ..arguments.middleware.settings()
    };
    let pair = arguments.pair()?;
    let transport = connect(arguments.middleware.middleware, settings).await?;
    let _beside = match arguments.flight_listen {
        Some(listen) => {
            let server = ServiceServer::start(&listen.to_string(), flight.services()).await?;
            tracing::info!(address = server.address(), "listening for Arrow Flight");
            Some(server)
        }
        None => None,
    };
    let config = MasterConfig::from(&arguments);
    let mut term = 0;
    loop {
        if let Some(pair) = &pair {
            term = tokio::select! {
                heard = stand_by(&transport, pair, term) => heard,
                () = shutdown.requested() => return Ok(()),
            };
        }
        // Whoever claims the last term that there is must not end this program.
        term = term.saturating_add(1);
        let master = Master::lead(config.clone(), transport.clone(), term, pair.clone()).await?;
        methods.serve(&master);
        flight.serve(&master);
        match master.run(shutdown.clone()).await {
            MasterEnd::Shutdown => return Ok(()),
            MasterEnd::Superseded(lead) => {
                methods.rest();
                flight.rest();
                term = lead.term;
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
    if arguments.function {
        let transport = connect(arguments.middleware.middleware, arguments.middleware.settings()).await?;
        return worker::function::serve(config, transport).await;
    }
    let methods = match &arguments.csv {
        Some(file) => worker_methods(file.clone(), config.threads, config.memory_bytes)?,
        None => Default::default(),
    };
    let _beside = match arguments.csv_listen {
        Some(listen) => Some(MethodServer::start(&listen.to_string(), methods.clone()).await?),
        None => None,
    };
    let settings = TransportSettings { methods, ..arguments.middleware.settings() };
    let transport = connect(arguments.middleware.middleware, settings).await?;
    if arguments.end_with_stdin {
        end_with_stdin(&shutdown);
    }
    let towards = arguments.middleware.broker_address().unwrap_or_else(|| config.masters[0].clone());
    worker::run(config, transport, Arc::new(move |listening| reachable(listening, &towards)), shutdown).await
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
