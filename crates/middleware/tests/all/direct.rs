//! What direct middlewares promise beside the suite: they stand junk, and notice a dead peer at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures_util::StreamExt;
use middleware::connect::Middleware;
use middleware::{Endpoint, TransportError};
use tokio::time::{Instant, timeout};

use crate::child::ServerProcess;
use crate::conformance::{PATIENCE, Setup, ask, start};

/// Runs the cases of direct middlewares.
macro_rules! conformance_of_direct {
    ($setup:expr, $middleware:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn junk_does_no_harm() {
            $crate::direct::junk_does_no_harm(&$setup).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn killed_server_is_noticed() {
            $crate::direct::killed_server_is_noticed(&$setup, $middleware).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn server_process_stays_small() {
            $crate::direct::server_process_stays_small(&$setup, $middleware).await;
        }
    };
}

fn address(endpoint: &Endpoint) -> String {
    let (Endpoint::Worker(address) | Endpoint::Master(address)) = endpoint else { panic!("no address") };
    address.clone()
}

pub async fn junk_does_no_harm(setup: &impl Setup) {
    let (server, asker) = (start(setup, "a").await, setup.transport().await);
    let address = address(&server.endpoint);
    let deep = "<value><array><data>".repeat(100_000);
    let deep = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{deep}", deep.len());
    let junk: [&[u8]; 9] = [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n",
        b"POST /RPC2 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n<?xml",
        b"POST /RPC2 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        deep.as_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05\x01\x04\x00\x00\x00\x01junk!",
        &[0; 100_000],
    ];
    let mut half_open = Vec::new();
    for bytes in junk {
        let mut connection = TcpStream::connect(&address).unwrap();
        // The server may close before it has read all.
        let _refused = connection.write_all(bytes);
        half_open.push(connection);
        assert_eq!(ask(&asker, &server.endpoint, "echo fine").await.unwrap(), ["fine"]);
    }
    // Half a request, and the connection's end.
    for bytes in junk {
        let mut connection = TcpStream::connect(&address).unwrap();
        let _refused = connection.write_all(&bytes[..bytes.len() / 2]);
        let _closed = connection.shutdown(std::net::Shutdown::Write);
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _reset = connection.read(&mut [0; 1_000]);
    }
    assert_eq!(ask(&asker, &server.endpoint, "echo fine").await.unwrap(), ["fine"]);
}

pub async fn killed_server_is_noticed(setup: &impl Setup, middleware: Middleware) {
    let mut server = ServerProcess::start(middleware, None, "127.0.0.1:0");
    let asker = setup.transport().await;
    let request = "fill 1000000 65536".into();
    let mut pieces = asker.request(&server.endpoint, request).await.unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap().len(), 65536);
    server.kill();
    let killed = Instant::now();
    let error = loop {
        match timeout(PATIENCE, pieces.next()).await.unwrap().expect("the reply is not whole") {
            Ok(_here_already) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
    assert!(killed.elapsed() < Duration::from_secs(1), "it took {:?}", killed.elapsed());
    let error = ask(&asker, &server.endpoint, "echo anybody").await.unwrap_err();
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
    assert!(killed.elapsed() < Duration::from_secs(2), "it took {:?}", killed.elapsed());
}

/// A reply of 200 MB to a slow reader, and the memory of the process that sends it.
pub async fn server_process_stays_small(setup: &impl Setup, middleware: Middleware) {
    let server = ServerProcess::start(middleware, None, "127.0.0.1:0");
    let asker = setup.transport().await;
    assert_eq!(ask(&asker, &server.endpoint, "echo 1").await.unwrap(), ["1"]);
    let before = server.peak_memory();
    let mut pieces = asker.request(&server.endpoint, "fill 200 1000000".into()).await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        bytes += piece.unwrap().len();
    }
    assert_eq!(bytes, 200_000_000);
    let grown = server.peak_memory() - before;
    assert!(grown < 64 << 20, "the process grew by {grown} bytes");
}
