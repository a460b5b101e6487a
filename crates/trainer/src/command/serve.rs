//! `surprisal serve`: the page, in a build that has it.

use crate::cli;
use crate::error::Result;
use crate::output::Output;
use surprisal_engine::Context;

#[cfg(feature = "serve")]
pub(crate) fn run(arguments: &cli::ServeArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    use std::net::{IpAddr, Ipv4Addr};
    use surprisal_engine::config::Budget;
    use surprisal_engine::error::Error;
    use surprisal_playground::{Limits, Options, serve};

    use crate::wording::shown;

    let lifetime = match &arguments.lifetime {
        None => None,
        Some(text) => {
            let budget: Budget = text.parse().map_err(|error| Error::usage(format!("--for {error}")))?;
            Some(budget.duration())
        }
    };
    let host = arguments.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let options = Options {
        host,
        port: arguments.port,
        runs: arguments.runs.clone(),
        given: arguments.given.clone(),
        lifetime,
        limits: Limits::default(),
    };
    let ready = |address: &str| {
        output.info(format!("the page is ready; its runs go into {}; Ctrl-C ends it", shown(&options.runs)));
        if !host.is_loopback() {
            output.warn(format!(
                "note: whoever can reach this machine at {host} and has the address can train models on it, send it texts, \
                 and read its texts and runs; nobody else can, and what is sent can be read on the way (no TLS)"
            ));
        }
        output.event(&serde_json::json!({ "event": "serving", "address": address }))?;
        if !output.json() {
            output.write_stdout(&format!("{address}\n"))?;
        }
        if arguments.open
            && let Err(error) = open(address)
        {
            output.warn(format!("note: no browser was opened ({error}): open the address yourself"));
        }
        Ok(())
    };
    serve(&options, ctx, ready)
}

/// Opens `address` in the program that `BROWSER` names, or in the system's.
#[cfg(feature = "serve")]
fn open(address: &str) -> std::io::Result<()> {
    use std::process::{Command, Stdio};

    let system = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else {
        "xdg-open"
    };
    let program = std::env::var_os("BROWSER").unwrap_or_else(|| system.into());
    let quiet = || Stdio::null();
    Command::new(program).arg(address).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().map(drop)
}

#[cfg(not(feature = "serve"))]
pub(crate) fn run(_: &cli::ServeArgs, _: &Context<'_>, _: &Output) -> Result<()> {
    use surprisal_engine::error::Error;

    Err(Error::usage("this build has no page, so that the program builds faster").hint(
        "build it with the page: cargo run --release --features serve -- serve, or cargo install --locked --path \
         crates/trainer --features serve,tui",
    ))
}
