//! How far a long step has come: a bar on a terminal, a line now and then elsewhere, both on standard error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often there is a line where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// See above. Shared by the threads that do the step.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    done: AtomicU64,
    bar: ProgressBar,
    began: Instant,
    /// When the next line is due, in milliseconds from the beginning; `u64::MAX`: never.
    line_due_ms: AtomicU64,
}

impl Progress {
    /// A step of `total` parts; `what` begins its line.
    pub fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {human_pos}/{human_len}  {per_sec}  {eta} left")
            .expect("the template is well formed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what);
        let line_due_ms = if bar.is_hidden() {
            LINE_INTERVAL.as_millis() as u64
        } else {
            u64::MAX
        };
        Self {
            what,
            total,
            done: AtomicU64::new(0),
            bar,
            began: Instant::now(),
            line_due_ms: AtomicU64::new(line_due_ms),
        }
    }

    /// Shows nothing, but counts.
    pub fn silent(total: u64) -> Self {
        Self {
            what: "",
            total,
            done: AtomicU64::new(0),
            bar: ProgressBar::hidden(),
            began: Instant::now(),
            line_due_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// One more part is done.
    pub fn advance(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.inc(1);
        let due = self.line_due_ms.load(Ordering::Relaxed);
        if due == u64::MAX {
            return;
        }
        let elapsed = self.began.elapsed();
        let next = (elapsed + LINE_INTERVAL).as_millis() as u64;
        let late = elapsed.as_millis() as u64 >= due;
        if late
            && self
                .line_due_ms
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            eprintln!(
                "{}: {done} of {} after {:.0} s",
                self.what,
                self.total,
                elapsed.as_secs_f64()
            );
        }
    }

    /// How many parts are done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
