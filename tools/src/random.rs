//! A small seeded generator of random numbers (`SplitMix64`), and draws from weights.
//!
//! Used by the shop generator, which must give the same shop for the same seed on every machine and in every version.

/// `SplitMix64`, by Sebastiano Vigna: 64 bits of state, passes `BigCrush`; not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from 0 up to, not including, `bound`, which is above 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is no number below 0");
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// One of these, all equally likely.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Puts them in an order that is as likely as any other.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Draws an index with a probability in proportion to its weight.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// Sums of the weights up to and including each index.
    sums: Vec<f64>,
}

impl Weighted {
    /// At least one weight must be above 0, and none below.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let sums: Vec<f64> = weights
            .into_iter()
            .map(|weight| {
                assert!(weight >= 0.0, "a weight is not negative");
                sum += weight;
                sum
            })
            .collect();
        assert!(sum > 0.0, "some weight is above 0");
        Self { sums }
    }

    /// An index.
    pub fn draw(&self, random: &mut Random) -> usize {
        let sum = self.sums[self.sums.len() - 1];
        let point = random.unit() * sum;
        self.sums
            .partition_point(|&upto| upto <= point)
            .min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_numbers() {
        let mut random = Random::new(1_234_567);
        let first = [random.bits(), random.bits(), random.bits()];
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn draws_are_in_proportion_to_weights() {
        let weighted = Weighted::new([1.0, 0.0, 3.0]);
        let mut random = Random::new(1);
        let mut counts = [0; 3];
        for _ in 0..40_000 {
            counts[weighted.draw(&mut random)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
    }
}
