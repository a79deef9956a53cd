//! The command line.

use lexopt::prelude::{Long, Short, Value, ValueExt as _};

use crate::failure::{Context as _, Failure, Result};
use crate::settle::Settle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Demo,
    Up,
    Watch,
    Test,
    Simulate,
    Check,
    Size,
    Bench,
    Fuzz,
    Tools,
    Settle,
    Help,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) verb: Verb,
    pub(crate) aws_port: Option<u16>,
    pub(crate) sandbox_port: Option<u16>,
    pub(crate) watch_port: Option<u16>,
    /// How long `fuzz` runs each target.
    pub(crate) seconds: Option<u32>,
    /// What `fuzz` runs; all without it.
    pub(crate) target: Option<String>,
    /// What `settle` is to compare.
    pub(crate) settle: Settle,
    /// What `simulate` passes on.
    pub(crate) simulation: Vec<String>,
}

impl Options {
    pub(crate) fn from_args() -> Result<Self> {
        Self::parse(lexopt::Parser::from_env())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self> {
        let mut options = Self {
            verb: Verb::Help,
            aws_port: None,
            sandbox_port: None,
            watch_port: None,
            seconds: None,
            target: None,
            settle: Settle::default(),
            simulation: Vec::new(),
        };
        let mut named = false;
        while let Some(arg) = parser.next().doing("arguments")? {
            match arg {
                Short('h') | Long("help") => {
                    return Ok(Self {
                        verb: Verb::Help,
                        ..options
                    });
                }
                Long("aws-port") => options.aws_port = Some(port(&mut parser, "--aws-port")?),
                Long("sandbox-port") => {
                    options.sandbox_port = Some(port(&mut parser, "--sandbox-port")?)
                }
                Long("watch-port") => options.watch_port = Some(port(&mut parser, "--watch-port")?),
                Long("seconds") => {
                    let seconds = parser.value().doing("--seconds")?;
                    options.seconds = Some(seconds.parse().doing("--seconds")?);
                }
                Value(word) if options.verb == Verb::Fuzz && options.target.is_none() => {
                    options.target = Some(word.string().doing("the target")?);
                }
                Long(name @ ("seeds" | "from" | "seed")) if options.verb == Verb::Simulate => {
                    let name = format!("--{name}");
                    let number: u64 = parser.value().doing(&name)?.parse().doing(&name)?;
                    options.simulation.extend([name, number.to_string()]);
                }
                Long("case") if options.verb == Verb::Simulate => {
                    let case = parser.value().doing("--case")?.string().doing("--case")?;
                    options.simulation.extend(["--case".to_owned(), case]);
                }
                Long("random") if options.verb == Verb::Simulate => {
                    options.simulation.push("--random".to_owned());
                }
                Value(word) if !named => {
                    named = true;
                    options.verb = verb(&word.string().doing("the verb")?)?;
                    if options.verb == Verb::Settle {
                        options.settle = Settle::parse(&mut parser)?;
                        return Ok(options);
                    }
                }
                other => {
                    return Err(Failure::new(format!(
                        "{}; see `cargo xtask help`",
                        other.unexpected()
                    )));
                }
            }
        }
        Ok(options)
    }
}

fn verb(word: &str) -> Result<Verb> {
    Ok(match word {
        "demo" => Verb::Demo,
        "up" => Verb::Up,
        "watch" => Verb::Watch,
        "test" => Verb::Test,
        "simulate" => Verb::Simulate,
        "check" => Verb::Check,
        "size" => Verb::Size,
        "bench" => Verb::Bench,
        "fuzz" => Verb::Fuzz,
        "tools" => Verb::Tools,
        "settle" => Verb::Settle,
        "help" => Verb::Help,
        other => {
            return Err(Failure::new(format!(
                "there is no verb `{other}`; see `cargo xtask help`"
            )));
        }
    })
}

fn port(parser: &mut lexopt::Parser, name: &str) -> Result<u16> {
    parser.value().doing(name)?.parse().doing(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(lexopt::Parser::from_iter(
            std::iter::once("xtask").chain(args.iter().copied()),
        ))
    }

    #[test]
    fn ports_may_stand_before_or_after_the_verb() {
        let options = parse(&["--aws-port", "4566", "up", "--sandbox-port=4567"]).unwrap();
        assert_eq!(
            (options.verb, options.aws_port, options.sandbox_port),
            (Verb::Up, Some(4566), Some(4567))
        );
    }

    #[test]
    fn nothing_or_help_anywhere_is_help() {
        assert_eq!(parse(&[]).unwrap().verb, Verb::Help);
        assert_eq!(parse(&["up", "--help"]).unwrap().verb, Verb::Help);
    }

    #[test]
    fn only_fuzz_has_a_target() {
        let options = parse(&["fuzz", "--seconds", "5", "webhook_signed/payu"]).unwrap();
        assert_eq!((options.verb, options.seconds), (Verb::Fuzz, Some(5)));
        assert_eq!(options.target.as_deref(), Some("webhook_signed/payu"));
        assert!(parse(&["fuzz", "bill", "tag"]).is_err());
        assert!(parse(&["fuzz", "--seconds", "-1"]).is_err());
    }

    #[test]
    fn a_simulation_has_options_of_its_own() {
        let options = parse(&["simulate", "--seeds", "5", "--from=7"]).unwrap();
        assert_eq!(options.simulation, ["--seeds", "5", "--from", "7"]);
        assert!(parse(&["simulate", "--seeds", "many"]).is_err());
        assert!(parse(&["test", "--seeds", "5"]).is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse(&["deploy"]).is_err());
        assert!(parse(&["up", "--port", "1"]).is_err());
        assert!(parse(&["up", "--aws-port", "70000"]).is_err());
        assert!(parse(&["up", "down"]).is_err());
    }
}
