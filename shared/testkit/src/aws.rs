//! AWS as a service on loopback that has parameters and nothing else, and counts what it is asked. It stands below every cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// Parameters on a page of a listing, as the parameter store has it.
const PAGE: usize = 10;

/// The service. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FakeAws(Arc<Mutex<Account>>);

#[derive(Debug, Default)]
struct Account {
    parameters: BTreeMap<String, String>,
    calls: BTreeMap<String, usize>,
}

impl FakeAws {
    /// Starts it and gives its address.
    pub async fn start() -> (Self, String) {
        let service = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (service, endpoint)
    }

    /// Puts a parameter.
    pub fn put(&self, name: &str, value: &Value) {
        let text = value.to_string();
        self.account().parameters.insert(name.to_owned(), text);
    }

    /// How often each operation was asked for, such as `AmazonSSM.GetParameter`.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, usize> {
        self.account().calls.clone()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    State(service): State<FakeAws>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let target = headers.get("x-amz-target").and_then(|t| t.to_str().ok());
    let target = target.unwrap_or("another service").to_owned();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut account = service.account();
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let found = match target.as_str() {
        "AmazonSSM.GetParameter" => account.parameters.get(&text("Name")).map(|value| {
            json!({"Parameter": {"Name": text("Name"), "Type": "SecureString", "Value": value, "Version": 1}})
        }),
        "AmazonSSM.GetParametersByPath" => {
            let path = format!("{}/", text("Path"));
            let after = text("NextToken");
            let mut below = account
                .parameters
                .keys()
                .filter(|name| name.starts_with(&path) && **name > after);
            let page: Vec<&String> = below.by_ref().take(PAGE).collect();
            let next = page.last().filter(|_| below.next().is_some());
            let parameters: Vec<Value> = page
                .iter()
                .map(|name| json!({"Name": name, "Type": "SecureString", "Value": "encrypted"}))
                .collect();
            Some(json!({"Parameters": parameters, "NextToken": next}))
        }
        _ => None,
    };
    let calls = account.calls.entry(target).or_default();
    *calls = calls.saturating_add(1);
    match found {
        Some(found) => (StatusCode::OK, found.to_string()),
        None => (
            StatusCode::BAD_REQUEST,
            json!({"__type": "ParameterNotFound", "message": "not there"}).to_string(),
        ),
    }
}
