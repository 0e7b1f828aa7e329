//! A bet and a winner, as they travel.

use super::agency_name::AgencyName;
use super::field::{BetError, BetField, FIELDS, check_text, is_suspicious};

/// A bet whose fields can travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bet<'a> {
    first_name: &'a str,
    last_name: &'a str,
    document: &'a str,
    birthdate: &'a str,
    number: u32,
    /// The first four fields as they travel, if they came that way.
    joined: Option<&'a str>,
    /// The number without zeroes in front, as text.
    digits: &'a str,
}

impl<'a> Bet<'a> {
    /// Returns a bet of these fields, in the order of the wire.
    ///
    /// # Errors
    /// Why the fields cannot be a bet.
    pub fn new(fields: [&'a str; FIELDS]) -> Result<Self, BetError> {
        for (field, text) in BetField::OF_BET.into_iter().zip(fields) {
            check_text(field, text)?;
        }
        Self::of_checked(fields, None)
    }

    /// Reads a bet as it travels, without its line end.
    ///
    /// # Errors
    /// Why the line is none.
    pub fn parse(line: &'a str) -> Result<Self, BetError> {
        let look = BetLook::at(line.as_bytes());
        if look.end < line.len() {
            // The line holds a line end: the error is about that.
            let fields: Vec<_> = line.split(',').collect();
            return match <[&str; FIELDS]>::try_from(fields) {
                Ok(fields) => Self::new(fields),
                Err(fields) => Err(BetError::Fields { found: fields.len() }),
            };
        }
        Self::looked_at(line, &look)
    }

    /// Reads the first bet of several with a `\n` between them; returns the others too.
    pub(super) fn parse_first(lines: &'a str) -> (Result<Self, BetError>, Option<&'a str>) {
        let look = BetLook::at(lines.as_bytes());
        let bet = Self::looked_at(&lines[..look.end], &look);
        (bet, lines.get(look.end + 1..))
    }

    fn looked_at(line: &'a str, look: &BetLook) -> Result<Self, BetError> {
        if look.found != FIELDS - 1 {
            return Err(BetError::Fields { found: look.found + 1 });
        }
        let [a, b, c, d] = look.commas;
        let fields = [&line[..a], &line[a + 1..b], &line[b + 1..c], &line[c + 1..d], &line[d + 1..]];
        if look.suspicious {
            return Self::new(fields).map(|bet| Self { joined: Some(&line[..d]), ..bet });
        }
        match fields.iter().position(|text| text.is_empty()) {
            Some(empty) => Err(BetError::Empty { field: BetField::OF_BET[empty] }),
            None => Self::of_checked(fields, Some(&line[..d])),
        }
    }

    fn of_checked(fields: [&'a str; FIELDS], joined: Option<&'a str>) -> Result<Self, BetError> {
        let [first_name, last_name, document, birthdate, text] = fields;
        if !is_day(birthdate.as_bytes()) {
            return Err(BetError::Birthdate { text: birthdate.to_owned() });
        }
        let digits = text.trim_start_matches('0');
        let digits = if digits.is_empty() { &text[text.len() - 1..] } else { digits };
        // `parse` would take a sign.
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        let number = number.ok_or_else(|| BetError::Number { text: text.to_owned() })?;
        Ok(Self { first_name, last_name, document, birthdate, number, joined, digits })
    }

    /// Returns the fields in the order of the wire, the number without zeroes in front.
    #[must_use]
    pub fn fields(&self) -> [&'a str; FIELDS] {
        [self.first_name, self.last_name, self.document, self.birthdate, self.digits]
    }

    /// Returns the document of the person who bets.
    #[must_use]
    pub fn document(&self) -> &'a str {
        self.document
    }

    /// Returns the number that is bet on.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Appends the bet as it travels, without its line end.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.joined {
            Some(joined) => out.extend_from_slice(joined.as_bytes()),
            None => {
                for (index, field) in self.fields()[..FIELDS - 1].iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(field.as_bytes());
                }
            }
        }
        out.push(b',');
        out.extend_from_slice(self.digits.as_bytes());
    }

    /// Returns the length of the bet as it travels, in bytes, without its line end.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.fields().iter().map(|field| field.len()).sum::<usize>() + FIELDS - 1
    }
}

/// The findings of one pass over the bytes of a line. A server with many bets spends its time here.
struct BetLook {
    /// Offsets of the first commas.
    commas: [usize; FIELDS - 1],
    /// The number of commas.
    found: usize,
    /// Whether a field has to be looked at closely.
    suspicious: bool,
    /// Offset of the line's end.
    end: usize,
}

impl BetLook {
    fn at(bytes: &[u8]) -> Self {
        let mut look = Self { commas: [0; FIELDS - 1], found: 0, suspicious: false, end: bytes.len() };
        for (at, byte) in bytes.iter().enumerate() {
            match KINDS[usize::from(*byte)] {
                ByteKind::Plain => {}
                ByteKind::Comma => {
                    if let Some(slot) = look.commas.get_mut(look.found) {
                        *slot = at;
                    }
                    look.found += 1;
                }
                ByteKind::Suspicious => look.suspicious = true,
                ByteKind::End => {
                    look.end = at;
                    break;
                }
            }
        }
        look
    }
}

#[derive(Clone, Copy)]
enum ByteKind {
    Plain,
    Comma,
    Suspicious,
    End,
}

const KINDS: [ByteKind; 256] = {
    let mut kinds = [ByteKind::Plain; 256];
    let mut byte = 0u8;
    loop {
        if is_suspicious(byte) {
            kinds[byte as usize] = ByteKind::Suspicious;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    kinds[b',' as usize] = ByteKind::Comma;
    kinds[b'\n' as usize] = ByteKind::End;
    kinds
};

/// A bet that has won, with its agency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Winner<'a> {
    /// The agency that sent the bet.
    pub agency: &'a str,
    /// The bet.
    pub bet: Bet<'a>,
}

impl<'a> Winner<'a> {
    /// Reads a winner as it travels, without its line end.
    ///
    /// # Errors
    /// Why the line is none.
    pub fn parse(line: &'a str) -> Result<Self, BetError> {
        let (agency, bet) = line.split_once(',').ok_or(BetError::Fields { found: 0 })?;
        AgencyName::check(agency)?;
        Ok(Self { agency, bet: Bet::parse(bet)? })
    }

    /// Appends the winner and its line end.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.agency.as_bytes());
        out.push(b',');
        self.bet.write(out);
        out.push(b'\n');
    }
}

/// Whether `text` is a day of the Gregorian calendar, `YYYY-MM-DD`.
fn is_day(text: &[u8]) -> bool {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return false };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let [y1, y2, y3, y4, m1, m2, d1, d2] = digits.map(|digit| u32::from(digit - b'0'));
    let year = 1000 * y1 + 100 * y2 + 10 * y3 + y4;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match 10 * m1 + m2 {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    year > 0 && (1..=days).contains(&(10 * d1 + d2))
}
