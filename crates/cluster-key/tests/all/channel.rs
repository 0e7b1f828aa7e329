//! What is written at one end of a channel is read at the other one, however the bytes are cut on the way.

use std::io::ErrorKind;
use std::time::Duration;

use cluster_key::channel::SecureChannel;
use cluster_key::{ClusterKey, HandshakeError, KeyPurpose, Keyring, handshake};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

use crate::keyring;

/// Returns the two ends of a channel, over a stream that holds `room` bytes at most.
pub async fn channel(
    one: &Keyring,
    other: &Keyring,
    room: usize,
) -> (SecureChannel<DuplexStream>, SecureChannel<DuplexStream>) {
    let (mut connecting, mut accepting) = duplex(room);
    let keys = one.keys();
    let (connected, accepted) = tokio::join!(
        handshake::connect(&mut connecting, &keys, KeyPurpose::Link),
        handshake::accept(&mut accepting, other, KeyPurpose::Link)
    );
    (
        SecureChannel::new(connecting, connected.unwrap(), one.clone(), KeyPurpose::Link),
        SecureChannel::new(accepting, accepted.unwrap(), other.clone(), KeyPurpose::Link),
    )
}

async fn shake(one: &Keyring, other: &Keyring) -> (HandshakeError, HandshakeError) {
    let (mut connecting, mut accepting) = duplex(1024);
    let keys = one.keys();
    let accept = async move {
        let accepted = handshake::accept(&mut accepting, other, KeyPurpose::Link).await.map(|_| ());
        drop(accepting);
        accepted
    };
    let (connected, accepted) =
        tokio::join!(handshake::connect(&mut connecting, &keys, KeyPurpose::Link), accept);
    (connected.map(|_| ()).unwrap_err(), accepted.unwrap_err())
}

#[tokio::test]
async fn every_accepted_key_connects_and_a_wrong_one_is_told_by_its_name() {
    for (one, other) in [(&[1][..], &[1][..]), (&[1], &[2, 1]), (&[2, 1], &[1, 2])] {
        channel(&keyring(one), &keyring(other), 1024).await;
    }
    let (connecting, accepting) = shake(&keyring(&[1]), &keyring(&[2])).await;
    let id = ClusterKey::from([1; 32]).of(KeyPurpose::Link).id;
    let told = connecting.to_string();
    assert!(
        told.starts_with(&format!("the other side does not accept the key {id}: give both sides")),
        "{told}"
    );
    assert!(matches!(accepting, HandshakeError::KeyNotAccepted), "{accepting}");
}

#[tokio::test]
async fn what_is_read_is_what_was_written_in_both_directions() {
    for room in [1, 17, 4096, 1 << 20] {
        let (mut one, mut other) = channel(&keyring(&[1]), &keyring(&[1]), room).await;
        let bytes: Vec<u8> =
            (0..if room == 1 { 5_000 } else { 300_000u32 }).map(|i| (i % 251) as u8).collect();
        let there = async {
            one.write_all(&bytes).await.unwrap();
            let mut back = Vec::new();
            one.read_to_end(&mut back).await.unwrap();
            back
        };
        let back = async {
            let mut received = vec![0; bytes.len()];
            other.read_exact(&mut received).await.unwrap();
            other.write_all(&received).await.unwrap();
            other.shutdown().await.unwrap();
        };
        let (received, ()) = tokio::join!(there, back);
        assert_eq!(received, bytes, "{room}");
    }
}

#[tokio::test]
async fn a_channel_whose_key_is_removed_ends_and_one_whose_key_is_kept_goes_on() {
    let keys = keyring(&[1, 2]);
    let (mut old, mut old_end) = channel(&keyring(&[1]), &keys, 4096).await;
    let (mut new, mut new_end) = channel(&keyring(&[2]), &keys, 4096).await;
    keys.replace_with(vec![ClusterKey::from([2; 32])]);
    old.write_all(b"x").await.unwrap();
    new.write_all(b"x").await.unwrap();
    let refused = old_end.read_u8().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert_eq!(old_end.write_all(b"x").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(new_end.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_write_that_is_given_up_may_be_tried_again_and_not_replaced() {
    let (mut one, mut other) = channel(&keyring(&[1]), &keyring(&[1]), 64).await;
    let long = [7; 500];
    assert!(timeout(Duration::from_millis(1), one.write_all(&long)).await.is_err(), "nobody reads");
    let other_bytes = one.write(&long[..10]).await.unwrap_err();
    assert_eq!(other_bytes.kind(), ErrorKind::InvalidInput);
    let mut received = vec![0; 600];
    let (written, read) =
        tokio::join!(async { one.write_all(&[7; 600]).await }, other.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert_eq!(received, [7; 600]);
}

#[tokio::test]
async fn the_end_of_the_stream_inside_a_frame_is_an_error() {
    let (mut one, mut end) = duplex(4096);
    let keys = keyring(&[1]);
    let present = keys.keys();
    let (connected, accepted) = tokio::join!(
        handshake::connect(&mut one, &present, KeyPurpose::Link),
        handshake::accept(&mut end, &keys, KeyPurpose::Link)
    );
    let mut channel = SecureChannel::new(end, accepted.unwrap(), keys.clone(), KeyPurpose::Link);
    let mut transport = connected.unwrap().transport;
    let mut frame = [0; 19];
    frame[1] = 17;
    transport.write_message(b"x", &mut frame[2..]).unwrap();
    one.write_all(&frame[..18]).await.unwrap();
    drop(one);
    assert_eq!(channel.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

/// The bytes of each side with keys that are not random, so that no change of the protocol goes unseen.
#[test]
fn golden_lengths() {
    let keys = keyring(&[1]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut one, mut other) = duplex(4096);
        let present = keys.keys();
        let connecting = handshake::connect(&mut one, &present, KeyPurpose::Client);
        let peer = async {
            let mut hello = [0; 91];
            other.read_exact(&mut hello).await.unwrap();
            let id = ClusterKey::from([1; 32]).of(KeyPurpose::Client).id;
            assert_eq!(hello[..43], *format!("{{\"noise\":{{\"v\":1,\"key\":\"{id}\"}}}}\n").as_bytes());
            other.write_all(b"{\"error\":{\"code\":\"malformed\",\"reason\":\"why\"}}\n").await.unwrap();
        };
        let (connected, ()) = tokio::join!(connecting, peer);
        assert!(matches!(connected, Err(HandshakeError::NotKeyed)));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cuts_change_nothing(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..20),
        room in 1usize..5_000,
        reads in prop::collection::vec(1usize..4_000, 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let received = runtime.block_on(async {
            let (mut one, mut other) = channel(&keyring(&[1]), &keyring(&[1]), room).await;
            let write = async {
                for part in &parts {
                    one.write_all(part).await.unwrap();
                }
                one.shutdown().await.unwrap();
            };
            let read = async {
                let mut received = Vec::new();
                for length in reads.iter().cycle() {
                    let mut buffer = vec![0; *length];
                    match other.read(&mut buffer).await.unwrap() {
                        0 => break,
                        read => received.extend_from_slice(&buffer[..read]),
                    }
                }
                received
            };
            tokio::join!(write, read).1
        });
        prop_assert_eq!(received, parts.concat());
    }
}
