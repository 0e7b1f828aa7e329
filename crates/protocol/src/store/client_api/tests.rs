use super::*;

const ID: &str = "00000000010000000000000002";

fn id() -> Id {
    Id::from_parts(1, 2)
}

#[test]
fn golden_requests() {
    let golden = [
        (
            ClientRequest::Put { id: Some(id()), is_new: false, message: "Hola \"tú\"\n".to_owned() },
            format!(r#"{{"v":1,"put":{{"id":"{ID}","message":"Hola \"tú\"\n"}}}}"#),
        ),
        (
            ClientRequest::Put { id: Some(id()), is_new: true, message: "Hola".to_owned() },
            format!(r#"{{"v":1,"put":{{"id":"{ID}","new":true,"message":"Hola"}}}}"#),
        ),
        (ClientRequest::Get { id: id() }, format!(r#"{{"v":1,"get":{{"id":"{ID}"}}}}"#)),
        (
            ClientRequest::List { last: 10, before: Some(3) },
            r#"{"v":1,"list":{"last":10,"before":3}}"#.to_owned(),
        ),
        (ClientRequest::Status, r#"{"v":1,"status":{}}"#.to_owned()),
        (
            ClientRequest::Drain { datanode: "datanode1".parse().unwrap(), undo: false },
            r#"{"v":1,"drain":{"datanode":"datanode1"}}"#.to_owned(),
        ),
        (
            ClientRequest::Drain { datanode: "datanode1".parse().unwrap(), undo: true },
            r#"{"v":1,"drain":{"datanode":"datanode1","undo":true}}"#.to_owned(),
        ),
        (
            ClientRequest::Forget { datanode: "datanode1".parse().unwrap(), accept_loss: true },
            r#"{"v":1,"forget":{"datanode":"datanode1","accept_loss":true}}"#.to_owned(),
        ),
        (ClientRequest::Fsck { deep: true, from: 7 }, r#"{"v":1,"fsck":{"deep":true,"from":7}}"#.to_owned()),
    ];
    for (request, line) in golden {
        assert_eq!(ClientRequest::decode(&line), Ok(request.clone()));
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{line}\n"));
    }
}

#[test]
fn a_person_may_leave_things_out() {
    let put = ClientRequest::Put { id: None, is_new: false, message: "Hola".to_owned() };
    assert_eq!(ClientRequest::decode(r#" { "put": {"message": "Hola"} } "#), Ok(put));
    assert_eq!(ClientRequest::decode(r#"{"list":{}}"#), Ok(ClientRequest::List { last: 10, before: None }));
}

#[test]
fn what_is_wrong_is_told() {
    let told = |line: &str| ClientRequest::decode(line).unwrap_err().to_string();
    assert!(told("hola").starts_with("not JSON: expected value"), "{}", told("hola"));
    assert!(told("").starts_with("not JSON: "), "{}", told(""));
    assert!(
        told(r#"{"delete":{}}"#).contains("unknown field `delete`, expected one of `v`, `put`"),
        "{}",
        told(r#"{"delete":{}}"#)
    );
    assert!(told("{}").contains("exactly one of put, get, list, status, drain, forget and fsck"));
    for extra in [r#""get":{"id":"x"}"#, r#""get":null"#, r#""other":{}"#, r#""put":null"#, r#""status":{}"#]
    {
        let put = r#""put":{"message":"a"}"#;
        for line in [format!("{{{put},{extra}}}"), format!("{{{extra},{put}}}")] {
            assert!(ClientRequest::decode(&line).is_err(), "{line}");
        }
    }
    assert!(told(r#"{"get":{"id":"x"}}"#).starts_with("not a message: "));
    assert_eq!(told(r#"{"v":2,"status":{}}"#), "version 2 is not supported; use 1");
    assert_eq!(told(r#"{"v":2,"delete":{}}"#), "version 2 is not supported; use 1");
}

#[test]
fn golden_replies() {
    let place = Place { datanode: "datanode2".parse().unwrap(), seq: 17 };
    let crc = MessageCrc::of("Hola");
    let client = "172.21.0.3:40522".parse().unwrap();
    let time = "2026-11-21T09:30:00.123Z".to_owned();
    let entry = |beginning: Option<&str>| RegistryEntry {
        time: time.clone(),
        id: id(),
        client,
        places: vec![place.clone()],
        message_crc32c: crc,
        beginning: beginning.map(str::to_owned),
    };
    let entries = vec![entry(Some("Hola")), entry(None)];
    let checked = CheckedMessage {
        id: id(),
        verdict: FsckVerdict::UnderReplicated,
        places: vec![place.clone()],
        damaged: Vec::new(),
    };
    let node = NodeStatus {
        name: "datanode2".parse().unwrap(),
        state: NodeState::NotOperative,
        address: Some("172.20.0.3:5001".parse().unwrap()),
        records: 17,
        lost: 1,
        free_bytes: 1000,
        last_answer: Some(time.clone()),
        round_trip_us: 412,
        cause: Some(UnavailableCause::NoAnswer),
        draining: true,
    };
    let status = StoreStatus {
        datanodes: vec![node],
        operative: 1,
        available: 0,
        expected: 3,
        replicas: 1,
        messages: 17,
        round: 7,
        epoch: Some(Epoch { number: 3, taken_by: id() }),
    };
    let golden = [
        (
            HeadnodeReply::Saved { id: id(), places: vec![place.clone()], message_crc32c: crc },
            format!(r#"{{"saved":{{"id":"{ID}","places":[{{"datanode":"datanode2","seq":17}}],"message_crc32c":"bfaac1a4"}}}}"#),
        ),
        (
            HeadnodeReply::Record {
                id: id(),
                time: time.clone(),
                client,
                message: "Hola".to_owned(),
                from: place.clone(),
            },
            format!(r#"{{"record":{{"id":"{ID}","time":"2026-11-21T09:30:00.123Z","client":"172.21.0.3:40522","message":"Hola","from":{{"datanode":"datanode2","seq":17}}}}}}"#),
        ),
        (
            HeadnodeReply::Messages { entries, before: Some(123) },
            format!(r#"{{"messages":{{"entries":[{{"time":"2026-11-21T09:30:00.123Z","id":"{ID}","client":"172.21.0.3:40522","places":[{{"datanode":"datanode2","seq":17}}],"message_crc32c":"bfaac1a4","beginning":"Hola"}},{{"time":"2026-11-21T09:30:00.123Z","id":"{ID}","client":"172.21.0.3:40522","places":[{{"datanode":"datanode2","seq":17}}],"message_crc32c":"bfaac1a4"}}],"before":123}}}}"#),
        ),
        (
            HeadnodeReply::Status(status),
            r#"{"status":{"datanodes":[{"name":"datanode2","state":"not-operative","address":"172.20.0.3:5001","records":17,"lost":1,"free_bytes":1000,"last_answer":"2026-11-21T09:30:00.123Z","round_trip_us":412,"cause":"no-answer","draining":true}],"operative":1,"available":0,"expected":3,"replicas":1,"messages":17,"round":7,"epoch":"3:ID"}}"#.replace("3:ID", &format!("3:{ID}")),
        ),
        (
            HeadnodeReply::Draining { datanode: "datanode1".parse().unwrap(), left: Some(12) },
            r#"{"draining":{"datanode":"datanode1","left":12}}"#.to_owned(),
        ),
        (
            HeadnodeReply::Drained { datanode: "datanode1".parse().unwrap() },
            r#"{"drained":{"datanode":"datanode1"}}"#.to_owned(),
        ),
        (
            HeadnodeReply::Kept { datanode: "datanode1".parse().unwrap() },
            r#"{"kept":{"datanode":"datanode1"}}"#.to_owned(),
        ),
        (
            HeadnodeReply::Forgotten { datanode: "datanode1".parse().unwrap(), lost: 3 },
            r#"{"forgotten":{"datanode":"datanode1","lost":3}}"#.to_owned(),
        ),
        (
            HeadnodeReply::Fsck(FsckPage { healthy: 9, others: vec![checked], messages: 10, next: Some(456) }),
            format!(r#"{{"fsck":{{"healthy":9,"others":[{{"id":"{ID}","verdict":"under-replicated","places":[{{"datanode":"datanode2","seq":17}}]}}],"messages":10,"next":456}}}}"#),
        ),
        (
            HeadnodeReply::Error { id: None, code: ErrorCode::NoAvailableDatanode, reason: "why".to_owned() },
            r#"{"error":{"code":"no-available-datanode","reason":"why"}}"#.to_owned(),
        ),
    ];
    for (reply, line) in golden {
        let mut bytes = Vec::new();
        json::encode(&reply, &mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{line}\n"));
        assert_eq!(json::decode::<HeadnodeReply>(line.as_bytes()), Ok(reply));
    }
}
