//! Whoever holds a claim renews it, so that others see that the request is worked on.

use std::sync::Arc;

use futures_util::StreamExt;
use ulid::Ulid;

use super::shared::StoreShared;

/// Claims are renewed this often in the time after which a request is given to another taker.
pub(crate) const RENEWALS: u32 = 3;
/// Claims that are renewed at the same time.
const AT_ONCE: usize = 16;

/// Renews the claims for ever.
pub(crate) async fn renew_claims(shared: Arc<StoreShared>) {
    let shortest = shared.settings.takeover_after.min(shared.settings.master_takeover_after);
    // Twice as often as one is due, so that none is late by a whole turn.
    let mut interval = tokio::time::interval(shortest / RENEWALS / 2);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let renew = |(ask, claim): (Ulid, String)| {
            let shared = &shared;
            async move {
                // One that was given back meanwhile is not taken again.
                if shared.held.has(ask)
                    && let Err(error) = shared.bucket.put(&claim, &shared.beat(), shared.patience()).await
                {
                    tracing::debug!(claim, %error, "a claim could not be renewed");
                }
            }
        };
        futures_util::stream::iter(shared.held.take_due())
            .map(renew)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }
}
