//! Several threads that serve connections.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::EchoServer;

/// More than a worker needs to start and to stay idle.
const BUSY: Duration = Duration::from_millis(20);
const LINES: usize = 200;

/// The folders in `/proc` of the server's workers, once all its threads have their names: each takes its own.
fn workers(server: &EchoServer) -> Vec<PathBuf> {
    let mut workers = Vec::new();
    testkit::wait_for("names of all threads but main", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
        let named: Vec<_> = tasks
            .map(|task| task.unwrap().path())
            .map(|task| (fs::read_to_string(task.join("comm")).unwrap(), task))
            .collect();
        let unnamed = named.iter().filter(|(name, _)| name == "echo-server\n").count();
        workers = named.into_iter().filter(|(name, _)| name == "worker\n").map(|(_, task)| task).collect();
        unnamed == 1
    });
    workers
}

/// How many of these threads have worked.
fn busy(threads: &[PathBuf]) -> usize {
    let worked = threads.iter().filter(|thread| {
        let statistics = fs::read_to_string(thread.join("schedstat")).unwrap();
        // The first number is the time on a processor, in nanoseconds.
        let time = statistics.split_whitespace().next().unwrap().parse().unwrap();
        Duration::from_nanos(time) >= BUSY
    });
    worked.count()
}

/// Sends lines until `done`, and gives back how many have come back, all in order.
fn talk(client: usize, address: SocketAddr, done: &AtomicBool) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(testkit::PATIENCE)).unwrap();
    let mut echoed = 0;
    while !done.load(Ordering::Relaxed) {
        let lines: String =
            (echoed..echoed + LINES).map(|line| format!("cliente {client} línea {line}\n")).collect();
        stream.write_all(lines.as_bytes()).unwrap();
        let mut echo = vec![0; lines.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(String::from_utf8(echo).unwrap(), lines);
        echoed += LINES;
    }
    echoed
}

#[test]
fn connections_are_served_in_parallel_and_each_in_order() {
    const CLIENTS: usize = 8;
    let mut server = EchoServer::start(&[], &["--threads", "4", "--keep-connections"]);
    let workers = workers(&server);
    assert_eq!(workers.len(), 4);
    let done = AtomicBool::new(false);
    let echoed: Vec<_> = thread::scope(|scope| {
        let (done, address) = (&done, server.address);
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || talk(client, address, done))).collect();
        testkit::wait_for("two threads that work", || {
            busy(&workers) >= 2 || clients.iter().any(thread::ScopedJoinHandle::is_finished)
        });
        done.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(busy(&workers) >= 2);
    let actions = server.stop();
    for (client, echoed) in echoed.into_iter().enumerate() {
        let message =
            format!("receive_message | result: success | ip: 127.0.0.1 | msg: cliente {client} línea ");
        let logged = actions.iter().filter_map(|action| action.split_once(&message));
        let numbers: Vec<usize> = logged.map(|(_, number)| number.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..echoed), "client {client}: {} of {echoed}", numbers.len());
    }
}

#[test]
fn one_thread_needs_no_workers() {
    let one = EchoServer::start(&[], &["--threads", "1"]);
    assert!(workers(&one).is_empty());
    let processors = thread::available_parallelism().unwrap().get();
    let by_default = EchoServer::start(&[], &[]);
    assert_eq!(workers(&by_default).len(), if processors == 1 { 0 } else { processors });
}
