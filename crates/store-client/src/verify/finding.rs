//! The findings of a check, as they are told to a person.

use std::fmt;
use std::path::{Path, PathBuf};

use protocol::store::types::{Id, MessageCrc, Place};
use text::Shown;

/// A finding of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A place does not hold what its receipt says.
    Problem {
        /// The file with the receipt.
        file: PathBuf,
        /// The line of the receipt, from 1.
        line: u64,
        id: Id,
        /// The place where the message should be.
        place: Place,
        wrong: PlaceProblem,
    },
    /// Places do not hold what their receipt says, and as many other datanodes hold the message. That is no problem: it was
    /// copied after the receipt was written.
    Moved {
        file: PathBuf,
        /// The line of the receipt, from 1.
        line: u64,
        id: Id,
        /// Where the message is.
        places: Vec<Place>,
    },
    /// The text in a receipt is not that of its message.
    OtherText {
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        id: Id,
        /// The checksum of the text.
        found: MessageCrc,
        /// The checksum in the receipt.
        expected: MessageCrc,
    },
    /// A line is no receipt, so the message that it may have been for is not checked.
    NoReceipt {
        file: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A line of a datanode's file is damaged. That is no problem by itself: the line may belong to no receipt.
    DamagedLine {
        file: PathBuf,
        /// The start of the line, in bytes.
        offset: u64,
    },
    /// A file ends in half a line. That is no problem by itself: as a rule, it is of a write that was not acknowledged.
    TornTail {
        file: PathBuf,
        /// The length of the half line.
        bytes: u64,
    },
}

/// Says what is wrong with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceProblem {
    /// The datanode's file was not given.
    Unchecked,
    /// No record has the id.
    Missing,
    /// The record is there, and the checksum of its line is wrong.
    Damaged {
        /// The start of the line, in bytes.
        offset: u64,
    },
    /// Other records have the id.
    Elsewhere {
        /// The numbers of these records.
        seqs: Vec<u64>,
    },
    /// More than one record has the id.
    Duplicate {
        /// The numbers of these records.
        seqs: Vec<u64>,
    },
    /// The record holds another message.
    Different {
        /// The checksum of the other message.
        found: MessageCrc,
        /// The checksum in the receipt.
        expected: MessageCrc,
    },
}

impl fmt::Display for PlaceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |seqs: &[u64]| seqs.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Unchecked => f.write_str("sin revisar: no se dio el data.txt de este datanode"),
            Self::Missing => f.write_str("falta: ningún registro tiene este id"),
            Self::Damaged { offset } => {
                write!(f, "dañado: su línea, en el byte {offset}, tiene una suma de verificación incorrecta")
            }
            Self::Elsewhere { seqs } => write!(f, "distinto: el id está en el registro {}", list(seqs)),
            Self::Duplicate { seqs } => write!(f, "duplicado: el id está en los registros {}", list(seqs)),
            Self::Different { found, expected } => {
                write!(f, "distinto: el mensaje de allí tiene message_crc32c {found}, no {expected}")
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |file: &Path| Shown(&file.to_string_lossy()).to_string();
        match self {
            Self::Problem { file, line, id, place, wrong } => {
                write!(f, "{}:{line}: {id} {place}: {wrong}", shown(file))
            }
            Self::Moved { file, line, id, places } => {
                let places: Vec<_> = places.iter().map(Place::to_string).collect();
                write!(f, "nota: {}:{line}: {id}: ahora está en {}", shown(file), places.join(","))
            }
            Self::OtherText { file, line, id, found, expected } => write!(
                f,
                "{}:{line}: {id}: distinto: el texto de este comprobante tiene message_crc32c {found}, no {expected}",
                shown(file)
            ),
            Self::NoReceipt { file, line } => {
                write!(f, "{}:{line}: ilegible: esta línea no es un comprobante", shown(file))
            }
            Self::DamagedLine { file, offset } => {
                write!(f, "nota: {}: línea dañada en el byte {offset}", shown(file))
            }
            Self::TornTail { file, bytes } => {
                write!(f, "nota: {}: termina en media línea de {bytes} bytes", shown(file))
            }
        }
    }
}
