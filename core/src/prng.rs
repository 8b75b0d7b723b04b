//! Seeded random numbers: the same seed gives the same stream, on every machine and in every version.
//!
//! [`SplitMix64`] is small: the shop generator, the load generator and `RANDOMKEY` draw from it. [`Xoshiro256`] is for
//! the simulator, where one seed tells a long story. [`Random`] draws choices from either. A seed in a bug report, a
//! test or a benchmark means what it meant: the streams, and how choices are made of them, never change. Not for secrets.

/// A stream of random bits.
pub trait Generator {
    /// The stream of `seed`.
    fn from_seed(seed: u64) -> Self;

    /// The next 64 bits.
    fn bits(&mut self) -> u64;
}

/// `SplitMix64`, by Sebastiano Vigna: 64 bits of state, passes `BigCrush`.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl Generator for SplitMix64 {
    fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// xoshiro256**, by David Blackman and Sebastiano Vigna, seeded by [`SplitMix64`].
#[derive(Clone, Debug)]
pub struct Xoshiro256 {
    state: [u64; 4],
}

impl Generator for Xoshiro256 {
    fn from_seed(seed: u64) -> Self {
        let mut mixer = SplitMix64::from_seed(seed);
        Self {
            state: std::array::from_fn(|_| mixer.bits()),
        }
    }

    #[inline]
    fn bits(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }
}

/// Choices, drawn from a stream of bits.
#[derive(Clone, Debug)]
pub struct Random<G>(G);

impl<G: Generator> Random<G> {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(G::from_seed(seed))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice has at least one outcome");
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `count`, which is not 0.
    pub fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// One of these, all equally likely.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// Puts them in an order that is as likely as any other.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.index(last + 1));
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
    pub fn draw<G: Generator>(&self, random: &mut Random<G>) -> usize {
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
    fn a_seed_of_split_mix_gives_the_published_numbers() {
        let mut random = Random::<SplitMix64>::new(1_234_567);
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
    fn a_seed_of_xoshiro_gives_the_numbers_of_the_reference() {
        let mut random = Random::<Xoshiro256>::new(42);
        let first = [random.bits(), random.bits(), random.bits()];
        // The reference implementation of xoshiro256** seeded by splitmix64(42).
        assert_eq!(
            first,
            [
                1_546_998_764_402_558_742,
                6_990_951_692_964_543_102,
                12_544_586_762_248_559_009
            ]
        );
    }

    #[test]
    fn choices_stay_within_their_bounds_and_reach_both_ends() {
        let mut random = Random::<Xoshiro256>::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| random.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        assert!(!(0..1000).any(|_| random.chance(0)) && (0..1000).all(|_| random.chance(1000)));
    }

    #[test]
    fn draws_are_in_proportion_to_weights() {
        let weighted = Weighted::new([1.0, 0.0, 3.0]);
        let mut random = Random::<SplitMix64>::new(1);
        let mut counts = [0; 3];
        for _ in 0..40_000 {
            counts[weighted.draw(&mut random)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
    }
}
