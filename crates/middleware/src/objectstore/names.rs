//! The names of objects. Whoever may write into the bucket can give any name: what is read is checked to the letter, and names of
//! objects are made of checked parts alone.

use object_store::path::{Path, PathPart};
use ulid::Ulid;

use crate::brokered::address::checked_name;
use crate::brokered::letter::{Letter, LetterKind};
use crate::{Endpoint, TransportError};

/// The longest part of a path, in bytes. Folders of most file systems have at most 255.
const MAX_PART: usize = 200;
/// What a claim says that nobody holds any more.
pub(crate) const RELEASED: &str = "released";

pub(crate) const REQUESTS: &str = "requests";
pub(crate) const CLAIMS: &str = "claims";
pub(crate) const REPLIES: &str = "replies";
pub(crate) const INBOXES: &str = "inboxes";

/// The folder of the requests to an endpoint.
pub(crate) fn folder_of(endpoint: &Endpoint) -> Result<String, TransportError> {
    let name = match endpoint {
        Endpoint::Master(_) => "master".to_owned(),
        Endpoint::AnyWorker => "tasks".to_owned(),
        Endpoint::Worker(name) => format!("worker-{}", PathPart::from(checked_name(name)?).as_ref()),
    };
    if name.len() > MAX_PART {
        return Err(TransportError::Invalid(format!("the worker name {name:?} is too long for a bucket")));
    }
    Ok(name)
}

/// A request: `requests/FOLDER/ASK-INBOX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestName {
    /// Older requests come first.
    pub(crate) ask: Ulid,
    pub(crate) inbox: Ulid,
    pub(crate) folder: String,
}

impl RequestName {
    pub(crate) fn parse(folder: &str, name: &str) -> Option<Self> {
        let (ask, inbox) = name.split_once('-')?;
        Some(Self { ask: ulid(ask)?, inbox: ulid(inbox)?, folder: folder.to_owned() })
    }

    pub(crate) fn path(&self) -> String {
        let Self { ask, inbox, folder } = self;
        format!("{REQUESTS}/{folder}/{ask}-{inbox}")
    }

    /// The claim of one delivery, counted from 1.
    pub(crate) fn claim(&self, delivery: u32) -> String {
        format!("{CLAIMS}/{}-{delivery}", self.ask)
    }

    /// The one result, by whose presence the request is answered.
    pub(crate) fn result(&self) -> String {
        result_path(self.inbox, self.ask)
    }

    /// What another process needs to answer the request.
    pub(crate) fn ticket(&self, delivery: u32) -> String {
        let Self { ask, inbox, folder } = self;
        format!("{folder} {ask}-{inbox} {delivery}")
    }

    pub(crate) fn of_ticket(ticket: &str) -> Option<(Self, u32)> {
        let [folder, name, delivery] = ticket.split(' ').collect::<Vec<_>>()[..] else { return None };
        // A folder that the bucket's own way of writing names gives again.
        PathPart::parse(folder).ok().filter(|_| !folder.is_empty() && folder.len() <= MAX_PART)?;
        Some((Self::parse(folder, name)?, delivery.parse().ok()?))
    }
}

/// The ask of a claim: `claims/ASK-DELIVERY`.
pub(crate) fn ask_of_claim(name: &str) -> Option<Ulid> {
    let (ask, delivery) = name.split_once('-')?;
    delivery.parse::<u32>().ok()?;
    ulid(ask)
}

/// An object in an inbox: `replies/INBOX/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InboxName {
    /// A letter whose object holds its body.
    Letter { ask: Ulid, attempt: Ulid, number: u64, kind: LetterKind, from: Ulid },
    /// The result of a request: its object says which attempt made it, and of how many pieces.
    Result { ask: Ulid },
}

impl InboxName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.split('-').collect::<Vec<_>>()[..] {
            [ask, "result"] => Some(Self::Result { ask: ulid(ask)? }),
            [ask, attempt, number, kind, from] if number.len() == 20 => {
                let kind = LetterKind::from_word(kind.as_bytes()).filter(|kind| *kind != LetterKind::End)?;
                let number = number.parse().ok()?;
                Some(Self::Letter {
                    ask: ulid(ask)?,
                    attempt: ulid(attempt)?,
                    number,
                    kind,
                    from: ulid(from)?,
                })
            }
            _ => None,
        }
    }
}

/// Where a letter lies, other than the end of a reply.
pub(crate) fn letter_path(to: Ulid, letter: &Letter) -> String {
    let Letter { kind, ask, attempt, number, from, .. } = letter;
    format!("{REPLIES}/{to}/{ask}-{attempt}-{number:020}-{}-{from}", kind.word())
}

