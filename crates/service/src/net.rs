//! The network. Programs get it as a parameter, so that a simulated network can replace [`Sockets`].
//!
//! | module | what it does |
//! | --- | --- |
//! | `network` | what a network can do: the seam |
//! | `sockets` | the TCP of the operating system: listen, connect |
//! | `interface`, `multicast` | its UDP multicast, on the interfaces that carry it |
//! | `serve` | the bounded accept loop, and a close that loses no reply |

mod interface;
mod multicast;
mod network;
mod serve;
mod sockets;

pub use interface::Interface;
pub use multicast::{LocalGroup, MulticastSocket};
pub use network::{Datagrams, ListenError, Listener, Network};
pub use serve::{close, make_room_for, serve};
pub use sockets::{Sockets, connect, listen, listen_with_backlog};
pub use tokio::net::{TcpListener, TcpStream};
