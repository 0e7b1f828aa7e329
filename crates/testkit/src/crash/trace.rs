//! Runs a program under `strace`, and reads what it did.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Process;

/// The calls that change files, make them last, or tell somebody something.
const CALLS: &str = "openat,write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,\
                     unlinkat,sendto,sendmsg";

/// What a program did with its folder, or told somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Step {
    /// A name is made, if it is not there. A file that is there is emptied, if the program asks for that.
    Create {
        path: PathBuf,
        empties: bool,
    },
    /// A write at the end of the file.
    Append {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        length: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    /// What the file or the folder holds is on the disk from now on.
    Sync {
        path: PathBuf,
    },
    /// Bytes to the port of a peer.
    Tell {
        port: u16,
        bytes: Vec<u8>,
    },
}

/// A program that runs under `strace`.
pub struct Traced {
    process: Process,
    folder: PathBuf,
    log: PathBuf,
}

impl Traced {
    /// Starts a program whose files are in `folder`, and waits until it listens. Relative paths of the program are those of the
    /// folder. Returns `None` if `strace` is not installed.
    ///
    /// # Panics
    /// If the program does not start.
    #[must_use]
    pub fn start(command: &Command, folder: &Path, log: &Path) -> Option<Self> {
        Command::new("strace").arg("--version").output().ok()?;
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-yy", "-xx", "-s", "10000000", "-e", "signal=none", "-e"]);
        traced.arg(format!("trace={CALLS}")).arg("-o").arg(log);
        traced.arg(command.get_program()).args(command.get_args()).current_dir(folder);
        traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let process = Process::start(traced);
        Some(Self { process, folder: folder.to_owned(), log: log.to_owned() })
    }

    /// The program's address.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        self.process.address
    }

    /// Ends the program by SIGTERM, and gives what it did.
    ///
    /// # Panics
    /// If the program does not end well, or `strace` wrote what cannot be read.
    #[must_use]
    pub fn finish(mut self) -> Vec<Step> {
        let strace = self.process.child.id();
        let children = std::fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap();
        let program = children.split_whitespace().next().expect("strace has started the program");
        kill(Pid::from_raw(program.parse().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.process.ended().success());
        read(&std::fs::read_to_string(&self.log).unwrap(), &self.folder)
    }
}

