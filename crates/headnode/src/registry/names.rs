//! The datanodes that there are or were, and those that operators have declared lost: `headnode.journal`.

use std::collections::BTreeSet;

use protocol::store::types::NodeName;
use records::remembered::Remembered;

use super::{Registry, RegistryError};

impl Registry {
    /// Adds datanodes that exist or existed, and waits until their names are on disk. A run after a crash of the machine
    /// then asks them too, although it may have no line of what they hold.
    ///
    /// # Errors
    /// Fails with a [`RegistryError`] if there is no room for the names, if their file has failed, or if the registry is
    /// closed.
    pub fn remember(&self, datanodes: &[NodeName]) -> Result<(), RegistryError> {
        let mut state = self.lock();
        datanodes.iter().for_each(|name| state.holdings.expect(name));
        let names = state.remembered.as_mut().ok_or(RegistryError::Closed)?;
        let remembered = names.remember(datanodes.to_vec());
        drop(state);
        remembered.map_err(|failure| self.failed(failure))
    }

    /// Returns the datanodes that operators have declared lost.
    #[must_use]
    pub fn forgotten(&self) -> BTreeSet<NodeName> {
        self.lock().remembered.iter().flat_map(Remembered::forgotten).cloned().collect()
    }

    /// Writes whether an operator has declared a datanode lost, and waits until that is on disk.
    ///
    /// # Errors
    /// Fails as [`remember`](Self::remember) does.
    pub fn set_forgotten(&self, datanode: &NodeName, on: bool) -> Result<(), RegistryError> {
        let mut state = self.lock();
        let remembered = state.remembered.as_mut().ok_or(RegistryError::Closed)?;
        let written = remembered.set_forgotten(datanode, on);
        drop(state);
        written.map_err(|failure| self.failed(failure))
    }

    /// Returns the names of all datanodes that are registered or remembered, in order.
    #[must_use]
    pub fn names(&self) -> BTreeSet<NodeName> {
        let state = self.lock();
        let remembered = state.remembered.iter().flat_map(Remembered::peers);
        state.holdings.datanodes().chain(remembered).cloned().collect()
    }
}
