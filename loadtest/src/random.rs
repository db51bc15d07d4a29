//! A small seeded generator, so that one seed gives one history on every machine.
//!
//! Nothing here reads a clock or the system's randomness; it is not fit for secrets.

/// A splitmix64 sequence.
#[derive(Debug, Clone)]
pub struct Random(u64);

const ID_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Random {
    /// A sequence that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number under `bound`; zero when `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_bits() % bound }
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `percent` of a hundred draws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A fraction in `0.0..1.0`.
    pub fn fraction(&mut self) -> f64 {
        (self.next_bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A size of at least `low` and at most `high`, mostly near `low`: each doubling is half as likely when
    /// `steepness` is 1, and rarer still above that.
    pub fn skewed(&mut self, low: u64, high: u64, steepness: f64) -> u64 {
        let drawn = low.max(1) as f64 / (1.0 - self.fraction()).powf(1.0 / steepness);
        (drawn as u64).clamp(low, high.max(low))
    }

    /// `count` letters of the URL-safe base64 alphabet.
    pub fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(ID_LETTERS[self.below(64) as usize])).collect()
    }

    /// `count` capital letters, the form of a device id.
    pub fn capitals(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(ID_LETTERS[self.below(26) as usize])).collect()
    }
}

/// Spreads the bits of `value`, for check digits and for the generator itself.
pub fn mix(value: u64) -> u64 {
    let mut bits = value;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: two generators of one seed agree, and sizes stay within their bounds and lean to the low end.
    #[test]
    fn the_same_seed_gives_the_same_skewed_sizes() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1_000).map(|_| random.skewed(2, 500, 1.1)).collect::<Vec<_>>()
        };
        let sizes = draw(7);
        assert_eq!(sizes, draw(7));
        assert_ne!(sizes, draw(8));
        assert!(sizes.iter().all(|size| (2..=500).contains(size)));
        let small = sizes.iter().filter(|size| **size < 10).count();
        assert!(small > 600, "most sizes should be small: {small}");
        assert!(sizes.iter().any(|size| *size > 50));
    }
}
