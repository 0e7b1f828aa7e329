//! A headnode for tests that does what a script says, and the real `store-client` beside it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use protocol::store::client_api::{ClientRequest, ErrorCode, HeadnodeReply};
use protocol::store::json;
use protocol::store::types::{Id, MessageCrc, Place};
use records::Receipt;

/// What the headnode does with a request.
pub enum Do {
    Say(HeadnodeReply),
    /// Sends these bytes, and then closes the connection.
    SayAndClose(Vec<u8>),
    Nothing,
    Close,
}

/// A request as it came: the connection, from 0, the request's number over all connections, and what it asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub connection: usize,
    pub number: usize,
    pub request: ClientRequest,
}

impl Asked {
    pub fn put(&self) -> (Id, String) {
        match &self.request {
            ClientRequest::Put { id: Some(id), message, .. } => (*id, message.clone()),
            other => panic!("not put with an id: {other:?}"),
        }
    }

    /// Returns the reply that the message is saved.
    pub fn saved(&self, places: &str) -> Do {
        let (id, message) = self.put();
        Do::Say(saved(id, places, MessageCrc::of(&message)))
    }
}

pub fn saved(id: Id, places: &str, message_crc32c: MessageCrc) -> HeadnodeReply {
    let places = places.split(',').map(|place| place.parse::<Place>().unwrap()).collect();
    HeadnodeReply::Saved { id, places, message_crc32c }
}

pub fn error(id: Option<Id>, code: ErrorCode) -> HeadnodeReply {
    HeadnodeReply::Error { id, code, reason: "the reason why".to_owned() }
}

pub fn line(reply: &HeadnodeReply) -> Vec<u8> {
    let mut line = Vec::new();
    json::encode(reply, &mut line);
    line
}

/// A headnode whose threads end with the test.
pub struct ScriptedHeadnode {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ScriptedHeadnode {
    pub fn start(script: impl Fn(&Asked) -> Do + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn on(listener: TcpListener, script: impl Fn(&Asked) -> Do + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, seen) = (Arc::new(script), asked.clone());
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (script, seen) = (script.clone(), seen.clone());
                thread::spawn(move || serve(connection, stream, &*script, &seen));
            }
        });
        Self { address, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn run(&self, folder: &Path, arguments: &[&str]) -> Output {
        self.run_with_input(folder, arguments, "")
    }

    pub fn run_with_input(&self, folder: &Path, arguments: &[&str], input: &str) -> Output {
        let mut client = self.client(folder, arguments);
        let mut stdin = client.stdin.take().unwrap();
        let input = input.to_owned();
        // A client that fails early does not read all of it.
        let writing = thread::spawn(move || stdin.write_all(input.as_bytes()).is_ok());
        let output = client.wait_with_output().unwrap();
        writing.join().unwrap();
        output
    }

    pub fn client(&self, folder: &Path, arguments: &[&str]) -> Child {
        client(folder)
            .args(["--headnode", &self.address.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

fn serve(
    connection: usize,
    mut stream: TcpStream,
    script: &(dyn Fn(&Asked) -> Do + Send + Sync),
    seen: &Mutex<Vec<Asked>>,
) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        let request = ClientRequest::decode(&line).unwrap();
        let asked = {
            let mut seen = seen.lock().unwrap();
            let asked = Asked { connection, number: seen.len(), request };
            seen.push(asked.clone());
            asked
        };
        let (bytes, close) = match script(&asked) {
            Do::Say(reply) => (self::line(&reply), false),
            Do::SayAndClose(bytes) => (bytes, true),
            Do::Nothing => (Vec::new(), false),
            Do::Close => (Vec::new(), true),
        };
        if stream.write_all(&bytes).is_err() || close {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// Returns the command of the real program, without a headnode's address.
pub fn client(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-client"));
    command.arg("--data-dir").arg(folder);
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn ends_with(output: &Output, code: i32, parts: &[&str]) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
}

/// Returns the receipts in a folder, where every line must be one.
pub fn receipts(folder: &Path) -> Vec<Receipt> {
    let text = std::fs::read_to_string(folder.join("registro_cliente.txt")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| records::parse_receipt(line).unwrap_or_else(|| panic!("no receipt: {line}")))
        .collect()
}
