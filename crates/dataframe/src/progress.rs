//! The progress bar of a job's tasks.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataframe_cluster::client::OnProgress;
use dataframe_jobs::message::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter work shows no bar.
const BEFORE_SHOWN: Duration = Duration::from_millis(500);
/// The time between two pictures of the part that turns.
const TURN: Duration = Duration::from_millis(100);

/// Before the number of tasks is known, and where there are none.
const WITHOUT_TASKS: &str = "{spinner} {elapsed}  {wide_msg}";
const WITH_TASKS: &str = "{spinner} {bar:30} {pos}/{len} tasks  {elapsed}  {wide_msg}";

/// Shows how far the present job is: on stderr, if that is a terminal, and only if the job takes long. Clones share the bar.
#[derive(Clone, Default)]
pub struct TaskProgress {
    job: Arc<Mutex<ShownJob>>,
}

#[derive(Default)]
struct ShownJob {
    state: Option<Progress>,
    bar: Option<ProgressBar>,
}

impl TaskProgress {
    /// Returns what is called with the state of a job.
    #[must_use]
    pub fn callback(&self) -> OnProgress {
        let progress = self.clone();
        Arc::new(move |state| progress.lock().update(state.clone()))
    }

    /// Runs a job, shows the bar if it takes long, and removes the bar at the end.
    pub async fn during<T>(&self, job: impl Future<Output = T>) -> T {
        let mut job = std::pin::pin!(job);
        *self.lock() = ShownJob::default();
        let _removed_at_end = EndOfProgress(self.clone());
        if let Ok(done) = tokio::time::timeout(BEFORE_SHOWN, &mut job).await {
            return done;
        }
        if std::io::stderr().is_terminal() {
            self.lock().appear();
        }
        job.await
    }

    fn lock(&self) -> MutexGuard<'_, ShownJob> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShownJob {
    fn appear(&mut self) {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        bar.set_style(style(WITHOUT_TASKS));
        bar.set_message("computing");
        bar.enable_steady_tick(TURN);
        self.bar = Some(bar);
        if let Some(state) = self.state.take() {
            self.update(state);
        }
    }

    fn update(&mut self, state: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_style(style(if state.total == 0 { WITHOUT_TASKS } else { WITH_TASKS }));
            bar.set_length(u64::from(state.total));
            bar.set_position(u64::from(state.done));
            bar.set_message(message(&state));
        }
        self.state = Some(state);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Removes the bar, however the job ends.
struct EndOfProgress(TaskProgress);

impl Drop for EndOfProgress {
    fn drop(&mut self) {
        let shown = std::mem::take(&mut *self.0.lock());
        if let Some(bar) = shown.bar {
            bar.finish_and_clear();
        }
    }
}

fn message(state: &Progress) -> String {
    match (&state.waiting_for, state.total) {
        (Some(what), _) => format!("waiting for {}", text::Shown(what)),
        (None, 0) => "planning".to_owned(),
        (None, _) => format!("{} running", state.running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_the_job_does() {
        let state = |total, running, waiting: Option<&str>| Progress {
            done: 0,
            total,
            running,
            waiting_for: waiting.map(str::to_owned),
        };
        assert_eq!(message(&state(0, 0, None)), "planning");
        assert_eq!(message(&state(8, 2, None)), "2 running");
        assert_eq!(message(&state(8, 0, Some("workers\u{1b}[2J"))), "waiting for workers\\u001b[2J");
    }

    #[test]
    fn a_bar_counts_the_tasks_as_soon_as_they_are_known() {
        let mut shown = ShownJob::default();
        shown.update(Progress { done: 1, total: 2, running: 1, waiting_for: None });
        assert!(shown.bar.is_none());
        shown.appear();
        let bar = shown.bar.unwrap();
        assert_eq!((bar.position(), bar.length()), (1, Some(2)));
    }
}
