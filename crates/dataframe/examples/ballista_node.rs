//! A scheduler or an executor of Ballista, as its own programs `ballista-scheduler` and `ballista-executor` start them, for tests that
//! have compiled Ballista already.
//!
//! ```text
//! ballista_node scheduler PORT
//! ballista_node executor SCHEDULER_PORT FLIGHT_PORT GRPC_PORT FOLDER
//! ```

#![allow(missing_docs, reason = "a program for tests")]

use std::sync::Arc;

use anyhow::{Context as _, bail};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["scheduler", port] => scheduler(port_of(port)?).await,
        ["executor", scheduler, flight, grpc, folder] => {
            executor(port_of(scheduler)?, port_of(flight)?, port_of(grpc)?, (*folder).to_owned()).await
        }
        _ => bail!("ballista_node scheduler PORT | executor SCHEDULER_PORT FLIGHT_PORT GRPC_PORT FOLDER"),
    }
}

fn port_of(word: &str) -> anyhow::Result<u16> {
    word.parse().with_context(|| format!("{word}: this is no port"))
}

async fn scheduler(port: u16) -> anyhow::Result<()> {
    // What the executors have written is kept: a test looks there for which of them have worked.
    let config = SchedulerConfig {
        bind_port: port,
        finished_job_data_clean_up_interval_seconds: 0,
        ..SchedulerConfig::default()
    };
    let address = format!("{}:{port}", config.bind_host).parse()?;
    let cluster = BallistaCluster::new_from_config(&config).await?;
    Ok(start_server(cluster, address, Arc::new(config)).await?)
}

async fn executor(scheduler: u16, flight: u16, grpc: u16, folder: String) -> anyhow::Result<()> {
    std::fs::create_dir_all(&folder).with_context(|| format!("{folder}: the folder cannot be made"))?;
    let config = ExecutorProcessConfig {
        scheduler_port: scheduler,
        port: flight,
        grpc_port: grpc,
        external_host: Some("127.0.0.1".to_owned()),
        scheduler_host: "127.0.0.1".to_owned(),
        // The scheduler may still be starting.
        scheduler_connect_timeout_seconds: 60,
        work_dir: Some(folder),
        vcores: 1,
        ..ExecutorProcessConfig::default()
    };
    Ok(start_executor_process(Arc::new(config)).await?)
}
