//! Where the shop generator, the load generator and the black-box tests draw from.

use cartwright_core::prng::SplitMix64;
pub use cartwright_core::prng::Weighted;

/// A stream of choices: the same shop and the same load for the same seed, on every machine and in every version.
pub type Random = cartwright_core::prng::Random<SplitMix64>;
