//! What holds for every webhook of every sender.

use std::collections::HashMap;
use std::sync::LazyLock;

use chatbill_domain::connector::{Signal, Trust, signals};
use chatbill_domain::lenient;
use chatbill_domain::payment::PaymentReport;
use chatbill_domain::webhook::{RawWebhook, Refused};
use serde_json::Value;

use crate::seeds;
use crate::senders::{SENDERS, Sender, jwe, jws, named};

/// No line of a log is longer than this: a quotation has 200 characters, and there are two at most.
const LONGEST_LINE: usize = 600;

/// A webhook from an input: lines `?name=value` are parameters and `name: value` headers, then an empty line, then the body.
/// Without an empty line all of it is the body.
#[must_use]
pub fn raw(data: &[u8]) -> RawWebhook {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (&data[..0], data),
    };
    let mut raw = RawWebhook {
        headers: vec![],
        query: vec![],
        body: body.to_vec(),
    };
    for line in String::from_utf8_lossy(head).lines() {
        if let Some((name, value)) = line.strip_prefix('?').and_then(|l| l.split_once('=')) {
            raw.query.push((name.to_owned(), value.to_owned()));
        } else if let Some((name, value)) = line.split_once(": ") {
            raw.headers
                .push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    raw
}

/// What [`raw`] reads.
#[must_use]
pub fn written(raw: &RawWebhook) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in &raw.query {
        text.push_str(&format!("?{name}={value}\n"));
    }
    for (name, value) in &raw.headers {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    [text.as_bytes(), &raw.body].concat()
}

/// A webhook by somebody who does not know the secret, but may have seen genuine webhooks where their signature is over their
/// content. Nothing in it is believed that was not in one of those.
pub fn forged(sender: &Sender, data: &[u8]) {
    let raw = raw(data);
    let _ = sender
        .hooks
        .challenge(&raw)
        .map(|_| panic!("a challenge without its token"));
    let verified = match sender.hooks.verify(raw.clone()) {
        Ok(verified) => verified,
        Err(Refused::Missing | Refused::Mismatch) => return,
    };
    assert!(
        sender.signs_content || !verified.is_signed(),
        "{}: verified without its secret",
        sender.name
    );
    let Ok(heard) = signals(sender.hooks.as_ref(), &verified) else {
        return;
    };
    check_text(&heard);
    if !verified.is_signed() {
        for signal in &heard {
            assert!(
                matches!(
                    signal,
                    Signal::Ignored(_)
                        | Signal::Foreign(_)
                        | Signal::Payment {
                            trust: Trust::Hint,
                            ..
                        }
                        | Signal::Refund {
                            trust: Trust::Hint,
                            ..
                        }
                ),
                "{}: {signal:?} is believed without a signature",
                sender.name
            );
        }
        return;
    }
    let genuine = &GENUINE[sender.name.as_str()];
    for signal in &heard {
        let known = genuine.iter().any(|known| match (known, signal) {
            (_, Signal::Ignored(_) | Signal::Foreign(_) | Signal::Noticed(..)) => true,
            // A hint makes us ask; what the signature covers of it is its bill and its amount.
            (
                Signal::Payment {
                    reference, report, ..
                },
                Signal::Payment {
                    reference: said,
                    report: reported,
                    trust: Trust::Hint,
                },
            ) => reference == said && report.amount == reported.amount,
            (known, signal) => known == signal,
        });
        assert!(known, "{}: {signal:?} was never signed", sender.name);
    }
}

/// What the genuine webhooks among the seeds say, which an attacker may have seen.
static GENUINE: LazyLock<HashMap<&'static str, Vec<Signal>>> = LazyLock::new(|| {
    SENDERS
        .iter()
        .map(|sender| {
            let hooks = sender.hooks.as_ref();
            let said = seeds::contents(sender).into_iter().filter_map(|content| {
                let verified = hooks.verify(sender.signed(&content)).ok()?;
                signals(hooks, &verified).ok()
            });
            (sender.name.as_str(), said.flatten().collect())
        })
        .collect()
});

/// Any content, signed by the vendor: it is let through, read without a panic, and what is proven is what it says.
pub fn signed(sender: &Sender, data: &[u8]) {
    let raw = sender.signed(data);
    let verified = sender
        .hooks
        .verify(raw)
        .unwrap_or_else(|refused| panic!("{}: a genuine webhook: {refused}", sender.name));
    assert!(verified.is_signed(), "{}", sender.name);
    let heard = match signals(sender.hooks.as_ref(), &verified) {
        Ok(heard) => heard,
        Err(unreadable) => return check_line(&unreadable.0),
    };
    assert!(!heard.is_empty(), "{}: heard, and lost", sender.name);
    check_text(&heard);
    for signal in &heard {
        match signal {
            Signal::Payment { report, trust, .. } => {
                let stored = serde_json::to_string(report).expect("a report");
                let back: PaymentReport = serde_json::from_str(&stored).expect("a stored report");
                assert_eq!(&back, report, "{}: stored otherwise", sender.name);
                if *trust != Trust::Hint {
                    assert!(sender.is_gateway, "{} holds no money", sender.name);
                    says(sender, data, report);
                }
            }
            Signal::Refund { report, trust, .. } => {
                let stored = serde_json::to_string(report).expect("a report");
                let back = serde_json::from_str(&stored).expect("a stored report");
                assert_eq!(report, &back, "{}: stored otherwise", sender.name);
                assert!(
                    *trust == Trust::Hint || sender.is_gateway,
                    "{} holds no money",
                    sender.name
                );
            }
            Signal::LinkClosed { .. } => assert!(sender.is_gateway, "{} has no links", sender.name),
            Signal::Inbound { .. }
            | Signal::InboundHidden { .. }
            | Signal::Renamed { .. }
            | Signal::Elsewhere { .. }
            | Signal::Message { .. } => {
                assert!(!sender.is_gateway, "{} writes to nobody", sender.name);
            }
            Signal::Ignored(_) | Signal::Foreign(_) | Signal::Noticed(..) => {}
        }
    }
}

