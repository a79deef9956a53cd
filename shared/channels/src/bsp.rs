//! What Exotel and Kaleyra have in common: both send WhatsApp messages and SMS from one account, neither signs what it reports.

use chatbill_domain::connector::{Notice, Signal, Wish};
use chatbill_domain::contact::{Msisdn, quotable};
use chatbill_domain::fault::Fault;
use chatbill_domain::json::Fields;
use chatbill_domain::lenient;
use chatbill_domain::message::{Form, Progress, Remedy, Report, SendFailure, Tag};
use chatbill_domain::sms::Templates;
use chatbill_domain::tenant::{self, ChannelKind, ChannelSettings};
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{Unreadable, VerifiedWebhook};
use secrecy::SecretString;
use serde_json::Value;

use crate::multipart;
use crate::wire::{failure, patient, read_form, text, whole};

/// How long a sender rests that is over its rate, in seconds, when the provider does not say. Neither documents a figure. Each
/// further failure of the same message waits longer by the schedule.
pub(crate) const REST: u32 = 10;

/// The SMS side of an account.
pub(crate) struct Sms {
    /// The registered header.
    pub(crate) sender: String,
    pub(crate) templates: Templates,
}

/// Whether the tenant's messages can go out by SMS: always, or when WhatsApp has failed.
pub(crate) fn sends_sms(channel: &ChannelSettings) -> bool {
    channel.kind == ChannelKind::Sms || channel.fallback_to_sms
}

/// Reads what an SMS needs. A tenant that sends none may have it in its document, and it is checked there too.
pub(crate) fn read_sms(f: &mut Fields<'_>, channel: &ChannelSettings) -> Option<Option<Sms>> {
    let wanted = sends_sms(channel);
    if wanted {
        f.required("dlt_template_ids");
    }
    if channel.fallback_to_sms {
        // `from` is a WhatsApp number there.
        f.required("sender");
    }
    let templates = Templates::read(f, "dlt_template_ids");
    let sender = f.text("sender", 40);
    if !wanted {
        return Some(None);
    }
    let sender = match channel.kind {
        ChannelKind::Sms => sender.unwrap_or_else(|| channel.from.clone()),
        ChannelKind::WhatsApp => sender?,
    };
    Some(Some(Sms {
        sender,
        templates: templates?,
    }))
}

/// These two sign nothing at all, so their tenants must have one.
pub(crate) fn read_callback_token(f: &mut Fields<'_>) -> Option<SecretString> {
    f.required("callback_token")?;
    tenant::callback_token(f)?
}

/// `/channel/qr_header` cannot be had.
pub(crate) fn no_qr(why: impl Into<String>) -> Fault {
    Fault::new("/channel/qr_header", "impossible", why)
}

/// The account has no such side; it may have had one when the order began.
pub(crate) fn not_offered(form: Form) -> SendFailure {
    match form {
        Form::Sms => failure(Remedy::GiveUp, "no_sms", "the tenant sends no SMS"),
        Form::Interactive | Form::Template => {
            failure(Remedy::GiveUp, "no_whatsapp", "the tenant sends SMS only")
        }
    }
}

/// Takes over the vendor's own wish how long to wait.
pub(crate) fn heed(remedy: Remedy, retry_after: Option<u32>) -> Remedy {
    match (remedy, retry_after) {
        (Remedy::Throttled(_), Some(seconds)) => Remedy::Throttled(seconds),
        (remedy, retry_after) => patient(remedy, retry_after),
    }
}

/// What a webhook says, in whichever way it was sent: JSON, one object as `object` reads it or several in a list, or a form of either
/// kind.
pub(crate) fn documents(
    webhook: &VerifiedWebhook,
    object: fn(&[u8]) -> Option<Value>,
) -> Result<Vec<Value>, Unreadable> {
    let body = webhook.body();
    let kind = webhook.raw().header("content-type").unwrap_or_default();
    if let Some(boundary) = multipart::boundary(kind).or_else(|| multipart::first_boundary(body)) {
        return multipart::read(body, boundary)
            .map(|form| vec![form])
            .ok_or_else(|| Unreadable("a form that is cut off".to_owned()));
    }
    match body.trim_ascii_start().first() {
        Some(b'{') => object(body)
            .map(|document| vec![document])
            .ok_or_else(|| Unreadable("not an object".to_owned())),
        _ => match lenient::parse(body) {
            Ok(Value::Array(list)) if !list.is_empty() => Ok(list),
            Ok(_) => Err(Unreadable("not an object".to_owned())),
            Err(_) => Ok(vec![read_form(body)]),
        },
    }
}

/// Reads each document. One that cannot be read does not cost the others; if none can, the webhook as a whole is unreadable.
pub(crate) fn each(
    documents: &[Value],
    read: impl Fn(&Value) -> Result<Vec<Signal>, Unreadable>,
) -> Result<Vec<Signal>, Unreadable> {
    let read: Vec<_> = documents.iter().map(read).collect();
    if let Some(Err(first)) = read.first()
        && read.iter().all(Result::is_err)
    {
        return Err(first.clone());
    }
    Ok(read
        .into_iter()
        .flat_map(|read| {
            read.unwrap_or_else(|why| vec![Signal::Noticed(Notice::Unreadable, why.0)])
        })
        .collect())
}