/// Reads the lines of `strace`. A write counts from its beginning on, and a sync from its end on.
fn read(log: &str, folder: &Path) -> Vec<Step> {
    let mut begun: HashMap<&str, String> = HashMap::new();
    let mut steps = Vec::new();
    for line in log.lines() {
        let (process, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        // A call that the end of the program cuts short is `detached`. Its name may be missing too: `???( <detached ...>`.
        let unfinished =
            call.strip_suffix("<unfinished ...>").or_else(|| call.strip_suffix("<detached ...>"));
        if let Some(beginning) = unfinished {
            if !is_sync(beginning) {
                steps.extend(step(beginning, folder));
            }
            begun.insert(process, beginning.to_owned());
        } else if let Some(resumed) = call.strip_prefix("<... ") {
            let beginning = begun.remove(process).unwrap();
            let end = resumed.split_once("resumed>").unwrap().1;
            assert!(!is_file_call(&beginning, folder) || has_succeeded(end), "{beginning}{end}");
            if is_sync(&beginning) {
                steps.extend(step(&beginning, folder));
            }
        } else if has_succeeded(call) {
            steps.extend(step(call, folder));
        }
    }
    steps
}

fn is_sync(call: &str) -> bool {
    call.starts_with("fsync(") || call.starts_with("fdatasync(")
}

fn is_file_call(call: &str, folder: &Path) -> bool {
    step(call, folder).is_some_and(|step| !matches!(step, Step::Tell { .. }))
}

fn has_succeeded(call: &str) -> bool {
    let Some((_, result)) = call.rsplit_once(" = ") else { panic!("strace wrote no result: {call}") };
    // An error is `-1 ENOENT`, and what a signal interrupted is `? ERESTARTSYS`.
    result.starts_with(|first: char| first.is_ascii_digit())
}

/// The step of one call, if it is about the folder or a peer.
fn step(call: &str, folder: &Path) -> Option<Step> {
    let (name, arguments) = call.split_once('(')?;
    // `join` leaves an absolute path as it is.
    let within = |path: &str| Some(folder.join(path)).filter(|path| path.starts_with(folder));
    let descriptor = || {
        let path = PathBuf::from(decode(arguments.split_once('<')?.1.split_once('>')?.0));
        // What is no file has a name such as `pipe:[4711]`.
        Some(path).filter(|path| path.starts_with(folder))
    };
    match name {
        "openat" if arguments.contains("O_CREAT") || arguments.contains("O_TRUNC") => {
            let path = within(quoted(arguments).first()?)?;
            Some(Step::Create { path, empties: arguments.contains("O_TRUNC") })
        }
        "write" | "writev" | "sendto" | "sendmsg" | "pwrite64" | "pwritev" => {
            let bytes: Vec<u8> = quoted_bytes(arguments).concat();
            if let Some(port) = peer(arguments) {
                return Some(Step::Tell { port, bytes });
            }
            let path = descriptor()?;
            assert!(!name.starts_with('p'), "a write at an offset is not understood here: {call}");
            Some(Step::Append { path, bytes })
        }
        "ftruncate" => {
            let length = arguments.split_once(", ")?.1.split_once(')')?.0.parse().unwrap();
            Some(Step::Truncate { path: descriptor()?, length })
        }
        "fsync" | "fdatasync" => Some(Step::Sync { path: descriptor()? }),
        "rename" | "renameat" | "renameat2" => {
            let names = quoted(arguments);
            Some(Step::Rename { from: within(names.first()?)?, to: within(names.get(1)?)? })
        }
        "unlink" | "unlinkat" => Some(Step::Remove { path: within(quoted(arguments).first()?)? }),
        _ => None,
    }
}

/// The port of the peer of a connection, as `strace -yy` shows it: `5<TCP:[127.0.0.1:5000->127.0.0.1:40522]>`.
fn peer(arguments: &str) -> Option<u16> {
    let connection = arguments.split_once("<TCP")?.1.split_once(']')?.0;
    connection.rsplit_once(':')?.1.parse().ok()
}

fn quoted(arguments: &str) -> Vec<String> {
    quoted_bytes(arguments).into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

/// What stands in quotes.
fn quoted_bytes(arguments: &str) -> Vec<Vec<u8>> {
    arguments.split('"').skip(1).step_by(2).map(bytes).collect()
}

fn decode(text: &str) -> String {
    String::from_utf8_lossy(&bytes(text)).into_owned()
}

/// Reads `\x48\x6f`. What is no such pair stands for itself.
fn bytes(text: &str) -> Vec<u8> {
    let mut rest = text;
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let byte = rest.strip_prefix("\\x").and_then(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok());
        bytes.push(byte.unwrap_or(rest.as_bytes()[0]));
        rest = &rest[if byte.is_some() { 4 } else { 1 }..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace_are_read() {
        let log = r#"7 openat(AT_FDCWD<\x2f>, "\x2f\x64\x2f\x61", O_RDWR|O_CREAT|O_APPEND|O_CLOEXEC, 0666) = 5<\x2f\x64\x2f\x61>
7 openat(AT_FDCWD<\x2f>, "\x2f\x65\x2f\x61", O_RDWR|O_CREAT, 0666) = 6<\x2f\x65\x2f\x61>
7 write(5<\x2f\x64\x2f\x61>, "\x48\x6f\x0a", 3) = 3
7 fdatasync(5<\x2f\x64\x2f\x61> <unfinished ...>
8 write(5<\x2f\x64\x2f\x61>, "\x22", 1) = 1
7 <... fdatasync resumed>) = 0
7 sendto(9<TCP:[127.0.0.1:5000->127.0.0.1:40522]>, "\x4f\x4b", 2, MSG_NOSIGNAL, NULL, 0) = 2
7 rename("\x2f\x64\x2f\x61", "\x2f\x64\x2f\x62") = 0
7 ftruncate(5<\x2f\x64\x2f\x62>, 3) = 0
7 unlink("\x2f\x64\x2f\x63") = -1 ENOENT (No such file or directory)
7 fsync(5<\x2f\x64>) = 0
8 fsync(5<\x2f\x64>) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
8 fsync(5<\x2f\x64> <detached ...>
7 write(5<\x2f\x64\x2f\x62>, "\x40", 1 <detached ...>
9 ???( <detached ...>
"#;
        let path = |name: &str| Path::new("/d").join(name);
        let expected = [
            Step::Create { path: path("a"), empties: false },
            Step::Append { path: path("a"), bytes: b"Ho\n".to_vec() },
            Step::Append { path: path("a"), bytes: b"\"".to_vec() },
            Step::Sync { path: path("a") },
            Step::Tell { port: 40522, bytes: b"OK".to_vec() },
            Step::Rename { from: path("a"), to: path("b") },
            Step::Truncate { path: path("b"), length: 3 },
            Step::Sync { path: "/d".into() },
            Step::Append { path: path("b"), bytes: b"@".to_vec() },
        ];
        assert_eq!(read(log, Path::new("/d")), expected);
    }
}
