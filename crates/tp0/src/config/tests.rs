use std::io::Write as _;

use tempfile::NamedTempFile;

use super::*;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn server(text: &str, variables: &[(&str, &str)]) -> Result<ServerConfig, ConfigError> {
    ServerConfig::read(Some(file(text).path()), &environment(variables))
}

fn client(text: &str, variables: &[(&str, &str)]) -> Result<ClientConfig, ConfigError> {
    ClientConfig::read(Some(file(text).path()), &environment(variables))
}

fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    move |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

#[test]
fn the_documented_defaults() {
    let expected = ServerConfig {
        port: 12345,
        ip: String::new(),
        listen_backlog: 4096,
        logging_level: ActionLevel::Info,
        connection_timeout: "60s".parse().unwrap(),
        number_of_clients: 5,
    };
    assert_eq!(server("", &[]).unwrap(), expected);
    assert_eq!(server("[DEFAULT]\n", &[("SERVER_PORT", "")]).unwrap(), expected);
    let expected = ClientConfig {
        id: host_name(),
        server_address: "server:12345".to_owned(),
        loop_amount: 5,
        loop_lapse: GoDuration::default(),
        loop_period: "5s".parse().unwrap(),
        log_level: ActionLevel::Info,
        batch_max_amount: 150,
    };
    assert_eq!(client("", &[]).unwrap(), expected);
    assert_eq!(client("loop:\n", &[("CLI_ID", "")]).unwrap(), expected);
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "# a comment\n[DEFAULT]\nSERVER_PORT = 1\nserver_ip=10.0.0.7\nSERVER_LISTEN_BACKLOG = 7\n\
                LOGGING_LEVEL = debug\nCONNECTION_TIMEOUT = 1m30s\nNUMBER_OF_CLIENTS = 3\n";
    let config = server(text, &[("SERVER_PORT", "2"), ("LOGGING_LEVEL", "ERROR")]).unwrap();
    assert_eq!(config.address().to_string(), "10.0.0.7:2");
    assert_eq!(config.connection_timeout.to_string(), "1m30s");
    assert_eq!((config.listen_backlog, config.number_of_clients), (7, 3));
    assert_eq!(config.logging_level, ActionLevel::Error);

    let text = "id: 4\nserver:\n  address: \"otro:9\"\nloop:\n  amount: 2\n  lapse: 0m20s\n  period: \"150ms\"\n\
                log:\n  level: \"debug\"\nbatch:\n  maxAmount: 7\n";
    let config =
        client(text, &[("CLI_ID", "9"), ("CLI_DEFAULT_ID", "1"), ("CLI_LOOP_PERIOD", "1h")]).unwrap();
    assert_eq!((config.id.as_str(), config.server_address.as_str()), ("9", "otro:9"));
    assert_eq!((config.loop_amount, config.batch_max_amount), (2, 7));
    assert_eq!(
        (config.loop_lapse.to_string(), config.loop_period.to_string()),
        ("20s".into(), "1h0m0s".into())
    );
    assert_eq!(config.log_level, ActionLevel::Debug);
}

#[test]
fn a_client_without_an_id_gets_one() {
    let id = |text, variables| client(text, variables).unwrap().id;
    assert_eq!(id("id: \"uno\"", &[("CLI_DEFAULT_ID", "3")]), "uno");
    assert_eq!(id("", &[("CLI_DEFAULT_ID", "3")]), "3");
    assert_eq!(id("", &[]), host_name());
}

#[test]
fn both_names_of_the_batch_size() {
    let amount = |text, variables| client(text, variables).unwrap().batch_max_amount;
    assert_eq!(amount("batch:\n  batch_size: 8\n", &[]), 8);
    assert_eq!(amount("batch:\n  batch_size: 8\n", &[("CLI_BATCH_MAXAMOUNT", "9")]), 9);
    assert_eq!(amount("batch:\n  batch_size: 8\n  maxAmount: 7\n", &[]), 7);
    assert_eq!(amount("batch.maxAmount: 6\n", &[]), 6);
}

#[test]
fn what_the_server_listens_on() {
    let address = |ip| server("", &[("SERVER_IP", ip)]).unwrap().address().to_string();
    assert_eq!(address("127.0.0.5"), "127.0.0.5:12345");
    assert_eq!(address("::1"), "[::1]:12345");
    assert_eq!(address("localhost"), "127.0.0.1:12345");
    assert_eq!(address("server"), "0.0.0.0:12345");
}

#[test]
fn a_timeout_may_be_a_number_of_seconds() {
    let timeout = |text| {
        server("", &[("CONNECTION_TIMEOUT", text)]).map(|config| config.connection_timeout.to_string())
    };
    assert_eq!(timeout("5").unwrap(), "5s");
    assert_eq!(timeout("0.5").unwrap(), "500ms");
    assert!(timeout("0").is_err() && timeout("-1s").is_err());
}

#[test]
fn errors_name_the_key_the_value_and_what_is_allowed() {
    let told = |error: ConfigError| error.to_string();
    assert_eq!(
        told(server("", &[("SERVER_PORT", "70000")]).unwrap_err()),
        "invalid value \"70000\" for SERVER_PORT (environment): allowed: a port, 0 to 65535"
    );
    let text = "[DEFAULT]\nLOGGING_LEVEL = chatty\n";
    let error = told(server(text, &[]).unwrap_err());
    assert!(error.starts_with("invalid value \"chatty\" for DEFAULT.LOGGING_LEVEL (/"), "{error}");
    assert!(error.ends_with("): allowed: DEBUG, INFO, WARNING, ERROR, CRITICAL"), "{error}");
    for (text, key) in [
        ("loop: {amount: -1}", "loop.amount"),
        ("loop: {period: 5}", "loop.period"),
        ("loop: {lapse: -5s}", "loop.lapse"),
        ("log: {level: [INFO]}", "log.level"),
        ("id: \"a:b\"", "id"),
        ("id: \"../../etc/passwd\"", "id"),
        ("server: {address: server}", "server.address"),
        ("batch: {maxAmount: 0}", "batch.maxAmount"),
    ] {
        let error = told(client(text, &[]).unwrap_err());
        assert!(error.contains(&format!(" for {key} (/")) && error.contains("allowed: "), "{error}");
    }
    for broken in ["loop: [", "a: b: c", "\t- x"] {
        assert!(
            told(client(broken, &[]).unwrap_err()).starts_with("cannot read the configuration /"),
            "{broken}"
        );
    }
    let missing = ServerConfig::read(Some(Path::new("/nowhere/config.ini")), &environment(&[]));
    assert!(told(missing.unwrap_err()).starts_with("cannot read the configuration /nowhere/config.ini: "));
}
