//! `cargo xtask settle`: a gateway's settlement report or a bank's statement against our books, line by line and to the paisa.

mod amount;
mod books;
mod csv;
mod matching;
mod statement;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lexopt::prelude::{Long, Value, ValueExt as _};

use crate::failure::{Context as _, Failure, Result};
use amount::Amount;
use books::Books;
use matching::{Kind, Ours, Outcome, Theirs, matching, name_lines};
use statement::{Columns, Statement};

/// What is compared with what.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    gateway: String,
    statements: Vec<PathBuf>,
    ours: Vec<PathBuf>,
    api: Option<String>,
    key: Option<String>,
    days: Vec<String>,
    columns: Option<String>,
    every_line: bool,
}

impl Settle {
    /// What stands behind the verb.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Self> {
        let mut settle = Self::default();
        while let Some(argument) = parser.next().doing("arguments")? {
            match argument {
                Long("gateway") => settle.gateway = value(parser, "--gateway")?,
                Long("columns") => settle.columns = Some(value(parser, "--columns")?),
                Long("every-line") => settle.every_line = true,
                Long("api") => settle.api = Some(value(parser, "--api")?),
                Long("key") => settle.key = Some(value(parser, "--key")?),
                Long("key-file") => {
                    let file = value(parser, "--key-file")?;
                    settle.key = Some(read(Path::new(&file))?.trim().to_owned());
                }
                Long("day") => settle.days.extend(days(&value(parser, "--day")?)?),
                Long("ours") => {
                    for file in parser.values().doing("--ours")? {
                        settle.ours.push(PathBuf::from(file));
                    }
                }
                Value(file) => settle.statements.push(PathBuf::from(file)),
                other => {
                    return Err(Failure::new(format!(
                        "{}; see `cargo xtask help`",
                        other.unexpected()
                    )));
                }
            }
        }
        settle.check()?;
        Ok(settle)
    }

    fn check(&self) -> Result<()> {
        let fault = if self.gateway.is_empty() {
            "--gateway is missing"
        } else if self.statements.is_empty() {
            "which statement? Give its file"
        } else if self.ours.is_empty() == self.api.is_none() {
            "our books are needed: either --ours or --api"
        } else if self.api.is_some() && (self.key.is_none() || self.days.is_empty()) {
            "--api needs --key-file (or --key) and --day"
        } else {
            return Ok(());
        };
        Err(Failure::new(format!("{fault}; see `cargo xtask help`")))
    }
}

fn value(parser: &mut lexopt::Parser, name: &str) -> Result<String> {
    parser.value().doing(name)?.string().doing(name)
}

/// `2026-11-22`, or `2026-11-20..2026-11-22` with both ends.
fn days(text: &str) -> Result<Vec<String>> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let not_a_day = || Failure::new(format!("--day: `{text}` is not a day such as 2026-11-22"));
    let (mut at, last) = (
        Day::parse(first).ok_or_else(not_a_day)?,
        Day::parse(last).ok_or_else(not_a_day)?,
    );
    let mut days = Vec::new();
    while at <= last {
        if days.len() >= 366 {
            return Err(Failure::new("--day: more than a year"));
        }
        days.push(at.to_string());
        at = at.next();
    }
    if days.is_empty() {
        return Err(Failure::new(format!("--day: {text} ends before it begins")));
    }
    Ok(days)
}

/// A calendar day. Year, month, day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Day(u16, u8, u8);

impl Day {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = |length: usize| {
            let part = parts.next()?;
            let digits = part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        };
        let day = Self(
            number(4)?,
            u8::try_from(number(2)?).ok()?,
            u8::try_from(number(2)?).ok()?,
        );
        let good = parts.next().is_none()
            && (1..=12).contains(&day.1)
            && (1..=day.last_of_month()).contains(&day.2);
        good.then_some(day)
    }

    fn last_of_month(self) -> u8 {
        match self.1 {
            4 | 6 | 9 | 11 => 30,
            2 if self.0.is_multiple_of(4)
                && (!self.0.is_multiple_of(100) || self.0.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            _ => 31,
        }
    }

    fn next(self) -> Self {
        if self.2 < self.last_of_month() {
            Self(self.0, self.1, self.2.saturating_add(1))
        } else if self.1 < 12 {
            Self(self.0, self.1.saturating_add(1), 1)
        } else {
            Self(self.0.saturating_add(1), 1, 1)
        }
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0, self.1, self.2)
    }
}

