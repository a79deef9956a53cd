//! Chance that is the same for the same seed (SplitMix64).

/// A sequence of numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of this seed. Neighbouring seeds have nothing in common.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed ^ 0x5851_f42d_4c95_7f2d);
        rng.number();
        rng
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.number() % end).unwrap_or(0)
    }

    /// A number from `first` to `last`.
    pub fn within(&mut self, first: i64, last: i64) -> i64 {
        let width = u64::try_from(last - first + 1).unwrap_or(1);
        first + i64::try_from(self.number() % width).unwrap_or(0)
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, times: u32) -> bool {
        self.number() % 1000 < u64::from(times)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = self.below(of.len());
        &of[index]
    }
}
