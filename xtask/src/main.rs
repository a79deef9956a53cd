//! The project's verbs: `cargo xtask <verb>`.
//!
//! This crate owns everything that runs on a developer's machine and in CI: which tools are needed and in which version,
//! how local AWS is started and deployed to, what "all tests" means. It holds nothing that a function needs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "telling a person what happens is this program's job"
)]

mod aws;
mod bench;
mod build;
mod checks;
mod demo;
mod deploy;
mod failure;
mod fuzz;
mod local;
mod options;
mod paths;
mod pos;
mod procs;
mod report;
mod sandbox;
mod settle;
mod simulate;
mod size;
mod suite;
mod tenants;
mod tools;
mod watch;

use std::process::ExitCode;

use failure::Result;
use options::{Options, Verb};

const HELP: &str = "\
cargo xtask <verb>

  demo     post a bill, pay it, see every hop; starts and stops everything it needs
  up       the same stack, and it stays until Ctrl-C
  watch    the functions under `cargo lambda watch`, rebuilt when a file changes
  test     every test there is
  simulate the flows under any crash, loss, repetition and sequence, from a seed: more of what `test` does
  check    format, lints, dependencies, documentation
  size     size of each function as it is deployed, against xtask/size-limits.json
  bench    cold start against a bare function, memory, processor time per request
  fuzz     the readers of webhooks, bills and tenants against inputs nobody thought of; `fuzz [target]`
  tools    install the tools and print where they are
  settle   a gateway's or a bank's statement against our books, to the paisa
  help     this text

settle --gateway <name> <statement>... (--ours <file>... | --api <url> --key-file <file> --day <date>[..<date>])
  --ours <file>...         answers of GET /reports/day/{date}, every part of every day
  --api <url>              the API they are fetched from, with --key-file <file> or --key <key>, and a --day or several
  --columns <map>          reference=<column>,transaction=<column>,amount=<column>,unit=rupees|paise and where there are such
                           type=<column>,refund=<word>,payment=<word>,other=<word>|<word>,original=<column>,currency=<column>;
                           not needed for Razorpay's documented settlement reconciliation. Of a bank's statement
                           narration=<column>,credit=<column>,debit=<column>: bills are found in its words
  --every-line             money in a bank's statement that is no bill's is a difference, too
  Exits with 0 only if every line agrees.

options of demo, up, watch, test and bench
  --aws-port <port>        port of local AWS          (default: a free one)
  --sandbox-port <port>    port of the sandbox        (default: a free one)
  --watch-port <port>      port of the functions under `watch`   (default: a free one)

options of fuzz
  --seconds <n>            how long each target runs  (default: 20)

options of simulate
  --seeds <number>         random schedules           (default: 50000)
  --from <seed>            the first of them          (default: 0)
  --seed <seed>            this one only, with everything that happens in it
  --case <name>            one of the exhaustive part, as a failure names it
  --random                 without the exhaustive part

Needs Rust, a C compiler and Python 3.10 or newer. Everything else is installed below target/, pinned by hash.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                eprintln!("\nerror: {failure}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::from_args()?;
    if options.verb == Verb::Help {
        println!("{HELP}");
        return Ok(());
    }
    if options.verb == Verb::Settle {
        return settle::run(&options.settle);
    }
    let procs = procs::Procs::start()?;
    let _stop = procs::StopOnDrop(&procs);
    match options.verb {
        Verb::Demo => demo::run(&procs, &options),
        Verb::Up => local::up(&procs, &options),
        Verb::Watch => watch::run(&procs, &options),
        Verb::Test => suite::run(&procs, &options),
        Verb::Simulate => simulate::run(&procs, &options),
        Verb::Check => checks::run(&procs),
        Verb::Size => size::run(&procs),
        Verb::Bench => bench::run(&procs, &options),
        Verb::Fuzz => fuzz::run(&procs, &options),
        Verb::Tools => tools::install_all(&procs),
        Verb::Help | Verb::Settle => Ok(()),
    }
}
