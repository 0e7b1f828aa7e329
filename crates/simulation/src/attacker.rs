//! Somebody without the key, who hears what is sent to the group, and sends it again, changed and unchanged, besides noise.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpStream, UdpSocket};

use crate::history::History;
use crate::layout::TROUBLE;

const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 50, 10), 5003);
/// More than the time for a handshake.
const PATIENCE: Duration = Duration::from_secs(8);

/// An attacker, who stops when the trouble has passed.
pub struct Attacker {
    /// The addresses of the programs: clients and headnodes connect to them.
    pub targets: Vec<SocketAddr>,
    pub rng: StdRng,
    pub history: Rc<RefCell<History>>,
}

impl Attacker {
    pub async fn run(mut self) -> std::io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, GROUP.1)).await?;
        socket.join_multicast_v4(GROUP.0, Ipv4Addr::UNSPECIFIED)?;
        let mut heard: Vec<Vec<u8>> = Vec::new();
        let mut buffer = [0; 1500];
        while turmoil::sim_elapsed().unwrap_or_default() < TROUBLE {
            let pause = Duration::from_millis(self.rng.random_range(10..300));
            if let Ok(received) = timeout(pause, socket.recv_from(&mut buffer)).await {
                heard.push(buffer[..received?.0].to_vec());
                continue;
            }
            let datagram = self.datagram(&heard);
            let target = self.targets[self.rng.random_range(0..self.targets.len())];
            socket.send_to(&datagram, GROUP).await?;
            socket.send_to(&datagram, (target.ip(), GROUP.1)).await?;
            if self.rng.random_bool(0.2) {
                self.connect(target).await;
            }
        }
        Ok(())
    }

    /// Returns something that was heard, the same with a changed bit, or noise.
    fn datagram(&mut self, heard: &[Vec<u8>]) -> Vec<u8> {
        let mut datagram = vec![0; self.rng.random_range(1..200)];
        self.rng.fill_bytes(&mut datagram);
        if heard.is_empty() || self.rng.random_bool(0.3) {
            return datagram;
        }
        datagram.clone_from(&heard[self.rng.random_range(0..heard.len())]);
        if self.rng.random() {
            self.history.borrow_mut().mark("key: a datagram was replayed");
        } else {
            let bit = self.rng.random_range(0..datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
            self.history.borrow_mut().mark("key: a datagram was changed");
        }
        datagram
    }

    /// Asks for something without a key.
    ///
    /// # Panics
    /// Panics if there is an answer.
    async fn connect(&mut self, target: SocketAddr) {
        let asked = ["hola\n", "{\"status\":{}}\n", "{\"noise\":{\"v\":1,\"key\":\"0123456789abcdef\"}}\n"];
        let asked = asked[self.rng.random_range(0..asked.len())];
        let exchange = async {
            let mut stream = TcpStream::connect(target).await?;
            stream.write_all(asked.as_bytes()).await?;
            if asked.contains("noise") {
                stream.write_all(&[7; 48]).await?;
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let Ok(Ok(answer)) = timeout(PATIENCE, exchange).await else { return };
        let is_refused = ["\"key-required\"", "\"ok\":0"].iter().any(|refusal| answer.contains(refusal));
        assert!(answer.is_empty() || is_refused, "{target} answered {asked:?} without a key: {answer}");
        if is_refused {
            self.history.borrow_mut().mark("key: an attacker was refused");
        }
        sleep(Duration::from_millis(50)).await;
    }
}