fn result_path(inbox: Ulid, ask: Ulid) -> String {
    format!("{REPLIES}/{inbox}/{ask}-result")
}

/// What a result says: who made it, and of how many pieces.
pub(crate) fn result_text(end: &Letter) -> String {
    format!("{} {} {}", end.attempt, end.number, end.from)
}

/// The end of a reply from what its result says.
pub(crate) fn end_of_reply(ask: Ulid, text: &[u8]) -> Option<Letter> {
    let text = std::str::from_utf8(text).ok()?;
    let [attempt, number, from] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
    let from = ulid(from)?.to_string();
    let (attempt, number) = (ulid(attempt)?, number.parse().ok()?);
    Some(Letter { kind: LetterKind::End, ask, attempt, number, from, body: bytes::Bytes::new() })
}

/// The name of an inbox.
pub(crate) fn ulid(text: &str) -> Option<Ulid> {
    let parsed: Ulid = text.parse().ok()?;
    // One name for one thing: lower case is not ours.
    (parsed.to_string() == text).then_some(parsed)
}

/// A path of the bucket, from parts that were checked.
pub(crate) fn within(root: &Path, path: &str) -> Path {
    path.split('/').fold(root.clone(), |path, part| {
        let part = PathPart::parse(part).expect("a part is made of checked names");
        path.join(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: &str = "01JB0000000000000000000001";
    const OTHER: &str = "01JB0000000000000000000002";

    #[test]
    fn names_are_read_as_they_are_written() {
        let request = RequestName::parse("tasks", &format!("{ASK}-{OTHER}")).unwrap();
        assert_eq!(request.path(), format!("requests/tasks/{ASK}-{OTHER}"));
        assert_eq!(request.claim(2), format!("claims/{ASK}-2"));
        assert_eq!(ask_of_claim(&format!("{ASK}-2")), ulid(ASK));
        assert_eq!(RequestName::of_ticket(&request.ticket(2)), Some((request.clone(), 2)));
        let letter = Letter {
            kind: LetterKind::Piece,
            ask: request.ask,
            attempt: request.inbox,
            number: 17,
            from: OTHER.to_owned(),
            body: bytes::Bytes::new(),
        };
        let path = letter_path(request.inbox, &letter);
        let name = path.strip_prefix(&format!("replies/{OTHER}/")).unwrap();
        let read = InboxName::parse(name).unwrap();
        assert!(matches!(read, InboxName::Letter { number: 17, kind: LetterKind::Piece, .. }), "{read:?}");
        let end = Letter { kind: LetterKind::End, ..letter };
        assert_eq!(end_of_reply(request.ask, result_text(&end).as_bytes()), Some(end));
        let result = request.result();
        let name = result.strip_prefix(&format!("replies/{OTHER}/")).unwrap();
        assert_eq!(InboxName::parse(name), Some(InboxName::Result { ask: request.ask }));
    }

    #[test]
    fn other_names_are_nothing() {
        let lower = ASK.to_lowercase();
        for name in [
            "",
            "..",
            "../../etc/passwd",
            &format!("{ASK}-.."),
            &format!("{ASK}-../{OTHER}"),
            &format!("{ASK}-{OTHER}-x"),
            &format!("{lower}-{OTHER}"),
            &format!("{ASK}\n-{OTHER}"),
        ] {
            assert_eq!(RequestName::parse("tasks", name), None, "{name:?}");
            assert_eq!(InboxName::parse(name), None, "{name:?}");
            assert_eq!(RequestName::of_ticket(&format!("tasks {name} 1")), None, "{name:?}");
        }
        let end = format!("{ASK}-{OTHER}-00000000000000000001-end-{OTHER}");
        assert_eq!(InboxName::parse(&end), None, "an end is told by the one result alone");
        for folder in ["", "..", ".", "a/b"] {
            assert_eq!(RequestName::of_ticket(&format!("{folder} {ASK}-{OTHER} 1")), None, "{folder:?}");
        }
        for text in ["", "1 2 3", &format!("{ASK} many {OTHER}"), &format!("{ASK} 1 ../{OTHER}")] {
            assert_eq!(end_of_reply(Ulid::nil(), text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn no_name_of_a_worker_leaves_its_folder() {
        for (name, folder) in [
            ("worker1", "worker-worker1"),
            ("..", "worker-%2E%2E"),
            ("a/../../b", "worker-a%2F..%2F..%2Fb"),
            ("a%2Fb", "worker-a%252Fb"),
        ] {
            assert_eq!(folder_of(&Endpoint::Worker(name.to_owned())).unwrap(), folder);
        }
        assert!(folder_of(&Endpoint::Worker("é".repeat(60))).is_err());
    }
}
