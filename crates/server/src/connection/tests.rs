//! Checks each case of the table in the README of the assignment's folder, on a clock that only the test moves.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use journal::{Executor, JournalFile};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, WriteHalf};
use tokio::time::{Instant, sleep};

use super::*;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../actividad1/README.md");
const TABLE: &str = "| what arrives | becomes | reply after |\n| --- | --- | --- |\n";
/// Longer than any silence that ends a message, shorter than the idle timeout.
const LONG: Duration = Duration::from_secs(10);
/// How late all timers of a case together may fire.
const TOLERANCE: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Case {
    row: String,
    steps: Vec<Step>,
    /// Messages and refusals as they are written in `log.txt` behind time and sender.
    outcomes: Vec<String>,
    reply_after: ReplyAfter,
}

#[derive(Debug)]
enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    End,
}

/// When the last reply arrives.
#[derive(Debug)]
enum ReplyAfter {
    /// This long after the last byte was sent.
    LastByte(Duration),
    /// Before the last byte was sent.
    NoLater,
    NoReply,
}

impl Case {
    fn parse(row: &str) -> Self {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [arrives, outcomes, reply_after] = cells[..] else { panic!("not three columns: {row}") };
        let parts = |cell: &str| -> Vec<String> {
            cell.split(", ").filter(|part| *part != "nothing").map(str::to_owned).collect()
        };
        Self {
            row: row.to_owned(),
            steps: parts(arrives).iter().map(|part| Step::parse(part)).collect(),
            outcomes: parts(outcomes).iter().map(|part| code(part).to_owned()).collect(),
            reply_after: ReplyAfter::parse(reply_after),
        }
    }

    fn is_long(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Send(bytes) if bytes.len() > 1000))
    }
}

impl Step {
    /// Reads a step from a cell of the table: `` `Hola\n` ``, `` 70000 × `x` ``, `150ms` or `end`.
    fn parse(text: &str) -> Self {
        if let Some((times, what)) = text.split_once(" × ") {
            return Self::Send(unescape(code(what)).repeat(times.parse().unwrap()));
        }
        match text {
            "end" => Self::End,
            _ if text.starts_with('`') => Self::Send(unescape(code(text))),
            _ => Self::Pause(duration(text)),
        }
    }
}

impl ReplyAfter {
    fn parse(text: &str) -> Self {
        match text {
            "at once" => Self::LastByte(Duration::ZERO),
            "no later one" => Self::NoLater,
            "no reply" => Self::NoReply,
            _ => Self::LastByte(duration(text)),
        }
    }

    fn holds(&self, last_byte: Instant, last_reply: Option<Instant>) -> bool {
        match (self, last_reply) {
            (Self::LastByte(after), Some(reply)) => {
                reply >= last_byte && (reply - last_byte).abs_diff(*after) < TOLERANCE
            }
            (Self::NoLater, Some(reply)) => reply < last_byte,
            (Self::NoReply, last_reply) => last_reply.is_none(),
            _ => false,
        }
    }
}

/// Returns the text between the backquotes.
fn code(text: &str) -> &str {
    text.strip_prefix('`')
        .and_then(|text| text.strip_suffix('`'))
        .unwrap_or_else(|| panic!("no code: {text}"))
}

