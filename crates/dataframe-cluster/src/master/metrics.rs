//! The metrics of a master. `tasca1/README.md` lists them.

use std::sync::atomic::AtomicU64;

use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::{WorkerState, WorkerStatus};
use dataframe_jobs::scheduler::{GoneCause, LossCause};
use page::bounded::ByName;
use page::latency::Latency;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::snapshot::{ClusterSnapshot, TaskOutcome};
use crate::metrics::{ByOutcome, whole};
use crate::spool::SpoolRoom;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerStateLabels {
    state: &'static str,
}

/// The metrics of a master program, whoever leads. Clones share the same counts.
#[derive(Debug, Clone)]
pub(crate) struct MasterMetrics {
    jobs: Family<JobLabels, Counter>,
    job_duration: Latency,
    tasks: ByOutcome<5>,
    losses: Family<CauseLabels, Counter>,
    gone: Family<CauseLabels, Counter>,
    /// Results that were used, by the worker that sent them.
    pub(crate) worker_tasks: ByName<Counter>,
    /// The time from the beginning of a task at its worker to its whole result.
    pub(crate) task_duration: ByName<Latency>,
    /// The bytes of the results that workers have sent.
    pub(crate) result_bytes: Counter,
    gauges: MasterGauges,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    result: &'static str,
}

/// What is set when metrics are asked for.
#[derive(Debug, Clone)]
struct MasterGauges {
    leads: Gauge,
    term: Gauge,
    workers: Family<WorkerStateLabels, Gauge>,
    slots: Gauge,
    worker_running: ByName<Gauge>,
    worker_resident: ByName<Gauge>,
    worker_silence: ByName<Gauge<f64, AtomicU64>>,
    jobs_running: Gauge,
    tasks_running: Gauge,
    tasks_waiting: Gauge,
    commands_waiting: Gauge,
    clients_waiting: Gauge,
    spool_memory: Gauge,
    spool_disk: Gauge,
    spool_free: Gauge,
}

impl MasterGauges {
    fn new() -> Self {
        Self {
            leads: Gauge::default(),
            term: Gauge::default(),
            workers: Family::default(),
            slots: Gauge::default(),
            worker_running: ByName::new("worker"),
            worker_resident: ByName::new("worker"),
            worker_silence: ByName::new("worker"),
            jobs_running: Gauge::default(),
            tasks_running: Gauge::default(),
            tasks_waiting: Gauge::default(),
            commands_waiting: Gauge::default(),
            clients_waiting: Gauge::default(),
            spool_memory: Gauge::default(),
            spool_disk: Gauge::default(),
            spool_free: Gauge::default(),
        }
    }
}

impl MasterMetrics {
    /// Returns metrics of which nothing was counted yet.
    pub(crate) fn new() -> Self {
        let jobs = Family::<JobLabels, Counter>::default();
        for result in [JOB_DONE].into_iter().chain(FailureCode::ALL.map(FailureCode::word)) {
            drop(jobs.get_or_create(&JobLabels { result }));
        }
        let by_cause = |causes: &[&'static str]| {
            let family = Family::<CauseLabels, Counter>::default();
            for &cause in causes {
                drop(family.get_or_create(&CauseLabels { cause }));
            }
            family
        };
        Self {
            jobs,
            job_duration: Latency::default(),
            tasks: ByOutcome::new(TaskOutcome::ALL.map(TaskOutcome::word)),
            losses: by_cause(&LossCause::ALL.map(LossCause::word)),
            gone: by_cause(&GoneCause::ALL.map(GoneCause::word)),
            worker_tasks: ByName::new("worker"),
            task_duration: ByName::new("worker"),
            result_bytes: Counter::default(),
            gauges: MasterGauges::new(),
        }
    }

