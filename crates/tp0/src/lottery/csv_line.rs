//! Bets as lines of `bets.csv`: `agency,first_name,last_name,document,birthdate,number`, as Python's `csv` module writes
//! them: minimal quoting, `\r\n`.
//!
//! No field can hold a comma or a line end, so only a quote in a field needs quoting, and a line without quotes is the
//! bet as it travels.

use protocol::lottery::Bet;

/// The end of a line.
pub const END: &[u8] = b"\r\n";

/// Returns the first field of an agency's lines, with its comma.
pub fn agency_prefix(agency: &str) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(agency.len() + 1);
    push_field(agency, &mut prefix);
    prefix.push(b',');
    prefix
}

/// Appends the line of `bet`, whose agency is in `prefix`.
pub fn push(prefix: &[u8], bet: &Bet<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(prefix);
    let start = out.len();
    bet.write(out);
    if memchr::memchr(b'"', &out[start..]).is_some() {
        out.truncate(start);
        for (index, field) in bet.fields().into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_field(field, out);
        }
    }
    out.extend_from_slice(END);
}

fn push_field(field: &str, out: &mut Vec<u8>) {
    let quoted = memchr::memchr(b'"', field.as_bytes()).is_some();
    if !quoted {
        out.extend_from_slice(field.as_bytes());
        return;
    }
    out.push(b'"');
    for part in field.split_inclusive('"') {
        out.extend_from_slice(part.as_bytes());
        if part.ends_with('"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

/// Appends a line of `bets.csv`, without its end, as the fields travel: without quotes around them.
pub fn push_unquoted(line: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(b'"', line).is_none() {
        out.extend_from_slice(line);
        return;
    }
    let mut quoted = false;
    let mut bytes = line.iter().peekable();
    while let Some(byte) = bytes.next() {
        // A quote opens or closes a field, and two within a field are one of its text.
        if *byte != b'"' {
            out.push(*byte);
        } else if quoted && bytes.next_if_eq(&&b'"').is_some() {
            out.push(b'"');
        } else {
            quoted = !quoted;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    fn line(agency: &str, fields: [&str; 5]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&agency_prefix(agency), &Bet::new(fields).unwrap(), &mut out);
        out
    }

    fn by_crate(agency: &str, fields: [&str; 5]) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        writer.write_record(std::iter::once(agency).chain(fields)).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn golden_lines() {
        let plain = line("1", ["Santiago Lionel", "Lorca", "30904465", "1999-03-17", "2201"]);
        assert_eq!(plain, b"1,Santiago Lionel,Lorca,30904465,1999-03-17,2201\r\n");
        let quoted = line("a\"b", ["Ana \"Ñata\"", "O'Hara; x", "1", "1999-03-17", "07574"]);
        assert_eq!(
            String::from_utf8(quoted).unwrap(),
            "\"a\"\"b\",\"Ana \"\"Ñata\"\"\",O'Hara; x,1,1999-03-17,7574\r\n"
        );
    }

    /// Compares with Python for odd fields of every kind.
    #[test]
    fn python_writes_the_same_and_reads_it_back() {
        if Command::new("python3").arg("--version").output().is_err() {
            eprintln!("python3 is missing: not compared");
            return;
        }
        let odd = [
            "a",
            "\"",
            "\"\"",
            "a\"b",
            " a ",
            "'",
            "ñandú",
            "-1",
            "a;b\\",
            "#x",
            "\u{2028}",
            "\u{feff}é",
            "=1+1",
            "x\"y\"z",
        ];
        let mut ours = Vec::new();
        let mut rows = Vec::new();
        for first in odd {
            for last in odd {
                let fields = [first, last, "30904465", "1999-03-17", "7574"];
                ours.extend(line("1", fields));
                rows.push(std::iter::once("1").chain(fields).map(str::to_owned).collect::<Vec<_>>());
            }
        }
        let script = "import sys, json, csv, io\n\
            rows = json.load(sys.stdin)\n\
            out = io.StringIO(newline='')\n\
            csv.writer(out, quoting=csv.QUOTE_MINIMAL).writerows(rows)\n\
            assert list(csv.reader(io.StringIO(out.getvalue(), newline=''))) == rows\n\
            sys.stdout.buffer.write(out.getvalue().encode())";
        let mut python = Command::new("python3");
        let mut python =
            python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        python.stdin.take().unwrap().write_all(serde_json::to_string(&rows).unwrap().as_bytes()).unwrap();
        let theirs = python.wait_with_output().unwrap().stdout;
        assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
    }

    proptest! {
        #[test]
        fn the_csv_crate_writes_the_same_and_lines_come_back(
            agency in "[^,:\\p{Cc}]{1,8}", first in "[^,:\\p{Cc}]{1,12}", last in "[\"a ]{1,5}", document in "[^,:\\p{Cc}]{1,8}", number: u32,
        ) {
            let number = number.to_string();
            let fields = [first.as_str(), &last, &document, "2000-02-29", &number];
            let line = line(&agency, fields);
            prop_assert_eq!(&line, &by_crate(&agency, fields));
            let mut back = Vec::new();
            push_unquoted(line.strip_suffix(END).unwrap(), &mut back);
            let expected = format!("{agency},{}", fields.join(","));
            prop_assert_eq!(String::from_utf8(back).unwrap(), expected);
        }
    }
}
