//! What a server answered, read from the bytes with as little work as tells success from refusal.
//!
//! Called by connections for every reply. Frames are checked like any client's (checksum included); RESP values are
//! walked over without being built.

use cartwright_protocol::native::{FrameError, REQUEST_ID_CONNECTION, ReplyOpcode, decode_frame, decode_reply};
use cartwright_protocol::resp::{self, ParserLimits, ReplyError, ReplyParser, Scalar, Token};
use cartwright_protocol::{ErrorCode, Reply};

/// Which protocol a run speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Frames.
    Native,
    /// Redis's, version 2.
    Resp,
}

impl std::fmt::Display for Wire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Native => "native",
            Self::Resp => "RESP",
        })
    }
}

/// One reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Done. The number is a receipt's order id, or the first integer in a RESP reply; 0 where there is none.
    Done(u64),
    /// No such thing.
    Null,
    /// Refused.
    Refused {
        /// The first word.
        code: &'a str,
        /// The rest, for people.
        text: &'a str,
    },
}

/// Why the bytes are no answer. The connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No frame.
    #[error("the server's stream is damaged: {0}")]
    Frame(#[from] FrameError),
    /// The server says something about the connection itself, and closes it.
    #[error("the server closes the connection: {0}")]
    Connection(String),
    /// No RESP.
    #[error("the server's answer is no RESP: {0}")]
    Resp(#[from] ReplyError),
    /// Another server or another version.
    #[error("a frame with opcode 0x{0:02x} is no reply that this version knows; use the tools of the server's version")]
    Opcode(u8),
}

/// An answer, how many bytes it took, and on the native protocol the request's id (0 on RESP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<'a> {
    /// Which request; 0 on RESP, whose answers come in order.
    pub request_id: u64,
    /// The answer.
    pub answer: Answer<'a>,
    /// Bytes taken.
    pub bytes: usize,
}

/// Reads one connection's answers.
#[derive(Debug)]
pub struct AnswerReader {
    wire: Wire,
    replies: ReplyParser,
}

impl AnswerReader {
    /// Of a connection that speaks `wire`.
    pub const fn new(wire: Wire) -> Self {
        Self {
            wire,
            replies: ReplyParser::new(ParserLimits::REDIS.bulk_bytes_max),
        }
    }

    /// What the connection speaks.
    pub const fn wire(&self) -> Wire {
        self.wire
    }

    /// The answer at the start of `bytes`; `None` where more bytes are needed. Then the next call is for the same bytes
    /// and more behind them.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Answered<'a>>, AnswerError> {
        match self.wire {
            Wire::Native => read_frame(bytes),
            Wire::Resp => Ok(self.replies.parse(bytes)?.map(|reply| answer_of(&reply))),
        }
    }
}

fn read_frame(bytes: &[u8]) -> Result<Option<Answered<'_>>, AnswerError> {
    let Some((frame, consumed)) = decode_frame(bytes)? else {
        return Ok(None);
    };
    if frame.request_id == REQUEST_ID_CONNECTION {
        let text = match decode_reply(&frame) {
            Ok(Reply::Error(error)) => error.to_string(),
            _ => "it does not say why".to_owned(),
        };
        return Err(AnswerError::Connection(text));
    }
    let opcode = ReplyOpcode::from_number(frame.opcode).ok_or(AnswerError::Opcode(frame.opcode))?;
    let answer = match opcode {
        ReplyOpcode::Error => {
            let code = frame.body.first().and_then(|&number| ErrorCode::from_number(number));
            Answer::Refused {
                code: code.map_or("ERR", ErrorCode::as_str),
                text: frame
                    .body
                    .get(3..)
                    .and_then(|text| std::str::from_utf8(text).ok())
                    .unwrap_or_default(),
            }
        }
        ReplyOpcode::Null => Answer::Null,
        ReplyOpcode::Receipt => {
            let id = frame.body.first_chunk().copied().map_or(0, u64::from_le_bytes);
            Answer::Done(id)
        }
        _ => Answer::Done(0),
    };
    Ok(Some(Answered {
        request_id: frame.request_id,
        answer,
        bytes: consumed,
    }))
}

