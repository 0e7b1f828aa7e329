//! Listens, and serves each connection within its limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use service::{Shutdown, net};
use tokio::net::{TcpListener, TcpStream};

use crate::PageConfig;
use crate::live::{Live, MAX_PAGES, ReadingNote};
use crate::router::Router;
use crate::source::Source;

/// Connections besides those of open pages: requests for files of the page, monitors, and those that are refused.
const OTHER_CONNECTIONS: usize = 64;
/// How long a client may take to send the head of a request, which is also how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const REFUSAL: &str =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 5\r\n\r\n";

/// A socket that listens for pages and monitors. [`serve`] answers on it.
#[derive(Debug)]
pub struct PageListener {
    socket: std::net::TcpListener,
    hosts: Vec<String>,
    /// The address that the socket listens on.
    pub address: SocketAddr,
}

impl PageConfig {
    /// Returns how many connections of pages and monitors there may be.
    #[must_use]
    pub fn connections(&self) -> usize {
        if self.address.is_some() { MAX_PAGES + OTHER_CONNECTIONS } else { 0 }
    }
}

/// Listens where `config` says, and logs where that is. Returns `None` if there is to be no page, or if the port of a page
/// that nobody asked for is taken.
///
/// # Errors
/// Fails if the address cannot be listened on, although the user asked for it.
pub fn bind(config: &PageConfig) -> anyhow::Result<Option<PageListener>> {
    let Some(address) = config.address else { return Ok(None) };
    let listener = match net::listen(address) {
        Ok(listener) => listener,
        Err(error) if !config.required => {
            tracing::warn!(%error, "there is no page: choose another address for it with --page, or none");
            return Ok(None);
        }
        Err(error) => return Err(error).context("cannot serve the page"),
    };
    let address = listener.local_addr().context("cannot tell the address of the page")?;
    let socket = listener.into_std().context("cannot serve the page")?;
    tracing::info!("page at http://{address}");
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "everybody who reaches this address can see the page; it needs no password");
    }
    Ok(Some(PageListener { socket, hosts: config.hosts.clone(), address }))
}

/// Answers on `listener` until `shutdown`. This is to run on a thread of its own, beside the program.
pub async fn serve<S: Source>(listener: PageListener, source: Arc<S>, shutdown: Shutdown) {
    let PageListener { socket, hosts, address: _ } = listener;
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "cannot serve the page"),
    };
    let live = Arc::new(Live::new(source.clone()));
    let router = Arc::new(Router::new(source, live.clone(), hosts));
    let handle = |stream, _peer| connection(stream, router.clone(), shutdown.clone());
    let serving = net::serve(socket, MAX_PAGES + OTHER_CONNECTIONS, REFUSAL.to_owned(), &shutdown, handle);
    tokio::select! {
        () = shutdown.requested() => {}
        () = serving => {}
        () = live.run() => {}
    }
}

async fn connection<S: Source>(stream: TcpStream, router: Arc<Router<S>>, shutdown: Shutdown) {
    let reading = ReadingNote::new();
    let answer = service_fn(|request| {
        let (router, reading) = (router.clone(), reading.clone());
        async move { Ok::<_, Infallible>(router.answer(&request, reading).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD_BYTES);
    let served = tokio::select! {
        served = builder.serve_connection(TokioIo::new(stream), answer) => served,
        () = shutdown.requested() => return,
        () = reading.has_stopped() => return tracing::debug!("a page does not read: its connection is closed"),
    };
    if let Err(error) = served {
        let cause: &dyn std::error::Error = &error;
        let cause = cause.source().map_or_else(|| error.to_string(), ToString::to_string);
        tracing::debug!(%error, cause, "a connection of the page ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_page_that_was_asked_for_must_have_its_port() {
        let holder = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = holder.local_addr().unwrap();
        let config = |required| PageConfig { address: Some(address), required, hosts: Vec::new() };
        assert!(bind(&config(false)).unwrap().is_none());
        let refused = format!("{:#}", bind(&config(true)).unwrap_err());
        assert!(refused.contains(&address.to_string()), "{refused}");
        assert!(bind(&PageConfig::none()).unwrap().is_none());
    }
}
