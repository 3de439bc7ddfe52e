//! A seeded random number generator for the simulated disk and the tests.

/// A SplitMix64 generator. The same seed gives the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next random number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// Returns true with a probability of `times` percent.
    pub fn times_in_100(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    /// Returns the percentage of unsynced changes that survives a crash: none, all, or some.
    pub(crate) fn odds(&mut self) -> u64 {
        [0, 100, 50, 50, 90, 10][self.below(6) as usize]
    }
}
