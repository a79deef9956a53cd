//! A fake Lambda runtime on loopback that runs a function's real binary, as Lambda does: the process starts, asks for events
//! one at a time, and answers them. The protocol is the "Lambda runtime API" of the Lambda developer guide (2018-06-01).

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How long a function may take to ask for its first event. Lambda allows 10 seconds; a debug build on a busy machine more.
const INIT: Duration = Duration::from_secs(30);
/// How long an invocation may take: the functions' timeout in `template.yaml`, and a second.
const INVOCATION: Duration = Duration::from_secs(30);

/// What went wrong with a function.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LambdaError {
    /// It could not be started.
    #[error("the function could not be started: {0}")]
    Spawn(String),
    /// It gave up, or took too long, before its first event. With what it printed.
    #[error("the function did not initialise: {0}")]
    Init(String),
    /// It reported an error for an invocation.
    #[error("the function failed: {kind}: {message}")]
    Function {
        /// The error's type.
        kind: String,
        /// The error's message.
        message: String,
    },
    /// Its process ended during an invocation. With what it printed.
    #[error("the function's process ended: {0}")]
    Exited(String),
    /// It did not answer in time.
    #[error("the function did not answer in time")]
    Timeout,
    /// Its answer is no JSON.
    #[error("the function's answer is no JSON: {0}")]
    NotJson(String),
}

/// Processor time and memory a function has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, of all threads.
    pub cpu: Duration,
    /// The most memory it ever held at once, in bytes.
    pub peak_memory: u64,
}

type Outcome = Result<Value, LambdaError>;

struct Pending {
    id: String,
    event: Bytes,
}

struct Shared {
    started: Instant,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Pending>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    stage: watch::Sender<Stage>,
    lines: Mutex<Vec<String>>,
}

#[derive(Debug, Clone)]
enum Stage {
    Starting,
    Ready(Duration),
    Failed(String),
    Ended(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running function. Its process is killed when this is dropped.
pub struct LambdaProcess {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Pending>,
    init: Duration,
    pid: Option<u32>,
    count: Mutex<u64>,
    server: JoinHandle<()>,
    process: JoinHandle<()>,
    readers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for LambdaProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LambdaProcess")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl LambdaProcess {
    /// Starts a binary with exactly these environment variables (and those that Lambda sets) and waits until it asks for its
    /// first event.
    pub async fn start(
        binary: impl AsRef<Path>,
        env: &[(&str, &str)],
    ) -> Result<Self, LambdaError> {
        let mut command = Command::new(binary.as_ref());
        command.env_clear().envs(env.iter().copied());
        Self::start_command(command).await
    }

    /// The same for a command that needs arguments; its environment is the caller's business.
    pub async fn start_command(mut command: Command) -> Result<Self, LambdaError> {
        let spawn = |error: std::io::Error| LambdaError::Spawn(error.to_string());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(spawn)?;
        let address = listener.local_addr().map_err(spawn)?;
        let (events, receiver) = mpsc::unbounded_channel();
        let (stage, mut stages) = watch::channel(Stage::Starting);
        command
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "function")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "group")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("_HANDLER", "bootstrap")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = command.spawn().map_err(spawn)?;
        let shared = Arc::new(Shared {
            started,
            events: tokio::sync::Mutex::new(receiver),
            waiting: Mutex::default(),
            stage,
            lines: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        let pid = child.id();
        let readers = [
            child
                .stdout
                .take()
                .map(|out| tokio::spawn(read(out, Arc::clone(&shared)))),
            child
                .stderr
                .take()
                .map(|out| tokio::spawn(read(out, Arc::clone(&shared)))),
        ];
        let process = tokio::spawn(watch(child, Arc::clone(&shared)));
        let mut this = Self {
            shared,
            events,
            init: Duration::ZERO,
            pid,
            count: Mutex::new(0),
            server,
            process,
            readers: readers.into_iter().flatten().collect(),
        };
        let ready = stages.wait_for(|stage| !matches!(stage, Stage::Starting));
        match tokio::time::timeout(INIT, ready)
            .await
            .map(|stage| stage.map(|s| s.clone()))
        {
            Ok(Ok(Stage::Ready(init))) => {
                this.init = init;
                Ok(this)
            }
            Ok(Ok(Stage::Failed(why) | Stage::Ended(why))) => {
                let lines = this.stop().await.join("\n");
                Err(LambdaError::Init(format!("{why}\n{lines}")))
            }
            _ => {
                let lines = this.stop().await.join("\n");
                Err(LambdaError::Init(format!("it took too long\n{lines}")))
            }
        }
    }

    /// Invokes the function and waits for its answer. Invocations made at once queue up: one process does one at a time.
    pub async fn invoke(&self, event: &Value) -> Outcome {
        let id = {
            let mut count = lock(&self.count);
            *count += 1;
            format!("00000000-0000-4000-8000-{:012}", *count)
        };
        let (answer, answered) = oneshot::channel();
        lock(&self.shared.waiting).insert(id.clone(), answer);
        let exited = || LambdaError::Exited(self.logs().join("\n"));
        if let Stage::Ended(_) = *self.shared.stage.borrow() {
            return Err(exited());
        }
        let event = Bytes::from(event.to_string());
        let pending = Pending {
            id: id.clone(),
            event,
        };
        self.events.send(pending).map_err(|_| exited())?;
        match tokio::time::timeout(INVOCATION, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(exited()),
            Err(_) => {
                lock(&self.shared.waiting).remove(&id);
                Err(LambdaError::Timeout)
            }
        }
    }

    /// Time from starting the process to its first question for an event: what Lambda calls the init phase.
    #[must_use]
    pub fn init(&self) -> Duration {
        self.init
    }

    /// The lines it printed so far, standard output and error mixed as they came.
    #[must_use]
    pub fn logs(&self) -> Vec<String> {
        lock(&self.shared.lines).clone()
    }

    /// What it used so far; only Linux tells.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let process = format!("/proc/{}", self.pid?);
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("{process}/task")).ok()? {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            nanoseconds += text.split(' ').next()?.parse::<u64>().ok()?;
        }
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(Usage {
            cpu: Duration::from_nanos(nanoseconds),
            peak_memory: kilobytes * 1024,
        })
    }

