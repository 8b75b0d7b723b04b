//! Frames: a header of 24 bytes and a body, under one checksum.
//!
//! Called by the request and reply codecs and by whoever reads a stream. Never looks into a body.

/// Length of a frame's header, in bytes.
pub const FRAME_HEADER_BYTES: usize = 24;

/// Longest body, in bytes. The longest that is ever needed is an order of `CART_LINES_MAX` lines, see the assertion.
pub const FRAME_BODY_BYTES_MAX: usize = 1 << 20;

const ORDER_LINE_BYTES_MAX: usize = 1 + crate::NAME_LENGTH_MAX + 8 + 4 * 4;
const _: () = assert!(256 + crate::CART_LINES_MAX * ORDER_LINE_BYTES_MAX <= FRAME_BODY_BYTES_MAX);

/// The first two bytes of every frame.
pub const FRAME_MAGIC: [u8; 2] = [0xca, 0xf7];

const VERSION: usize = 2;
const OPCODE: usize = 3;
const FLAGS: std::ops::Range<usize> = 4..6;
const RESERVED: std::ops::Range<usize> = 6..8;
const REQUEST_ID: std::ops::Range<usize> = 8..16;
const BODY_LENGTH: std::ops::Range<usize> = 16..20;
const CHECKSUM: std::ops::Range<usize> = 20..24;

/// One frame, its checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the body is: see [`super::opcode`]. Not yet checked, so that an unknown one costs no more than its reply.
    pub opcode: u8,
    /// None is defined in version 1: a frame with any is refused, and the connection goes on.
    pub flags: u16,
    /// Matches a reply with its request; chosen by the client, from 1.
    pub request_id: u64,
    /// The body.
    pub body: &'a [u8],
}

/// Why the bytes at hand are no frame. After any of these the bounds of the next frame are unknown: the connection
/// cannot go on. What is wrong inside a frame is a [`super::BodyError`], and costs only that request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The stream is out of step, or the peer speaks something else.
    #[error("a frame begins with ca f7, this one's byte {at} is {byte:02x}")]
    Magic {
        /// The place of the first wrong byte, 0 or 1.
        at: usize,
        /// What is there.
        byte: u8,
    },
    /// Another version than the hello agreed on.
    #[error("frame version {0} was not agreed on in the hello, which was for version {expected}", expected = super::PROTOCOL_VERSION)]
    Version(u8),
    /// Bytes that version 1 keeps at zero.
    #[error("the reserved bytes of a frame's header are zero in this version")]
    Reserved,
    /// Over [`FRAME_BODY_BYTES_MAX`]. Told from the header alone, so the checksum has not been verified.
    #[error("a body of {body_bytes} bytes is over the limit of {FRAME_BODY_BYTES_MAX}")]
    TooBig {
        /// The frame's request id, for the reply.
        request_id: u64,
        /// What the header says.
        body_bytes: u32,
    },
    /// Some bit changed on the way, or the header lies about the length.
    #[error("a frame's checksum is {computed:08x}, its header says {stated:08x}")]
    Checksum {
        /// CRC-32C of what arrived.
        computed: u32,
        /// What the header says.
        stated: u32,
    },
}

fn word<const N: usize>(bytes: &[u8], range: std::ops::Range<usize>) -> [u8; N] {
    bytes[range]
        .try_into()
        .expect("header ranges have the width of their fields")
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM.start]), &frame[FRAME_HEADER_BYTES..])
}

/// The first frame in `bytes` and how many bytes it takes; `None` where more bytes are needed. Constant work until the
/// frame is whole.
pub fn decode_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    if let Some(at) = bytes
        .iter()
        .zip(FRAME_MAGIC)
        .position(|(&byte, expected)| byte != expected)
    {
        return Err(FrameError::Magic { at, byte: bytes[at] });
    }
    let Some(header) = bytes.get(..FRAME_HEADER_BYTES) else {
        return Ok(None);
    };
    if header[VERSION] != super::PROTOCOL_VERSION {
        return Err(FrameError::Version(header[VERSION]));
    }
    if header[RESERVED] != [0, 0] {
        return Err(FrameError::Reserved);
    }
    let request_id = u64::from_le_bytes(word(header, REQUEST_ID));
    let body_bytes = u32::from_le_bytes(word(header, BODY_LENGTH));
    if body_bytes as usize > FRAME_BODY_BYTES_MAX {
        return Err(FrameError::TooBig { request_id, body_bytes });
    }
    let Some(frame) = bytes.get(..FRAME_HEADER_BYTES + body_bytes as usize) else {
        return Ok(None);
    };
    let (computed, stated) = (checksum(frame), u32::from_le_bytes(word(header, CHECKSUM)));
    if computed != stated {
        return Err(FrameError::Checksum { computed, stated });
    }
    let decoded = Frame {
        opcode: header[OPCODE],
        flags: u16::from_le_bytes(word(header, FLAGS)),
        request_id,
        body: &frame[FRAME_HEADER_BYTES..],
    };
    Ok(Some((decoded, frame.len())))
}

/// Appends a frame to `output`; `body` appends its body.
///
/// A body over [`FRAME_BODY_BYTES_MAX`] is the caller's mistake: every type that is encoded has a limit below it.
pub fn encode_frame(output: &mut Vec<u8>, opcode: u8, request_id: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let start = output.len();
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..2].copy_from_slice(&FRAME_MAGIC);
    header[VERSION] = super::PROTOCOL_VERSION;
    header[OPCODE] = opcode;
    header[REQUEST_ID].copy_from_slice(&request_id.to_le_bytes());
    output.extend_from_slice(&header);
    body(output);
    let frame = &mut output[start..];
    let body_bytes = frame.len() - FRAME_HEADER_BYTES;
    assert!(
        body_bytes <= FRAME_BODY_BYTES_MAX,
        "a body of {body_bytes} bytes is over the limit of a frame"
    );
    frame[BODY_LENGTH].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    let checksum = checksum(frame);
    frame[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, 7, 42, |body| body.extend_from_slice(b"the body"));
        bytes
    }

    #[test]
    fn a_frame_is_incomplete_until_its_last_byte() {
        let bytes = frame();
        for length in 0..bytes.len() {
            assert_eq!(decode_frame(&bytes[..length]), Ok(None), "{length} bytes");
        }
        let (decoded, consumed) = decode_frame(&bytes).unwrap().unwrap();
        assert_eq!(
            (decoded.opcode, decoded.request_id, decoded.body),
            (7, 42, &b"the body"[..])
        );
        assert_eq!(consumed, bytes.len());
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let bytes = frame();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A longer length only waits for more; with more bytes at hand it is told too.
            flipped.resize(FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX, 0);
            assert!(decode_frame(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_body_over_the_limit_is_told_from_its_header() {
        let mut bytes = frame();
        bytes[BODY_LENGTH].copy_from_slice(&(FRAME_BODY_BYTES_MAX as u32 + 1).to_le_bytes());
        let error = decode_frame(&bytes[..FRAME_HEADER_BYTES]).unwrap_err();
        assert_eq!(
            error,
            FrameError::TooBig {
                request_id: 42,
                body_bytes: FRAME_BODY_BYTES_MAX as u32 + 1
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_an_error_or_a_wait(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_frame(&bytes);
        }
    }
}
