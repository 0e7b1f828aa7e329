//! What a program tells about itself.

use std::path::PathBuf;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde::Serialize;

/// A program, as pages and monitors see it. The server calls these methods on its own thread.
pub trait Source: Send + Sync + 'static {
    /// Whether the program has a page, besides metrics and health.
    const HAS_PAGE: bool = false;

    /// Brings those metrics up to date that are not counted all the time. Called before metrics are written.
    fn refresh_metrics(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Returns the metrics of this program.
    fn metrics(&self) -> &Registry;

    /// Returns whether the program is well.
    fn health(&self) -> impl Future<Output = Health> + Send;

    /// Returns the present run of the program. A page that sees another run knows that counters began again.
    fn run(&self) -> String {
        String::new()
    }

    /// Returns the present state as a JSON object. Called once per period while a page is open, however many are open.
    ///
    /// # Errors
    /// Fails if the state cannot be written as JSON.
    fn frame(&self, _stamp: FrameStamp) -> impl Future<Output = serde_json::Result<Vec<u8>>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Returns what the page asks for under `/api/`, as JSON, or `None` if there is no such thing. `argument` is the
    /// value of the only parameter, if the request has one.
    fn query(&self, _what: &str, _argument: Option<&str>) -> impl Future<Output = Option<Vec<u8>>> + Send {
        std::future::ready(None)
    }

    /// Takes a sample for the history. Called every [`SAMPLE_PERIOD`](crate::history::SAMPLE_PERIOD), also while no page
    /// is open.
    fn sample(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Notes whether any page is open.
    fn set_watched(&self, _watched: bool) {}

    /// Returns the files whose ends may be read.
    fn files(&self) -> Vec<RawFile> {
        Vec::new()
    }
}

/// Returns the answer to [`Source::query`] that tells `value`, or `None` if it cannot be written as JSON.
#[must_use]
pub fn json(value: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(value).ok()
}

/// What a frame is stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStamp {
    /// The number of the frame, from 1 for each run.
    pub number: u64,
    /// The time from one frame to the next.
    pub period: Duration,
}

/// A file whose end may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFile {
    /// Its name in the address.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Whether a program is well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// A check that fails here is one that a restart would help.
    pub live: Vec<Check>,
    /// A check that fails here says that the program cannot do its work now.
    pub ready: Vec<Check>,
}

/// One check of a program's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is checked, in one word.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub passed: bool,
    /// What was seen, for people, such as `0 of 1`.
    pub seen: String,
}

impl Health {
    /// Returns whether all checks in `checks` have passed, and a line for each, such as `[-]datanodes: 0 of 1`.
    pub(crate) fn report(checks: &[Check]) -> (bool, String) {
        let line = |Check { name, passed, seen }: &Check| {
            format!("[{}]{name}: {seen}\n", if *passed { '+' } else { '-' })
        };
        (checks.iter().all(|check| check.passed), checks.iter().map(line).collect())
    }
}
