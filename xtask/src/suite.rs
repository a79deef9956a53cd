//! The verb `test`: every test there is, with everything that tests need.
//!
//! All steps run even if one fails, so that one run tells everything; the last line is the sum of the test results.

use std::sync::Arc;
use std::thread;

use crate::build::{cargo, host};
use crate::checks;
use crate::failure::{Failure, Result};
use crate::fuzz;
use crate::local::Local;
use crate::options::Options;
use crate::procs::Procs;
use crate::report;
use crate::simulate;
use crate::tools::{self, Set};

/// The environment variable that tells the system tests where the description of the stack is.
const STACK: &str = "CHATBILL_STACK";

/// The environment variables that tell the store's tests where an emulator of DynamoDB is, and that skipping them is a failure.
const EMULATOR: &str = "CHATBILL_TEST_DYNAMODB";
const EMULATOR_REQUIRED: &str = "CHATBILL_REQUIRE_EMULATOR";

pub(crate) fn run(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    tools::install(
        procs,
        &[Set::CargoLambda, Set::Emulator, Set::Aws, Set::Checks],
    )?;
    let mut failures = Vec::new();
    let mut counts = Counts::default();
    for check in [
        checks::format,
        template,
        checks::dependencies,
        checks::lints,
        simulate::test,
    ] {
        failures.extend(check(procs).err());
    }
    failures.extend(fuzz::replay(procs, |line| counts.add(line)).err());
    failures.extend(cargo_test(procs, options, &mut counts).err());
    for failure in &failures {
        println!("\nFAILED: {failure}");
    }
    println!("\n{} passed, {} failed", counts.passed, counts.failed);
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::told())
    }
}

/// What AWS would find wrong with the template.
fn template(procs: &Procs) -> Result<()> {
    report::step("sam validate --lint", || {
        let mut sam = Set::Aws.command("sam");
        sam.args([
            "validate",
            "--lint",
            "--template-file",
            "template.yaml",
            "--region",
            crate::aws::REGION,
        ])
        .env("SAM_CLI_TELEMETRY", "0");
        procs.output("sam validate", &mut sam).map(|_| ())
    })?;
    report::step("cfn-lint", || {
        let mut lint = Set::Aws.command("cfn-lint");
        lint.args([
            "--include-checks",
            "I",
            "--regions",
            crate::aws::REGION,
            "--",
            "template.yaml",
        ]);
        procs
            .output("cfn-lint", &mut lint)
            .map(|_| ())
            .map_err(|failure| Failure::new(failure.to_string()))
    })
}

fn cargo_test(procs: &Arc<Procs>, options: &Options, counts: &mut Counts) -> Result<()> {
    let local = Local::start(procs, options, Some("test"))?;
    let stack = local.describe(&local.deployment.api_url)?;
    let host = host(procs)?;
    let mut test = cargo();
    // All features: the system tests are behind one, because they need the stack that is running here.
    test.args([
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--target",
        &host,
    ])
    .env(STACK, stack)
    // The store's conformance suite makes a table of its own there.
    .env(EMULATOR, local.aws.endpoint())
    .env(EMULATOR_REQUIRED, "1");
    let tested = report::step("cargo test", || {
        procs.run_lines("cargo test", &mut test, |line| {
            counts.add(line);
            println!("{line}");
        })
    });
    // A stack that broke explains the failures better than they do.
    thread::yield_now();
    local.check()?;
    tested
}

/// The sum of the result lines of test programs.
#[derive(Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Adds a line like `test result: ok. 12 passed; 0 failed; 0 ignored; …`; other lines say nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let words: Vec<&str> = result
            .split([' ', ';', '.'])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            match pair {
                [number, "passed"] => {
                    self.passed = self.passed.saturating_add(number.parse().unwrap_or(0))
                }
                [number, "failed"] => {
                    self.failed = self.failed.saturating_add(number.parse().unwrap_or(0))
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_result_lines_count() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s");
        counts.add("test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        counts.add("99 passed; 99 failed");
        assert_eq!((counts.passed, counts.failed), (17, 2));
    }
}