/// Compares, prints, and fails if anything differs.
pub(crate) fn run(settle: &Settle) -> Result<()> {
    let columns = match &settle.columns {
        Some(text) => Columns::parse(text).map_err(Failure::new)?,
        None => Columns::of(&settle.gateway).ok_or_else(|| {
            Failure::new(format!(
                "the columns of {} are not known here: give them with --columns",
                settle.gateway
            ))
        })?,
    };
    let mut theirs = Statement::default();
    for file in &settle.statements {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).doing(file.display())?;
        let part = statement::read(&name, &decoded(&bytes), &columns).map_err(Failure::new)?;
        theirs.lines.extend(part.lines);
        theirs.others.extend(part.others);
        theirs.unreadable.extend(part.unreadable);
        theirs.foot.extend(part.foot);
    }
    let parts = match &settle.api {
        Some(api) => fetch(api, settle.key.as_deref().unwrap_or_default(), &settle.days)?,
        None => {
            let file = |file: &PathBuf| Ok((file.display().to_string(), read(file)?));
            settle.ours.iter().map(file).collect::<Result<Vec<_>>>()?
        }
    };
    let books = books::read(&parts, &settle.gateway).map_err(Failure::new)?;
    let Books {
        entries,
        problems,
        bills,
        references,
    } = books;
    let (lines, no_bills) = if columns.of_a_bank() {
        name_lines(&entries, &references, std::mem::take(&mut theirs.lines))
    } else {
        (std::mem::take(&mut theirs.lines), Vec::new())
    };
    let outcome = matching(entries, lines);
    println!("{} bills at {} in our books\n", bills, settle.gateway);
    print!("{}", told(&outcome, &theirs, &no_bills, &problems));
    let all = outcome.agrees() && theirs.unreadable.is_empty() && problems.is_empty();
    if all && (no_bills.is_empty() || !settle.every_line) {
        println!("\nevery line agrees");
        Ok(())
    } else {
        println!("\nnot every line agrees");
        Err(Failure::told())
    }
}

/// A statement's text. Excel saves "Unicode text" as UTF-16; what is neither that nor UTF-8 has its odd letters replaced, which no
/// amount and no number of a bill has.
fn decoded(bytes: &[u8]) -> String {
    let wide = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| {
                from([
                    pair.first().copied().unwrap_or(0),
                    pair.last().copied().unwrap_or(0),
                ])
            })
            .collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).doing(file.display())
}

/// The books of these days, part by part. curl speaks TLS, which this program has no other use for; the key goes to it by its standard
/// input and is in no list of processes.
fn fetch(api: &str, key: &str, days: &[String]) -> Result<Vec<(String, String)>> {
    let plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
    };
    let here = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let safe = api.starts_with("https://")
        || here.iter().any(|host| {
            api.strip_prefix(host)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        });
    if !plain(key) || !plain(api) || !safe {
        return Err(Failure::new(
            "--api is an https address, and the key one word",
        ));
    }
    let mut parts = Vec::new();
    for day in days {
        let mut after: Option<String> = None;
        loop {
            let query = after
                .as_ref()
                .map_or_else(String::new, |after| format!("&after={after}"));
            let url = format!(
                "{}/reports/day/{day}?format=json{query}",
                api.trim_end_matches('/')
            );
            let text = curl(&url, key)?;
            let part: serde_json::Value = serde_json::from_str(&text).doing(&url)?;
            after = part
                .get("next")
                .unwrap_or(&serde_json::Value::Null)
                .as_str()
                .filter(|next| plain(next))
                .map(str::to_owned);
            parts.push((url, text));
            if after.is_none() {
                break;
            }
        }
    }
    Ok(parts)
}

