//! Which engine computes, where it is not this program's own: what `--engine` says.

use crate::arguments::DataframeSettings;
use crate::job::WrongArguments;

/// The only other engine.
const BALLISTA: &str = "ballista";
/// The port of Ballista's scheduler where none is told.
const BALLISTA_PORT: u16 = 50050;

/// A cluster of Ballista.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BallistaAddress {
    /// A scheduler and an executor that are started in this process, and end with it.
    Standalone,
    /// The scheduler at `HOST:PORT`.
    Scheduler(String),
}

impl std::fmt::Display for BallistaAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standalone => f.write_str("standalone"),
            Self::Scheduler(address) => write!(f, "df://{address}"),
        }
    }
}

/// Returns the other engine, if the flags name one.
///
/// # Errors
/// Fails if there is no such engine or address, or if another flag does not go with it.
pub fn other_engine(settings: &DataframeSettings) -> Result<Option<BallistaAddress>, WrongArguments> {
    let place = &settings.place;
    let Some(words) = &place.engine else { return Ok(None) };
    let [engine, address] = words.as_slice() else {
        return Err(WrongArguments(format!(
            "--engine: it takes an engine and its address, such as {BALLISTA} df://HOST:{BALLISTA_PORT}"
        )));
    };
    if engine != BALLISTA {
        return Err(WrongArguments(format!("--engine {engine}: the only other engine is {BALLISTA}")));
    }
    let address = ballista_address(address)
        .map_err(|wrong| WrongArguments(format!("--engine {BALLISTA} {address}: {wrong}")))?;
    let together = [
        ("--master", place.master.is_some(), "the engine is a cluster already"),
        ("--workers", place.workers.is_some(), "Ballista's executors do the work"),
        ("--memory", place.memory.is_some(), "each executor of Ballista has its own --memory-pool-size"),
        (
            "--wasm",
            !settings.modules.wasm.is_empty(),
            "Ballista does not run functions of WebAssembly modules; apply takes an expression in SQL",
        ),
    ];
    match together.into_iter().find(|(_, is_given, _)| *is_given) {
        Some((flag, _, why)) => {
            Err(WrongArguments(format!("{flag} does not go with --engine {BALLISTA}: {why}")))
        }
        None => Ok(Some(address)),
    }
}

fn ballista_address(text: &str) -> Result<BallistaAddress, String> {
    if text == "standalone" {
        return Ok(BallistaAddress::Standalone);
    }
    let allowed =
        || format!("give df://HOST:{BALLISTA_PORT}, or `standalone` for a scheduler inside this process");
    let host = text.strip_prefix("df://").ok_or_else(allowed)?;
    // Colons within brackets belong to an address of IPv6.
    let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    let host_and_port = if has_port { host.to_owned() } else { format!("{host}:{BALLISTA_PORT}") };
    service::cli::host_and_port(&host_and_port).map_err(|_| allowed())?;
    Ok(BallistaAddress::Scheduler(host_and_port))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::DataframeArguments;

    fn chosen(flags: &[&str]) -> Result<Option<BallistaAddress>, String> {
        let words = [&["dataframe", "len", "a.csv"], flags].concat();
        let arguments = DataframeArguments::try_parse_from(words).map_err(|error| error.to_string())?;
        other_engine(&arguments.settings.0).map_err(|wrong| wrong.to_string())
    }

    fn scheduler(address: &str) -> Result<Option<BallistaAddress>, String> {
        Ok(Some(BallistaAddress::Scheduler(address.to_owned())))
    }

    #[test]
    fn an_engine_has_an_address() {
        assert_eq!(chosen(&[]), Ok(None));
        assert_eq!(chosen(&["--engine", "ballista", "df://host:50051"]), scheduler("host:50051"));
        assert_eq!(chosen(&["--engine", "ballista", "df://host"]), scheduler("host:50050"));
        assert_eq!(chosen(&["--engine", "ballista", "df://[::1]"]), scheduler("[::1]:50050"));
        assert_eq!(chosen(&["--engine", "ballista", "standalone"]), Ok(Some(BallistaAddress::Standalone)));
    }

    #[test]
    fn another_engine_or_address_is_refused() {
        for (flags, wanted) in [
            (&["--engine", "spark", "df://host:1"][..], "--engine spark: the only other engine is ballista"),
            (&["--engine", "ballista", "host:50050"], "give df://HOST:50050"),
            (&["--engine", "ballista", "http://host:50050"], "give df://HOST:50050"),
            (&["--engine", "ballista", "df://"], "give df://HOST:50050"),
            (&["--engine", "ballista", "df://host:many"], "give df://HOST:50050"),
            (&["--engine", "ballista", "df://host:1/path"], "give df://HOST:50050"),
        ] {
            let refused = chosen(flags).unwrap_err();
            assert!(refused.contains(wanted), "{flags:?}: {refused}");
        }
        assert!(chosen(&["--engine", "ballista"]).is_err());
    }

    #[test]
    fn flags_of_other_places_do_not_go_with_it() {
        for flags in [&["--master", "h:1"][..], &["--workers", "2"], &["--memory", "1GB"]] {
            let refused = chosen(&[&["--engine", "ballista", "df://host:1"], flags].concat()).unwrap_err();
            assert!(refused.starts_with(flags[0]) && refused.contains("--engine ballista"), "{refused}");
        }
    }
}
