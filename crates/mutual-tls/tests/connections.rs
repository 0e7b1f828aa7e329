//! Tests that connections come about between holders of certificates of one cluster, and between nobody else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mutual_tls::certificates::{CertificatesError, issue, make};
use mutual_tls::{Application, MutualTls, PeerRole, TlsFolderError, TlsHolder, explained};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

fn cluster() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &["master".to_owned()]).unwrap();
    folder
}

fn tls(folder: &Path, holder: TlsHolder) -> MutualTls {
    MutualTls::open(folder, holder).unwrap()
}

/// Lets one end say hello to the other one. Gives whom the server saw.
async fn meet(server: &MutualTls, client: &MutualTls) -> io::Result<PeerRole> {
    let (near, far) = duplex(64 << 10);
    let serving = async {
        let (mut stream, peer) = server.accept(far, Application::Grpc).await?;
        let mut said = [0; 4];
        stream.read_exact(&mut said).await?;
        assert_eq!(&said, b"Hola");
        stream.write_all(b"OK").await?;
        stream.flush().await?;
        Ok::<_, io::Error>(peer)
    };
    let calling = async {
        let mut stream = client.connect(near, Application::Grpc).await?;
        stream.write_all(b"Hola").await?;
        stream.flush().await?;
        let mut heard = [0; 2];
        stream.read_exact(&mut heard).await?;
        Ok::<_, io::Error>(())
    };
    let (served, called) = tokio::join!(serving, calling);
    called.and(served)
}

#[tokio::test]
async fn a_node_knows_nodes_from_clients() {
    let folder = cluster();
    let node = tls(folder.path(), TlsHolder::Node);
    assert_eq!(meet(&node, &node).await.unwrap(), PeerRole::Node);
    let client = tls(folder.path(), TlsHolder::Client);
    assert_eq!(meet(&node, &client).await.unwrap(), PeerRole::Client);
    let guest = tempfile::tempdir().unwrap();
    issue(folder.path(), guest.path(), TlsHolder::Client, &[]).unwrap();
    assert_eq!(meet(&node, &tls(guest.path(), TlsHolder::Client)).await.unwrap(), PeerRole::Client);
}

#[tokio::test]
async fn neither_end_talks_to_another_cluster() {
    let (ours, theirs) = (cluster(), cluster());
    for holder in [TlsHolder::Node, TlsHolder::Client] {
        let refused =
            meet(&tls(ours.path(), TlsHolder::Node), &tls(theirs.path(), holder)).await.unwrap_err();
        assert!(refused.to_string().contains("no certificate of this cluster"), "{refused}");
    }
    // A client that trusts the wrong cluster shows a certificate of the right one, and the other way round.
    let mixed = tempfile::tempdir().unwrap();
    for (from, files) in [(&ours, ["client.pem", "client.key"]), (&theirs, ["ca.pem", "ca.pem"])] {
        for file in files {
            fs::copy(from.path().join(file), mixed.path().join(file)).unwrap();
        }
    }
    let mixed = tls(mixed.path(), TlsHolder::Client);
    assert!(meet(&tls(ours.path(), TlsHolder::Node), &mixed).await.is_err());
    let refused = meet(&tls(theirs.path(), TlsHolder::Node), &mixed).await.unwrap_err();
    assert!(explained(refused).to_string().contains("does not accept the certificate"));
}

#[tokio::test]
async fn a_client_is_nobodys_server() {
    let folder = cluster();
    let client = tls(folder.path(), TlsHolder::Client);
    let refused = meet(&client, &tls(folder.path(), TlsHolder::Node)).await.unwrap_err();
    assert!(refused.to_string().contains("no certificate of this cluster"), "{refused}");
}

#[tokio::test]
async fn what_is_no_tls_is_refused_with_the_way_out() {
    let folder = cluster();
    let node = tls(folder.path(), TlsHolder::Node);
    for junk in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0; 300], &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9]] {
        let (mut near, far) = duplex(1 << 10);
        near.write_all(junk).await.unwrap();
        near.shutdown().await.unwrap();
        assert!(node.accept(far, Application::Grpc).await.is_err(), "{junk:?}");
    }
    let (near, mut far) = duplex(1 << 10);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let refused = node.connect(near, Application::XmlRpc).await.unwrap_err();
    assert!(refused.to_string().contains("start it with --tls"), "{refused}");
}

