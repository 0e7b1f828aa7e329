//! Actividad 2, a whole store inside one process, with a prompt: the store keeps the lines that are typed.

#![allow(missing_docs, reason = "a program's own library: only its binary and tests use it")]

mod arguments;
#[cfg(feature = "simulation")]
pub mod simulate;
mod store;

use service::Shutdown;
use store_client::put::{self, GivenMessages, PutConfig};
use store_client::session::SessionOptions;

pub use arguments::MiniclusterArguments;
use store::Cluster;

/// Runs a store, and stores in it what is typed.
///
/// # Errors
/// If a part of the store cannot start or fails, or if a message is not saved.
pub async fn run(arguments: MiniclusterArguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let cluster = Cluster::start(&arguments)?;
    let MiniclusterArguments { datanodes, data_dir, .. } = arguments;
    cluster.wait_until_available(datanodes).await?;
    println!(
        "{datanodes} datanodes disponibles; los clientes se conectan a {}. Los archivos están en {}.",
        cluster.address(),
        data_dir.display()
    );
    if let Some(page) = cluster.page() {
        println!("Todo se ve en http://{page}");
    }
    println!("Escriba mensajes, uno por línea; Ctrl-D termina.");
    let config = PutConfig {
        headnode: cluster.address().to_string(),
        keys: None,
        data_dir: data_dir.join("client"),
        options: SessionOptions::default(),
        messages: GivenMessages::StandardInput,
        summary: None,
    };
    let session = put::run(config, &shutdown).await;
    let stopped = cluster.stop();
    session.and(stopped)
}
