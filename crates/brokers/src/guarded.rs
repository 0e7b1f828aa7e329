//! A process with all its children, and whether a broker is installed.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A broker that does not start in this time has failed, on any machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time between two looks at whether a broker is there.
const POLL: Duration = Duration::from_millis(20);
/// Runs a program, and kills it with all its children when standard input ends, which happens when the starter ends.
const GUARD: &str = r#"exec 3<&0 </dev/null; { read -r _ <&3; kill -s KILL 0; } & "$@" 3<&-"#;

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// A program in a process group of its own. The whole group ends with this value.
#[derive(Debug)]
pub(crate) struct GuardedProcess {
    guard: Child,
}

impl GuardedProcess {
    /// Starts `program` with what `prepare` adds to the command. The program's output goes to the file `log`.
    pub(crate) fn start(program: &Path, log: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let output = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(program).process_group(0);
        prepare(&mut command);
        command.stdin(Stdio::piped()).stdout(output.try_clone().unwrap()).stderr(output);
        Self { guard: command.spawn().unwrap() }
    }

    /// Kills the program and its children, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // The group may have ended already.
        let _ = killpg(Pid::from_raw(i32::try_from(self.guard.id()).unwrap()), Signal::SIGKILL);
        let _ = self.guard.wait();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.guard.try_wait().unwrap().is_some()
    }
}

impl Drop for GuardedProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the path of a program, or `None` after a loud line that says that the test is skipped.
///
/// # Panics
/// If the program is missing and `CI=true` is in the environment.
pub(crate) fn find_or_skip(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    let found = all.map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "{name} is not installed, and a test without it proves nothing: install Debian's package {name}"
        );
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        // Tests capture what the macros print, and this line has to be seen.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: a test needs {name}, which is not installed ({count} tests skipped so far in this process)"
        );
    }
    found
}

/// Returns a port of loopback that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    Some(stream)
}

/// Waits until `ready`. Returns whether that came before `give_up` said that it never will.
///
/// # Panics
/// If neither comes.
pub(crate) fn wait_until(
    what: &str,
    mut ready: impl FnMut() -> bool,
    mut give_up: impl FnMut() -> bool,
) -> bool {
    let start = Instant::now();
    while !ready() {
        if give_up() {
            return false;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not happen in {PATIENCE:?}");
        thread::sleep(POLL);
    }
    true
}
