//! The native front end: frames ⇄ operations, answered as they complete.
//!
//! Called by [`super::Session`]. Requests of one connection have no order among them: the request id matches a reply,
//! and a client that needs one thing before another waits for the first reply.

use cartwright_protocol::native::{
    CLIENT_HELLO_BYTES, ClientHello, FRAME_BODY_BYTES_MAX, FrameError, HelloStatus, PROTOCOL_VERSION,
    REQUEST_ID_CONNECTION, ServerHello, decode_frame, decode_request, encode_reply,
};
use cartwright_protocol::{Error, ErrorCode, Operation, Reply};
use compact_str::CompactString;

use super::commands::shop_row;
use super::context::SessionContext;
use super::queue::{Queue, Request, Weight};
use super::report::Started;
use crate::engine::{Ask, Response};

/// A request that has not been answered.
struct Pending {
    sequence: u64,
    request_id: u64,
    weight: Weight,
    started: Started,
}

/// See the module.
pub(super) struct Native {
    connection_id: u64,
    greeted: bool,
    pub(super) closing: bool,
    pub(super) queue: Queue,
    /// The low half of a sequence is an index into this.
    pending: Vec<Option<Pending>>,
    free: Vec<u32>,
    requests: u32,
}

impl Native {
    pub(super) const fn new(connection_id: u64) -> Self {
        Self {
            connection_id,
            greeted: false,
            closing: false,
            queue: Queue::new(),
            pending: Vec::new(),
            free: Vec::new(),
            requests: 0,
        }
    }

    /// Parses frames from the start of `bytes` until they end, a limit is reached, or the connection is to close. How
    /// many bytes it took.
    pub(super) fn parse(&mut self, bytes: &[u8], output: &mut Vec<u8>, context: &SessionContext) -> usize {
        let mut consumed = 0;
        if !self.greeted {
            match self.greet(bytes, output, context) {
                Some(length) => consumed = length,
                None => return 0,
            }
        }
        while !self.closing && !self.queue.is_full(&context.limits, output.len()) {
            match decode_frame(&bytes[consumed..]) {
                Ok(None) => break,
                Ok(Some((frame, length))) => {
                    consumed += length;
                    context.commands.set(context.commands.get() + 1);
                    match decode_request(&frame) {
                        Ok(operation) => self.accept(frame.request_id, length, operation, context),
                        Err(reply) => encode_reply(output, frame.request_id, &reply),
                    }
                }
                Err(error) => self.refuse(error, output),
            }
        }
        consumed
    }

    /// Answers the hello; its length, or `None` where it is not whole.
    fn greet(&mut self, bytes: &[u8], output: &mut Vec<u8>, context: &SessionContext) -> Option<usize> {
        let hello = match ClientHello::decode(bytes) {
            Ok(hello) => hello?,
            Err(error) => {
                self.closing = true;
                encode_reply(output, REQUEST_ID_CONNECTION, &Reply::Error(Error::malformed(error)));
                return Some(0);
            }
        };
        let status = if hello.version != PROTOCOL_VERSION {
            HelloStatus::Version
        } else if context.settings.has_password() {
            context.statistics.borrow_mut().unauthorized += 1;
            HelloStatus::Password
        } else {
            HelloStatus::Welcome
        };
        let answer = ServerHello {
            version: PROTOCOL_VERSION,
            status,
            shard_count: context.shard_count,
            shard: context.shard,
            body_bytes_max: FRAME_BODY_BYTES_MAX as u32,
            in_flight_max: u32::try_from(context.limits.in_flight_max).unwrap_or(u32::MAX),
            connection_id: self.connection_id,
        };
        output.extend_from_slice(&answer.encode());
        self.greeted = true;
        self.closing = status != HelloStatus::Welcome;
        Some(CLIENT_HELLO_BYTES)
    }

    fn accept(&mut self, request_id: u64, bytes: usize, operation: Operation, context: &SessionContext) {
        let started = Started {
            command: shop_row(&operation),
            at_us: context.now_us(),
            first_argument: CompactString::default(),
            argument_count: 1,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() as u32 - 1
        });
        self.requests = self.requests.wrapping_add(1);
        let sequence = u64::from(self.requests) << 32 | u64::from(index);
        let weight = self.queue.push(sequence, bytes, Request::Engine(Ask::Shop(operation)));
        self.pending[index as usize] = Some(Pending {
            sequence,
            request_id,
            weight,
            started,
        });
    }

    fn refuse(&mut self, error: FrameError, output: &mut Vec<u8>) {
        self.closing = true;
        let (request_id, code) = match error {
            FrameError::TooBig { request_id, .. } => (request_id, ErrorCode::TooBig),
            _ => (REQUEST_ID_CONNECTION, ErrorCode::Err),
        };
        encode_reply(output, request_id, &Reply::Error(Error::new(code, error.to_string())));
    }

    /// Writes the answer to a request that was handed out.
    pub(super) fn complete(&mut self, sequence: u64, reply: Response, output: &mut Vec<u8>, context: &SessionContext) {
        let index = sequence as u32;
        let pending = self.pending.get_mut(index as usize).and_then(Option::take);
        let pending = pending.filter(|pending| pending.sequence == sequence);
        let pending = pending.expect("a session's driver completes each request it was given once");
        self.free.push(index);
        self.queue.answered();
        self.queue.release(pending.weight);
        let Response::Shop(reply) = reply else {
            unreachable!("the native protocol asks the shop alone")
        };
        let mut statistics = context.statistics.borrow_mut();
        if let Reply::Error(error) = &reply {
            statistics.error(error.code.as_str());
        }
        let (failed, now_us) = (matches!(reply, Reply::Error(_)), context.now_us());
        statistics.answered(&pending.started, now_us, failed, &context.settings, || {
            (CompactString::default(), CompactString::const_new("native"))
        });
        encode_reply(output, pending.request_id, &reply);
    }
}
