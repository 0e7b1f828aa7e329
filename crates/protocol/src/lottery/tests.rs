use bytes::BytesMut;
use proptest::prelude::*;
use tokio_util::codec::Decoder;

use super::*;

/// Everything that `decoder` reads from `bytes` when they come in segments of the given sizes, repeated.
fn read<D: Decoder>(
    mut decoder: D,
    bytes: &[u8],
    segments: &[usize],
    most: usize,
) -> Result<Vec<D::Item>, D::Error> {
    let mut buffer = BytesMut::new();
    let mut items = Vec::new();
    let mut rest = bytes;
    for size in segments.iter().cycle() {
        let (segment, after) = rest.split_at((*size).min(rest.len()));
        buffer.extend_from_slice(segment);
        rest = after;
        while let Some(item) = decoder.decode(&mut buffer)? {
            items.push(item);
        }
        assert!(buffer.len() <= most, "kept {} bytes", buffer.len());
        if rest.is_empty() {
            break;
        }
    }
    while let Some(item) = decoder.decode_eof(&mut buffer)? {
        items.push(item);
    }
    Ok(items)
}

fn requests(bytes: &[u8], segments: &[usize]) -> Vec<Result<String, FrameRejection>> {
    let most = MAX_REQUEST_BYTES + 2;
    let frames = read(RequestDecoder::default(), bytes, segments, most).unwrap();
    frames.into_iter().map(|frame| frame.and_then(|frame| frame.text().map(str::to_owned))).collect()
}

fn replies(bytes: &[u8], segments: &[usize]) -> Result<Vec<ReplyPart>, String> {
    read(ReplyDecoder::default(), bytes, segments, MAX_WINNER_BYTES + 2).map_err(|error| error.to_string())
}

fn agency(name: &str) -> AgencyName {
    name.parse().unwrap()
}

const LORCA: [&str; 5] = ["Santiago Lionel", "Lorca", "30904465", "1999-03-17", "2201"];
const NUNEZ: [&str; 5] = ["Agustín \"Tin\"", "Núñez O'Hara", "21689196", "2000-02-29", "07574"];

/// The bytes that other implementations see: a change here breaks them.
#[test]
fn golden_requests() {
    let mut out = Vec::new();
    let mut batch = BatchWriter::new(&agency("1"), 150, MAX_BATCH_BYTES);
    for fields in [LORCA, NUNEZ] {
        assert_eq!(batch.push(&Bet::new(fields).unwrap()), Ok(true));
    }
    assert_eq!(batch.count(), 2);
    batch.finish_message(&mut out);
    batch.finish_message(&mut out);
    AgencyRequest::write_finished(&agency("1"), &mut out);
    AgencyRequest::write_winners(&agency("agencia-norte"), &mut out);
    let golden = "1:4:Santiago Lionel,Lorca,30904465,1999-03-17,2201\n\
                  Agustín \"Tin\",Núñez O'Hara,21689196,2000-02-29,7574\n\r\n\
                  1:5\r\n\
                  agencia-norte:6\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), golden);
    for segment in [1, 2, 7, 1000] {
        let frames = requests(golden.as_bytes(), &[segment]);
        let texts: Vec<_> = frames.iter().map(|frame| frame.as_deref().unwrap()).collect();
        let parsed: Vec<_> = texts.iter().map(|text| AgencyRequest::parse(text).unwrap()).collect();
        let AgencyRequest::Bets { agency: "1", bets } = &parsed[0] else { panic!("{parsed:?}") };
        let bets: Vec<_> = bets.clone().map(|bet| bet.unwrap().fields()).collect();
        assert_eq!(bets, [LORCA, ["Agustín \"Tin\"", "Núñez O'Hara", "21689196", "2000-02-29", "7574"]]);
        assert_eq!(
            parsed[1..],
            [AgencyRequest::Finished { agency: "1" }, AgencyRequest::Winners { agency: "agencia-norte" }]
        );
    }
}

