//! Takes tasks from the queue and sends the messages orders owe.
//!
//! Calls it makes: DynamoDB UpdateItem and GetItem, Query for the shop's opt-outs (cached), the messaging provider's send call, SQS ChangeMessageVisibility for a retry and
//! SendMessage to the dead-letter queue for what can never be handled; SSM GetParameter and, when names are made up, GetParametersByPath (cached).

mod handler;

use std::time::Duration;

use chatbill_domain::pace::Pace;
use chatbill_runtime::http_client::HttpClient;
use chatbill_runtime::settings::{Need, Settings};
use chatbill_runtime::system::{SystemClock, SystemRandom};
use chatbill_runtime::{batch, boot};
use chatbill_store::{DynamoOrders, SqsDeadLetters, SqsVisibility, SsmTenants};
use handler::{Ports, handle, hold_back};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    boot::init();
    let settings = Settings::read(&[Need::Queue, Need::DeadLetters, Need::SendConcurrency])?;
    let aws = chatbill_store::sdk_config()?;
    let ports = Ports {
        store: DynamoOrders::new(&aws, &settings.table),
        visibility: SqsVisibility::new(&aws, &settings.queue_url),
        dead_letters: SqsDeadLetters::new(&aws, &settings.dlq_url),
        tenants: SsmTenants::new(
            &aws,
            &settings.tenants_path,
            settings.is_local(),
            |tenant| chatbill_channels::open(tenant).map(drop),
            SystemClock,
        )
        .unguarded(true),
        http: HttpClient::new(Duration::from_secs(15))?,
        clock: SystemClock,
        random: SystemRandom,
        pace: Pace::new(settings.send_concurrency),
    };
    boot::run_queue(|event| {
        let follow = |message, seconds| hold_back(&ports, message, seconds);
        batch::handle(event, |message| handle(&ports, message), follow)
    })
    .await
}
