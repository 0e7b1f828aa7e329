//! A proxy between the headnode and a datanode that behaves badly on demand.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

/// The mode in which everything passes.
pub const PASS: u8 = 0;
/// The mode in which the connection breaks instead of a confirmation.
pub const LOSE_CONFIRMATIONS: u8 = 1;
/// The mode in which connections stay open and nothing passes in either direction.
pub const SILENT: u8 = 2;

#[derive(Clone)]
pub struct DatanodeProxy {
    pub address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
    mode: Arc<AtomicU8>,
    /// The number of times that the proxy behaved badly.
    pub faults: Arc<AtomicU64>,
}

impl DatanodeProxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            target: Arc::default(),
            mode: Arc::default(),
            faults: Arc::default(),
        };
        let accepting = proxy.clone();
        thread::spawn(move || {
            for headnode in listener.incoming().map_while(Result::ok) {
                let target = accepting.target.wait();
                let Ok(datanode) = TcpStream::connect(target) else { continue };
                accepting.pump(&headnode, &datanode, false);
                accepting.pump(&datanode, &headnode, true);
            }
        });
        proxy
    }

    pub fn point_to(&self, target: SocketAddr) {
        self.target.set(target).unwrap();
    }

    pub fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::SeqCst)
    }

    fn pump(&self, from: &TcpStream, to: &TcpStream, are_replies: bool) {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let proxy = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let bytes = &buffer[..read];
                match proxy.mode.load(Ordering::SeqCst) {
                    SILENT => {
                        proxy.faults.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                    LOSE_CONFIRMATIONS
                        if are_replies && String::from_utf8_lossy(bytes).contains("stored") =>
                    {
                        proxy.faults.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                    _ => {}
                }
                if to.write_all(bytes).is_err() {
                    break;
                }
            }
            // The other side may be gone already.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