    /// Kills the process and gives every line it printed.
    pub async fn stop(mut self) -> Vec<String> {
        self.process.abort();
        // The child goes with its task, and its pipes end with it.
        let _ = (&mut self.process).await;
        for reader in std::mem::take(&mut self.readers) {
            let _ = tokio::time::timeout(Duration::from_secs(5), reader).await;
        }
        self.logs()
    }
}

impl Drop for LambdaProcess {
    fn drop(&mut self) {
        self.server.abort();
        self.process.abort();
        for reader in &self.readers {
            reader.abort();
        }
    }
}

async fn read(output: impl AsyncRead + Unpin, shared: Arc<Shared>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        lock(&shared.lines).push(line);
    }
}

async fn watch(mut child: Child, shared: Arc<Shared>) {
    let why = match child.wait().await {
        Ok(status) => format!("its process ended: {status}"),
        Err(error) => error.to_string(),
    };
    // Its last lines may still be on their way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    shared.stage.send_if_modified(|stage| {
        let failed = matches!(stage, Stage::Failed(_));
        if !failed {
            *stage = Stage::Ended(why);
        }
        !failed
    });
    // Dropping the senders tells everybody who waits.
    lock(&shared.waiting).clear();
}

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let routes = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route(
            "/2018-06-01/runtime/invocation/{id}/response",
            post(response),
        )
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared);
    let _ = axum::serve(listener, routes).await;
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let init = shared.started.elapsed();
    shared.stage.send_if_modified(|stage| {
        let first = matches!(stage, Stage::Starting);
        if first {
            *stage = Stage::Ready(init);
        }
        first
    });
    let Some(pending) = shared.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = (now() + INVOCATION).as_millis().to_string();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", pending.id),
        ("lambda-runtime-deadline-ms", deadline),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:ap-south-1:000000000000:function:function".to_owned(),
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0".to_owned(),
        ),
    ];
    (headers, pending.event).into_response()
}

async fn response(
    State(shared): State<Arc<Shared>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> StatusCode {
    let outcome = serde_json::from_slice(&body).map_err(|e| LambdaError::NotJson(e.to_string()));
    settle(&shared, &id, outcome)
}

async fn error(
    State(shared): State<Arc<Shared>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> StatusCode {
    let (kind, message) = diagnostic(&body);
    settle(&shared, &id, Err(LambdaError::Function { kind, message }))
}

async fn init_error(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    let (kind, message) = diagnostic(&body);
    shared
        .stage
        .send_replace(Stage::Failed(format!("{kind}: {message}")));
    StatusCode::ACCEPTED
}

fn diagnostic(body: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (text("errorType"), text("errorMessage"))
}

fn settle(shared: &Shared, id: &str, outcome: Outcome) -> StatusCode {
    match lock(&shared.waiting).remove(id) {
        Some(waiting) => {
            // Nobody waits any more when the caller has given up.
            let _ = waiting.send(outcome);
            StatusCode::ACCEPTED
        }
        None => StatusCode::BAD_REQUEST,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a function compares its deadline with the machine's own clock"
)]
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
