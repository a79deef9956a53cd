//! Time and randomness of the machine.

use std::time::Duration;

use chatbill_domain::ports::{Clock, Random};
use chatbill_domain::time::Millis;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let now = std::time::SystemTime::now();
        let since = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Millis::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The machine's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn bytes(&self) -> [u8; 16] {
        // Two version-4 UUIDs: six bits of one are fixed, so the halves that are not are used.
        #[expect(clippy::disallowed_methods, reason = "this is the randomness")]
        let (a, b) = (
            uuid::Uuid::new_v4().into_bytes(),
            uuid::Uuid::new_v4().into_bytes(),
        );
        let mut bytes = [0_u8; 16];
        let halves = a
            .iter()
            .skip(9)
            .take(7)
            .chain(b.iter().skip(9).take(7))
            .chain(a.iter().take(2));
        for (to, from) in bytes.iter_mut().zip(halves) {
            *to = *from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ_in_every_place() {
        let samples: Vec<[u8; 16]> = (0..64).map(|_| SystemRandom.bytes()).collect();
        for place in 0..16 {
            let first = samples[0][place];
            assert!(
                samples.iter().any(|s| s[place] != first),
                "byte {place} never changes"
            );
        }
    }
}
