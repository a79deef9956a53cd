//! What a shop may do with an order, where two things it did before meet.

use chatbill_domain::event::{Event, Once};
use chatbill_domain::flows::change_order::{Deps, ResendRequest, resend};
use chatbill_domain::message::{Form, MessageKey};
use chatbill_domain::ports::{Append, Appended, Clock as _, Due, OrderStore as _};
use chatbill_testkit::builders;

use crate::chain::Chain;

/// WhatsApp wants a reference of its own for every sending, also when one of the numbers is another bill.
#[tokio::test]
async fn no_two_sendings_share_a_reference_even_beside_a_bill_of_that_name() {
    let chain = Chain::new();
    chain.post().await;
    let other = builders::bill_with(|bill| bill["reference_id"] = "BM345A-12-2".into());
    chain.store.create(&builders::draft(other)).await.unwrap();
    chain.work().await;
    let key = builders::key("acme", "BM345A-12");
    let deps = Deps {
        store: &chain.store,
        queue: &chain.queue,
        http: &chain.world,
        clock: &chain.clock,
    };
    for expected in ["BM345A-12-3", "BM345A-12-4"] {
        chain.clock.advance(61);
        let again = ResendRequest::default();
        let order = resend(&deps, &key, &again, "pos:pos-1").await.unwrap();
        assert_eq!(order.message_reference.as_str(), expected);
        chain.work().await;
    }
    let sent = chain.world.accepted();
    let references: Vec<&str> = sent.iter().map(|m| m.reference.as_str()).collect();
    assert_eq!(references, ["BM345A-12", "BM345A-12-3", "BM345A-12-4"]);
}

/// A message that kills whoever sends it is given up in the end, not tried for ever.
#[tokio::test]
async fn a_try_that_never_ends_counts_as_one() {
    let chain = Chain::new();
    chain.post().await;
    let key = builders::key("acme", "BM345A-12");
    let message = MessageKey::Invoice(1);
    for attempt in 1..=8 {
        let now = chain.clock.now();
        let begun = Event::Try {
            message: message.clone(),
            attempt,
            form: Form::Template,
            fallback: false,
            sms: false,
        };
        let failed = Event::SendFailed {
            message: message.clone(),
            attempt,
            failure: chatbill_domain::message::SendFailure {
                remedy: chatbill_domain::message::Remedy::Unknown,
                code: "unfinished".to_owned(),
                detail: String::new(),
            },
            again_at: Some(now),
        };
        let events = vec![recorded(&chain, begun), recorded(&chain, failed)];
        append(&chain, attempt, events).await;
    }
    // The ninth try begins and its process dies.
    let begun = Event::Try {
        message: message.clone(),
        attempt: 9,
        form: Form::Template,
        fallback: false,
        sms: false,
    };
    append(&chain, 9, vec![recorded(&chain, begun)]).await;
    chain.clock.advance(600);
    chain.work().await;
    let order = chain.store.order(&key).unwrap();
    let status = order.message(&message).unwrap().status;
    assert_eq!(status, chatbill_domain::order::MessageStatus::Failed);
    assert!(chain.world.accepted().is_empty(), "it was not tried again");
}

fn recorded(chain: &Chain, event: Event) -> chatbill_domain::event::Recorded {
    chatbill_domain::event::Recorded::new(chain.clock.now(), "meta", event)
}

async fn append(chain: &Chain, attempt: u32, events: Vec<chatbill_domain::event::Recorded>) {
    let append = Append {
        once: Some(Once::attempt(&MessageKey::Invoice(1), attempt)),
        events,
        expect: None,
        at_most: None,
        due: Due::Keep,
    };
    let key = builders::key("acme", "BM345A-12");
    assert!(matches!(
        chain.store.append(&key, &append).await.unwrap(),
        Appended::Done(_)
    ));
}
