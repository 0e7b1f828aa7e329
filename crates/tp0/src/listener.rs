//! A server's listening socket, with action lines for its connections and its end.
//!
//! ```text
//! action: accept_connections | result: in_progress
//! action: accept_connections | result: success | ip: 172.25.125.3
//! action: close_listener | result: success
//! ```

use std::io;
use std::net::SocketAddr;

use service::net::{self, ListenError, Listener, TcpListener, TcpStream};

use crate::action_log::{ActionLog, action};
use crate::config::ServerConfig;

/// A listener for [`service::net::serve`] that writes an action line for each connection, and one when it is dropped.
#[derive(Debug)]
pub struct LoggedListener {
    /// `None` once it is closed.
    listener: Option<TcpListener>,
    log: ActionLog,
}

impl LoggedListener {
    /// Listens where the configuration says, and writes the address to stderr, where port 0 took a free one.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn open(config: &ServerConfig, log: ActionLog) -> Result<Self, ListenError> {
        let listener = net::listen_with_backlog(config.address(), config.listen_backlog.into())
            .inspect_err(|error| action!(log, CRITICAL, "listen", "fail", error = %error))?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "listening");
        }
        Ok(Self { listener: Some(listener), log })
    }
}

impl Listener for LoggedListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(listener) = &mut self.listener else { return Err(io::ErrorKind::NotConnected.into()) };
        action!(self.log, INFO, "accept_connections", "in_progress");
        let accepted = Listener::accept(listener).await;
        match &accepted {
            Ok((_, peer)) => {
                let ip = peer.ip().to_canonical();
                action!(self.log, INFO, "accept_connections", "success", ip = %ip);
            }
            Err(error) => action!(self.log, ERROR, "accept_connections", "fail", error = %error),
        }
        accepted
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

impl Drop for LoggedListener {
    fn drop(&mut self) {
        self.listener.take();
        action!(self.log, INFO, "close_listener", "success");
    }
}
