//! What a check finds, as it is told to a person.

use std::fmt;
use std::path::{Path, PathBuf};

use protocol::store::types::{Id, MessageCrc, Place};
use text::Shown;

/// What was found on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A place is not as it should be.
    Problem {
        /// The file of the receipt.
        file: PathBuf,
        /// The receipt's line in it, from 1.
        line: u64,
        /// The message.
        id: Id,
        /// Where it should be.
        place: Place,
        /// What is wrong there.
        wrong: PlaceProblem,
    },
    /// The text in a receipt is not that of its message.
    OtherText {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The message.
        id: Id,
        /// The checksum of the text.
        found: MessageCrc,
        /// The checksum in the receipt.
        expected: MessageCrc,
    },
    /// A line is no receipt, so what it vouched for is not checked.
    NoReceipt {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A line of a datanode's file is damaged. Not a problem by itself: it may belong to no receipt.
    DamagedLine {
        /// The file.
        file: PathBuf,
        /// Where the line starts, in bytes.
        offset: u64,
    },
    /// A file ends in half a line. Not a problem by itself: as a rule, it is of a write that was not acknowledged.
    TornTail {
        /// The file.
        file: PathBuf,
        /// Length of the half line.
        bytes: u64,
    },
}

/// What is wrong with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceProblem {
    /// The datanode's file was not given.
    Unchecked,
    /// No record has the id.
    Missing,
    /// The record is there, and its checksum is wrong.
    Damaged {
        /// Where its line starts, in bytes.
        offset: u64,
    },
    /// The id is there, but in these records.
    Elsewhere {
        /// Their numbers.
        seqs: Vec<u64>,
    },
    /// More than one record has the id.
    Duplicate {
        /// Their numbers.
        seqs: Vec<u64>,
    },
    /// The record holds another message.
    Different {
        /// The checksum of that one.
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
