//! The one HTTP client towards gateways and messaging providers.
//!
//! Compiled-in roots (reading the system bundle costs milliseconds of every cold start), no idle sockets (a Lambda is frozen between
//! requests, and a socket that died meanwhile turns a POST into an unknown outcome), no redirects, no proxy, no retries. A call takes as
//! long as the client allows and as the request's budget has left.

use std::time::Duration;

use chatbill_domain::http::{Answer, HttpCall, HttpReply, Method};
use chatbill_domain::ports::HttpSend;
use secrecy::ExposeSecret;

use crate::budget;

/// Connecting may take this long.
const CONNECT: Duration = Duration::from_secs(2);
/// The largest answer that is read, in bytes. No documented answer comes near it.
const LARGEST: usize = 512 * 1024;

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built: {0}")]
pub struct BuildError(String);

/// Sends calls to vendors.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    timeout: Duration,
}

impl HttpClient {
    /// A client whose calls end after `timeout` in total.
    pub fn new(timeout: Duration) -> Result<Self, BuildError> {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .map(|der| reqwest::Certificate::from_der(der))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| BuildError(e.to_string()))?;
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let client = reqwest::Client::builder()
            .tls_certs_only(roots)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .no_proxy()
            .user_agent(concat!("chatbill/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| BuildError(e.to_string()))?;
        Ok(Self { client, timeout })
    }

    async fn exchange(
        &self,
        call: &HttpCall,
        timeout: Duration,
    ) -> Result<HttpReply, reqwest::Error> {
        let method = match call.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Patch => reqwest::Method::PATCH,
            Method::Put => reqwest::Method::PUT,
        };
        let mut request = self.client.request(method, &call.url).timeout(timeout);
        if let Some(authorization) = &call.authorization {
            request = request.header("authorization", authorization.expose_secret());
        }
        if let Some((name, value)) = &call.secret_header {
            request = request.header(*name, value.expose_secret());
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some((content_type, body)) = &call.body {
            request = request
                .header("content-type", content_type)
                .body(body.clone());
        }
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.trim().parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                body.truncate(LARGEST);
                break;
            }
        }
        Ok(HttpReply {
            status,
            retry_after,
            body,
        })
    }
}

impl HttpSend for HttpClient {
    async fn send(&self, call: &HttpCall) -> Answer {
        let Some(timeout) = budget::for_a_call(self.timeout) else {
            tracing::warn!(
                http.call = call.label,
                not_sent = true,
                "vendor was not asked: the request's time is used up"
            );
            return Answer::NotSent("no time left for the call".to_owned());
        };
        let started = tokio::time::Instant::now();
        let result = self.exchange(call, timeout).await;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(reply) => {
                tracing::info!(
                    http.call = call.label,
                    http.status = reply.status,
                    duration_ms,
                    "vendor answered"
                );
                Answer::Reply(reply)
            }
            Err(error) => {
                // reqwest's own text names the URL, and a URL can name an order; only the kind is kept.
                let not_sent = error.is_connect() || error.is_builder();
                let kind = kind(&error);
                tracing::warn!(
                    http.call = call.label,
                    duration_ms,
                    not_sent,
                    "vendor did not answer: {kind}"
                );
                if not_sent {
                    Answer::NotSent(kind.to_owned())
                } else {
                    Answer::Lost(kind.to_owned())
                }
            }
        }
    }
}