#[test]
fn golden_replies() {
    let mut out = Vec::new();
    for reply in [LotteryReply::Acknowledged, LotteryReply::Refused, LotteryReply::Wait] {
        out.extend_from_slice(reply.as_bytes());
    }
    out.extend_from_slice(start_winners());
    Winner { agency: "1", bet: Bet::new(NUNEZ).unwrap() }.write(&mut out);
    Winner { agency: "1", bet: Bet::new(LORCA).unwrap() }.write(&mut out);
    out.extend_from_slice(end_winners());
    out.extend_from_slice(start_winners());
    out.extend_from_slice(end_winners());
    let first = "1,Agustín \"Tin\",Núñez O'Hara,21689196,2000-02-29,7574";
    let second = "1,Santiago Lionel,Lorca,30904465,1999-03-17,2201";
    let golden = format!("server:0\r\nserver:1\r\nserver:2\r\nserver:3:{first}\n{second}\n\r\nserver:3:\r\n");
    assert_eq!(String::from_utf8(out).unwrap(), golden);
    let parts = [
        ReplyPart::Reply(LotteryReply::Acknowledged),
        ReplyPart::Reply(LotteryReply::Refused),
        ReplyPart::Reply(LotteryReply::Wait),
        ReplyPart::WinnersBegin,
        ReplyPart::Winner(first.to_owned()),
        ReplyPart::Winner(second.to_owned()),
        ReplyPart::WinnersEnd,
        ReplyPart::WinnersBegin,
        ReplyPart::WinnersEnd,
    ];
    for segment in [1, 2, 7, 1000] {
        assert_eq!(replies(golden.as_bytes(), &[segment]).unwrap(), parts);
    }
}

#[test]
fn the_last_line_end_within_a_message_may_be_missing() {
    let Ok(AgencyRequest::Bets { bets, .. }) = AgencyRequest::parse("1:4:a,b,c,2000-01-01,1") else {
        panic!()
    };
    assert_eq!(bets.map(Result::unwrap).map(|bet| bet.number()).collect::<Vec<_>>(), [1]);
    let winner = "1,a,b,c,2000-01-01,7574";
    let expected = [ReplyPart::WinnersBegin, ReplyPart::Winner(winner.to_owned()), ReplyPart::WinnersEnd];
    assert_eq!(replies(format!("server:3:{winner}\r\n").as_bytes(), &[1]).unwrap(), expected);
}

#[test]
fn fields_that_would_break_the_grammar_are_refused() {
    for (index, field) in
        [BetField::FirstName, BetField::LastName, BetField::Document, BetField::Birthdate, BetField::Number]
            .into_iter()
            .enumerate()
    {
        for bad in [',', ':', '\n', '\r', '\0', '\u{7f}', '\u{85}', '\u{9b}'] {
            let text = format!("a{bad}b");
            let mut fields = LORCA;
            fields[index] = &text;
            assert_eq!(Bet::new(fields), Err(BetError::Forbidden { field, character: bad }));
            let parsed = Bet::parse(&fields.join(",")).map(|bet| bet.fields().map(str::to_owned));
            let expected = match bad {
                ',' => BetError::Fields { found: 6 },
                _ => BetError::Forbidden { field, character: bad },
            };
            assert_eq!(parsed, Err(expected));
        }
        let mut fields = LORCA;
        fields[index] = "";
        assert_eq!(Bet::new(fields), Err(BetError::Empty { field }));
        assert_eq!(Bet::parse(&fields.join(",")).map(|_| ()), Err(BetError::Empty { field }));
    }
}

#[test]
fn days_and_numbers() {
    let with = |birthdate, number| Bet::new(["a", "b", "c", birthdate, number]).map(|bet| bet.number());
    for day in ["2000-02-29", "1900-02-28", "0001-01-01", "9999-12-31", "2024-04-30"] {
        assert_eq!(with(day, "1"), Ok(1), "{day}");
    }
    for day in [
        "1900-02-29",
        "0000-01-01",
        "2024-04-31",
        "2024-13-01",
        "2024-00-01",
        "2024-1-01",
        "17/03/1999",
        "2024-01-00",
        "２024-01-01",
    ] {
        assert!(matches!(with(day, "1"), Err(BetError::Birthdate { .. })), "{day}");
    }
    for (text, number) in [("0", 0), ("000", 0), ("007574", 7574), ("4294967295", u32::MAX)] {
        assert_eq!(with("2000-01-01", text), Ok(number));
    }
    for text in ["4294967296", "-1", "+1", "1.0", "x", " 1", "0x1", "00x"] {
        assert!(matches!(with("2000-01-01", text), Err(BetError::Number { .. })), "{text}");
    }
}

