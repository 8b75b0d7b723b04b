//! RESP: Redis's protocol, versions 2 and 3. A parser of requests and a writer of replies.
//!
//! Called by the server's sessions. Works on byte slices and `Vec<u8>`, never on a socket, and knows no command.

pub mod inline;
pub mod number;
pub mod parser;
pub mod writer;

pub use number::{parse_i64, parse_u64};
pub use parser::{Arguments, ParserLimits, ProtocolError, RequestParser};
pub use writer::{RespVersion, Writer, shown};