fn kind(error: &reqwest::Error) -> &'static str {
    if error.is_builder() {
        "the request could not be built"
    } else if error.is_connect() && error.is_timeout() {
        "connecting took too long"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chatbill_domain::http::{MAX_CALLS, Step, converse};
    use std::io::{Read as _, Write as _};
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    fn call(url: String) -> HttpCall {
        HttpCall::post_json(
            "test.call",
            url,
            "Bearer t".to_owned().into(),
            &serde_json::json!({"a": 1}),
        )
    }

    fn client() -> HttpClient {
        HttpClient::new(Duration::from_millis(400)).unwrap()
    }

    #[tokio::test]
    async fn answers_of_every_status_are_answers() {
        let server = MockServer::start().await;
        for status in [200_u16, 302, 400, 429, 503] {
            let template = ResponseTemplate::new(status)
                .insert_header("retry-after", "7")
                .insert_header("location", format!("{}/elsewhere", server.uri()))
                .set_body_string("x");
            Mock::given(method("POST"))
                .and(path(format!("/{status}")))
                .and(header("authorization", "Bearer t"))
                .and(header("content-type", "application/json"))
                .respond_with(template)
                .expect(1)
                .mount(&server)
                .await;
            let answer = client()
                .send(&call(format!("{}/{status}", server.uri())))
                .await;
            let expected = HttpReply {
                status,
                retry_after: Some(7),
                body: b"x".to_vec(),
            };
            assert_eq!(answer, Answer::Reply(expected));
        }
    }

    #[tokio::test]
    async fn a_secret_header_of_another_name_goes_out_and_is_never_printed() {
        let server = MockServer::start().await;
        let secret = HttpCall {
            authorization: None,
            secret_header: Some(("api-key", "k-1".to_owned().into())),
            ..call(server.uri())
        };
        assert!(!format!("{secret:?}").contains("k-1"));
        Mock::given(header("api-key", "k-1"))
            .respond_with(ResponseTemplate::new(202))
            .expect(1)
            .mount(&server)
            .await;
        let answer = client().send(&secret).await;
        assert!(
            matches!(answer, Answer::Reply(HttpReply { status: 202, .. })),
            "{answer:?}"
        );
    }

    #[tokio::test]
    async fn a_refused_connection_was_never_sent() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let answer = client()
            .send(&call(format!("http://127.0.0.1:{port}/")))
            .await;
        assert!(matches!(answer, Answer::NotSent(_)), "{answer:?}");
    }

    #[tokio::test]
    async fn silence_after_the_request_is_a_lost_answer() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(200).set_delay(Duration::from_secs(5)))
            .mount(&server)
            .await;
        let answer = client().send(&call(server.uri())).await;
        assert!(matches!(answer, Answer::Lost(_)), "{answer:?}");
    }

    /// The longest conversation there is, with a peer that takes its time for each answer and in the end gives none.
    #[tokio::test]
    async fn a_conversation_with_a_slow_peer_fits_its_budget() {
        let server = MockServer::start().await;
        let slow = |seconds| ResponseTemplate::new(200).set_delay(Duration::from_millis(seconds));
        for (label, delay) in [("short", 250), ("endless", 60_000)] {
            Mock::given(path(format!("/{label}")))
                .respond_with(slow(delay))
                .mount(&server)
                .await;
        }
        let budget = budget::Budget {
            whole: Duration::from_millis(1500),
            reserve: Duration::from_millis(500),
            shortest_call: Duration::from_millis(100),
        };
        let client = HttpClient::new(Duration::from_millis(600)).unwrap();
        for label in ["short", "endless"] {
            let began = tokio::time::Instant::now();
            let url = format!("{}/{label}", server.uri());
            let talk = converse(&client, |answers| {
                if answers.len() < MAX_CALLS {
                    Step::call(call(url.clone()))
                } else {
                    Step::done(answers.to_vec())
                }
            });
            let answers = budget.spend(talk).await.unwrap().unwrap();
            let took = began.elapsed();
            assert!(
                took < budget.whole - budget.reserve + Duration::from_millis(200),
                "{took:?}"
            );
            // What began was awaited; what could not end in time was not begun, and is known not to have been.
            let begun = answers
                .iter()
                .take_while(|answer| !matches!(answer, Answer::NotSent(_)))
                .count();
            assert!((1..MAX_CALLS).contains(&begun), "{label}: {answers:?}");
            let rest = answers.iter().skip(begun);
            assert!(
                rest.into_iter()
                    .all(|answer| matches!(answer, Answer::NotSent(_)))
            );
            let seen = server.received_requests().await.unwrap();
            let seen = seen.iter().filter(|r| r.url.path() == format!("/{label}"));
            assert_eq!(seen.count(), begun);
        }
    }

    #[tokio::test]
    async fn a_connection_cut_after_the_request_is_a_lost_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            let _ = socket.read(&mut buffer);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        });
        let answer = client()
            .send(&call(format!("http://127.0.0.1:{port}/")))
            .await;
        assert!(matches!(answer, Answer::Lost(_)), "{answer:?}");
    }

    #[tokio::test]
    async fn a_huge_answer_is_cut() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(200).set_body_bytes(vec![b'x'; 3 * LARGEST]))
            .mount(&server)
            .await;
        let Answer::Reply(reply) = client().send(&call(server.uri())).await else {
            panic!("no reply")
        };
        assert_eq!(reply.body.len(), LARGEST);
    }

    #[tokio::test]
    async fn plain_text_where_tls_is_expected_was_never_sent() {
        let server = MockServer::start().await;
        let url = server.uri().replace("http://", "https://");
        let answer = client().send(&call(url)).await;
        assert!(matches!(answer, Answer::NotSent(_)), "{answer:?}");
    }
}
