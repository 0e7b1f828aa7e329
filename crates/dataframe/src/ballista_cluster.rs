//! A cluster of Ballista: its scheduler plans, its executors read the files and exchange rows.

use std::time::Duration;

use anyhow::bail;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use ballista::prelude::{SessionConfigExt as _, SessionContextExt as _};
use ballista_core::config::BALLISTA_ADAPTIVE_PLANNER_ENABLED;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use dataframe_engine::{StockCluster, StockCompute};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::time::{Instant, sleep, timeout};

use crate::engine_choice::BallistaAddress;

/// Time between two attempts to reach a scheduler.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);
/// A single attempt may take so long, whatever time is left.
const ONE_ATTEMPT: Duration = Duration::from_secs(2);

/// A session with a scheduler of Ballista.
pub struct BallistaCluster {
    context: SessionContext,
    address: BallistaAddress,
}

/// Opens a session with a scheduler, or starts one with an executor of `threads` in this process.
///
/// # Errors
/// Fails if nobody answers at the address within `wait`.
pub async fn open(
    address: BallistaAddress,
    wait: Duration,
    threads: Option<usize>,
) -> anyhow::Result<StockCompute<BallistaCluster>> {
    // The adaptive planner of Ballista 55 gives rows several times: it leaves the branches of a union, each of which needs its whole
    // input, in one stage, and each task of the stage then runs all of them. The other planner gives each branch a stage of its own.
    let mut config = SessionConfig::new_with_ballista().set_str(BALLISTA_ADAPTIVE_PLANNER_ENABLED, "false");
    if let Some(threads) = threads {
        config = config.with_target_partitions(threads).with_ballista_standalone_parallelism(threads);
    }
    let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    let context = match &address {
        BallistaAddress::Standalone => SessionContext::standalone_with_state(state).await?,
        BallistaAddress::Scheduler(scheduler) => {
            reach(scheduler, wait).await?;
            SessionContext::remote_with_state(&address.to_string(), state).await?
        }
    };
    Ok(StockCompute::new(BallistaCluster { context, address })?)
}

/// Waits until a scheduler takes connections.
async fn reach(scheduler: &str, wait: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + wait;
    loop {
        let why =
            match timeout(ONE_ATTEMPT, SchedulerGrpcClient::connect(format!("http://{scheduler}"))).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => last_cause(&error),
                Err(_) => "nobody answers".to_owned(),
            };
        if Instant::now() >= deadline {
            bail!(
                "df://{scheduler}: no scheduler of Ballista within {}: {why}",
                humantime::format_duration(wait)
            );
        }
        sleep(BETWEEN_ATTEMPTS).await;
    }
}

/// What is at the bottom of an error, such as the operating system's word for it.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[async_trait::async_trait]
impl StockCluster for BallistaCluster {
    async fn run(&self, plan: LogicalPlan) -> Result<Vec<RecordBatch>, DataFusionError> {
        tracing::debug!(scheduler = %self.address, "a plan is sent");
        let rows = self.context.execute_logical_plan(plan).await?.collect().await;
        rows.map_err(|error| cause_of_task(&error.to_string()).unwrap_or(error))
    }
}

/// What comes before the cause when a task has failed.
const BEFORE_CAUSE: &str = "runtime execution error: ";

/// Why a task failed, which a scheduler tells as the debug text of an executor's error; nothing for other failures.
fn cause_of_task(told: &str) -> Option<DataFusionError> {
    let (_, cause) = told.rsplit_once(BEFORE_CAUSE)?;
    if cause.contains("DivideByZero") {
        return Some(DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None));
    }
    let words = first_quoted(cause).unwrap_or_else(|| cause.trim().to_owned());
    Some(DataFusionError::Execution(words))
}

/// The first text within quotes, without its escapes.
fn first_quoted(debug: &str) -> Option<String> {
    let (_, rest) = debug.split_once('"')?;
    let (mut text, mut chars) = (String::new(), rest.chars());
    while let Some(next) = chars.next() {
        match next {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                escaped => text.push(escaped),
            },
            plain => text.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cause: &str) -> String {
        format!(
            "Job 1 failed: Job failed due to stage 1 failed: Task failed due to {BEFORE_CAUSE}DataFusionError({cause})\n"
        )
    }

    #[test]
    fn the_cause_of_a_tasks_failure_is_what_a_user_reads() {
        let cast = told(
            r#"Shared(External(ArrowError(CastError("Cannot cast string 'a \"b\"' to Int64"), Some(""))))"#,
        );
        let Some(DataFusionError::Execution(words)) = cause_of_task(&cast) else { panic!("{cast}") };
        assert_eq!(words, "Cannot cast string 'a \"b\"' to Int64");
        let zero = cause_of_task(&told("Shared(External(ArrowError(DivideByZero)))"));
        assert!(matches!(zero, Some(DataFusionError::ArrowError(..))), "{zero:?}");
        let Some(DataFusionError::Execution(words)) = cause_of_task(&told("Other")) else { panic!() };
        assert_eq!(words, "DataFusionError(Other)");
        assert!(cause_of_task("the scheduler is gone").is_none());
    }
}