#[test]
fn other_messages_are_refused() {
    for text in ["", "1", "1:", "1:7", "1:4", "1:5:", "1:50", "1:05", "server:0", "hola", "1:6 "] {
        assert_eq!(AgencyRequest::parse(text), Err(MalformedRequest::Shape), "{text:?}");
    }
    let long = format!("{}:5", "x".repeat(MAX_AGENCY_BYTES + 1));
    for text in [":5", "a,b:5", "a\u{1}:5", &long] {
        assert!(matches!(AgencyRequest::parse(text), Err(MalformedRequest::Sender(_))), "{text:?}");
    }
    assert_eq!(AgencyRequest::parse("1:4:"), Err(MalformedRequest::NoBets));
    let Ok(AgencyRequest::Bets { bets, .. }) =
        AgencyRequest::parse("1:4:a,b,c,2000-01-01,1\n\na,b,c,2000-01-01,1\n")
    else {
        panic!()
    };
    let error = bets.collect::<Result<Vec<_>, _>>().unwrap_err();
    assert_eq!(error, MalformedRequest::Bet { number: 2, cause: BetError::Fields { found: 1 } });
    for bytes in [
        &b"server:4\r\n"[..],
        b":0\r\n",
        b"server:0\n",
        b"HTTP/1.1 400 Bad AgencyRequest\r\n",
        b"server:00\r\n",
    ] {
        assert!(replies(bytes, &[1]).is_err());
        assert!(replies(bytes, &[100]).is_err());
    }
    assert!(replies(&[b'x'; 100], &[1]).is_err());
    assert!(replies(b"server:3:1,a,b,c,2000-01-01,1\n", &[1]).is_err(), "cut off");
    assert!(replies(b"server:3:1,a\n\r\n", &[1]).is_err());
    assert!(replies(&[&b"server:3:"[..], &[b'x'; MAX_WINNER_BYTES + 9]].concat(), &[1]).is_err());
}

#[test]
fn over_long_and_cut_messages_are_told_once_and_the_next_one_is_read() {
    for segment in [1, 3, 20_000, 1_000_000] {
        let mut bytes = vec![b'x'; 50_000];
        bytes.extend_from_slice(b"\r\n1:5\r\n1:4:half");
        let expected = [
            Err(FrameRejection::TooLong),
            Ok("1:5".to_owned()),
            Err(FrameRejection::Unterminated { bytes: 8 }),
        ];
        assert_eq!(requests(&bytes, &[segment]), expected);
    }
    let longest = format!("{}\r\n", "x".repeat(MAX_REQUEST_BYTES));
    assert!(requests(longest.as_bytes(), &[1])[0].is_ok());
    assert_eq!(requests(format!("x{longest}").as_bytes(), &[1]), [Err(FrameRejection::TooLong)]);
    assert_eq!(
        requests(b"ab\xff\r\nok\r\n", &[2]),
        [Err(FrameRejection::InvalidUtf8 { at: 2 }), Ok("ok".to_owned())]
    );
    assert_eq!(requests(b"a\rb\r\r\n", &[1]), [Ok("a\rb\r".to_owned())]);
}

#[test]
fn a_batch_ends_at_its_limits() {
    let name = agency("1");
    let bet = Bet::new(LORCA).unwrap();
    let mut batch = BatchWriter::new(&name, 2, MAX_BATCH_BYTES);
    assert_eq!([(); 3].map(|()| batch.push(&bet).unwrap()), [true, true, false]);
    let mut out = Vec::new();
    batch.finish_message(&mut out);
    assert_eq!(batch.push(&bet), Ok(true));
    let mut batch = BatchWriter::new(&name, 1000, MAX_BATCH_BYTES);
    while batch.push(&bet).unwrap() {}
    out.clear();
    batch.finish_message(&mut out);
    let line = bet.wire_bytes() + 1;
    assert!((MAX_BATCH_BYTES - line..=MAX_BATCH_BYTES).contains(&out.len()), "{}", out.len());
    let long = "x".repeat(MAX_BATCH_BYTES);
    let long = Bet::new([&long, "b", "c", "2000-01-01", "1"]).unwrap();
    assert!(matches!(batch.push(&long), Err(BetError::TooLong { .. })));
}

