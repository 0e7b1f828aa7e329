//! Python's own `xmlrpc.client` calls a port: requests, methods of the program, faults, nil, and the page for people.

use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use middleware::xmlrpc::{MethodCaller, MethodFault, MethodServer, Methods, Value, XmlRpcTransport, method};
use middleware::{Endpoint, SharedTransport, Transport};
use tokio::process::Command;

use crate::answering::Answering;
use crate::conformance::ask;

const CLIENT: &str = r#"
import sys, urllib.request
from xmlrpc.client import Binary, Fault, MultiCall, ServerProxy

address = sys.argv[1]
for path in ("", "/", "/RPC2"):
    with ServerProxy(f"http://{address}{path}", allow_none=True) as server:
        assert "twice" in server.system.listMethods() and "call" in server.system.listMethods()
        assert server.twice(21) == 42 and server.twice(2**40 // 2**10) == 2**31
        assert server.twice("naïve <&> ") == "naïve <&> naïve <&> "
        assert server.echo(None, True, [1.5, {"a": "b", "c": []}], Binary(b"\0\xff")) == \
            [None, True, [1.5, {"a": "b", "c": []}], Binary(b"\0\xff")]
        assert server.echo() == []
        try:
            server.twice()
            raise SystemExit("no fault")
        except Fault as fault:
            assert (fault.faultCode, fault.faultString) == (7, "twice takes a number\nor a text, and not <nothing>")
        try:
            server.once(1)
            raise SystemExit("no fault")
        except Fault as fault:
            assert fault.faultCode == -32601 and "twice" in fault.faultString, fault

        answer = server.call(Binary(b"echo hello"))
        assert answer == {"id": "", "pieces": [Binary(b"hello")], "last": True}, answer
        assert server.call("echo as text")["pieces"] == [Binary(b"as text")]
        answer, pieces = server.call("fill 30 1000000"), []
        while True:
            pieces += answer["pieces"]
            if answer["last"]:
                break
            answer = server.more(answer["id"], len(pieces))
        assert [len(piece.data) for piece in pieces] == [1000000] * 30
        for wrong in (lambda: server.more("none", 0), lambda: server.call("break") and server.more(server.call("break")["id"], 7)):
            try:
                wrong()
                raise SystemExit("no fault")
            except Fault as fault:
                assert fault.faultCode == 3, fault
        assert server.cancel("none") is False
        answer = server.call("fill 100000 65536")
        assert server.cancel(answer["id"]) is True

with urllib.request.urlopen(f"http://{address}/") as page:
    text = page.read().decode()
    assert "XML-RPC" in text and "twice" in text, text
for path, data, code in (("/other", None, 404), ("/", b"no xml", 200)):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", data=data) as page:
            assert page.status == code and b"faultCode" in page.read()
    except urllib.error.HTTPError as error:
        assert error.code == code, error
print("all is well")
"#;

fn methods() -> Methods {
    let twice = method(|parameters| async move {
        match parameters.as_slice() {
            [Value::Integer(number)] => Ok(Value::Long(i64::from(*number) * 2)),
            [Value::String(text)] => Ok(Value::String(text.repeat(2))),
            _ => Err(MethodFault::new(7, "twice takes a number\nor a text, and not <nothing>")),
        }
    });
    let echo = method(|parameters| async move { Ok(Value::Array(parameters)) });
    Methods::from([("twice".to_owned(), twice), ("echo".to_owned(), echo)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_calls_methods_and_requests() {
    let transport: SharedTransport = Arc::new(XmlRpcTransport::with_methods(methods(), None));
    let endpoint = Endpoint::Master("127.0.0.1:0".to_owned());
    let server = Answering::start(transport.serve(&endpoint, 8).await.unwrap(), &endpoint);
    let Endpoint::Master(address) = &server.endpoint else { unreachable!("a master is served") };

    let python = Command::new("python3")
        .args(["-c", CLIENT, address])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&python.stdout);
    assert!(
        python.status.success() && said.contains("all is well"),
        "{said}{}",
        String::from_utf8_lossy(&python.stderr)
    );
    assert_eq!(ask(&transport, &server.endpoint, "echo next").await.unwrap(), ["next"]);
}

#[tokio::test]
async fn methods_alone_have_a_server_and_a_caller() {
    let server = MethodServer::start("127.0.0.1:0", methods(), None).await.unwrap();
    let caller = MethodCaller::default();
    let four = caller.call(server.address(), "twice", vec![Value::Integer(2)]).await.unwrap();
    assert_eq!(four, Ok(Value::Long(4)));
    let fault = caller.call(server.address(), "call", vec![]).await.unwrap().unwrap_err();
    assert_eq!(fault.code, -32_601);
    let asked = XmlRpcTransport::new()
        .request(&Endpoint::Worker(server.address().to_owned()), Bytes::from_static(b"echo"))
        .await;
    assert!(asked.is_err(), "no requests are served there");
}
