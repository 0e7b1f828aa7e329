//! The real `store-client` on a pseudo-terminal, whose screen a test reads as a person does.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use pty_process::Size;
use pty_process::blocking::{Command, Pts, Pty, open};
use testkit::{PATIENCE, wait_for};

/// What came from the program: every byte, and the screen that they make.
struct Output {
    bytes: Vec<u8>,
    screen: vt100::Parser,
}

/// A terminal of 80 columns and 24 lines with a program on it, which is killed when it is dropped.
pub struct PseudoTerminal {
    pub child: Child,
    master: Arc<Pty>,
    output: Arc<Mutex<Output>>,
    before: Termios,
    // While it is open, the settings of the terminal outlive the program.
    _slave: Pts,
}

impl PseudoTerminal {
    pub fn start(command: Command) -> Self {
        let (master, slave) = open().unwrap();
        master.resize(Size::new(24, 80)).unwrap();
        let before = tcgetattr(master.as_fd()).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        let child = command.env("TERM", "xterm-256color").spawn_borrowed(&slave).unwrap();
        let master = Arc::new(master);
        let output = Arc::new(Mutex::new(Output { bytes: Vec::new(), screen: vt100::Parser::default() }));
        let (from, to) = (master.clone(), output.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = (&*from).read(&mut buffer) {
                let mut output = to.lock().unwrap();
                output.bytes.extend_from_slice(&buffer[..read]);
                output.screen.process(&buffer[..read]);
            }
        });
        Self { child, master, output, before, _slave: slave }
    }

    pub fn press(&self, keys: &[u8]) {
        (&*self.master).write_all(keys).unwrap();
    }

    pub fn resize(&self, lines: u16, columns: u16) {
        let (rows, cols) = (lines.try_into().unwrap(), columns.try_into().unwrap());
        self.output.lock().unwrap().screen.screen_mut().set_size(rows, cols);
        self.master.resize(Size::new(lines, columns)).unwrap();
    }

    pub fn screen(&self) -> vt100::Screen {
        self.output.lock().unwrap().screen.screen().clone()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.output.lock().unwrap().bytes.clone()
    }

    /// Waits until the screen shows this text.
    pub fn shows(&self, text: &str) {
        self.shows_when(text, |shown| shown.contains(text));
    }

    pub fn shows_when(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let shown = self.screen().contents();
            if is_there(&shown) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{what:?} is not on the screen:\n{shown}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the picture is there, for which the terminal was changed.
    pub fn is_taken(&self, text: &str) {
        self.shows(text);
        let screen = self.screen();
        assert!(screen.alternate_screen() && screen.hide_cursor());
        let local = tcgetattr(self.master.as_fd()).unwrap().local_flags;
        assert!(!local.intersects(LocalFlags::ICANON | LocalFlags::ECHO), "{local:?}");
    }

    /// Waits for the end of the program, and checks that the terminal is as it was.
    pub fn given_back(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        wait_for("the screen as it was", || {
            let screen = self.screen();
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        assert_eq!(tcgetattr(self.master.as_fd()).unwrap(), self.before);
        status.unwrap()
    }
}

impl Drop for PseudoTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
