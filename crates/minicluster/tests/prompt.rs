//! Tests the program: the store keeps what is typed, and the receipts say where.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use records::parse_receipt;

#[test]
fn lines_are_stored_until_the_end_of_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut minicluster = Command::new(env!("CARGO_BIN_EXE_minicluster"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--interval",
            "100ms",
            "--datanodes",
            "2",
            "--replicas",
            "2",
            "--data-dir",
        ])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    minicluster.stdin.take().unwrap().write_all("Hola\n¿Qué tal?\n".as_bytes()).unwrap();
    let output = minicluster.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.starts_with("2 datanodes disponibles; los clientes se conectan a 127.0.0.1:"),
        "{printed}"
    );
    let receipts = std::fs::read_to_string(folder.path().join("client/registro_cliente.txt")).unwrap();
    let receipts: Vec<_> = receipts.lines().map(|line| parse_receipt(line).unwrap()).collect();
    let texts: Vec<_> = receipts.iter().map(|receipt| receipt.text.as_deref().unwrap()).collect();
    assert_eq!(texts, ["Hola", "¿Qué tal?"]);
    for receipt in &receipts {
        assert_eq!(receipt.places.len(), 2, "{receipt:?}");
        let said = format!(": {}\n", receipt.id);
        assert_eq!(printed.matches(&said).count(), 1, "{said:?} is not in: {printed}");
    }
}
