//! The native protocol: a hello, then frames, each a fixed header and a body.
//!
//! Called by the server's sessions and by [`crate::client`]. Works on byte slices and `Vec<u8>`, never on a socket.
//! `README.md` of this crate specifies every byte; the tests hold it to the code.

pub mod body;
#[cfg(test)]
mod codec_tests;
pub mod frame;
pub mod hello;
pub mod opcode;
pub mod reply;
pub mod request;

pub use body::BodyError;
pub use frame::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, Frame, FrameError, decode_frame};
pub use hello::{
    CLIENT_HELLO_BYTES, ClientHello, FIRST_BYTE, HelloError, HelloStatus, PROTOCOL_VERSION, SERVER_HELLO_BYTES,
    SHARD_ANY, ServerHello,
};
pub use opcode::{PING_OPCODE, ReplyOpcode};
pub use reply::{decode_reply, encode_reply};
pub use request::{decode_request, encode_ping, encode_request};

/// The request id of replies that answer no request: an error about the connection itself. Clients count from 1.
pub const REQUEST_ID_CONNECTION: u64 = 0;
