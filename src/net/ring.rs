//! One shard's `io_uring`: operations in, completions out, nothing known of what they are for.
//!
//! [`super::Network`] drives it from the shard's own thread, on which it must have been made: single issuer, deferred
//! task work, so completions are produced only when that thread asks. It never blocks; waiting is [`super::wake`]'s.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::diagnosis;
use super::receive_buffers::{BUFFER_GROUP, BufferId, ReceiveBuffers};
use super::token::{ConnectionId, Token};

/// Operations that fit between two system calls; more of them cost a call each time they are full.
const SUBMISSION_ENTRIES: u32 = 4096;

/// Completions that fit; the kernel keeps what is beyond on a list of its own and loses none.
const COMPLETION_ENTRIES: u32 = 16_384;

/// For operations about operations, whose success is of no interest.
const QUIET: squeue::Flags = squeue::Flags::SKIP_SUCCESS;

/// Why a ring could not be made or driven.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused to make one.
    #[error("cannot set up io_uring: {error}. {}", diagnosis::io_uring_advice(error))]
    Setup {
        /// The kernel's answer.
        error: io::Error,
    },
    /// No memory for buffers.
    #[error("cannot map memory for receive buffers: {0}. Free some memory or start with fewer --shards")]
    Memory(io::Error),
    /// The eventfd that wakes the shard could not be made.
    #[error("cannot make an eventfd: {0}. Raise the limit on open files (ulimit -n)")]
    EventFd(io::Error),
    /// A running ring failed, which only happens when the kernel is out of memory or the server has a defect.
    #[error("io_uring_enter failed: {0}. This is not expected of a running server; please report it")]
    Enter(io::Error),
}

impl RingError {
    /// A refusal at set-up.
    pub fn of_setup(error: io::Error) -> Self {
        Self::Setup { error }
    }
}

/// What became of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// Which one.
    pub token: Token,
    /// Its non-negative result, or the error number.
    pub result: Result<u32, i32>,
    /// More completions of the same operation follow.
    pub more: bool,
    /// Where received bytes are; to be given back.
    pub buffer: Option<BufferId>,
}

/// The ring.
pub struct Ring {
    // Dropped in this order: the kernel lets go of the buffers with the ring.
    uring: IoUring,
    buffers: ReceiveBuffers,
    /// Operations for which the submission queue had no room; at most four for each connection, and a few.
    backlog: VecDeque<squeue::Entry>,
    /// Read by the kernel when the timer's operation is submitted.
    timer: Box<Timespec>,
}

impl Ring {
    /// Sets up a ring that only the calling thread may use, and makes it raise `eventfd` when completions are due.
    pub fn new(eventfd: BorrowedFd<'_>) -> Result<Self, RingError> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_clamp()
            .setup_cqsize(COMPLETION_ENTRIES)
            .dontfork()
            .build(SUBMISSION_ENTRIES)
            .map_err(RingError::of_setup)?;
        uring
            .submitter()
            .register_eventfd(eventfd.as_raw_fd())
            .map_err(RingError::of_setup)?;
        let buffers = ReceiveBuffers::register(&uring)?;
        let mut ring = Self {
            uring,
            buffers,
            backlog: VecDeque::new(),
            timer: Box::new(Timespec::new()),
        };
        ring.notify(false);
        Ok(ring)
    }