    /// Returns a registry of these metrics.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("dataframe_master");
        let Self {
            jobs,
            job_duration,
            tasks,
            losses,
            gone,
            worker_tasks,
            task_duration,
            result_bytes,
            gauges,
        } = self.clone();
        let seconds = Unit::Seconds;
        registry.register("jobs", "Jobs that have ended, by result", jobs);
        let help = "Time from a job to its stored result, or to its failure";
        registry.register_with_unit("job_duration", help, seconds.clone(), job_duration);
        tasks.register(&mut registry, "tasks", "Attempts at tasks that have ended, by what became of them");
        registry.register("lost_tasks", "Attempts at tasks that were lost, by cause", losses);
        registry.register("workers_gone", "Workers that get no more tasks, by cause", gone);
        registry.register("worker_tasks", "Results of tasks that were used, by worker", worker_tasks);
        let help = "Time from the beginning of a task to its whole result, by worker";
        registry.register_with_unit("task_duration", help, seconds, task_duration);
        let help = "Results of tasks that workers have sent";
        registry.register_with_unit("result", help, Unit::Bytes, result_bytes);
        gauges.register(&mut registry);
        registry
    }

    /// Counts a job that has ended. `failure` is the code of its failure.
    pub(crate) fn job_ended(&self, failure: Option<FailureCode>, took: std::time::Duration) {
        let result = failure.map_or(JOB_DONE, FailureCode::word);
        self.jobs.get_or_create(&JobLabels { result }).inc();
        self.job_duration.record(took);
    }

    /// Counts an attempt that has ended.
    pub(crate) fn task_ended(&self, outcome: TaskOutcome) {
        self.tasks.count(outcome as usize);
    }

    /// Counts why an attempt was lost.
    pub(crate) fn task_lost(&self, cause: LossCause) {
        self.losses.get_or_create(&CauseLabels { cause: cause.word() }).inc();
    }

    /// Counts a worker that is gone.
    pub(crate) fn worker_gone(&self, cause: GoneCause) {
        self.gone.get_or_create(&CauseLabels { cause: cause.word() }).inc();
    }

    /// Sets what is not counted all the time. `term` is that of the lead, if this master leads.
    pub(crate) fn refresh(&self, term: Option<u64>, snapshot: &ClusterSnapshot) {
        let gauges = &self.gauges;
        gauges.leads.set(i64::from(term.is_some()));
        gauges.term.set(whole(term.unwrap_or(0)));
        for (state, word) in STATES {
            let count = snapshot.workers.iter().filter(|worker| worker.status.state == state).count();
            gauges.workers.get_or_create(&WorkerStateLabels { state: word }).set(whole(count));
        }
        gauges.slots.set(whole(snapshot.slots));
        for worker in &snapshot.workers {
            let WorkerStatus { info, running, silent_ms, .. } = &worker.status;
            if let Some(gauge) = gauges.worker_running.own(&info.name) {
                gauge.set(i64::from(*running));
            }
            if let Some(gauge) = gauges.worker_resident.own(&info.name) {
                gauge.set(whole(worker.resident_bytes.unwrap_or(0)));
            }
            if let Some(gauge) = gauges.worker_silence.own(&info.name) {
                gauge.set(std::time::Duration::from_millis(*silent_ms).as_secs_f64());
            }
        }
        gauges.jobs_running.set(whole(snapshot.running.len()));
        gauges.tasks_running.set(whole(snapshot.tasks_running()));
        gauges.tasks_waiting.set(whole(snapshot.tasks_waiting()));
        gauges.commands_waiting.set(whole(snapshot.commands_waiting));
    }

    /// Sets what is known without asking the coordinator.
    pub(crate) fn refresh_queues(&self, spools: &SpoolRoom, clients_waiting: usize) {
        self.gauges.clients_waiting.set(whole(clients_waiting));
        self.gauges.spool_memory.set(whole(spools.in_memory()));
        self.gauges.spool_disk.set(whole(spools.on_disk()));
        self.gauges.spool_free.set(whole(spools.disk().map_or(0, |disk| disk.free)));
    }
}

impl MasterGauges {
    fn register(self, registry: &mut Registry) {
        let bytes = Unit::Bytes;
        registry.register("leads", "1 if this master leads its cluster, 0 if it stands by", self.leads);
        registry.register("lead_term", "Number of the lead of this master", self.term);
        registry.register("workers", "Workers that are known, by state", self.workers);
        registry.register("slots", "Tasks that all workers together run at a time", self.slots);
        registry.register("worker_running_tasks", "Tasks that the worker runs", self.worker_running);
        let help = "Memory of the worker's process, as it told with its last sign of life";
        registry.register_with_unit("worker_resident_memory", help, bytes.clone(), self.worker_resident);
        let help = "Time since the worker's last sign of life";
        registry.register_with_unit("worker_silence", help, Unit::Seconds, self.worker_silence);
        registry.register("running_jobs", "Jobs that have not ended", self.jobs_running);
        registry.register("running_tasks", "Tasks that workers have", self.tasks_running);
        registry.register("waiting_tasks", "Tasks that wait for a worker", self.tasks_waiting);
        let help = "News and questions that wait for the coordinator";
        registry.register("waiting_commands", help, self.commands_waiting);
        registry.register("waiting_clients", "Clients that wait for a job", self.clients_waiting);
        let help = "Results of tasks that lie in memory until they are used";
        registry.register_with_unit("spool_memory", help, bytes.clone(), self.spool_memory);
        let help = "Results of tasks that lie on disk until they are used";
        registry.register_with_unit("spool_disk", help, bytes.clone(), self.spool_disk);
        let help = "Free space on the disk of the results";
        registry.register_with_unit("spool_free", help, bytes, self.spool_free);
    }
}

/// The result of a job that ended well.
const JOB_DONE: &str = "done";

/// The states of workers, in the words of the protocol.
pub(crate) const STATES: [(WorkerState, &str); 3] =
    [(WorkerState::Ready, "ready"), (WorkerState::Draining, "draining"), (WorkerState::Lost, "lost")];
