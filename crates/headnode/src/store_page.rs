//! The headnode as its page and monitors see it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use page::{Check, FrameStamp, Health, RawFile, Source, json};
use prometheus_client::registry::Registry;
use protocol::store::types::Incarnation;
use records::{HEARTBEAT_FILE, REGISTRY_FILE};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::cluster_view::{ClusterStatus, WantedEvents};
use crate::frame::{self, NEW_EVENTS, NEW_MESSAGES, StoreState};
use crate::gauges::StoreGauges;
use crate::heartbeat::TIMELINE;
use crate::metrics::HeadnodeMetrics;
use crate::placer::StoreOverview;
use crate::recent_messages::RecentMessages;
use crate::role::{HeadnodeRole, LedStore};
use crate::store_history::StoreHistory;

/// A headnode that does not answer itself within this time hangs.
const HANGS: Duration = Duration::from_secs(5);
/// How many of the registry's messages a page shows that has just been opened.
const EARLIER_MESSAGES: usize = 20;
/// How many messages one answer holds at most.
const ALL_MESSAGES: usize = 64;

/// What the page and monitors can read of the headnode.
#[derive(Debug)]
pub struct StorePage {
    role: watch::Receiver<HeadnodeRole>,
    metrics: HeadnodeMetrics,
    gauges: StoreGauges,
    registry: Registry,
    recent: Arc<RecentMessages>,
    settings: StorePageSettings,
    started: (Instant, DateTime<Utc>),
    history: Mutex<StoreHistory>,
}

/// What does not change while the headnode runs.
#[derive(Debug, Clone)]
pub struct StorePageSettings {
    pub run: Incarnation,
    pub expected: usize,
    /// The number of datanodes that must confirm each message.
    pub replicas: usize,
    pub interval: Duration,
    pub data_dir: PathBuf,
}

impl StorePage {
    /// Returns what can be read of a headnode that is starting.
    #[must_use]
    pub fn new(
        role: watch::Receiver<HeadnodeRole>,
        metrics: HeadnodeMetrics,
        recent: Arc<RecentMessages>,
        settings: StorePageSettings,
    ) -> Self {
        let (mut registry, gauges) = (Registry::with_prefix("headnode"), StoreGauges::new());
        metrics.register(&mut registry);
        gauges.register(&mut registry);
        let history = Mutex::new(StoreHistory::new(&metrics));
        Self {
            role,
            metrics,
            gauges,
            registry,
            recent,
            settings,
            started: (Instant::now(), Utc::now()),
            history,
        }
    }

    async fn state(&self) -> StoreState {
        let overview = self.overview_with(WantedEvents { since: 0, newest: NEW_EVENTS }).await;
        let history = self.history.lock().await;
        let confirmations = history.confirmations(&overview.cluster, &self.metrics);
        let (last_message, messages) = self.recent.newest(0, NEW_MESSAGES);
        StoreState {
            run: self.run(),
            now: Utc::now(),
            up: self.started.0.elapsed(),
            interval: self.settings.interval,
            expected: self.settings.expected,
            registered_at_start: self.led().map_or(0, |led| led.registered_at_start),
            overview,
            saved: self.metrics.put.saved.get(),
            failed: self.metrics.put.failed.get(),
            put: history.put(),
            confirmations,
            last_message,
            messages,
            files: self.files().into_iter().map(|file| file.name).collect(),
        }
    }

    /// Returns the store, if the headnode leads.
    fn led(&self) -> Option<Arc<LedStore>> {
        match &*self.role.borrow() {
            HeadnodeRole::Leads(led) => Some(led.clone()),
            HeadnodeRole::StandsBy(_) => None,
        }
    }

    /// Returns the overview. That of a headnode that stands by knows no datanode and no message.
    async fn overview_with(&self, events: WantedEvents) -> StoreOverview {
        if let Some(led) = self.led() {
            return led.placer.overview(events).await;
        }
        StoreOverview {
            cluster: ClusterStatus::default(),
            drained: BTreeSet::new(),
            registered: Vec::new(),
            replicas: self.settings.replicas,
            messages: 0,
            epoch: None,
        }
    }

