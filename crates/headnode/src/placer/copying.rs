//! Copies a message that has too few copies.

use protocol::store::json;
use protocol::store::node_api::NodeRequest;
use protocol::store::types::{Place, RegistryEntry};

use super::{Attempts, Placer, not_registered};
use crate::placement_error::PlacementError;
use crate::registry::Registration;

impl Placer {
    /// Reads a message from a good copy, and stores it on other datanodes until enough copies count. Then the registry gets
    /// a line that names them, and that leaves out places which do not hold the message any more. Returns how many bytes
    /// were copied.
    ///
    /// # Errors
    /// Fails with a [`PlacementError`] if the message still has too few copies. Some may have been added.
    pub async fn repair(&self, entry: RegistryEntry) -> Result<usize, PlacementError> {
        let live = self.live(&entry.places);
        let had = live.len();
        let mut attempts = Attempts { places: live, ..Attempts::default() };
        let mut bytes = 0;
        if had < self.settings.replicas {
            if self.choose(1, &attempts).is_empty() {
                return Err(attempts.verdict(self.settings.replicas));
            }
            let message = self.read(entry.clone()).await?.message;
            bytes = message.len();
            let mut line = Vec::new();
            json::encode(&NodeRequest::Store { id: entry.id, client: entry.client, message }, &mut line);
            // One copy more is better than none more, so they are made one by one.
            for goal in had + 1..=self.settings.replicas {
                self.place(entry.id, &line, entry.message_crc32c, &mut attempts, goal).await;
            }
        }
        let gone = self.lost(&entry.places);
        let is_news = attempts.places.len() > had || !gone.is_empty();
        let verdict = if attempts.places.len() >= self.settings.replicas {
            Ok(bytes)
        } else {
            Err(attempts.verdict(self.settings.replicas))
        };
        if attempts.places.is_empty() || !is_news {
            return verdict;
        }
        let RegistryEntry { id, client, message_crc32c, beginning, .. } = entry;
        let places = attempts.places;
        let registration = Registration { time: None, id, client, places, gone, message_crc32c, beginning };
        self.registry.record(registration).await.map_err(|error| not_registered(id, &error))?;
        verdict
    }

    /// Returns the places whose copies count.
    fn live(&self, places: &[Place]) -> Vec<Place> {
        let discounts = self.discounts.borrow();
        self.registry.holdings(|holdings| {
            let is_live = |place: &&Place| discounts.counts(&place.datanode) && !holdings.is_lost(place);
            places.iter().filter(is_live).cloned().collect()
        })
    }
}
