//! Clients in Python, with nothing but its standard library.

use std::process::Command;

use middleware::connect::Middleware;

use crate::cluster::Cluster;
use crate::work::write_csv;

fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new("python3").arg("-c").arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_lines_of_python_compute_over_the_master() {
    let cluster = Cluster::start(Middleware::XmlRpc, 2).unwrap();
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 9);
    let script = "
import json, sys, xmlrpc.client
master = xmlrpc.client.ServerProxy('http://' + sys.argv[1])
operations = [{'read_csv': {'paths': [sys.argv[2]]}}, {'groupby': {'by': ['name'], 'agg': ['sum(x) as total']}}]
for line in master.compute(json.dumps(operations)).splitlines():
    print(json.loads(line))
print(len(master.listWorkers()), master.getWorkers() == master.listWorkers())
try:
    master.compute('[{\"grupby\": {}}]')
except xmlrpc.client.Fault as fault:
    print(fault.faultCode, 'grupby' in fault.faultString)
";
    let printed = python(script, &[cluster.address(), path.to_str().unwrap()]);
    let expected = "{'name': 'Ana', 'total': 63}\n{'name': 'Bea', 'total': 84}\n{'name': 'Çelik', 'total': 105}\n2 True\n422 True\n";
    assert_eq!(printed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_calls_the_workers_itself() {
    let mut cluster = Cluster::start(Middleware::XmlRpc, 0).unwrap();
    let client = cluster.client().await;
    for part in ["one.csv", "two.csv"] {
        let path = write_csv(cluster.folder.path(), part, 6);
        cluster.add_worker(&["--csv", path.to_str().unwrap()]);
    }
    cluster.ready(&client, 2).await;
    let script = "
import sys, xmlrpc.client
master = xmlrpc.client.ServerProxy('http://' + sys.argv[1])
for address in master.getWorkers():
    worker = xmlrpc.client.ServerProxy(address, allow_none=True)
    print(worker.columns(), worker.max('x'), worker.min('y'), worker.isin(7, 14, 'x'))
    print(worker.head(1), worker.groupby('name', 'mean'), worker.items('x'), sep='')
    print(worker.apply('x * 2', 'x'), worker.apply('upper', 'name')[0])
    try:
        worker.apply('lambda x: x + 1', 'x')
    except xmlrpc.client.Fault as fault:
        print('x + 1' in fault.faultString)
print(master.deleteWorker(master.getWorkers()[0]), len(master.getWorkers()))
";
    let printed = python(script, &[cluster.address()]);
    let one = "['name', 'x', 'y'] 35 0.5 [False, True, True, False, False, False]\nname,x,y\nAna,0,0.5\nname,x,y\nAna,10.5,2.0\nBea,17.5,3.0\nÇelik,24.5,4.0\n['x', [0, 7, 14, 21, 28, 35]]\n[0, 14, 28, 42, 56, 70] ANA\nTrue\n";
    assert_eq!(printed, format!("{one}{one}True 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_creates_a_worker_on_its_computer() {
    let cluster = Cluster::start(Middleware::XmlRpc, 0).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = "
import sys, xmlrpc.client
master = xmlrpc.client.ServerProxy('http://' + sys.argv[1])
print(master.createWorker('http://localhost:' + sys.argv[2]), master.listWorkers())
try:
    master.createWorker('http://192.0.2.1:9001')
except xmlrpc.client.Fault as fault:
    print(fault.faultCode)
";
    let printed = python(script, &[cluster.address(), &port.to_string()]);
    assert_eq!(printed, format!("True ['http://127.0.0.1:{port}']\n400\n"));
}