    /// Returns the overview, or `None` if the headnode hangs.
    async fn overview(&self) -> Option<StoreOverview> {
        timeout(HANGS, self.overview_with(WantedEvents::default())).await.ok()
    }

    /// Checks whether the headnode leads.
    fn leads(&self) -> Check {
        let (passed, seen) = match &*self.role.borrow() {
            HeadnodeRole::Leads(_) => (true, "ok".to_owned()),
            HeadnodeRole::StandsBy(Some(epoch)) => {
                (false, format!("stands by: epoch {epoch} is that of another headnode"))
            }
            HeadnodeRole::StandsBy(None) => {
                (false, "stands by: no datanode has told of a headnode that leads".to_owned())
            }
        };
        Check { name: "leads", passed, seen }
    }

    async fn events(&self, since: u64) -> Option<Vec<u8>> {
        let overview = self.overview_with(WantedEvents { since, newest: TIMELINE }).await;
        let events: Vec<_> =
            overview.cluster.events.iter().map(|(n, event)| frame::numbered(*n, event)).collect();
        json(&serde_json::json!({ "run": self.run(), "events": events }))
    }

    fn messages(&self, since: u64) -> Option<Vec<u8>> {
        let (_, messages) = self.recent.newest(since, ALL_MESSAGES);
        let recent: Vec<_> =
            messages.iter().map(|(n, message)| frame::numbered_message(*n, message)).collect();
        json(&serde_json::json!({ "run": self.run(), "recent": recent }))
    }

    async fn node(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state().await;
        let at = state.overview.cluster.datanodes.iter().position(|node| node.name.as_str() == name)?;
        json(&serde_json::json!({ "node": frame::nodes(&state).get(at) }))
    }
}

impl Source for StorePage {
    const HAS_PAGE: bool = true;

    async fn refresh_metrics(&self) {
        if let Some(overview) = self.overview().await {
            self.gauges.refresh(&overview, self.settings.expected);
        }
    }

    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let overview = self.overview().await;
        let loop_answers = Check {
            name: "heartbeat",
            passed: overview.is_some(),
            seen: if overview.is_some() { "ok".to_owned() } else { format!("no answer within {HANGS:?}") },
        };
        let (available, replicas) =
            overview.map_or((0, 1), |overview| (overview.available(), overview.replicas));
        let datanodes = Check {
            name: "datanodes",
            passed: available >= replicas,
            seen: format!("{available} of {replicas}"),
        };
        Health { live: vec![loop_answers.clone()], ready: vec![loop_answers, self.leads(), datanodes] }
    }

    fn run(&self) -> String {
        self.settings.run.to_string()
    }

    async fn frame(&self, stamp: FrameStamp) -> serde_json::Result<Vec<u8>> {
        frame::frame(&self.state().await, stamp)
    }

    async fn query(&self, what: &str, argument: Option<&str>) -> Option<Vec<u8>> {
        let number = || argument.and_then(|number| number.parse().ok()).unwrap_or(0);
        match what {
            "events" => self.events(number()).await,
            "recent" => self.messages(number()),
            "history" => json(&self.history.lock().await.report(&self.run())),
            "node" => self.node(argument?).await,
            _ => None,
        }
    }

    async fn sample(&self) {
        if let Some(overview) = self.overview().await {
            self.history.lock().await.sample(Utc::now(), &overview, &self.metrics);
        }
    }

    fn set_watched(&self, watched: bool) {
        if watched {
            // If the registry cannot be read, the page shows what comes from now on.
            let list = |led: Arc<LedStore>| led.placer.list(EARLIER_MESSAGES, None).unwrap_or_default().0;
            self.recent.watch(|| self.led().map(list).unwrap_or_default());
        } else {
            self.recent.unwatch();
        }
    }

    fn files(&self) -> Vec<RawFile> {
        let file = |name: &str| RawFile { name: name.to_owned(), path: self.settings.data_dir.join(name) };
        vec![file(HEARTBEAT_FILE), file(REGISTRY_FILE)]
    }
}
