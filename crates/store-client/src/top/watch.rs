//! Asks the headnode again and again.

use std::time::Duration;

use protocol::store::client_api::StoreStatus;
use tokio::sync::mpsc;

use crate::backoff::{next_pause, pauses};
use crate::headnode::HeadnodeClient;

/// The status, or why there is none.
pub type StatusAnswer = Result<StoreStatus, String>;

/// Asks for the status every `interval`, or soon again while there is no answer, until nobody listens.
pub async fn run(mut headnode: HeadnodeClient, interval: Duration, answers: mpsc::Sender<StatusAnswer>) {
    let mut rng = rand::make_rng();
    let mut retries = pauses(&mut rng);
    loop {
        let answer = headnode.status_now().await.map_err(|error| format!("{error:#}"));
        let pause = if answer.is_ok() {
            retries = pauses(&mut rng);
            interval
        } else {
            next_pause(&mut retries)
        };
        if answers.send(answer).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}
