//! The one source of chance in a run: everything that happens is drawn from it, so a seed tells the whole story.

use cartwright_core::prng::Xoshiro256;

/// A stream of choices. Never reads the clock, a thread's generator or an address.
pub type Random = cartwright_core::prng::Random<Xoshiro256>;