fn answer_of<'a>(reply: &resp::Reply<'a>) -> Answered<'a> {
    let mut tokens = reply.tokens();
    let number = |integer| Answer::Done(u64::try_from(integer).unwrap_or(0));
    let answer = match tokens.next() {
        Some(Token::One(Scalar::Error(line))) => refusal(line),
        Some(Token::One(Scalar::Integer(integer))) => number(integer),
        Some(Token::One(scalar)) if scalar.is_null() => Answer::Null,
        Some(Token::Begin(..)) => {
            let first = tokens.find_map(|token| match token {
                Token::One(Scalar::Integer(integer)) => Some(integer),
                _ => None,
            });
            number(first.unwrap_or(0))
        }
        _ => Answer::Done(0),
    };
    Answered {
        request_id: 0,
        answer,
        bytes: reply.len(),
    }
}

fn refusal(line: &[u8]) -> Answer<'_> {
    let line = std::str::from_utf8(line).unwrap_or("ERR the message is not UTF-8");
    let (code, text) = line.split_once(' ').unwrap_or((line, ""));
    Answer::Refused { code, text }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::native::encode_reply;
    use cartwright_protocol::{Amount, Currency, Error, OrderId, OrderState, Receipt, Slot};

    use super::*;

    fn whole(wire: Wire, bytes: &[u8]) -> Answer<'_> {
        let mut reader = AnswerReader::new(wire);
        for length in 0..bytes.len() {
            assert_eq!(
                reader.read(&bytes[..length]).unwrap(),
                None,
                "{length} of {} bytes are no answer yet",
                bytes.len()
            );
        }
        let answered = reader.read(bytes).unwrap().unwrap();
        assert_eq!(answered.bytes, bytes.len());
        answered.answer
    }

    #[test]
    fn a_resp_answer_is_told_from_its_last_byte_on() {
        assert_eq!(whole(Wire::Resp, b"+OK\r\n"), Answer::Done(0));
        assert_eq!(whole(Wire::Resp, b":17\r\n"), Answer::Done(17));
        assert_eq!(whole(Wire::Resp, b"$-1\r\n"), Answer::Null);
        assert_eq!(whole(Wire::Resp, b"*-1\r\n"), Answer::Null);
        assert_eq!(whole(Wire::Resp, b"$0\r\n\r\n"), Answer::Done(0));
        assert_eq!(
            whole(
                Wire::Resp,
                b"*4\r\n$2\r\nid\r\n:99\r\n*2\r\n$-1\r\n$3\r\n\r\nx\r\n+placed\r\n"
            ),
            Answer::Done(99)
        );
        assert_eq!(
            whole(Wire::Resp, b"-OUTOFSTOCK 22423 wanted 5, available 3\r\n"),
            Answer::Refused {
                code: "OUTOFSTOCK",
                text: "22423 wanted 5, available 3"
            }
        );
    }

    #[test]
    fn a_native_answer_gives_its_order_or_its_refusal() {
        let id = OrderId::new(Slot::new(3).unwrap(), 7);
        let receipt = Reply::Receipt(Receipt {
            id,
            state: OrderState::Placed,
            total: Amount::new(5).unwrap(),
            currency: Currency::new(b"GBP").unwrap(),
            expires_at_ms: 0,
        });
        let mut bytes = Vec::new();
        encode_reply(&mut bytes, 5, &receipt);
        assert_eq!(whole(Wire::Native, &bytes), Answer::Done(id.to_integer()));
        assert_eq!(
            AnswerReader::new(Wire::Native)
                .read(&bytes)
                .unwrap()
                .unwrap()
                .request_id,
            5
        );
        bytes.clear();
        encode_reply(&mut bytes, 5, &Reply::Error(Error::new(ErrorCode::Busy, "later")));
        assert_eq!(
            whole(Wire::Native, &bytes),
            Answer::Refused {
                code: "BUSY",
                text: "later"
            }
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_not_a_wait() {
        assert!(
            AnswerReader::new(Wire::Resp)
                .read(b"HTTP/1.1 400 Bad Request\r\n")
                .is_err()
        );
        assert!(AnswerReader::new(Wire::Resp).read(b"$x\r\n").is_err());
        assert!(AnswerReader::new(Wire::Native).read(b"HTTP/1.1").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_answer_an_error_or_a_wait(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)) {
            let _ = AnswerReader::new(Wire::Resp).read(&bytes);
            let _ = AnswerReader::new(Wire::Native).read(&bytes);
        }
    }
}
