//! What Exotel and Kaleyra have in common: both send WhatsApp messages and SMS from one account, neither signs what it reports.

use chatbill_domain::connector::{Signal, Wish};
use chatbill_domain::contact::Msisdn;
use chatbill_domain::fault::Fault;
use chatbill_domain::json::Fields;
use chatbill_domain::message::{Form, Remedy, SendFailure};
use chatbill_domain::sms::Templates;
use chatbill_domain::tenant::{self, ChannelKind, ChannelSettings};
use chatbill_domain::time::Millis;
use secrecy::SecretString;
use serde_json::Value;

use crate::wire::{failure, patient, text, whole};

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

/// A customer wrote. Numbers come with a plus and without.
pub(crate) fn inbound(from: Option<&str>, at: Option<Millis>, said: Option<&str>) -> Signal {
    let digits = from.unwrap_or_default().trim_start_matches('+');
    match Msisdn::parse(format!("+{digits}")) {
        Ok(phone) => Signal::Inbound {
            phone,
            at,
            wish: said.and_then(Wish::of),
        },
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
