//! The machines of a simulated store, and when the trouble ends.

use std::time::Duration;

pub const HEADNODE: &str = "headnode";
/// All headnodes. The second one is there only in some seeds.
pub const HEADNODES: [&str; 2] = [HEADNODE, "headnode2"];
pub const DATANODES: [&str; 3] = ["datanode1", "datanode2", "datanode3"];
/// All machines of a store. The second headnode is the last one, so that a store without it has those before.
pub const MACHINES: [&str; 5] = ["headnode", "datanode1", "datanode2", "datanode3", "headnode2"];
/// In seeds with a key.
pub const ATTACKER: &str = "attacker";
pub const CLIENTS: [&str; 2] = ["client1", "client2"];

/// The folder of each program on its machine.
pub const FOLDER: &str = "/store/data";
/// All faults begin and end within this time.
pub const TROUBLE: Duration = Duration::from_secs(8);