    /// Accepts connections on `listener` until told otherwise, one completion each.
    ///
    /// The descriptor must stay open until the operation has ended.
    pub fn accept(&mut self, listener: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry, Token::Accept);
    }

    /// Receives from `socket` into the pool until told otherwise, one completion for each buffer.
    pub fn receive(&mut self, connection: ConnectionId, socket: RawFd) {
        self.push(
            opcode::RecvMulti::new(Fd(socket), BUFFER_GROUP).build(),
            Token::Receive(connection),
        );
    }

    /// Sends all of `bytes`, unless the connection fails.
    ///
    /// # Safety
    ///
    /// The bytes must stay where and what they are until the operation's completion.
    pub unsafe fn send(&mut self, connection: ConnectionId, socket: RawFd, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry, Token::Send(connection));
    }

    /// Makes a range of a file durable (data only). The descriptor must stay open until the completion.
    pub fn sync(&mut self, part: u32, file: RawFd, offset: u64, length: u32) {
        let entry = opcode::Fsync::new(Fd(file))
            .offset(offset)
            .len(length)
            .flags(FsyncFlags::DATASYNC)
            .build();
        self.push(entry, Token::Sync(part));
    }

    /// Ends an operation early; it completes with `ECANCELED`, unless it just ended by itself.
    pub fn cancel(&mut self, token: Token) {
        self.push(
            opcode::AsyncCancel::new(token.to_bits()).build().flags(QUIET),
            Token::Control,
        );
    }

    /// Starts the timer; one [`Token::Timer`] completion follows. `running` says that it was started before and has
    /// not completed: then it is moved.
    pub fn timer(&mut self, after: Duration, running: bool) {
        *self.timer = Timespec::from(after);
        let time: *const Timespec = &raw const *self.timer;
        if running {
            self.push(
                opcode::TimeoutUpdate::new(Token::Timer.to_bits(), time).build(),
                Token::Control,
            );
        } else {
            self.push(opcode::Timeout::new(time).build(), Token::Timer);
        }
    }

    /// Received bytes, as a completion named them.
    pub fn received(&self, buffer: BufferId, length: usize) -> &[u8] {
        self.buffers.received(buffer, length)
    }

    /// Hands a buffer back; in effect from the next [`Ring::enter`] on.
    pub fn give_back(&mut self, buffer: BufferId) {
        self.buffers.give_back(buffer);
    }

    /// Whether the kernel raises the eventfd. Off while the shard works, on before it parks; after switching it on,
    /// one [`Ring::enter`] must follow, since work that was due before raises nothing.
    pub fn notify(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Submits what has gathered, lets the kernel do what is due, and takes all completions: one system call, or none
    /// where there is nothing to submit and nothing due. `force`: the call is made all the same.
    pub fn enter(&mut self, completions: &mut Vec<Completion>, force: bool) -> Result<(), RingError> {
        self.buffers.publish();
        self.drain_backlog();
        let submissions = self.uring.submission();
        let (waiting, due) = (submissions.len(), submissions.taskrun() || submissions.cq_overflow());
        drop(submissions);
        if force || due || waiting > 0 {
            self.call(waiting as u32)?;
        }
        completions.extend(self.uring.completion().map(|entry| Completion {
            token: Token::from_bits(entry.user_data()),
            result: u32::try_from(entry.result()).map_err(|_| -entry.result()),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()).map(BufferId),
        }));
        Ok(())
    }

    /// Whether operations wait to be submitted.
    pub fn has_submissions(&mut self) -> bool {
        !self.backlog.is_empty() || !self.uring.submission().is_empty()
    }

    fn call(&mut self, submissions: u32) -> Result<(), RingError> {
        // SAFETY: no argument is passed, and `submissions` entries are queued, each with valid pointers (see `push`).
        let entered = unsafe {
            self.uring
                .submitter()
                .enter::<libc::sigset_t>(submissions, 0, EnterFlags::GETEVENTS.bits(), None)
        };
        match entered {
            Ok(_) => Ok(()),
            // The kernel wants completions taken, or memory freed, first: what was queued goes with a later call.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)) => Ok(()),
            Err(error) => Err(RingError::Enter(error)),
        }
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: see `push`.
            if unsafe { self.uring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.to_bits());
        // SAFETY: the operations point to a `Timespec` of this ring, which the kernel copies on submission, or to bytes
        // that `send`'s caller keeps; descriptors that are closed too early fail the operation and harm nothing.
        if !self.backlog.is_empty() || unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }
}