fn duration(text: &str) -> Duration {
    service::cli::duration(text).unwrap()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match &escape[..1] {
            "n" => (b'\n', 1),
            "r" => (b'\r', 1),
            "x" => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
            other => panic!("unknown escape {other:?} in {text:?}"),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn cases() -> Vec<Case> {
    let readme = std::fs::read_to_string(README).unwrap();
    let (_, table) = readme.split_once(TABLE).expect("the README has the table");
    table.lines().take_while(|line| line.starts_with('|')).map(Case::parse).collect()
}

/// How the bytes that a case sends at once are split on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segments {
    Whole,
    OneByte,
    OneByteAndPause,
}

impl Segments {
    /// The pause is shorter than the silence that ends a message.
    const PAUSE: Duration = Duration::from_millis(150);

    async fn send(self, client: &mut WriteHalf<DuplexStream>, bytes: &[u8]) {
        if self == Self::Whole {
            return client.write_all(bytes).await.unwrap();
        }
        for (at, byte) in bytes.iter().enumerate() {
            if self == Self::OneByteAndPause && at > 0 {
                sleep(Self::PAUSE).await;
            }
            client.write_all(&[*byte]).await.unwrap();
            // The pause makes the server read this part separately.
            tokio::task::yield_now().await;
        }
    }
}

/// The result of a case.
struct Played {
    log: String,
    replies: Vec<String>,
    last_byte: Instant,
    last_reply: Option<Instant>,
}

/// Runs a case against its own server.
async fn play(case: &Case, segments: Segments) -> Played {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(crate::LOG_FILE);
    let context = Arc::new(ServerContext {
        // Commits take no time on the test's clock.
        journal: Journal::start_on(Executor::Inline, JournalFile::open(&path).unwrap().0),
        limits: crate::ServerArguments::parse_from(["server"]).limits,
        metrics: ServerMetrics::new(),
        shutdown: Shutdown::new(),
    });
    let (client, stream) = tokio::io::duplex(256 * 1024);
    let served = tokio::spawn(async move { serve(stream, ([10, 0, 0, 1], 40522).into(), &context).await });
    let (reader, mut writer) = tokio::io::split(client);
    let reading = tokio::spawn(async move {
        let (mut lines, mut replies) = (BufReader::new(reader).lines(), Vec::new());
        while let Some(line) = lines.next_line().await.unwrap() {
            replies.push((line, Instant::now()));
        }
        replies
    });
    let mut last_byte = Instant::now();
    for step in &case.steps {
        match step {
            Step::Send(bytes) => segments.send(&mut writer, bytes).await,
            Step::End => writer.shutdown().await.unwrap(),
            Step::Pause(pause) => {
                sleep(*pause).await;
                continue;
            }
        }
        last_byte = Instant::now();
    }
    sleep(LONG).await;
    let log = std::fs::read_to_string(&path).unwrap();
    writer.shutdown().await.unwrap();
    served.await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), log, "the end adds nothing: {}", case.row);
    let replies = reading.await.unwrap();
    let last_reply = replies.last().map(|(_, came)| *came);
    Played { log, replies: replies.into_iter().map(|(line, _)| line).collect(), last_byte, last_reply }
}

/// Returns how the reply to a message of this outcome begins.
fn reply_to(outcome: &str) -> String {
    let fields = journal::record::fields(outcome).unwrap();
    match fields.as_slice() {
        [text] => format!("OK mensaje recibido correctamente: {text}"),
        [error, code, reason, ..] => format!("{error} {code}: {reason}"),
        _ => panic!("not an outcome: {outcome}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_cases_of_the_readme_in_any_segmentation() {
    let cases = cases();
    assert!(cases.len() > 15, "{} cases are in the table", cases.len());
    for case in &cases {
        for segments in [Segments::Whole, Segments::OneByte, Segments::OneByteAndPause] {
            if segments == Segments::OneByteAndPause && case.is_long() {
                continue;
            }
            let Played { log, replies, last_byte, last_reply } = play(case, segments).await;
            let context = format!("{} {segments:?}\nlog.txt: {log}replies: {replies:#?}", case.row);
            assert_eq!(replies.len(), case.outcomes.len(), "{context}");
            for (outcome, reply) in case.outcomes.iter().zip(&replies) {
                assert!(reply.starts_with(&reply_to(outcome)), "{context}");
            }
            let logged = log.lines().map(|line| line.split_once(" 10.0.0.1:40522 ").unwrap().1);
            assert!(logged.eq(&case.outcomes), "{context}");
            let after = last_reply.map(|reply| reply.saturating_duration_since(last_byte));
            assert!(case.reply_after.holds(last_byte, last_reply), "after {after:?}: {context}");
        }
    }
}