/// What a word of a delivery report means, at whichever provider and in whichever spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It is on its way; we know.
    Waiting,
    Reached(Progress),
    Failed,
}

/// The words of Exotel's and Kaleyra's pages, WhatsApp's and those of SMS, as letters only.
const WORDS: &[(&str, Word)] = &[
    ("QUEUED", Word::Waiting),
    ("SENDING", Word::Waiting),
    ("ACCEPTED", Word::Waiting),
    ("PENDING", Word::Waiting),
    ("SENT", Word::Reached(Progress::Sent)),
    ("SUBMITTED", Word::Reached(Progress::Sent)),
    ("SENTNODLR", Word::Reached(Progress::Sent)),
    ("ENROUTE", Word::Reached(Progress::Sent)),
    ("EXMESSAGESENT", Word::Reached(Progress::Sent)),
    ("DELIVERED", Word::Reached(Progress::Delivered)),
    ("DELIVRD", Word::Reached(Progress::Delivered)),
    ("EXMESSAGEDELIVERED", Word::Reached(Progress::Delivered)),
    ("READ", Word::Reached(Progress::Read)),
    ("SEEN", Word::Reached(Progress::Read)),
    ("EXMESSAGESEEN", Word::Reached(Progress::Read)),
    ("FAILED", Word::Failed),
    ("FAILEDDND", Word::Failed),
    ("FAILEDEXPIRED", Word::Failed),
    ("NOTSENT", Word::Failed),
    ("UNDELIVERED", Word::Failed),
    ("UNDELIV", Word::Failed),
    ("EXPIRED", Word::Failed),
    ("REJECTED", Word::Failed),
    ("REJECTD", Word::Failed),
];

/// Letters and digits only: `SENT - NO DLR`, `not-sent` and `NOT_SENT` are written in several ways.
pub(crate) fn plain(word: &str) -> String {
    word.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

/// A delivery report in the provider's words.
pub(crate) struct Told<'a> {
    /// The provider's id of the message, for the log.
    pub(crate) id: &'a str,
    /// The word.
    pub(crate) status: &'a str,
    /// The provider's code, if it gave one.
    pub(crate) code: Option<String>,
    /// The failure that word and code together name, where the provider's pages know one.
    pub(crate) known: Option<(String, Remedy)>,
    /// Its explanation.
    pub(crate) detail: String,
}

impl Told<'_> {
    /// What it means. A code that is known as a failure makes it one, whatever the word; a word that is known as a failure does,
    /// whatever the code. `None`: nothing new. The error is what nobody here understands: it may be about a message that is well on its
    /// way, and a failure can cost a second one by SMS.
    pub(crate) fn report(self) -> Result<Option<Report>, String> {
        let word = plain(self.status);
        let word = WORDS.iter().find(|(name, _)| *name == word);
        let failed = |code: &str, remedy| {
            Report::Failed(SendFailure {
                remedy,
                code: quotable(code),
                detail: quotable(&self.detail),
            })
        };
        match (self.known, word.map(|(_, word)| *word)) {
            (Some((code, remedy)), _) => Ok(Some(failed(&code, remedy))),
            (None, Some(Word::Failed)) => {
                let code = self.code.as_deref().unwrap_or(self.status);
                Ok(Some(failed(code, Remedy::GiveUp)))
            }
            (None, Some(Word::Reached(progress))) => Ok(Some(Report::Progress(progress))),
            (None, Some(Word::Waiting)) => Ok(None),
            (None, None) => Err(format!(
                "{} with code {}",
                quotable(self.status),
                quotable(self.code.as_deref().unwrap_or("none"))
            )),
        }
    }

    /// The same about the message that a tag names.
    pub(crate) fn about(self, tag: Option<Tag>) -> Signal {
        let (id, status) = (quotable(self.id), quotable(self.status));
        match (tag, self.report()) {
            (None, _) => Signal::Ignored(format!("{status} of {id} carries no tag of ours")),
            (Some(tag), Ok(Some(report))) => Signal::Message {
                tag,
                report,
                user: None,
            },
            (Some(_), Ok(None)) => Signal::Ignored(format!("{status} of {id} is no news")),
            (Some(_), Err(what)) => Signal::Noticed(Notice::DeliveryWord, what),
        }
    }
}

/// A customer wrote. Numbers come with a plus and without, in full and as Indian networks write their own.
pub(crate) fn inbound(from: Option<&str>, at: Option<Millis>, wish: Option<Wish>) -> Signal {
    match Msisdn::from_vendor(from.unwrap_or_default()) {
        Ok(phone) => Signal::Inbound { phone, at, wish },
        Err(_) => Signal::Ignored("a message of a customer without a usable number".to_owned()),
    }
}

/// A time as seconds since 1970 or as RFC 3339, also with a blank for its T; anything else is no time.
pub(crate) fn time(value: &Value, name: &str) -> Option<Millis> {
    whole(value.get(name)?)
        .filter(|seconds| *seconds > 0)
        .map(Millis::from_seconds)
        .or_else(|| Millis::from_rfc3339(&text(value, name)?.replacen(' ', "T", 1)))
}
