//! Models of a sleeping thread and those who wake it: every order of events, and every value that a thread may see.
//!
//! `cargo test -p cartwright-ring --test parking`. The code under test is the file that the crate is built from, with
//! loom's atomics in place of the real ones. A lost wake-up leaves a thread asleep for ever, which loom reports.

#[path = "../src/parking.rs"]
mod parking;

/// What `parking` takes its atomics from.
mod sync {
    pub use loom::sync::atomic::{Ordering, fence};

    /// Loom puts a store and another thread's exchange in an order only once one of them has seen the other, so that a
    /// store may come between an exchange and what that read, which no processor and no compiler allows. A store that is
    /// an exchange itself has its place among them; what loads may see stays as it is.
    #[derive(Debug)]
    pub struct AtomicU8(loom::sync::atomic::AtomicU8);

    impl AtomicU8 {
        pub fn new(value: u8) -> Self {
            Self(loom::sync::atomic::AtomicU8::new(value))
        }

        pub fn load(&self, ordering: Ordering) -> u8 {
            self.0.load(ordering)
        }

        pub fn store(&self, value: u8, ordering: Ordering) {
            self.0.swap(value, ordering);
        }

        pub fn swap(&self, value: u8, ordering: Ordering) -> u8 {
            self.0.swap(value, ordering)
        }
    }
}

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use parking::{Cause, Parked, Parking};

/// As an eventfd: stays rung until somebody has waited for it.
#[derive(Default)]
struct Bell {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.is_rung.lock().unwrap() = true;
        self.rung.notify_one();
    }

    fn wait(&self) {
        let mut is_rung = self.is_rung.lock().unwrap();
        while !*is_rung {
            is_rung = self.rung.wait(is_rung).unwrap();
        }
        *is_rung = false;
    }
}

/// A queue as the mailbox has it: one writer, who shows how much there is, and one reader. Of the mail itself there is
/// only its number.
#[derive(Default)]
struct Queue {
    /// How many pieces were ever written; published and read in the orderings of `rtrb`.
    written: AtomicU64,
}

impl Queue {
    fn post(&self) {
        let written = self.written.load(Ordering::Relaxed);
        self.written.store(written + 1, Ordering::Release);
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct Shard {
    parking: Parking,
    bell: Bell,
    /// One from each peer.
    inboxes: [Queue; 2],
    watermark: AtomicU64,
}

impl Shard {
    fn mail(&self) -> u64 {
        self.inboxes.iter().map(Queue::written).sum()
    }

    /// As the shard loop does it: look, say that it parks, look again, sleep.
    fn park_until(&self, parked: Parked, is_there: impl Fn() -> bool) {
        while !is_there() {
            self.parking.announce(parked);
            if !is_there() {
                self.bell.wait();
            }
            self.parking.announce(Parked::Not);
        }
    }

    fn deliver(&self, from: usize) {
        self.inboxes[from].post();
        if self.parking.must_wake(Cause::Mail) {
            self.bell.ring();
        }
    }

    fn publish(&self, watermark: u64) {
        self.watermark.store(watermark, Ordering::Release);
        if self.parking.must_wake(Cause::Watermark) {
            self.bell.ring();
        }
    }
}

#[test]
fn mail_never_waits_for_a_shard_that_sleeps() {
    loom::model(|| {
        let shard = Arc::new(Shard::default());
        let peer = Arc::clone(&shard);
        let thread = thread::spawn(move || {
            peer.deliver(0);
            peer.deliver(0);
        });
        shard.park_until(Parked::ForMail, || shard.mail() >= 1);
        shard.park_until(Parked::ForMail, || shard.mail() == 2);
        thread.join().unwrap();
    });
}

#[test]
fn two_peers_at_once_lose_no_wake_up() {
    let mut model = loom::model::Builder::new();
    // Two switches at any place, and any number where a thread waits: without a bound it takes minutes.
    model.preemption_bound = Some(2);
    model.check(|| {
        let shard = Arc::new(Shard::default());
        let threads = [0, 1].map(|from| {
            let peer = Arc::clone(&shard);
            thread::spawn(move || peer.deliver(from))
        });
        shard.park_until(Parked::ForMail, || shard.mail() == 2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_watermark_wakes_whoever_waits_for_it() {
    loom::model(|| {
        let shard = Arc::new(Shard::default());
        let peer = Arc::clone(&shard);
        let thread = thread::spawn(move || {
            peer.publish(1);
            peer.publish(2);
        });
        let watermark = || shard.watermark.load(Ordering::Acquire);
        shard.park_until(Parked::ForMailAndWatermarks, || watermark() == 2);
        thread.join().unwrap();
    });
}

#[test]
fn a_watermark_leaves_whoever_waits_for_mail_asleep() {
    loom::model(|| {
        let shard = Arc::new(Shard::default());
        shard.parking.announce(Parked::ForMail);
        let peer = Arc::clone(&shard);
        let thread = thread::spawn(move || peer.publish(1));
        thread.join().unwrap();
        assert!(!*shard.bell.is_rung.lock().unwrap(), "nobody rang");
        assert!(shard.parking.must_wake(Cause::Mail), "and mail still does");
    });
}

#[test]
fn of_several_who_come_at_once_one_rings() {
    loom::model(|| {
        let shard = Arc::new(Shard::default());
        shard.parking.announce(Parked::ForMail);
        let peer = Arc::clone(&shard);
        let thread = thread::spawn(move || u32::from(peer.parking.must_wake(Cause::Mail)));
        let rings = u32::from(shard.parking.must_wake(Cause::Mail)) + thread.join().unwrap();
        assert_eq!(rings, 1);
    });
}
