//! Every seed through its target, then small changes of them: always the same ones, so a failure can be repeated.

use chatbill_domain::connector::{Signal, Trust, signals};
use chatbill_fuzz::senders::SENDERS;
use chatbill_fuzz::targets;

/// How many changed inputs each target gets.
const CHANGES: u64 = 2000;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit as u64).max(1)) as usize
    }
}

/// Words that matter to a reader somewhere.
const WORDS: [&str; 24] = [
    "0",
    "-1",
    "1e9",
    "null",
    "\"\"",
    "[]",
    "{}",
    "true",
    "9223372036854775807",
    "9223372036854775808",
    "0.5",
    "|",
    "&",
    "=",
    "%00",
    "\\u0000",
    "\u{202e}",
    "₹",
    "\n",
    "\t",
    ":",
    ".",
    "INR",
    "18446744073709551616",
];

fn changed(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut data = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(data.len() + 1);
        let to = (at + dice.below(16)).min(data.len());
        match dice.below(7) {
            0 if at < data.len() => data[at] ^= 1 << dice.below(8),
            1 if at < data.len() => data[at] = dice.next() as u8,
            2 => drop(data.drain(at..to)),
            3 => data.truncate(at),
            4 => drop(data.splice(at..to, WORDS[dice.below(WORDS.len())].bytes())),
            5 => {
                let copy = data[at..to].to_vec();
                data.splice(at..at, copy);
            }
            _ => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                let until = (from + dice.below(200)).min(other.len());
                data.splice(at..to, other[from..until].iter().copied());
            }
        }
    }
    data
}

#[test]
fn seeds_and_small_changes_of_them_break_nothing() {
    let mut broken = Vec::new();
    for (number, target) in targets().into_iter().enumerate() {
        assert!(!target.seeds.is_empty(), "{} starts nowhere", target.name);
        let mut dice = Dice(number as u64);
        let random = (0..CHANGES).map(|_| changed(&target.seeds, &mut dice));
        for data in target.seeds.iter().cloned().chain(random) {
            let run = || target.run(&data);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                broken.push(format!(
                    "{}: {:?}",
                    target.name,
                    String::from_utf8_lossy(&data)
                ));
                break;
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A fuzzer that never gets past the first lines finds nothing: the seeds reach what matters.
#[test]
fn the_seeds_are_heard() {
    for sender in SENDERS.iter() {
        let hooks = sender.hooks.as_ref();
        let heard: Vec<Signal> = chatbill_fuzz::seeds::contents(sender)
            .into_iter()
            .filter_map(|content| {
                let verified = hooks
                    .verify(sender.signed(&content))
                    .expect("a genuine webhook");
                signals(hooks, &verified).ok()
            })
            .flatten()
            .collect();
        // Proven, or about a link or transaction that the order may have been given.
        let is_believed = |signal: &Signal| matches!(signal, Signal::Payment { trust, .. } if *trust != Trust::Hint);
        let expected = matches!(
            sender.name.as_str(),
            "razorpay" | "razorpay+native" | "billdesk" | "billdesk+jose"
        );
        assert_eq!(
            heard.iter().any(is_believed),
            expected,
            "{}: {heard:?}",
            sender.name
        );
        assert!(
            heard
                .iter()
                .any(|signal| !matches!(signal, Signal::Ignored(_))),
            "{}: {heard:?}",
            sender.name
        );
    }
}
