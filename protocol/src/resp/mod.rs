//! RESP: Redis's protocol, versions 2 and 3. For servers a parser of requests and a writer of replies, for clients a
//! parser of replies.
//!
//! Called by the server's sessions, by tools and tests. Works on byte slices and `Vec<u8>`, and knows no command; only
//! [`reply_reader`] reads, from whatever gives bytes.

pub mod inline;
pub mod number;
pub mod parser;
pub mod reply;
pub mod reply_reader;
pub mod writer;

pub use number::{parse_i64, parse_u64};
pub use parser::{Arguments, ParserLimits, ProtocolError, RequestParser};
pub use reply::{Aggregate, Reply, ReplyError, ReplyParser, Scalar, Token, Value};
pub use reply_reader::{ReadError, ReplyReader};
pub use writer::{RespVersion, Writer, shown};
