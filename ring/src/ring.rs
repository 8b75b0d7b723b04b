//! One thread's `io_uring`: operations in, completions out, nothing known of what they are for.
//!
//! Driven by the one thread that owns it: single issuer, deferred task work, so completions are produced only when that
//! thread asks. An operation goes by a [`Tag`], which comes back with what became of it.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::buffers::{BUFFER_GROUP, ReceiveBuffers, Received};
use super::error::RingError;

/// For operations whose success is of no interest.
const QUIET: squeue::Flags = squeue::Flags::SKIP_SUCCESS;

/// In the user data of operations that need not complete.
const UNCOUNTED: u64 = 1 << 63;

/// User data of operations about operations, whose outcome matters to nobody.
const NOBODY: u64 = u64::MAX;

/// What an operation belongs to: the bits that travel through the kernel with it.
pub trait Tag: Copy {
    /// As user data, of which the highest bit is the ring's own.
    fn to_bits(self) -> u64;

    /// From what [`Tag::to_bits`] made.
    fn from_bits(bits: u64) -> Self;
}

/// A connected socket.
#[derive(Clone, Copy, Debug)]
pub enum Socket<'a> {
    /// By its descriptor.
    Open(BorrowedFd<'a>),
    /// By its place among those of [`Ring::register_sockets`].
    Registered(u32),
}

/// What a ring is made for.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Operations that fit between two system calls; more of them cost a call each time they are full.
    pub submissions: u32,
    /// Completions that fit; the kernel keeps what is beyond on a list of its own and loses none.
    pub completions: u32,
    /// Buffers to receive into, a power of two. When all are out, receives end with `ENOBUFS`.
    pub buffers: u16,
    /// The ring is made on one thread and becomes another's with [`Ring::enable`].
    pub starts_disabled: bool,
}

/// What became of an operation.
#[derive(Debug)]
pub struct Completion<T> {
    /// Which one.
    pub tag: T,
    /// Its non-negative result, or the error number.
    pub result: Result<u32, i32>,
    /// More completions of the same operation follow.
    pub more: bool,
    /// Received bytes; to be given back.
    pub received: Option<Received>,
}

/// The ring. Descriptors are borrowed for the call alone, and named to the kernel by their number: one that is closed
/// before its operation has ended may stand for another file by then. That breaks no memory; it is the caller's to avoid.
pub struct Ring<T> {
    uring: IoUring,
    // Dropped only once the kernel has ended all operations.
    buffers: ManuallyDrop<ReceiveBuffers>,
    /// Operations for which the submission queue had no room.
    backlog: VecDeque<squeue::Entry>,
    /// Read by the kernel when the timer's operation is submitted.
    timer: Box<Timespec>,
    /// Operations that will complete, and have not for the last time.
    under_way: usize,
    tags: PhantomData<T>,
}

