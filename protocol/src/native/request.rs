//! Requests: [`Operation`] ⇄ frame.
//!
//! Called by sessions (decode) and by clients (encode). Decoding is one pass, and allocates nothing but the operation.
//! What a command's body is, its declaration says: see [`crate::shop`].

use super::body::{BodyError, Reader};
use super::frame::{Frame, encode_frame};
use super::opcode::PING_OPCODE;
use crate::{Operation, Reply};

/// Appends `operation` to `output` as one frame.
///
/// An operation with more lines than a cart may have is encoded as far as a frame can say, and refused by the server.
pub fn encode_request(output: &mut Vec<u8>, request_id: u64, operation: &Operation) {
    encode_frame(output, operation.spec().opcode, request_id, |body| operation.put(body));
}

/// Appends a ping to `output`: [`Reply::Ok`] comes back without passing through the shop.
pub fn encode_ping(output: &mut Vec<u8>, request_id: u64) {
    encode_frame(output, PING_OPCODE, request_id, |_| ());
}

/// The operation in `frame`, or the reply to send at once: a refusal, `OK` to a ping, null for an order that cannot
/// exist. Either way the connection goes on.
pub fn decode_request(frame: &Frame<'_>) -> Result<Operation, Reply> {
    let body = Reader::new(frame.body);
    let opcode = frame.opcode;
    if frame.flags != 0 {
        let is_known = opcode == PING_OPCODE || Operation::SPECS.iter().any(|spec| spec.opcode == opcode);
        return Err(if is_known {
            BodyError::Flags(frame.flags)
        } else {
            BodyError::Opcode(opcode)
        }
        .into());
    }
    if opcode == PING_OPCODE {
        body.finish()?;
        return Err(Reply::Ok);
    }
    Operation::take(opcode, body).unwrap_or_else(|| Err(BodyError::Opcode(opcode).into()))
}
