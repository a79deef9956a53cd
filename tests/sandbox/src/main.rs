//! Runs the sandbox until it is killed. `--port` chooses the port; 0, the default, any free one.

use std::io::Write;
use std::process::ExitCode;

use tokio::net::TcpListener;

fn port() -> Result<u16, String> {
    let mut arguments = std::env::args().skip(1);
    let mut port = 0;
    while let Some(argument) = arguments.next() {
        let value = match argument.split_once('=') {
            Some(("--port", value)) => value.to_owned(),
            None if argument == "--port" => arguments.next().ok_or("--port needs a number")?,
            _ => {
                return Err(format!(
                    "unknown argument {argument:?}; usage: sandbox [--port N]"
                ));
            }
        };
        port = value
            .parse()
            .map_err(|_| format!("{value:?} is not a port"))?;
    }
    Ok(port)
}

async fn run() -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", port()?))
        .await
        .map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut stdout = std::io::stdout();
    // Whoever started us waits for this line; the address answers as soon as it is bound.
    writeln!(stdout, "{{\"sandbox_url\":\"http://{address}\"}}")
        .and_then(|()| stdout.flush())
        .map_err(|error| error.to_string())?;
    sandbox::serve(listener)
        .await
        .map_err(|error| error.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}