/// The content says this amount, in the vendor's unit, and this currency.
fn says(sender: &Sender, content: &[u8], report: &PaymentReport) {
    let document: Value = serde_json::from_slice(&lenient::mended(content))
        .unwrap_or_else(|_| panic!("{}: proven by what is not JSON", sender.name));
    let (mut amounts, mut currencies) = (Vec::new(), Vec::new());
    collect(&document, "amount", &mut amounts);
    collect(&document, "currency", &mut currencies);
    let paise = report.amount.get();
    let amount = match sender.vendor {
        "razorpay" | "zaakpay" => vec![paise.to_string()],
        // Rupees, with as many decimals as there are.
        _ => {
            let whole = format!("{}.{:02}", paise / 100, paise % 100);
            let shorter = whole.strip_suffix('0').unwrap_or(&whole).to_owned();
            let shortest = whole.strip_suffix(".00").unwrap_or(&whole).to_owned();
            vec![whole, shorter, shortest]
        }
    };
    let zeros = |text: &str| {
        let bare = text.trim_start_matches('0').to_owned();
        if bare.is_empty() || bare.starts_with('.') {
            format!("0{bare}")
        } else {
            bare
        }
    };
    assert!(
        amounts.iter().any(|said| amount.contains(&zeros(said))),
        "{}: {paise} paise is not among {amounts:?}",
        sender.name
    );
    let stated = currencies.iter().any(|said| {
        *said == report.currency
            || (sender.vendor == "billdesk" && said == "356" && report.currency == "INR")
    });
    // Zaakpay's webhooks name no currency; it takes rupees only.
    let silent = sender.vendor == "zaakpay" && report.currency == "INR";
    assert!(
        stated || silent,
        "{}: {} is not among {currencies:?}",
        sender.name,
        report.currency
    );
}

fn collect(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == name => found.push(text.clone()),
                    Value::Number(number) if key == name => found.push(number.to_string()),
                    other => collect(other, name, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, name, found)),
        _ => {}
    }
}

fn check_text(heard: &[Signal]) {
    for signal in heard {
        match signal {
            Signal::Ignored(line) | Signal::Noticed(_, line) => check_line(line),
            Signal::Payment { report, .. } => {
                report.error.as_deref().into_iter().for_each(check_line)
            }
            Signal::Refund { report, .. } => {
                report.error.as_deref().into_iter().for_each(check_line)
            }
            _ => {}
        }
    }
}

/// Fit for a log: one line, and not without end.
fn check_line(line: &str) {
    assert!(
        !line.chars().any(char::is_control),
        "not one line: {line:?}"
    );
    assert!(
        line.chars().count() <= LONGEST_LINE,
        "a line of {} bytes",
        line.len()
    );
}

/// BillDesk's tokens under the right keys with headers that somebody else chose. The input is two headers, one a line, and a
/// payload. Only what was agreed on is opened, and then it is the payload that was sealed.
pub fn jose(data: &[u8]) {
    let mut lines = data.splitn(3, |b| *b == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (outer, inner, payload) = (next(), next(), next());
    let agreed = |header: &[u8], wanted: &[(&str, &str)], never: &[&str]| {
        serde_json::from_slice::<Value>(header).is_ok_and(|header| {
            header.is_object()
                && wanted.iter().all(|(name, value)| header[*name] == **value)
                && never.iter().all(|name| header.get(*name).is_none())
        })
    };
    let signed = agreed(outer, &[("alg", "HS256")], &["crit", "b64"]);
    let encrypted = agreed(
        inner,
        &[("alg", "dir"), ("enc", "A256GCM")],
        &["crit", "b64", "zip"],
    );
    let token = jwe(inner, *b"unique iv 02", payload);
    for (sender, sealed, good) in [
        ("billdesk", payload, signed),
        ("billdesk+jose", token.as_bytes(), signed && encrypted),
        // Signed where encryption was agreed on.
        ("billdesk+jose", payload, false),
    ] {
        let raw = RawWebhook {
            headers: vec![],
            query: vec![],
            body: jws(outer, sealed).into_bytes(),
        };
        match named(sender).hooks.verify(raw) {
            Ok(verified) => {
                assert!(good && verified.is_signed(), "{sender}: opened");
                assert_eq!(verified.body(), payload, "{sender}");
            }
            Err(_) => assert!(!good, "{sender}: not opened"),
        }
    }
    // The token itself as somebody wrote it, without the keys.
    for sender in ["billdesk", "billdesk+jose"] {
        let raw = RawWebhook {
            headers: vec![],
            query: vec![],
            body: data.to_vec(),
        };
        assert!(named(sender).hooks.verify(raw).is_err(), "{sender}: opened");
    }
}
