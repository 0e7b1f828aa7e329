//! The flags of programs that have a page, or metrics only.

use std::net::SocketAddr;
use std::str::FromStr;

/// The flags of a program that has a page.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Page")]
pub struct PageArguments {
    /// Address and port of the page, of metrics and of health; port 0 chooses a free port; none: no page
    #[arg(long, value_name = "IP:PORT|none", help_heading = "Page")]
    page: Option<PageAddress>,
    /// Further names of this host that browsers and monitors may ask for, besides addresses and localhost
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = host, help_heading = "Page")]
    page_host: Vec<String>,
}

/// The flags of a program that has metrics and health, and no page.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsArguments {
    /// Address and port of metrics and health; port 0 chooses a free port; none: no metrics
    #[arg(long, value_name = "IP:PORT|none", default_value = "none", help_heading = "Metrics")]
    metrics: PageAddress,
    /// Further names of this host that monitors may ask for, besides addresses and localhost
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = host, help_heading = "Metrics")]
    metrics_host: Vec<String>,
}

/// Where a page is served, if anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageAddress {
    /// Nowhere.
    None,
    /// On this address. Port 0 chooses a free port.
    At(SocketAddr),
}

impl FromStr for PageAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "allowed: IP:PORT, for example 127.0.0.1:5080, or none".to_owned())
    }
}

fn host(text: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.bytes().all(valid) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("allowed: the name of a host, without a port, for example headnode".to_owned())
    }
}

/// Where a page is served, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageConfig {
    /// The address to listen on. `None`: there is no page.
    pub address: Option<SocketAddr>,
    /// Whether the program must not start without its page. A page that nobody asked for may find its port taken.
    pub required: bool,
    /// The names of this host that a request may ask for, besides addresses and `localhost`, in lower case.
    pub hosts: Vec<String>,
}

impl PageConfig {
    /// Returns the settings of a program without a page.
    #[must_use]
    pub fn none() -> Self {
        Self { address: None, required: false, hosts: Vec::new() }
    }
}

impl PageArguments {
    /// Returns the settings. Without a flag, the page is on the loopback address at `default_port`.
    #[must_use]
    pub fn config(self, default_port: u16) -> PageConfig {
        let address = match self.page {
            None => Some(SocketAddr::from(([127, 0, 0, 1], default_port))),
            Some(PageAddress::At(address)) => Some(address),
            Some(PageAddress::None) => None,
        };
        PageConfig { address, required: self.page.is_some(), hosts: self.page_host }
    }
}

impl From<MetricsArguments> for PageConfig {
    fn from(arguments: MetricsArguments) -> Self {
        let address = match arguments.metrics {
            PageAddress::At(address) => Some(address),
            PageAddress::None => None,
        };
        Self { address, required: true, hosts: arguments.metrics_host }
    }
}
