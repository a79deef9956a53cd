//! AWS as an operator uses it: a handful of calls, signed (Signature Version 4) and sent over the same HTTP client.
//!
//! The SDKs of API Gateway, Lambda and CloudWatch Logs would be three large dependencies for one call each.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::http::{self, Reply};

#[derive(Debug)]
pub(crate) struct Aws {
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "an operator's requests carry the machine's own time"
)]
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

pub(crate) fn now_ms() -> i64 {
    i64::try_from(now().unix_timestamp_nanos() / 1_000_000).unwrap()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

impl Aws {
    fn send(
        &self,
        method: &str,
        service: &str,
        path: &str,
        extra: &[(&str, &str)],
        body: &Value,
    ) -> Reply {
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let now = now();
        let time = now
            .format(format_description!(
                "[year][month][day]T[hour][minute][second]Z"
            ))
            .unwrap();
        let day = &time[..8];
        let host = self.endpoint.trim_start_matches("http://");
        let canonical = format!(
            "{method}\n{path}\n\nhost:{host}\nx-amz-date:{time}\n\nhost;x-amz-date\n{}",
            hex::encode(Sha256::digest(&body))
        );
        let scope = format!("{day}/{}/{service}/aws4_request", self.region);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical))
        );
        let secret = format!("AWS4{}", self.secret_access_key);
        let key = [day, &self.region, service, "aws4_request"]
            .into_iter()
            .fold(secret.into_bytes(), |key, part| hmac(&key, part));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=host;x-amz-date, Signature={}",
            self.access_key_id,
            hex::encode(hmac(&key, &to_sign))
        );
        let mut headers = vec![("x-amz-date", time.as_str())];
        headers.push(("authorization", &authorization));
        headers.extend(extra);
        let url = format!("{}{path}", self.endpoint);
        let body = (method != "GET").then_some(body.as_bytes());
        http::send(method, &url, &headers, body)
    }

    /// A call of a service that names its operations in a header.
    #[track_caller]
    fn operation(&self, service: &str, version: &str, target: &str, body: &Value) -> Value {
        let kind = format!("application/x-amz-json-{version}");
        let headers = [("content-type", kind.as_str()), ("x-amz-target", target)];
        let reply = self.send("POST", service, "/", &headers, body);
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        serde_json::from_slice(&reply.bytes).unwrap_or_default()
    }

    pub(crate) fn dynamodb(&self, operation: &str, body: &Value) -> Value {
        let target = format!("DynamoDB_20120810.{operation}");
        self.operation("dynamodb", "1.0", &target, body)
    }

    pub(crate) fn sqs(&self, operation: &str, body: &Value) -> Value {
        self.operation("sqs", "1.0", &format!("AmazonSQS.{operation}"), body)
    }

    pub(crate) fn put_tenant(&self, name: &str, document: &Value) {
        let body = json!({"Name": name, "Type": "SecureString", "Value": document.to_string()});
        self.operation("ssm", "1.1", "AmazonSSM.PutParameter", &body);
    }

    /// Makes an API key and adds it to the usage plan.
    pub(crate) fn add_api_key(&self, plan: &str, name: &str, value: &str) {
        let json = [("content-type", "application/json")];
        let body = json!({"name": name, "value": value, "enabled": true});
        let key = self
            .send("POST", "apigateway", "/apikeys", &json, &body)
            .json(201);
        let body = json!({"keyId": key["id"], "keyType": "API_KEY"});
        let path = format!("/usageplans/{plan}/keys");
        self.send("POST", "apigateway", &path, &json, &body)
            .json(201);
    }

    /// Invokes a function and waits for its answer.
    pub(crate) fn invoke(&self, function: &str, event: &Value) -> Value {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let reply = self.send("POST", "lambda", &path, &[], event);
        assert_eq!(reply.header("x-amz-function-error"), "", "{}", reply.text());
        reply.json(200)
    }

    /// The deployed name of the function that the template calls `resource`.
    pub(crate) fn function(&self, resource: &str) -> String {
        let path = "/2015-03-31/functions/";
        let list = self
            .send("GET", "lambda", path, &[], &Value::Null)
            .json(200);
        let functions = list["Functions"].as_array().unwrap();
        let part = format!("-{resource}-");
        functions
            .iter()
            .map(|function| function["FunctionName"].as_str().unwrap())
            .find(|name| name.contains(&part))
            .unwrap_or_else(|| panic!("no function is called {resource}: {list}"))
            .to_owned()
    }

    /// Every line of a log group.
    pub(crate) fn log(&self, group: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut body = json!({"logGroupName": group});
        loop {
            let page = self.operation("logs", "1.1", "Logs_20140328.FilterLogEvents", &body);
            let events = page["events"].as_array().unwrap();
            lines.extend(
                events
                    .iter()
                    .map(|event| event["message"].as_str().unwrap().to_owned()),
            );
            match page.get("nextToken") {
                Some(token) if !token.is_null() => body["nextToken"] = token.clone(),
                _ => return lines,
            }
        }
    }
}
