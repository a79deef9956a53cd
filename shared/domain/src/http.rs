//! HTTP as plain values. Connectors build calls and read answers; who holds the socket is not their business.

use secrecy::SecretString;

/// The HTTP methods vendors ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PATCH
    Patch,
    /// PUT
    Put,
}

impl Method {
    /// The method's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
        }
    }
}

/// One request to a vendor, complete but not sent.
#[derive(Debug, Clone)]
pub struct HttpCall {
    /// Vendor and operation for logs and faults, e.g. `razorpay.create_link`.
    pub label: &'static str,
    /// Method.
    pub method: Method,
    /// Absolute URL. Never holds a secret or a phone number that a log could show.
    pub url: String,
    /// The `Authorization` header's value. Printed as redacted.
    pub authorization: Option<SecretString>,
    /// A secret header of another name, for vendors that do not use `Authorization`. Its value is printed as redacted.
    pub secret_header: Option<(&'static str, SecretString)>,
    /// Further headers (no secrets).
    pub headers: Vec<(&'static str, String)>,
    /// Content type and bytes.
    pub body: Option<(String, Vec<u8>)>,
}

impl HttpCall {
    /// A call without a body.
    pub fn get(label: &'static str, url: impl Into<String>, authorization: SecretString) -> Self {
        Self {
            label,
            method: Method::Get,
            url: url.into(),
            authorization: Some(authorization),
            secret_header: None,
            headers: Vec::new(),
            body: None,
        }
    }

    /// A POST of a JSON document.
    pub fn post_json(
        label: &'static str,
        url: impl Into<String>,
        authorization: SecretString,
        body: &serde_json::Value,
    ) -> Self {
        Self {
            method: Method::Post,
            body: Some(("application/json".to_owned(), body.to_string().into_bytes())),
            ..Self::get(label, url, authorization)
        }
    }
}

/// What a vendor answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpReply {
    /// HTTP status code.
    pub status: u16,
    /// The `Retry-After` header in seconds, when it was there and a number.
    pub retry_after: Option<u32>,
    /// The body, cut at a limit the client sets.
    pub body: Vec<u8>,
}

impl HttpReply {
    /// The body as JSON, if it is; with its broken characters replaced.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        crate::lenient::parse(&self.body).ok()
    }

    /// Status 200 to 299.
    #[must_use]
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What became of a call. The difference between the last two decides whether it may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The vendor answered.
    Reply(HttpReply),
    /// The request never left: always safe to repeat.
    NotSent(String),
    /// The request left and no answer came: the vendor may or may not have acted.
    Lost(String),
}

/// A connector's next move in a conversation with its vendor, given all answers so far.
#[derive(Debug)]
pub enum Step<T> {
    /// Make this call and come back with its answer.
    Call(Box<HttpCall>),
    /// The conversation is over.
    Done(Result<T, CallError>),
}

impl<T> Step<T> {
    /// Ends the conversation with a result.
    pub fn done(value: T) -> Self {
        Self::Done(Ok(value))
    }

    /// Ends the conversation with a failure.
    pub fn failed(error: CallError) -> Self {
        Self::Done(Err(error))
    }

    /// Goes on with a call.
    #[must_use]
    pub fn call(call: HttpCall) -> Self {
        Self::Call(Box::new(call))
    }
}

/// How a conversation with a vendor failed. The kinds differ in what may be done next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing reached the vendor, or it said it did nothing and may be asked again (429, 5xx that promise it).
    #[error("unavailable: {reason}")]
    Unavailable {
        /// For logs.
        reason: String,
        /// The vendor's own wish, seconds.
        retry_after: Option<u32>,
    },
    /// The vendor understood, certainly did nothing, and will do it once the merchant has put something right there. The same
    /// request is made again later, under the same name.
    #[error("not now ({}): {reason}", .obstacle.as_str())]
    NotNow {
        /// What stands in the way.
        obstacle: Obstacle,
        /// The vendor's words.
        reason: String,
    },
    /// The vendor understood and said no. Asking again with the same content is pointless.
    #[error("refused ({code}): {reason}")]
    Rejected {
        /// The vendor's code.
        code: String,
        /// The vendor's words.
        reason: String,
    },
    /// The request left and nobody knows what happened. Never repeated blindly.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// For logs.
        reason: String,
    },
    /// The vendor does not offer this.
    #[error("not offered: {0}")]
    Unsupported(&'static str),
}

/// What the merchant has to put right at the vendor before a call can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The merchant's balance at the gateway does not cover the refund.
    InsufficientBalance,
}

impl Obstacle {
    /// The code in the API, in the log and in what is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InsufficientBalance => "insufficient_balance",
        }
    }

    /// What a refusal's words say is in the way. Gateways have no code of their own for it, or several, and each has more than one
    /// wording; what they have in common is that money of the merchant is short.
    #[must_use]
    pub fn told_by(words: &str) -> Option<Self> {
        const SHORT: [&str; 12] = [
            "insufficient",
            "not enough",
            "not have enough",
            "n't have enough",
            "not sufficient",
            "not have sufficient",
            "n't have sufficient",
            "low balance",
            "balance is low",
            "too low",
            "negative balance",
            "balance is negative",
        ];
        const MONEY: [&str; 3] = ["balance", "fund", "credits"];
        // `insufficient_account_balance` and "insufficient  balance" are the same words; and every refund has "fund" in its name.
        let words = words
            .to_ascii_lowercase()
            .replace(['_', '-'], " ")
            .replace("refund", "");
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let has = |list: &[&str]| list.iter().any(|word| words.contains(word));
        (has(&SHORT) && has(&MONEY)).then_some(Self::InsufficientBalance)
    }
}

/// A conversation may take at most this many calls; more is a bug in a connector.
pub const MAX_CALLS: usize = 6;

/// Runs a conversation: asks `next` what to do with the answers so far, sends, and so on until it is done.
pub async fn converse<T, H: crate::ports::HttpSend>(
    http: &H,
    next: impl Fn(&[Answer]) -> Step<T> + Send,
) -> Result<T, CallError> {
    let mut answers = Vec::new();
    loop {
        match next(&answers) {
            Step::Done(result) => return result,
            Step::Call(call) if answers.len() < MAX_CALLS => answers.push(http.send(&call).await),
            Step::Call(call) => {
                return Err(CallError::Unknown {
                    reason: format!("{} went on without end", call.label),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_balance_is_known_by_its_words() {
        for words in [
            // Field report B18.
            "Your account does not have enough balance to carry out the refund operation.",
            "Your account does not have enough credits to carry out the refund operation.",
            "Insufficient balance",
            "INSUFFICIENT_FUNDS: refund not possible",
            "insufficient_account_balance",
            "You don't have sufficient balance for this refund",
            "Not enough  funds in the settlement account",
            "Refund failed due to low balance",
            "The merchant's balance is too low",
            "Merchant has a negative balance",
        ] {
            assert_eq!(
                Obstacle::told_by(words),
                Some(Obstacle::InsufficientBalance),
                "{words}"
            );
        }
        for words in [
            "",
            "The refund amount provided is greater than amount captured",
            "The payment has been fully refunded already",
            "Insufficient permissions to refund this payment",
            "not enough parameters for a refund",
            "The amount is too low, refunds begin at INR 1.00",
            "The refund amount exceeds the payment's remaining balance",
        ] {
            assert_eq!(Obstacle::told_by(words), None, "{words}");
        }
    }
}