fn curl(url: &str, key: &str) -> Result<String> {
    let mut child = Command::new("curl")
        .args(["--disable", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .doing("starting curl")?;
    let config = format!(
        "silent\nshow-error\nfail-with-body\ngloboff\nmax-time = 60\nurl = \"{url}\"\nheader = \"x-api-key: {key}\"\n"
    );
    let mut input = child.stdin.take().doing("curl's input")?;
    input.write_all(config.as_bytes()).doing("curl's input")?;
    drop(input);
    let output = child.wait_with_output().doing("curl")?;
    let text = String::from_utf8(output.stdout).doing(url)?;
    if output.status.success() {
        Ok(text)
    } else {
        Err(Failure::new(format!("{url} was answered: {text}")))
    }
}

/// The summary, then everything that differs.
fn told(
    outcome: &Outcome,
    statement: &Statement,
    no_bills: &[Theirs],
    problems: &[String],
) -> String {
    let Statement {
        others,
        unreadable,
        foot,
        ..
    } = statement;
    let theirs = |lines: &[&Theirs]| net(lines.iter().map(|line| (line.kind, line.amount)));
    let ours = |lines: &[&Ours]| net(lines.iter().map(|line| (line.kind, line.amount)));
    let left = |pairs: &[(Ours, Theirs)]| ours(&pairs.iter().map(|(o, _)| o).collect::<Vec<_>>());
    let right =
        |pairs: &[(Ours, Theirs)]| theirs(&pairs.iter().map(|(_, t)| t).collect::<Vec<_>>());
    let mut text = format!(
        "{:<34}{:>8}{:>18}{:>18}\n",
        "", "lines", "ours, INR", "theirs, INR"
    );
    let mut row = |what: &str, count: usize, ours: Option<Amount>, theirs: Option<Amount>| {
        let show = |amount: Option<Amount>| amount.map_or_else(String::new, |a| a.to_string());
        let _ = writeln!(
            text,
            "{what:<34}{count:>8}{:>18}{:>18}",
            show(ours),
            show(theirs)
        );
    };
    for (what, pairs) in [
        ("matched", &outcome.matched),
        ("different amounts", &outcome.different),
        ("another transaction id", &outcome.other_id),
        ("moved there, failed here", &outcome.failed_here),
    ] {
        row(what, pairs.len(), Some(left(pairs)), Some(right(pairs)));
    }
    let all = |lines: &[Theirs]| theirs(&lines.iter().collect::<Vec<_>>());
    let every = |lines: &[Ours]| ours(&lines.iter().collect::<Vec<_>>());
    row(
        "missing here",
        outcome.missing_here.len(),
        None,
        Some(all(&outcome.missing_here)),
    );
    row(
        "missing there",
        outcome.missing_there.len(),
        Some(every(&outcome.missing_there)),
        None,
    );
    row(
        "twice in the statement",
        outcome.repeated.len(),
        None,
        Some(all(&outcome.repeated)),
    );
    row(
        "refunds on their way, not there yet",
        outcome.waiting.len(),
        Some(every(&outcome.waiting)),
        None,
    );
    row("neither payment nor refund", others.len(), None, None);
    row(
        "money that is no bill's",
        no_bills.len(),
        None,
        (!no_bills.is_empty()).then(|| all(no_bills)),
    );
    row("totals and notes", foot.len(), None, None);
    row("unreadable", unreadable.len(), None, None);
    row("problems in our own books", problems.len(), None, None);

    for (ours, theirs) in &outcome.different {
        let by = theirs.amount.minus(ours.amount);
        let _ = writeln!(
            text,
            "\ndifferent by {by}: here {}, there {}",
            here(ours),
            there(theirs)
        );
    }
    for (ours, theirs) in &outcome.other_id {
        let _ = writeln!(
            text,
            "\nanother transaction id: here {}, there {}",
            here(ours),
            there(theirs)
        );
    }
    for (ours, theirs) in &outcome.failed_here {
        let _ = writeln!(
            text,
            "\nmoved there, failed here: {}, there {}",
            here(ours),
            there(theirs)
        );
    }
    for line in &outcome.missing_here {
        let _ = writeln!(text, "\nmissing here: {}", there(line));
    }
    for line in &outcome.missing_there {
        let _ = writeln!(text, "\nmissing there: {}", here(line));
    }
    for line in &outcome.repeated {
        let _ = writeln!(text, "\ntwice in the statement: {}", there(line));
    }
    for (place, what, amount) in others {
        let _ = writeln!(
            text,
            "\nneither payment nor refund: {what} of {amount} ({place})"
        );
    }
    for line in no_bills {
        let _ = writeln!(text, "\nno bill's: {}", there(line));
    }
    for (place, what) in foot {
        let _ = writeln!(text, "\nno money: {what} ({place})");
    }
    for why in unreadable {
        let _ = writeln!(text, "\nunreadable: {why}");
    }
    for problem in problems {
        let _ = writeln!(text, "\nin our own books: {problem}");
    }
    text
}

/// Payments less refunds.
fn net(lines: impl Iterator<Item = (Kind, Amount)>) -> Amount {
    lines.fold(Amount::default(), |sum, (kind, amount)| match kind {
        Kind::Payment => sum.plus(amount),
        Kind::Refund => sum.minus(amount),
    })
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Payment => "payment",
        Kind::Refund => "refund",
    }
}

fn here(ours: &Ours) -> String {
    let id = ours.id.as_deref().unwrap_or("without an id");
    let of = ours
        .payment
        .as_ref()
        .map_or_else(String::new, |p| format!(" of {p}"));
    format!(
        "{} {id}{of} of {} over {}",
        word(ours.kind),
        ours.reference,
        ours.amount
    )
}

fn there(theirs: &Theirs) -> String {
    let id = theirs.id.as_deref().unwrap_or("without an id");
    let of = theirs
        .payment
        .as_ref()
        .map_or_else(String::new, |p| format!(" of {p}"));
    let bill = theirs
        .reference
        .as_ref()
        .map_or_else(String::new, |r| format!(" of {r}"));
    let said = theirs
        .narration
        .as_ref()
        .map_or_else(String::new, |text| format!(", \"{text}\""));
    format!(
        "{} {id}{of}{bill} over {}{said} ({})",
        word(theirs.kind),
        theirs.amount,
        theirs.place
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settle> {
        let arguments = std::iter::once("settle").chain(arguments.iter().copied());
        Settle::parse(&mut lexopt::Parser::from_iter(arguments))
    }

    #[test]
    fn arguments_are_read_in_any_sequence() {
        let settle = parse(&[
            "recon.csv",
            "--gateway",
            "razorpay",
            "--ours",
            "a.json",
            "b.json",
        ])
        .unwrap();
        assert_eq!((settle.statements.len(), settle.ours.len()), (1, 2));
        let settle = parse(&[
            "--api",
            "https://x",
            "--key",
            "k",
            "--day",
            "2026-02-27..2026-03-01",
            "--gateway=payu",
            "f.csv",
        ])
        .unwrap();
        assert_eq!(settle.days, ["2026-02-27", "2026-02-28", "2026-03-01"]);
        for bad in [
            &["f.csv", "--ours", "a"][..],
            &["--gateway", "x", "--ours", "a"],
            &["--gateway", "x", "f.csv"],
            &[
                "--gateway",
                "x",
                "f.csv",
                "--api",
                "https://x",
                "--key",
                "k",
            ],
            &[
                "--gateway",
                "x",
                "f.csv",
                "--api",
                "https://x",
                "--day",
                "2026-01-01",
            ],
            &["--gateway", "x", "f.csv", "--ours", "a", "--what"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days("2028-02-28..2028-03-01").unwrap().len(), 3);
        assert_eq!(
            days("2026-12-31..2027-01-01").unwrap(),
            ["2026-12-31", "2027-01-01"]
        );
        for bad in [
            "",
            "2026-02-29",
            "2026-1-01",
            "2026-11-22..",
            "2026-11-22..2026-11-21",
            "2020-01-01..2026-01-01",
        ] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_not_sent_in_the_clear_and_nothing_slips_into_curl_s_configuration() {
        for (api, key) in [
            ("http://api.example.com", "k"),
            ("http://127.0.0.1.example.com", "k"),
            ("https://x", "k\"\nurl = \"https://evil"),
            ("https://x\"", "k"),
        ] {
            assert!(fetch(api, key, &[]).is_err(), "{api}");
        }
        assert!(fetch("http://127.0.0.1:4566/prod", "k", &[]).is_ok());
    }

    #[test]
    fn what_differs_is_told_line_by_line() {
        let ours = Ours {
            kind: Kind::Payment,
            state: matching::State::Done,
            reference: "A-1".to_owned(),
            id: Some("pay_1".to_owned()),
            payment: None,
            amount: Amount(85_000),
        };
        let theirs = Theirs {
            place: "f.csv:2".to_owned(),
            kind: Kind::Payment,
            id: Some("pay_1".to_owned()),
            reference: None,
            narration: None,
            payment: None,
            amount: Amount(84_999),
        };
        let outcome = matching(vec![ours], vec![theirs]);
        let text = told(&outcome, &Statement::default(), &[], &[]);
        let line = "different by -0.01: here payment pay_1 of A-1 over 850.00, there payment pay_1 over 849.99 (f.csv:2)";
        assert!(text.contains(line), "{text}");
    }

    /// Field report B21, from the files to the verdict.
    #[test]
    fn a_bank_s_statement_settles_the_bills_it_names() {
        let folder = std::env::temp_dir().join(format!("chatbill-settle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let order = |reference: &str, paise: i64| {
            serde_json::json!({
                "reference_id": reference, "gateway": "billdesk", "payment_id": "p1",
                "captured": {"value": paise, "offset": 100}, "other_payments": [], "refunds": []
            })
        };
        let books = serde_json::json!({
            "date": "2026-11-22", "after": null, "next": null, "ledger": {"problems": []},
            "orders": [order("BM345A-12", 185_000), order("OPEN-1", 0)]
        });
        let ours = file("ours.json", books.to_string().as_bytes());
        let head = "Statement of account,,,,\nTran Date,Particulars,Debit,Credit,Balance\n";
        let paid = "22/11/2026,UPI/BM345A-12,, \"1,850.00 \",\"2,10,000.00 Cr\"\n";
        let rent = "22/11/2026,NEFT/RENT,\"40,000.00\",,\"1,70,000.00 Cr\"\n";
        let total = "TOTAL,,0.00,\"1,850.00\",";
        let settles = |text: &[u8], more: &[&str]| {
            let statement = file("bank.csv", text);
            let map = "reference=Particulars,credit=Credit,debit=Debit";
            let mut arguments = vec!["--gateway", "billdesk", "--columns", map, "--ours", &ours];
            arguments.extend(more);
            arguments.insert(0, &statement);
            run(&parse(&arguments).unwrap()).is_ok()
        };
        let all = format!("{head}{paid}{rent}{total}");
        assert!(settles(all.as_bytes(), &[]));
        assert!(!settles(all.as_bytes(), &["--every-line"]));
        assert!(settles(
            format!("{head}{paid}{total}").as_bytes(),
            &["--every-line"]
        ));
        let wide: Vec<u8> = std::iter::once(0xfeff)
            .chain(
                all.replace(',', "\t")
                    .replace("\"1\t850.00 \"", "1850.00")
                    .replace("\"40\t000.00\"", "40000")
                    .encode_utf16(),
            )
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(settles(&wide, &[]));
        // The bill's money is missing, is another sum, comes twice, or is an open bill's.
        assert!(!settles(format!("{head}{rent}{total}").as_bytes(), &[]));
        assert!(!settles(
            all.replace("1,850.00 ", "1,849.99").as_bytes(),
            &[]
        ));
        assert!(!settles(
            format!("{head}{paid}{paid}{total}").as_bytes(),
            &[]
        ));
        assert!(!settles(
            all.replace("NEFT/RENT,\"40,000.00\",", "UPI/OPEN-1,,5.00")
                .as_bytes(),
            &[]
        ));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
