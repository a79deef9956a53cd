//! That the simulation is what it says: its store keeps the rules of the real one, and a seed is a run. How many runs there are is
//! `cargo xtask simulate`'s business; here are a few, without optimisation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test program: what is not as expected ends the test"
)]

use sim::{exhaust, logs, run_seed, shop, world};

#[tokio::test]
async fn the_store_passes_the_suite_of_all_order_stores() {
    chatbill_testkit::conformance::order_store(&world::World::default()).await;
    chatbill_testkit::conformance::contacts_and_links(&world::World::default()).await;
}

#[test]
fn a_seed_is_a_run_and_another_seed_another() {
    let _guard = logs::listen();
    let shops = shop::shops();
    let mut prints = Vec::new();
    for seed in 0..60 {
        let run = run_seed(seed, &shops, true);
        assert_eq!(run.violation, None, "cargo xtask simulate --seed {seed}");
        // On another thread, with tenants read anew: nothing hangs on addresses, hashes or who ran before.
        let again = std::thread::spawn(move || {
            let _guard = logs::listen();
            run_seed(seed, &shop::shops(), true)
        });
        let again = again.join().unwrap();
        assert_eq!(run.trace, again.trace, "seed {seed}");
        assert_eq!(run.print, again.print);
        prints.push(run.print);
    }
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), 60, "every seed is a run of its own");
}

#[test]
fn a_case_is_replayed_by_its_name() {
    let _guard = logs::listen();
    let shops = shop::few(&shop::shops());
    let undisturbed = exhaust::replay("flow.0.0", &shops).unwrap();
    assert_eq!(undisturbed.violation, None);
    let disturbed = exhaust::replay("flow.0.0.9.0", &shops).unwrap();
    assert_eq!(disturbed.violation, None);
    assert!(disturbed.trace.iter().any(|line| line.contains("dies at")));
    assert_ne!(undisturbed.trace, disturbed.trace);
    assert!(exhaust::replay("pair.17.0.01", &shops).is_some());
    assert!(exhaust::replay("flow.99.0", &shops).is_none());
}
