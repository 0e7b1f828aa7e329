//! A network with a key on loopback: who gets in, and what the others get.

use std::net::SocketAddr;
use std::time::Duration;

use cluster_key::listener::PLACES;
use cluster_key::{Door, KeyPurpose, KeyedNetwork, Keyring};
use service::net::{Datagrams as _, Listener as _, LocalGroup, Network as _, Sockets};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::keyring;

const REFUSAL: &str = "a key is needed\n";
const PATIENCE: Duration = Duration::from_secs(30);

fn network(keys: Option<Keyring>, purpose: Option<KeyPurpose>) -> KeyedNetwork<Sockets> {
    let door = Door { purpose, refusal: REFUSAL.to_owned() };
    KeyedNetwork::new(Sockets, keys, rand::random, door)
}

/// Serves everybody who gets in: what they send comes back.
async fn start(network: KeyedNetwork<Sockets>) -> SocketAddr {
    let mut listener = network.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
            });
        }
    });
    address
}

async fn echoes(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> bool {
    let echo = async {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    };
    matches!(timeout(PATIENCE, echo).await, Ok(Ok(b'x')))
}

#[tokio::test]
async fn holders_of_the_right_key_get_in_and_nobody_else() {
    let address = start(network(Some(keyring(&[1, 2])), Some(KeyPurpose::Link))).await;
    for bytes in [[1], [2]] {
        let mut stream = network(Some(keyring(&bytes)), None).connect(address).await.unwrap();
        assert!(echoes(&mut stream).await);
    }
    let wrong = network(Some(keyring(&[3])), None).connect(address).await.unwrap_err();
    assert_eq!(wrong.kind(), std::io::ErrorKind::PermissionDenied, "{wrong}");
    let client =
        cluster_key::connect(TcpStream::connect(address), Some(&keyring(&[1])), KeyPurpose::Client).await;
    assert!(
        client.unwrap_err().to_string().contains("does not accept the key"),
        "a client's key opens no datanode"
    );
    let mut plain = network(None, None).connect(address).await.unwrap();
    plain.write_all(b"hola\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, REFUSAL);
}

#[tokio::test]
async fn without_a_key_and_at_an_open_door_everything_is_as_it_was() {
    for network_of in [network(None, Some(KeyPurpose::Client)), network(Some(keyring(&[1])), None)] {
        let address = start(network_of).await;
        assert!(echoes(&mut TcpStream::connect(address).await.unwrap()).await);
    }
}

#[tokio::test]
async fn a_flood_of_silent_connections_keeps_nobody_out() {
    let address = start(network(Some(keyring(&[1])), Some(KeyPurpose::Link))).await;
    let mut silent = Vec::new();
    for _ in 0..3 * PLACES {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut stream = network(Some(keyring(&[1])), None).connect(address).await.unwrap();
    assert!(echoes(&mut stream).await);
    // Those that gave way are closed long before the time for a handshake has passed.
    let mut closed = 0;
    for stream in &mut silent[..PLACES] {
        let ended = timeout(Duration::from_secs(4), stream.read_u8()).await;
        closed += usize::from(matches!(ended, Ok(Err(_))));
    }
    assert_eq!(closed, PLACES);
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_key_is_told_so_when_the_time_has_passed() {
    let (mut one, other) = tokio::io::duplex(1024);
    let keys = keyring(&[1]);
    let listener = OneConnection(Some(other));
    let door = Door { purpose: Some(KeyPurpose::Link), refusal: REFUSAL.to_owned() };
    let mut listener = cluster_key::listener::KeyedListener::new(listener, Some(keys), door);
    let accepting = tokio::spawn(async move { listener.accept().await.map(|_| ()) });
    let begun = tokio::time::Instant::now();
    let mut answer = String::new();
    one.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, REFUSAL);
    assert_eq!(begun.elapsed().as_secs(), 5);
    accepting.abort();
}

struct OneConnection(Option<tokio::io::DuplexStream>);

impl service::net::Listener for OneConnection {
    type Stream = tokio::io::DuplexStream;

    async fn accept(&mut self) -> std::io::Result<(Self::Stream, SocketAddr)> {
        match self.0.take() {
            Some(stream) => Ok((stream, ([127, 0, 0, 1], 1).into())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 2).into())
    }
}

#[tokio::test]
async fn datagrams_of_others_arrive_empty_and_repeated_ones_not_at_all() {
    let group = LocalGroup::reserve().unwrap();
    let interface = "127.0.0.1".parse().unwrap();
    let holder = network(Some(keyring(&[1])), None);
    let member = holder.member(group.address, &interface).await.unwrap();
    let (keyed, plain) = (
        network(Some(keyring(&[1])), None).sender(&interface).await.unwrap(),
        Sockets.sender(&interface).await.unwrap(),
    );
    let mut buffer = [0; 1200];
    keyed.multicast(b"hola", group.address).await.unwrap();
    let (length, from) = timeout(PATIENCE, member.receive(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(buffer[..length], *b"hola");
    // The answer is recorded by whoever receives it, and sent again.
    member.send(b"soy yo", from).await.unwrap();
    let recorded = {
        let eavesdropper = Sockets.member(group.address, &interface).await.unwrap();
        keyed.multicast(b"otra", group.address).await.unwrap();
        let (length, _) = timeout(PATIENCE, eavesdropper.receive(&mut buffer)).await.unwrap().unwrap();
        buffer[..length].to_vec()
    };
    plain.multicast(&recorded, group.address).await.unwrap();
    plain.multicast(b"junk", group.address).await.unwrap();
    keyed.multicast(b"fin", group.address).await.unwrap();
    let mut received = Vec::new();
    for _ in 0..3 {
        let (length, _) = timeout(PATIENCE, member.receive(&mut buffer)).await.unwrap().unwrap();
        received.push(buffer[..length].to_vec());
    }
    assert_eq!(received, [&b"otra"[..], b"", b"fin"]);
    let (length, _) = timeout(PATIENCE, keyed.receive(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(buffer[..length], *b"soy yo");
}