impl<T: Tag> Ring<T> {
    /// Sets up a ring that only the calling thread may use, or the one that enables it.
    pub fn new(options: &RingOptions) -> Result<Self, RingError> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(options.completions)
            .dontfork();
        if options.starts_disabled {
            builder.setup_r_disabled();
        }
        let uring = builder.build(options.submissions).map_err(RingError::of_setup)?;
        let buffers = ReceiveBuffers::map(options.buffers)?;
        buffers.register(&uring)?;
        Ok(Self {
            uring,
            buffers: ManuallyDrop::new(buffers),
            backlog: VecDeque::new(),
            timer: Box::new(Timespec::new()),
            under_way: 0,
            tags: PhantomData,
        })
    }

    /// Makes it the calling thread's, which alone may use it from now on.
    pub fn enable(&self) -> Result<(), RingError> {
        self.uring
            .submitter()
            .register_enable_rings()
            .map_err(RingError::of_setup)
    }

    /// Holds these sockets open, and names them by their places from here on. Once in a ring's life.
    pub fn register_sockets(&self, sockets: &[BorrowedFd<'_>]) -> Result<(), RingError> {
        let sockets: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        self.uring
            .submitter()
            .register_files(&sockets)
            .map_err(RingError::of_setup)
    }

    /// Makes the ring raise `eventfd` when completions are due, while [`Ring::notify`] is on.
    pub fn register_eventfd(&mut self, eventfd: BorrowedFd<'_>) -> Result<(), RingError> {
        self.uring
            .submitter()
            .register_eventfd(eventfd.as_raw_fd())
            .map_err(RingError::of_setup)?;
        self.notify(false);
        Ok(())
    }

    /// Accepts connections on `listener` until told otherwise, one completion each.
    pub fn accept(&mut self, tag: T, listener: BorrowedFd<'_>) {
        let listener = Fd(listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry, tag);
    }

    /// Receives from `socket` into the pool until told otherwise, one completion for each buffer.
    pub fn receive(&mut self, tag: T, socket: Socket<'_>) {
        let entry = match socket {
            Socket::Open(socket) => opcode::RecvMulti::new(Fd(socket.as_raw_fd()), BUFFER_GROUP).build(),
            Socket::Registered(place) => opcode::RecvMulti::new(Fixed(place), BUFFER_GROUP).build(),
        };
        self.push(entry, tag);
    }

    /// Sends all of `bytes`, unless the connection fails.
    ///
    /// # Safety
    ///
    /// The bytes must stay where and what they are until the operation's completion.
    pub unsafe fn send(&mut self, tag: T, socket: Socket<'_>, bytes: &[u8]) {
        self.push(send(socket, bytes, 0), tag);
    }

    /// Sends as many of `bytes` as the socket has room for now. It has ended once it is submitted, and completes only if
    /// it sent less than all.
    ///
    /// # Safety
    ///
    /// The bytes must stay where and what they are until it is submitted.
    pub unsafe fn send_promptly(&mut self, tag: T, socket: Socket<'_>, bytes: &[u8]) {
        let entry = send(socket, bytes, libc::MSG_DONTWAIT).flags(QUIET);
        self.push_uncounted(entry.user_data(tag_bits(tag) | UNCOUNTED));
    }

    /// Makes a range of a file durable (data only).
    pub fn sync(&mut self, tag: T, file: BorrowedFd<'_>, offset: u64, length: u32) {
        let entry = opcode::Fsync::new(Fd(file.as_raw_fd()))
            .offset(offset)
            .len(length)
            .flags(FsyncFlags::DATASYNC)
            .build();
        self.push(entry, tag);
    }

    /// Ends an operation early; it completes with `ECANCELED`, unless it just ended by itself.
    pub fn cancel(&mut self, tag: T) {
        self.push_about(opcode::AsyncCancel::new(tag_bits(tag)).build());
    }

    /// Starts the timer, of which there is one; a completion follows.
    pub fn start_timer(&mut self, tag: T, after: Duration) {
        let time = self.set_timer(after);
        self.push(opcode::Timeout::new(time).build(), tag);
    }

    /// Moves the timer, which was started and has not completed.
    pub fn move_timer(&mut self, tag: T, after: Duration) {
        let time = self.set_timer(after);
        self.push_about(opcode::TimeoutUpdate::new(tag_bits(tag), time).build());
    }

    fn set_timer(&mut self, after: Duration) -> *const Timespec {
        *self.timer = Timespec::from(after);
        &raw const *self.timer
    }

    /// The bytes received.
    pub fn received(&self, received: &Received) -> &[u8] {
        self.buffers.bytes(received)
    }

    /// Hands a buffer back; in effect from the next system call on.
    pub fn give_back(&mut self, received: Received) {
        self.buffers.give_back(received);
    }

    /// Whether the kernel raises the eventfd. Off while the thread works, on before it parks; after switching it on,
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
    pub fn enter(&mut self, completions: &mut Vec<Completion<T>>, force: bool) -> Result<(), RingError> {
        self.buffers.publish();
        self.drain_backlog();
        let submissions = self.uring.submission();
        let (waiting, due) = (submissions.len(), submissions.taskrun() || submissions.cq_overflow());
        drop(submissions);
        if force || due || waiting > 0 {
            // SAFETY: no argument is passed, and `waiting` entries are queued, each with valid pointers (see `push`).
            let entered = unsafe {
                self.uring
                    .submitter()
                    .enter::<libc::sigset_t>(waiting as u32, 0, EnterFlags::GETEVENTS.bits(), None)
            };
            check(entered)?;
        }
        self.take(completions);
        Ok(())
    }

    /// Submits what has gathered, and waits until something completes, for this long at most. Takes all completions.
    pub fn wait(&mut self, completions: &mut Vec<Completion<T>>, timeout: Duration) -> Result<(), RingError> {
        self.buffers.publish();
        self.drain_backlog();
        let timeout = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timeout);
        // What had no room in the queue is not waited for.
        let count = usize::from(self.backlog.is_empty());
        check(self.uring.submitter().submit_with_args(count, &arguments))?;
        self.take(completions);
        Ok(())
    }

    /// Whether operations wait to be submitted.
    pub fn has_submissions(&mut self) -> bool {
        !self.backlog.is_empty() || !self.uring.submission().is_empty()
    }

    /// Operations that will complete, and have not for the last time.
    pub const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Ends all operations, whose completions are lost; gives whether the kernel says in time that they have ended, so
    /// that it neither reads nor writes the memory that they were given.
    pub fn end(&mut self, patience: Duration) -> bool {
        if self.under_way > 0 {
            self.push_about(opcode::AsyncCancel2::new(CancelBuilder::any()).build());
        }
        let deadline = Instant::now() + patience;
        let mut completions = Vec::new();
        while self.under_way > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wait(&mut completions, left).is_err() {
                return false;
            }
            completions.clear();
        }
        true
    }

    fn take(&mut self, completions: &mut Vec<Completion<T>>) {
        let under_way = &mut self.under_way;
        completions.extend(self.uring.completion().filter_map(|entry| {
            let (bits, flags) = (entry.user_data(), entry.flags());
            let more = cqueue::more(flags);
            if bits & UNCOUNTED == 0 && !more {
                *under_way -= 1;
            }
            let result = u32::try_from(entry.result()).map_err(|_| -entry.result());
            (bits != NOBODY).then(|| Completion {
                tag: T::from_bits(bits & !UNCOUNTED),
                result,
                more,
                received: cqueue::buffer_select(flags).map(|buffer| Received::new(buffer, result.unwrap_or(0))),
            })
        }));
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: see `push_uncounted`.
            if unsafe { self.uring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    fn push(&mut self, entry: squeue::Entry, tag: T) {
        self.under_way += 1;
        self.push_uncounted(entry.user_data(tag_bits(tag)));
    }

    fn push_about(&mut self, entry: squeue::Entry) {
        self.push_uncounted(entry.user_data(NOBODY).flags(QUIET));
    }

    fn push_uncounted(&mut self, entry: squeue::Entry) {
        // SAFETY: the operations point to a `Timespec` of this ring, which the kernel copies on submission, or to bytes
        // that `send`'s caller keeps. A descriptor that is closed too early fails the operation or makes it another
        // file's, and harms no memory.
        if !self.backlog.is_empty() || unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Closing a ring does not wait for its operations: memory that the kernel may still write to is left alone.
        if self.under_way == 0 {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}

fn tag_bits<T: Tag>(tag: T) -> u64 {
    let bits = tag.to_bits();
    debug_assert!(bits & UNCOUNTED == 0, "the highest bit is the ring's own");
    bits
}

fn send(socket: Socket<'_>, bytes: &[u8], flags: i32) -> squeue::Entry {
    let (start, length) = (bytes.as_ptr(), u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    // With `MSG_WAITALL`, less than all is no success.
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | flags;
    match socket {
        Socket::Open(socket) => opcode::Send::new(Fd(socket.as_raw_fd()), start, length)
            .flags(flags)
            .build(),
        Socket::Registered(place) => opcode::Send::new(Fixed(place), start, length).flags(flags).build(),
    }
}

fn check(entered: io::Result<usize>) -> Result<(), RingError> {
    match entered {
        Ok(_) => Ok(()),
        // Nothing happened in time; or the kernel wants completions taken, or memory freed, first: what was queued goes
        // with a later call.
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EBUSY | libc::EAGAIN | libc::EINTR) => Ok(()),
            _ => Err(RingError::Enter(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(20);

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Number(u64);

    impl Tag for Number {
        fn to_bits(self) -> u64 {
            self.0
        }
        fn from_bits(bits: u64) -> Self {
            Self(bits)
        }
    }

    fn ring(submissions: u32) -> Ring<Number> {
        Ring::new(&RingOptions {
            submissions,
            completions: 64,
            buffers: 4,
            starts_disabled: false,
        })
        .unwrap()
    }

    fn completions(ring: &mut Ring<Number>, count: usize) -> Vec<Completion<Number>> {
        let mut completions = Vec::new();
        let deadline = Instant::now() + LONG;
        while completions.len() < count {
            assert!(Instant::now() < deadline, "only {completions:?} completed");
            ring.wait(&mut completions, LONG).unwrap();
        }
        completions
    }

    #[test]
    fn more_operations_than_the_queue_holds_are_all_submitted() {
        let mut ring = ring(2);
        let file = tempfile::tempfile().unwrap();
        for number in 0..20 {
            ring.sync(Number(number), file.as_fd(), 0, 0);
        }
        assert_eq!(ring.under_way(), 20);
        let mut done: Vec<_> = completions(&mut ring, 20)
            .iter()
            .map(|completion| (completion.tag.0, completion.result))
            .collect();
        done.sort_unstable();
        assert_eq!(done, (0..20).map(|number| (number, Ok(0))).collect::<Vec<_>>());
        assert!(ring.under_way() == 0 && !ring.has_submissions());
    }

    #[test]
    fn a_prompt_send_completes_only_where_it_falls_short() {
        let mut ring = ring(8);
        let (one, mut other) = UnixStream::pair().unwrap();
        let (little, much) = (b"hello".to_vec(), vec![7; 32 << 20]);
        // SAFETY: both live to the end of the test.
        unsafe { ring.send_promptly(Number(1), Socket::Open(one.as_fd()), &little) };
        ring.enter(&mut Vec::new(), true).unwrap();
        other.read_exact(&mut [0; 5]).unwrap();
        // SAFETY: as above.
        unsafe { ring.send_promptly(Number(2), Socket::Open(one.as_fd()), &much) };
        let short = completions(&mut ring, 1);
        assert!(matches!(short[..], [Completion { tag: Number(2), result: Ok(sent), .. }] if sent < 32 << 20));
        assert_eq!(ring.under_way(), 0);
    }

    #[test]
    fn what_is_received_stays_until_it_is_given_back() {
        let mut ring = ring(8);
        let (one, mut other) = UnixStream::pair().unwrap();
        ring.register_sockets(&[one.as_fd()]).unwrap();
        ring.receive(Number(3), Socket::Registered(0));
        let mut held = Vec::new();
        for word in [b"one", b"two"] {
            other.write_all(word).unwrap();
            for completion in completions(&mut ring, 1) {
                assert!(completion.more);
                held.push(completion.received.expect("bytes came"));
            }
        }
        let words: Vec<_> = held.iter().map(|received| ring.received(received)).collect();
        assert_eq!(words, [b"one", b"two"]);
        for received in held {
            ring.give_back(received);
        }
        drop(other);
        let end = completions(&mut ring, 1);
        assert!(
            matches!(
                end[..],
                [Completion {
                    result: Ok(0),
                    more: false,
                    ..
                }]
            ),
            "{end:?}"
        );
        assert_eq!(ring.under_way(), 0);
    }

    #[test]
    fn a_ring_ends_what_would_go_on_for_ever() {
        let mut ring = ring(8);
        let (one, other) = UnixStream::pair().unwrap();
        ring.receive(Number(1), Socket::Open(one.as_fd()));
        ring.receive(Number(2), Socket::Open(other.as_fd()));
        ring.start_timer(Number(3), LONG);
        ring.enter(&mut Vec::new(), true).unwrap();
        ring.move_timer(Number(3), LONG * 2);
        ring.cancel(Number(2));
        let ended = completions(&mut ring, 1);
        assert!(
            matches!(
                ended[..],
                [Completion {
                    tag: Number(2),
                    result: Err(libc::ECANCELED),
                    ..
                }]
            ),
            "{ended:?}"
        );
        assert_eq!(ring.under_way(), 2);
        assert!(ring.end(LONG) && ring.under_way() == 0);
    }

    #[test]
    fn a_wait_for_nothing_ends_in_time() {
        let mut ring = ring(8);
        let begin = Instant::now();
        ring.wait(&mut Vec::new(), Duration::from_millis(30)).unwrap();
        assert!((Duration::from_millis(30)..LONG).contains(&begin.elapsed()));
    }
}
