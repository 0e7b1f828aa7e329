//! A master as its page and monitors see it, whether it leads or stands by.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use dataframe_jobs::message::WorkerState;
use page::{Check, FrameStamp, Health, Source, json};
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use super::command::Command;
use super::desk::{Desk, MAX_WAITING_CLIENTS};
use super::frame::{self, MasterState, NEW_BARS, NEW_EVENTS, SpoolState};
use super::history::ClusterHistory;
use super::ledger::{BARS_KEPT, EVENTS_KEPT};
use super::metrics::MasterMetrics;
use super::snapshot::{ClusterSnapshot, SnapshotWanted};
use crate::metrics::ProcessMetrics;

/// A coordinator that does not answer within this time hangs.
const HANGS: Duration = Duration::from_secs(5);
/// What a frame shows.
const FRAME: SnapshotWanted =
    SnapshotWanted { events_since: 0, events: NEW_EVENTS, bars_since: 0, bars: NEW_BARS };

/// What the page and monitors can read of a master program.
pub(crate) struct MasterPage {
    metrics: MasterMetrics,
    registry: Registry,
    process: ProcessMetrics,
    watched: Arc<AtomicBool>,
    /// The run while this master does not lead. A lead is a run of its own.
    run: String,
    started: Instant,
    /// The way to the coordinator, if this master leads.
    leading: Mutex<Option<Desk>>,
    history: tokio::sync::Mutex<ClusterHistory>,
}

/// What the coordinator answers.
enum Observed {
    StandsBy,
    Hangs(Desk),
    Leads(Desk, Box<ClusterSnapshot>),
}

impl MasterPage {
    /// Returns what can be read of a master that is starting. It sets `watched` while a page is open.
    pub(crate) fn new(metrics: MasterMetrics, watched: Arc<AtomicBool>) -> Self {
        let mut registry = metrics.registry();
        let process = ProcessMetrics::register(&mut registry);
        Self {
            metrics,
            registry,
            process,
            watched,
            run: service::new_ulid(rand::random()).to_string(),
            started: Instant::now(),
            leading: Mutex::default(),
            history: tokio::sync::Mutex::new(ClusterHistory::new()),
        }
    }

    /// Begins to tell of a master that leads.
    pub(crate) fn serve(&self, desk: Desk) {
        *self.leading.lock().unwrap_or_else(PoisonError::into_inner) = Some(desk);
    }

    /// Stops telling of a master until there is one again.
    pub(crate) fn rest(&self) {
        *self.leading.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn desk(&self) -> Option<Desk> {
        self.leading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn observe(&self, wanted: SnapshotWanted) -> Observed {
        let Some(desk) = self.desk() else { return Observed::StandsBy };
        let answered = timeout(HANGS, desk.ask(|answer| Command::Observe(wanted, answer))).await;
        match answered {
            Ok(Ok(snapshot)) => Observed::Leads(desk, Box::new(snapshot)),
            // The master has just stepped down.
            Ok(Err(_)) => Observed::StandsBy,
            Err(_) => Observed::Hangs(desk),
        }
    }

    async fn state(&self, wanted: SnapshotWanted) -> MasterState {
        let (desk, cluster, hangs) = match self.observe(wanted).await {
            Observed::StandsBy => (None, ClusterSnapshot::default(), false),
            Observed::Hangs(desk) => (Some(desk), ClusterSnapshot::default(), true),
            Observed::Leads(desk, cluster) => (Some(desk), *cluster, false),
        };
        let durations = self.history.lock().await.durations(&cluster.workers, &self.metrics);
        let spools = desk.as_ref().map(|desk| &desk.context.spool_room);
        MasterState {
            run: desk.as_ref().map_or(&self.run, |desk| &desk.context.lead.incarnation).clone(),
            now: Utc::now(),
            up: self.started.elapsed(),
            term: desk.as_ref().map(|desk| desk.context.lead.term),
            hangs,
            cluster,
            durations,
            spools: spools.map_or_else(SpoolState::default, |room| SpoolState {
                in_memory: room.in_memory(),
                on_disk: room.on_disk(),
                disk: room.disk(),
            }),
        }
    }

    async fn events(&self, events_since: u64) -> Option<Vec<u8>> {
        let wanted = SnapshotWanted { events_since, events: EVENTS_KEPT, ..SnapshotWanted::default() };
        let MasterState { run, cluster, .. } = self.state(wanted).await;
        let begun_at = cluster.begun_at;
        let events: Vec<_> =
            cluster.events.iter().map(|(n, news)| frame::numbered(*n, news, begun_at)).collect();
        json(&serde_json::json!({ "run": run, "events": events }))
    }

    async fn bars(&self, bars_since: u64) -> Option<Vec<u8>> {
        let wanted = SnapshotWanted { bars_since, bars: BARS_KEPT, ..SnapshotWanted::default() };
        let MasterState { run, cluster, .. } = self.state(wanted).await;
        let bars: Vec<_> = cluster.bars.iter().map(|(_, bar)| frame::bar(bar)).collect();
        json(&serde_json::json!({ "run": run, "last": cluster.last_bar, "tasks": bars }))
    }
}

impl Source for MasterPage {
    const HAS_PAGE: bool = true;

    async fn refresh_metrics(&self) {
        self.process.refresh();
        match self.observe(SnapshotWanted::default()).await {
            Observed::StandsBy => self.metrics.refresh(None, &ClusterSnapshot::default()),
            Observed::Hangs(_) => {}
            Observed::Leads(desk, cluster) => {
                self.metrics.refresh(Some(desk.context.lead.term), &cluster);
                let free = desk.context.waiting_clients.available_permits();
                let waiting = MAX_WAITING_CLIENTS.saturating_sub(free);
                self.metrics.refresh_queues(&desk.context.spool_room, waiting);
            }
        }
    }

    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let observed = self.observe(SnapshotWanted::default()).await;
        let ready = match &observed {
            Observed::Leads(_, cluster) => {
                cluster.workers.iter().filter(|worker| worker.status.state == WorkerState::Ready).count()
            }
            _ => 0,
        };
        let (answers, seen) = match &observed {
            Observed::StandsBy => (true, "ok, another master leads".to_owned()),
            Observed::Hangs(_) => (false, format!("no answer within {HANGS:?}")),
            Observed::Leads(..) => (true, "ok".to_owned()),
        };
        let coordinator = Check { name: "coordinator", passed: answers, seen };
        let workers = Check { name: "workers", passed: ready > 0, seen: format!("{ready} of 1") };
        Health { live: vec![coordinator.clone()], ready: vec![coordinator, workers] }
    }

    fn run(&self) -> String {
        self.desk().map_or_else(|| self.run.clone(), |desk| desk.context.lead.incarnation.clone())
    }

    async fn frame(&self, stamp: FrameStamp) -> serde_json::Result<Vec<u8>> {
        frame::frame(&self.state(FRAME).await, stamp)
    }

    async fn query(&self, what: &str, argument: Option<&str>) -> Option<Vec<u8>> {
        let number = || argument.and_then(|number| number.parse().ok()).unwrap_or(0);
        match what {
            "events" => self.events(number()).await,
            "tasks" => self.bars(number()).await,
            "history" => json(&self.history.lock().await.report()),
            _ => None,
        }
    }

    async fn sample(&self) {
        if let Observed::Leads(desk, cluster) = self.observe(SnapshotWanted::default()).await {
            let run = &desk.context.lead.incarnation;
            self.history.lock().await.sample(run, Utc::now(), &cluster, &self.metrics);
        }
    }

    fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }
}