fn text() -> impl Strategy<Value = String> {
    "[^,:\\p{Cc}]{1,12}"
}

prop_compose! {
    fn fields()(first in text(), last in text(), document in text(), year in 1u32..=9999, month in 1u32..=12, day in 1u32..=28, number: u32)
        -> [String; 5] {
        [first, last, document, format!("{year:04}-{month:02}-{day:02}"), number.to_string()]
    }
}

fn borrowed(fields: &[String; 5]) -> Bet<'_> {
    Bet::new(fields.each_ref().map(String::as_str)).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_segmentation(
        name in text(),
        all in prop::collection::vec(fields(), 1..40),
        max_bets in 1usize..9,
        segments in prop::collection::vec(1usize..50, 1..5),
    ) {
        let name = agency(&name);
        let (mut batch, mut bytes) = (BatchWriter::new(&name, max_bets, 400), Vec::new());
        for fields in &all {
            if !batch.push(&borrowed(fields)).unwrap() {
                batch.finish_message(&mut bytes);
                prop_assert!(batch.push(&borrowed(fields)).unwrap());
            }
        }
        batch.finish_message(&mut bytes);
        let mut back = Vec::new();
        for frame in requests(&bytes, &segments) {
            let frame = frame.unwrap();
            let Ok(AgencyRequest::Bets { agency: sender, bets }) = AgencyRequest::parse(&frame) else { panic!() };
            prop_assert_eq!(sender, name.as_str());
            let bets: Vec<_> = bets.map(|bet| bet.unwrap().fields().map(str::to_owned)).collect();
            prop_assert!(bets.len() <= max_bets);
            back.extend(bets);
        }
        prop_assert_eq!(&back, &all);

        let mut bytes = start_winners().to_vec();
        let mut expected = vec![ReplyPart::WinnersBegin];
        for fields in &all {
            let winner = Winner { agency: name.as_str(), bet: borrowed(fields) };
            let start = bytes.len();
            winner.write(&mut bytes);
            expected.push(ReplyPart::Winner(String::from_utf8(bytes[start..bytes.len() - 1].to_vec()).unwrap()));
        }
        expected.push(ReplyPart::WinnersEnd);
        bytes.extend_from_slice(end_winners());
        prop_assert_eq!(replies(&bytes, &segments).unwrap(), expected);
    }

    #[test]
    fn segmentation_never_changes_what_is_read(
        bytes in prop::collection::vec(prop_oneof![
            Just(b"\r\n".to_vec()), Just(b"\n".to_vec()), Just(b"\r".to_vec()), Just(b"server:3:".to_vec()),
            Just(b"server:0".to_vec()), Just(b"1,a,b,c,2000-01-01,1".to_vec()), Just(b"1:4:".to_vec()),
            Just(vec![b'x'; 6000]), prop::collection::vec(any::<u8>(), 1..4),
        ], 0..12),
        segments in prop::collection::vec(1usize..4000, 1..5),
    ) {
        let bytes = bytes.concat();
        prop_assert_eq!(requests(&bytes, &segments), requests(&bytes, &[bytes.len().max(1)]));
        let whole = replies(&bytes, &[bytes.len().max(1)]);
        let parts = replies(&bytes, &segments);
        prop_assert_eq!(parts.is_ok(), whole.is_ok());
        if whole.is_ok() {
            prop_assert_eq!(parts, whole);
        }
    }

    #[test]
    fn whatever_is_taken_as_a_bet_can_be_written_and_read_again(line in "[a-z0-9,:\\-\u{80}-\u{a5} ]{0,20}(,2000-01-01,0{0,3}[0-9]{1,11})?") {
        if let Ok(bet) = Bet::parse(&line) {
            let mut out = Vec::new();
            bet.write(&mut out);
            prop_assert_eq!(out.len(), bet.wire_bytes());
            let again = String::from_utf8(out).unwrap();
            let again = Bet::parse(&again).unwrap();
            prop_assert_eq!(again.fields(), bet.fields());
            prop_assert_eq!(Bet::new(bet.fields()).unwrap().fields(), bet.fields());
        }
    }
}
