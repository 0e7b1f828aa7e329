//! What is forged, flipped, cut or replayed is never accepted. `FORGERIES=1000000` tries a million of each, best with
//! `--profile simulation`.

use cluster_key::sealed::DatagramSeal;
use cluster_key::{KeyPurpose, Keyring, handshake};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::keyring;

const PROBE: &[u8] = br#"{"v":1,"probe":{"round":7,"token":81,"attempt":1,"spread_ms":0}}"#;

/// Returns how many forgeries to try, by default `few`.
fn forgeries(few: u64) -> u64 {
    std::env::var("FORGERIES").map_or(few, |count| count.parse().unwrap())
}

/// Spoils `bytes` in one of the ways in which others can. Returns what was done.
fn spoil(bytes: &mut Vec<u8>, rng: &mut StdRng) -> &'static str {
    match rng.random_range(0..5) {
        0 => {
            let bit = rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            "flipped"
        }
        1 => {
            bytes.truncate(rng.random_range(0..bytes.len()));
            "cut"
        }
        2 => {
            let kept = rng.random_range(0..bytes.len());
            rng.fill_bytes(&mut bytes[kept..]);
            "forged from some byte on"
        }
        3 => {
            let at = rng.random_range(0..bytes.len());
            let length = rng.random_range(1..=(bytes.len() - at).min(16));
            rng.fill_bytes(&mut bytes[at..at + length]);
            "forged in the middle"
        }
        _ => {
            bytes.resize(rng.random_range(0..200), 0);
            rng.fill_bytes(bytes);
            "noise"
        }
    }
}

#[test]
fn no_datagram_of_others_is_opened() {
    let (sender, receiver) = (DatagramSeal::new(keyring(&[1]), 1), DatagramSeal::new(keyring(&[2, 1]), 2));
    let mut rng = StdRng::seed_from_u64(1);
    let mut honest = Vec::new();
    let mut tried = 0u64;
    while tried < forgeries(20_000) {
        let sealed = sender.seal(PROBE);
        for _ in 0..10 {
            let mut spoilt = sealed.clone();
            let how = spoil(&mut spoilt, &mut rng);
            if spoilt != sealed {
                assert!(receiver.open(&spoilt).is_err(), "{how}: {spoilt:?}");
                tried += 1;
            }
        }
        assert_eq!(receiver.open(&sealed), Ok(PROBE), "the honest one is opened");
        honest.push(sealed);
        let replayed = &honest[rng.random_range(0..honest.len())];
        assert!(receiver.open(replayed).is_err(), "replayed");
        tried += 1;
    }
    println!("{tried} datagrams refused, {} opened", honest.len());
}

/// Returns what a holder of the key sends first.
async fn first_message(keys: &Keyring) -> Vec<u8> {
    let (mut one, mut other) = duplex(4096);
    let present = keys.keys();
    let mut first = vec![0; 91];
    tokio::select! {
        _ = handshake::connect(&mut one, &present, KeyPurpose::Link) => panic!("nobody answers"),
        read = other.read_exact(&mut first) => { read.unwrap(); }
    }
    first
}

/// Sends `bytes`, and returns whether the listener takes the sender for a holder of the key. `proof` follows what the listener
/// answers.
async fn is_accepted(keys: &Keyring, bytes: &[u8], proof: &[u8]) -> bool {
    let (mut one, mut other) = duplex(4096);
    let attack = async move {
        // The listener may have refused already.
        let _ = one.write_all(bytes).await;
        let mut answer = [0; 73];
        // Whoever has sent less gets no answer, and hangs up.
        if bytes.len() >= 91 && one.read_exact(&mut answer).await.is_ok() {
            let _ = one.write_all(proof).await;
        }
    };
    let accept = async move { handshake::accept(&mut other, keys, KeyPurpose::Link).await.is_ok() };
    let (accepted, ()) = tokio::join!(accept, attack);
    accepted
}

#[tokio::test]
async fn no_handshake_of_others_is_accepted() {
    let keys = keyring(&[1]);
    let mut rng = StdRng::seed_from_u64(2);
    let mut recorded = first_message(&keys).await;
    // A handshake costs much without optimization.
    let tried = forgeries(500);
    for number in 0..tried {
        if number % 1_000 == 0 {
            recorded = first_message(&keys).await;
        }
        let mut spoilt = recorded.clone();
        spoil(&mut spoilt, &mut rng);
        if rng.random_range(0..10) == 0 {
            // A recording gets an answer. Without its secret key nobody can go on from there.
            spoilt.clone_from(&recorded);
        }
        let mut proof = [0; 18];
        rng.fill_bytes(&mut proof);
        (proof[0], proof[1]) = (0, 16);
        assert!(!is_accepted(&keys, &spoilt, &proof).await, "{spoilt:?}");
    }
    println!("{tried} handshakes refused");
}
