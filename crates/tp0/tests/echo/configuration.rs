//! Files, environment, flags, and being wrong about them.

use std::path::Path;
use std::process::Output;

use crate::support::{EchoClient, EchoServer, command};

const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_echo-client");

fn run(program: &str, folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    command(program, folder, variables).args(arguments).output().unwrap()
}

/// One line on stderr, nothing on stdout, exit code 2.
fn refused(output: &Output, expected: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(output.stdout.is_empty());
    for part in expected {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
}

#[test]
fn help_and_version() {
    let folder = tempfile::tempdir().unwrap();
    for (program, name) in [(SERVER, "echo-server"), (CLIENT, "echo-client")] {
        let help = run(program, folder.path(), &[], &["--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&help.stdout).contains("--config <FILE>"));
        let version = run(program, folder.path(), &[], &["--version"]);
        assert_eq!(version.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&version.stdout).starts_with(name));
    }
}

#[test]
fn wrong_configuration_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    refused(&run(SERVER, here, &[("SERVER_PORT", "http")], &[]), &["SERVER_PORT", "http", "0 to 65535"]);
    refused(&run(CLIENT, here, &[("CLI_LOOP_PERIOD", "5")], &[]), &["CLI_LOOP_PERIOD", "\"5\"", "150ms"]);
    refused(&run(SERVER, here, &[], &["--config", "none.ini"]), &["none.ini"]);
    refused(&run(CLIENT, here, &[], &["--nothing"]), &["--nothing"]);
    for threads in ["0", "1025", "dos"] {
        refused(&run(SERVER, here, &[], &["--threads", threads]), &["--threads", threads]);
    }
    std::fs::write(here.join("config.ini"), "[DEFAULT]\nLOGGING_LEVEL = LOUD\n").unwrap();
    refused(&run(SERVER, here, &[], &[]), &["config.ini", "LOGGING_LEVEL", "LOUD", "DEBUG, INFO"]);
    std::fs::write(here.join("config.yaml"), "loop: [").unwrap();
    refused(&run(CLIENT, here, &[], &[]), &["config.yaml"]);
}

#[test]
fn another_file_and_the_environment_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("otra.yaml");
    std::fs::write(&file, "server: {address: \"127.0.0.1:1\"}\nloop: {amount: 7}\n").unwrap();
    let variables = [("CLI_ID", "nombre"), ("CLI_LOOP_PERIOD", "0m90s"), ("CLI_LOG_LEVEL", "debug")];
    let output = run(CLIENT, folder.path(), &variables, &["--config", "otra.yaml"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let config = " INFO     action: config | result: success | client_id: nombre | server_address: 127.0.0.1:1 | loop_amount: 7 | loop_period: 1m30s | log_level: DEBUG\n";
    assert!(stdout.contains(config), "{stdout}");
}

#[test]
fn lines_below_the_level_are_not_written() {
    let mut server = EchoServer::configured("[DEFAULT]\nLOGGING_LEVEL = WARNING\n", &[], &[]);
    let address = server.address.to_string();
    let config = "log: {level: ERROR}\nloop: {amount: 1, period: 0}";
    let mut client = EchoClient::start(config, &[("CLI_ID", "1"), ("CLI_SERVER_ADDRESS", &address)]);
    assert_eq!(client.ended().code(), Some(0));
    assert!(client.actions().is_empty() && server.stop().is_empty());
}

#[test]
fn an_unknown_key_is_warned_about() {
    let server = EchoServer::configured("[DEFAULT]\nSERVER_PROT = 1\n", &[], &[]);
    server.logged("unknown key in the configuration: it has no effect");
}