#[tokio::test]
async fn an_authority_is_replaced_without_a_restart() {
    let (old, new) = (cluster(), cluster());
    let running = tls(old.path(), TlsHolder::Node);
    let of_new = tls(new.path(), TlsHolder::Node);
    assert!(meet(&running, &of_new).await.is_err());
    // Both are trusted, then the new certificate is shown, and at last the old authority is trusted no more.
    let read = |folder: &tempfile::TempDir, file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
    let both = read(&old, "ca.pem") + &read(&new, "ca.pem");
    fs::write(old.path().join("ca.pem"), &both).unwrap();
    fs::write(new.path().join("ca.pem"), &both).unwrap();
    running.reload();
    of_new.reload();
    assert_eq!(meet(&running, &of_new).await.unwrap(), PeerRole::Node);
    assert_eq!(meet(&of_new, &running).await.unwrap(), PeerRole::Node);
    for file in ["node.pem", "node.key"] {
        fs::copy(new.path().join(file), old.path().join(file)).unwrap();
    }
    let only_new = both.split_inclusive("-----END CERTIFICATE-----\n").nth(1).unwrap();
    fs::write(old.path().join("ca.pem"), only_new).unwrap();
    running.reload();
    of_new.reload();
    assert_eq!(meet(&running, &of_new).await.unwrap(), PeerRole::Node);
    // Files that cannot be used change nothing.
    fs::write(old.path().join("ca.pem"), "nothing").unwrap();
    running.reload();
    of_new.reload();
    assert_eq!(meet(&running, &of_new).await.unwrap(), PeerRole::Node);
}

#[test]
fn folders_that_cannot_be_used_are_refused_with_the_way_out() {
    let refusal = |folder: &Path| MutualTls::open(folder, TlsHolder::Node).unwrap_err().to_string();
    let empty = tempfile::tempdir().unwrap();
    assert!(
        refusal(empty.path()).contains("ca.pem: No such file")
            && refusal(empty.path()).contains("dataframe certificates")
    );
    let folder = cluster();
    let key = folder.path().join("node.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(folder.path()).ends_with(&format!("(mode 0644): chmod 600 {}", key.display())));
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    assert!(MutualTls::open(folder.path(), TlsHolder::Node).is_ok());
    fs::copy(folder.path().join("client.key"), &key).unwrap();
    let unusable = MutualTls::open(folder.path(), TlsHolder::Node).unwrap_err();
    assert!(matches!(unusable, TlsFolderError::Unusable { .. }), "{unusable}");
    fs::write(folder.path().join("node.pem"), "").unwrap();
    assert!(refusal(folder.path()).contains("node.pem holds no certificate"));
}

#[test]
fn keys_are_the_owners_and_are_never_written_over() {
    let folder = cluster();
    for file in ["ca.key", "node.key", "client.key"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let before = fs::read(folder.path().join("ca.key")).unwrap();
    let refused = make(folder.path(), &[]).unwrap_err();
    assert!(matches!(refused, CertificatesError::Exists { .. }), "{refused}");
    assert!(issue(folder.path(), folder.path(), TlsHolder::Node, &[]).is_err());
    assert_eq!(fs::read(folder.path().join("ca.key")).unwrap(), before);
    let elsewhere = tempfile::tempdir().unwrap();
    let refused = issue(elsewhere.path(), elsewhere.path(), TlsHolder::Node, &[]).unwrap_err();
    assert!(refused.to_string().contains("`dataframe certificates new` makes an authority"), "{refused}");
    let refused = make(elsewhere.path(), &["señor".to_owned()]).unwrap_err();
    assert!(refused.to_string().contains("\"señor\" is neither"), "{refused}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "half a folder was made");
}
