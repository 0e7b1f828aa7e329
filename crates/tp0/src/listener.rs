//! A server's listening socket, whose connections and closing the action log tells.
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

/// Tells the action log of each connection it accepts, and when it is closed: by being dropped.
///
/// To be given to [`service::net::serve`].
#[derive(Debug)]
pub struct LoggedListener {
    /// None once it is closed.
    listener: Option<TcpListener>,
    log: ActionLog,
}

impl LoggedListener {
    /// Listens where the configuration says, and tells it on stderr, for port 0.
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
