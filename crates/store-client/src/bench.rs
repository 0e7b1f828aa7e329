//! Load for the headnode: several sessions at a time, as the client runs them, without receipts.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use rand::RngExt as _;
use rand::rngs::StdRng;
use service::{Shutdown, net, new_ulid};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::message::{Message, Options, Outcome};
use crate::session::put_all;
use crate::{Bench, Settings};

/// Longest latency that is told apart, in microseconds.
const MAX_LATENCY: u64 = 600_000_000;

/// What the sessions share; they run on one thread.
struct Shared {
    unsent: Cell<u64>,
    saved: Cell<u64>,
    failed: Cell<u64>,
    failure: RefCell<Option<String>>,
    latencies: RefCell<Histogram<u64>>,
    bar: Option<ProgressBar>,
}

impl Shared {
    fn take(&self) -> Option<()> {
        self.unsent.set(self.unsent.get().checked_sub(1)?);
        Some(())
    }

    fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Saved(saved) => {
                let latency = u64::try_from(saved.took.as_micros()).unwrap_or(MAX_LATENCY).max(1);
                self.latencies.borrow_mut().saturating_record(latency);
                self.saved.set(self.saved.get() + 1);
            }
            Outcome::Failed(failed) => {
                self.failed.set(self.failed.get() + 1);
                self.failure.borrow_mut().get_or_insert_with(|| failed.failure.to_string());
            }
        }
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }
}

/// Runs `load` and prints how it went.
///
/// # Errors
/// If a message was not saved.
pub async fn run(settings: &Settings, load: &Bench, shutdown: &Shutdown) -> anyhow::Result<()> {
    let shared = Rc::new(Shared {
        unsent: Cell::new(load.messages),
        saved: Cell::new(0),
        failed: Cell::new(0),
        failure: RefCell::new(None),
        latencies: RefCell::new(Histogram::new_with_bounds(1, MAX_LATENCY, 3)?),
        bar: std::io::stderr().is_terminal().then(|| progress_bar(load.messages)),
    });
    let started = Instant::now();
    let tasks = LocalSet::new();
    let mut sessions = JoinSet::new();
    for _ in 0..load.connections {
        sessions.spawn_local_on(one_session(settings, load, shutdown, shared.clone()), &tasks);
    }
    tasks
        .run_until(async {
            while let Some(ended) = sessions.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        })
        .await?;
    let elapsed = started.elapsed();
    if let Some(bar) = &shared.bar {
        bar.finish_and_clear();
    }
    let mut stdout = std::io::stdout();
    write!(stdout, "{}", report(load, shared.saved.get(), elapsed, &shared.latencies.borrow()))?;
    stdout.flush()?;
    let (failed, unsent) = (shared.failed.get(), shared.unsent.get());
    let failure = shared.failure.take().unwrap_or_default();
    ensure!(failed == 0, "{failed} messages were not saved, the first because: {failure}");
    ensure!(unsent == 0, "stopped with {unsent} messages unsent");
    Ok(())
}

fn one_session(
    settings: &Settings,
    load: &Bench,
    shutdown: &Shutdown,
    shared: Rc<Shared>,
) -> impl Future<Output = anyhow::Result<()>> + 'static {
    let (address, shutdown) = (settings.headnode.clone(), shutdown.clone());
    let options = Options { window: usize::from(load.pipeline), ..settings.options() };
    let text = "x".repeat(load.size as usize);
    let mut ids: StdRng = rand::make_rng();
    let rng = rand::make_rng();
    async move {
        let mut messages = std::iter::from_fn(|| {
            shared.take()?;
            Some(Message { id: new_ulid(ids.random()), text: text.clone() })
        });
        // The session limits how long it waits.
        let connector = || net::connect(&address, Duration::MAX);
        put_all(connector, &mut messages, options, rng, &shutdown, |outcome| shared.count(outcome)).await?;
        Ok(())
    }
}

fn report(load: &Bench, saved: u64, elapsed: Duration, latencies: &Histogram<u64>) -> String {
    let Bench { connections, pipeline, size, .. } = load;
    let seconds = elapsed.as_secs_f64();
    let rate = saved as f64 / seconds.max(f64::MIN_POSITIVE);
    let quantile = |q| latencies.value_at_quantile(q);
    format!(
        "{saved} messages of {size} bytes saved, {connections} connections, {pipeline} on their way on each\n\
         {rate:.0} a second, {seconds:.2} s in all\n\
         latency in µs: mean {:.0}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}\n",
        latencies.mean(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        latencies.max()
    )
}

fn progress_bar(messages: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(messages).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
