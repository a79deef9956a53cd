//! The list of what is done to the system on purpose, and which test shows that it comes to nothing. The same list stands in
//! docs/architecture.md. A test that is renamed or removed must be replaced here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use chatbill_domain::event::Event;
use chatbill_domain::order::PaymentStatus;

use crate::chain::Chain;

/// Tests on the deployed stack.
const STACK: &str = "tests/it/stack/hostile.rs";
const WEBHOOK: &str = "functions/pg-webhook/src/handler/tests.rs";
const HISTORY: &str = "shared/domain/tests/order_properties.rs";
const RAZORPAY: &str = "shared/gateways/tests/connectors/razorpay.rs";
const RECONCILE: &str = "functions/reconcile/src/handler/tests.rs";
const REFUND: &str = "functions/refund/src/handler/tests.rs";

/// What is done, and the tests, each with its file.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

const CASES: [Case; 34] = [
    (
        "a webhook with one space more",
        &[
            (STACK, "one_space_more_makes_a_webhook_a_forgery"),
            (WEBHOOK, "one_changed_byte_of_the_body_is_a_forgery"),
        ],
    ),
    (
        "a signature in upper case",
        &[(STACK, "an_upper_case_signature_is_a_forgery")],
    ),
    (
        "a signature of another length",
        &[(STACK, "a_signature_of_another_length_is_a_forgery")],
    ),
    (
        "no signature",
        &[
            (STACK, "a_missing_signature_is_a_forgery"),
            (
                WEBHOOK,
                "what_is_not_signed_rightly_gets_an_empty_401_and_leaves_no_trace",
            ),
        ],
    ),
    (
        "two signatures",
        &[
            (STACK, "a_doubled_signature_is_a_forgery"),
            (
                WEBHOOK,
                "a_doubled_signature_is_no_signature_even_if_both_are_right",
            ),
        ],
    ),
    (
        "a thousand replays at once",
        &[
            (STACK, "a_thousand_replays_at_once_are_one_payment"),
            (
                "tests/it/hostile.rs",
                "a_thousand_senders_at_the_same_moment_are_one_payment",
            ),
        ],
    ),
    (
        "a replay after thirty days",
        &[(STACK, "a_replay_after_thirty_days_changes_nothing")],
    ),
    (
        "captured before authorized, failed after captured",
        &[
            (
                "tests/it/stack/webhooks.rs",
                "no_sequence_of_webhooks_takes_a_payment_back",
            ),
            (
                HISTORY,
                "any_sequence_and_repetition_of_a_true_history_ends_the_same",
            ),
        ],
    ),
    (
        "a payment in another currency",
        &[
            (STACK, "a_payment_in_another_currency_pays_nothing"),
            (HISTORY, "nothing_but_a_matching_capture_pays_an_order"),
        ],
    ),
    (
        "a payment of no known order",
        &[
            (STACK, "a_payment_of_no_known_order_touches_no_other"),
            (WEBHOOK, "a_payment_of_an_unknown_order_is_kept_as_a_hint"),
        ],
    ),
    (
        "fifty parallel bills of one number",
        &[
            (STACK, "fifty_parallel_bills_of_one_number_make_one_order"),
            (
                "tests/it/stack/creating.rs",
                "twenty_tills_that_post_the_same_bill_at_once_make_one_order_and_one_link",
            ),
        ],
    ),
    (
        "a key that another tenant uses too, or another tenant's",
        &[
            (
                STACK,
                "an_idempotency_key_that_another_shop_uses_too_is_another_key",
            ),
            (
                "tests/it/stack/tenants.rs",
                "a_shop_s_key_and_webhooks_open_nothing_of_another_shop",
            ),
        ],
    ),
    (
        "a time-out after the provider accepted",
        &[
            (
                STACK,
                "a_refund_whose_answer_was_lost_after_it_was_accepted_is_made_once",
            ),
            (
                "tests/it/stack/creating.rs",
                "a_lost_answer_of_the_gateway_makes_no_second_link",
            ),
            (
                "tests/it/stack/delivering.rs",
                "a_message_whose_answer_was_lost_after_it_was_accepted_is_sent_once",
            ),
        ],
    ),
    (
        "a `reference_id` of 36 characters, in other scripts, empty, `../`",
        &[
            (STACK, "no_reference_escapes_its_rule"),
            ("shared/domain/src/ids.rs", "a_reference_obeys_whatsapp"),
        ],
    ),
    (
        "totals near 2^63, negative, quantities of 0 and 1.5, 10,000 items",
        &[
            (STACK, "no_number_overflows_or_is_rounded"),
            (STACK, "ten_thousand_items_are_refused"),
            ("shared/domain/src/money.rs", "arithmetic_never_wraps"),
        ],
    ),
    (
        "two refunds of 60 % at once",
        &[
            (STACK, "two_refunds_of_sixty_percent_at_once_are_one"),
            (HISTORY, "promised_money_never_exceeds_what_was_taken"),
        ],
    ),
    (
        "the refund's webhook before the payment's",
        &[
            (
                STACK,
                "a_refund_that_is_told_before_its_payment_counts_and_stays",
            ),
            (
                HISTORY,
                "a_webhook_faster_than_our_own_call_is_the_same_refund",
            ),
        ],
    ),
    (
        "a receipt token of another tenant, cut, extended",
        &[
            (STACK, "a_receipt_token_opens_one_receipt_of_one_shop"),
            (
                "functions/receipt/src/handler/tests.rs",
                "a_token_that_was_cut_extended_or_changed_opens_nothing",
            ),
        ],
    ),
    (
        "HTML and right-to-left marks in names",
        &[
            (STACK, "html_and_turned_text_in_names_stay_text"),
            (
                "functions/receipt/src/page/tests.rs",
                "hostile_names_stay_text",
            ),
            (
                "shared/domain/src/message.rs",
                "a_name_cannot_turn_what_stands_beside_it",
            ),
        ],
    ),
    (
        "a body of 6 MB, 10,000 nested arrays",
        &[(STACK, "bodies_too_large_or_too_deep_hurt_nobody")],
    ),
    (
        "duplicate keys, invalid UTF-8, a byte order mark",
        &[
            (STACK, "bodies_that_are_not_quite_json_are_refused"),
            (
                "shared/domain/src/json.rs",
                "duplicate_keys_depth_and_bad_bytes_are_refused",
            ),
        ],
    ),
    (
        "poison in the queue",
        &[
            (
                "tests/it/stack/delivering.rs",
                "rubbish_in_the_queue_goes_to_the_dead_letters_and_its_neighbours_are_delivered",
            ),
            (
                "functions/send-status/src/handler/tests.rs",
                "a_poison_message_is_put_away_and_its_neighbours_are_delivered",
            ),
        ],
    ),
    (
        "a vendor's clock off by ten minutes",
        &[(STACK, "a_vendor_s_clock_may_be_ten_minutes_off")],
    ),
    (
        "a secret that changes while webhooks are on their way",
        &[
            (STACK, "a_secret_changes_while_webhooks_are_on_their_way"),
            (
                "tests/it/stack/webhooks.rs",
                "while_secrets_change_the_previous_ones_still_count",
            ),
        ],
    ),
    (
        "reading the logs for numbers, addresses, keys, tokens, secrets",
        &[(
            "tests/it/stack/written.rs",
            "no_secret_no_phone_number_and_no_vpa_is_in_any_log_line",
        )],
    ),
    (
        "a payment of more or less than the bill, and the word that it is all there before or after it",
        &[
            (
                "tests/it/stack/paying.rs",
                "a_customer_who_bears_the_gateway_s_fee_pays_the_bill",
            ),
            (
                "tests/it/stack/paying.rs",
                "a_customer_who_uses_the_gateway_s_offer_pays_the_bill",
            ),
            (HISTORY, "what_pays_in_full_adds_up_in_any_sequence"),
            (HISTORY, "only_the_bills_own_sum_can_be_paid_in_full"),
        ],
    ),
    (
        "another shop's link, or the dashboard's, with our number on the same account",
        &[
            (WEBHOOK, "another_shops_link_with_our_number_pays_nothing"),
            (
                WEBHOOK,
                "a_link_never_pays_a_bill_that_is_paid_inside_whatsapp",
            ),
            (RAZORPAY, "a_strangers_link_is_not_adopted"),
            (RAZORPAY, "payments_of_a_strangers_link_are_not_reported"),
        ],
    ),
    (
        "a mark of another tenant, or our mark of another order",
        &[
            (WEBHOOK, "another_tenants_mark_is_counted_and_costs_nothing"),
            (RAZORPAY, "a_link_is_proven_by_its_mark_alone"),
            (
                RAZORPAY,
                "a_payment_that_another_tenants_note_names_is_foreign",
            ),
        ],
    ),
    (
        "money that the terms would send back, and our own link knows nothing of",
        &[(RECONCILE, "money_not_found_under_our_link_never_goes_back")],
    ),
    (
        "a report under another tenant's name",
        &[(WEBHOOK, "nobody_speaks_for_a_tenant_under_another_s_secret")],
    ),
    (
        "a customer's text that looks like a report",
        &[
            (
                "shared/channels/tests/connectors/kaleyra.rs",
                "a_customer_s_quotes_break_nothing_and_forge_nothing",
            ),
            (
                "shared/channels/src/placeholders.rs",
                "what_a_customer_writes_is_one_text",
            ),
        ],
    ),
    (
        "a number that would be another country's, typed without its 91; texts with tabs and control characters",
        &[
            (
                "tests/it/stack/creating.rs",
                "a_bill_typed_in_another_spelling_is_the_same_bill",
            ),
            (
                "shared/domain/src/phone.rs",
                "what_came_out_reads_as_itself",
            ),
            (
                "shared/domain/src/bill.rs",
                "texts_from_windows_are_the_same_bill",
            ),
        ],
    ),
    (
        "a refund without a name, sent twice",
        &[
            (REFUND, "a_part_without_a_name_is_refused"),
            (
                REFUND,
                "a_whole_refund_without_a_name_is_one_however_it_is_put",
            ),
        ],
    ),
    (
        "a balance that does not cover the refund until it is topped up",
        &[
            (
                STACK,
                "a_refund_short_of_balance_goes_on_once_it_is_topped_up",
            ),
            (
                REFUND,
                "a_refund_short_of_balance_is_pending_with_its_reason",
            ),
        ],
    ),
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

/// The tests in a file that are run: their names.
fn tests_in(path: &str) -> BTreeSet<String> {
    let code =
        fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut found = BTreeSet::new();
    let (mut test, mut ignored) = (false, false);
    for line in code.lines().map(str::trim) {
        if line.starts_with("#[") {
            test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            ignored |= line.starts_with("#[ignore");
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if test && !ignored {
                found.insert(rest.split('(').next().unwrap().to_owned());
            }
            (test, ignored) = (false, false);
        }
    }
    found
}

#[test]
fn every_case_names_tests_that_are_run() {
    for (case, tests) in CASES {
        assert!(!tests.is_empty(), "{case}");
        for (path, name) in tests {
            assert!(
                tests_in(path).contains(*name),
                "{case}: there is no test {name} in {path}"
            );
        }
    }
    // And what is tested for its own sake is on the list.
    let listed: BTreeSet<&str> = CASES
        .iter()
        .flat_map(|(_, tests)| tests.iter())
        .filter(|(path, _)| *path == STACK)
        .map(|(_, name)| *name)
        .collect();
    for name in tests_in(STACK) {
        assert!(listed.contains(name.as_str()), "{name} is on no list");
    }
}

#[test]
fn only_what_is_run_counts_as_a_test() {
    assert!(
        tests_in("tests/it/hostile.rs").contains("only_what_is_run_counts_as_a_test"),
        "this one"
    );
    assert!(!tests_in("tests/it/hostile.rs").contains("tests_in"));
}

/// The table as it must stand in the document.
fn table() -> String {
    let mut table = String::from("| | what is done | shown by |\n| --- | --- | --- |\n");
    for (number, (case, tests)) in CASES.iter().enumerate() {
        let tests: Vec<String> = tests
            .iter()
            .map(|(path, name)| format!("[`{name}`](../{path})"))
            .collect();
        writeln!(table, "| {} | {case} | {} |", number + 1, tests.join(", ")).unwrap();
    }
    table
}

#[test]
fn the_architecture_has_the_same_list() {
    let document = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let table = table();
    assert!(
        document.contains(&format!("\n{table}\n")),
        "docs/architecture.md, \"Hostile cases\", must have this table:\n\n{table}"
    );
}

/// Nothing in memory waits, so a thread needs no more than this.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// The same webhook a thousand times, let go at one moment.
#[test]
fn a_thousand_senders_at_the_same_moment_are_one_payment() {
    const SENDERS: usize = 1000;
    let chain = Chain::new();
    block_on(async {
        chain.post().await;
        chain.work().await;
    });
    let news = chain.world.pay().unwrap();
    let before = chain.order().events.len();
    let start = Barrier::new(SENDERS);
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                start.wait();
                block_on(chain.webhook("razorpay", news.clone()));
            });
        }
    });
    let order = chain.order();
    assert_eq!(order.payment_status(), PaymentStatus::Captured);
    let payments = |event: &Event| matches!(event, Event::Payment(_));
    let added: Vec<&Event> = order.events[before..].iter().map(|r| &r.event).collect();
    assert_eq!(added.iter().filter(|event| payments(event)).count(), 1);
    assert!(order.holds.is_empty());
    block_on(chain.work());
    let told = chain.world.accepted();
    assert_eq!(told.len(), 2, "the bill and one confirmation");
    assert!(chain.queue.waiting().is_empty());
}
