use chatbill_testkit::events;
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{MemoryOrders, MemoryTenants};
use chatbill_testkit::world::{World, started};
use serde_json::json;

use super::*;

const FUNCTION: &str = "refund";

fn ports(world: &World) -> Ports<MemoryOrders, MemoryTenants> {
    Ports {
        store: world.store.clone(),
        tenants: world.tenants.clone(),
    }
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        "post",
        "get",
        "unknown-order",
        "no-key",
        "with-key-of-another-tenant",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = World::new();
        world.order(vec![started()]).await;
        let response = handle(&ports(&world), events::request(FUNCTION, event)).await;
        let response = response.unwrap_or_else(|error| error.into_response("request-1"));
        logs.assert_discreet();
        let recorded = json!({"answer": events::answer(&response), "effects": world.effects()});
        insta::assert_json_snapshot!(event, recorded);
    }
}
