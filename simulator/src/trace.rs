//! What happened, as one number: two runs of a seed must agree on it to the last bit.
//!
//! Optionally also told line by line. Holds nothing that depends on the process: no address, no order of a hash table.

use std::fmt::Write;

/// Offset basis and prime of 64-bit FNV-1a.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// A run's trace.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    is_told: bool,
}

struct Hashing<'a>(&'a mut u64);

impl Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        Ok(())
    }
}

impl Trace {
    /// Of a run at its start; `is_told`: every event is printed.
    pub const fn new(is_told: bool) -> Self {
        Self {
            hash: FNV_BASIS,
            events: 0,
            is_told,
        }
    }

    /// Something happened.
    pub fn event(&mut self, what: std::fmt::Arguments<'_>) {
        self.events += 1;
        Hashing(&mut self.hash).write_fmt(what).expect("hashing does not fail");
        if self.is_told {
            println!("{:>6}  {what}", self.events);
        }
    }

    /// The number of events.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The number that stands for all of them.
    pub const fn hash(&self) -> u64 {
        self.hash
    }
}
