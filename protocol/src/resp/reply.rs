//! The reply parser: values of RESP 2 and 3, resumable, without copying what they hold.
//!
//! Called by clients with the unconsumed bytes of a connection, which begin where the current reply begins. When a reply
//! is incomplete the parser remembers how far it came, so bytes are looked at once however they are split. It never keeps
//! the bytes themselves. A reply is there as a whole or not at all: [`Reply::tokens`] walks over it, [`Reply::value`]
//! builds it.

use super::number::{parse_i64, parse_u64};
use super::parser::LINE_BYTES_MAX;

/// How deep values may lie within each other.
pub const DEPTH_MAX: usize = 64;

/// Why the bytes are no reply. The stream is out of step, so the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No type begins so.
    #[error("no value begins with '{}'", .0.escape_ascii())]
    Kind(u8),
    /// A count, a length, an integer or a boolean that is none.
    #[error("what stands behind '{}' is none", .0.escape_ascii())]
    Malformed(u8),
    /// A line that does not end, or not as it should.
    #[error("a line is longer than {LINE_BYTES_MAX} bytes, or does not end in CRLF")]
    Line,
    /// A string is longer, or shorter, than it says.
    #[error("a string is not followed by CRLF")]
    BulkEnd,
    /// A string is over the limit.
    #[error("a string of {0} bytes is too long")]
    BulkLength(u64),
    /// Values within values within values.
    #[error("values lie more than {DEPTH_MAX} deep")]
    Depth,
}

/// What holds several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregate {
    /// `*`
    Array,
    /// `%`: keys and values by turns.
    Map,
    /// `~`
    Set,
    /// `>`: answers no request.
    Push,
    /// `|`: keys and values about the value that follows.
    Attribute,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar<'a> {
    /// `+`
    Simple(&'a [u8]),
    /// `-`, or `!`, which may have line ends: the code is its first word.
    Error(&'a [u8]),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(&'a [u8]),
    /// `$-1`: no string, in version 2.
    NullBulk,
    /// `*-1`: no array, in version 2.
    NullArray,
    /// `_`: no value, in version 3.
    Null,
    /// `#`
    Boolean(bool),
    /// `,`, as it was written.
    Double(&'a [u8]),
    /// `(`: an integer of any length, as it was written.
    BigNumber(&'a [u8]),
    /// `=`, without its format.
    Verbatim(&'a [u8]),
}

impl<'a> Scalar<'a> {
    /// Whether it says that there is nothing, in either version's form.
    pub const fn is_null(self) -> bool {
        matches!(self, Self::NullBulk | Self::NullArray | Self::Null)
    }

    /// The bytes of a string of any kind, or of a number that came as text.
    pub const fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Simple(text)
            | Self::Bulk(text)
            | Self::Double(text)
            | Self::BigNumber(text)
            | Self::Verbatim(text) => Some(text),
            _ => None,
        }
    }
}

/// A part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A value.
    One(Scalar<'a>),
    /// The beginning of several: so many values follow, two for each pair of a map.
    Begin(Aggregate, usize),
}

/// A reply with what is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value<'a> {
    /// One value.
    One(Scalar<'a>),
    /// Several. A map is its keys and values by turns; attributes are left out.
    Many(Aggregate, Vec<Self>),
}

/// A whole reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    bytes: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Of bytes that the parser took for one.
    pub(super) const fn of_whole(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes it takes.
    #[expect(clippy::len_without_is_empty, reason = "no reply is empty")]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What it is made of, in the order of the bytes.
    #[inline]
    pub const fn tokens(&self) -> Tokens<'a> {
        Tokens { rest: self.bytes }
    }

    /// All of it. Takes memory in proportion to its bytes.
    pub fn value(&self) -> Value<'a> {
        take_value(&mut self.tokens())
    }
}

/// See [`Reply::tokens`].
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    #[inline]
    fn next(&mut self) -> Option<Token<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let found = take_token(self.rest, 0, usize::MAX);
        let (token, length) = found
            .ok()
            .flatten()
            .expect("a reply was looked through before it was given out");
        self.rest = &self.rest[length..];
        Some(token)
    }
}

// Not deeper than `DEPTH_MAX`, which was looked at before.
fn take_value<'a>(tokens: &mut Tokens<'a>) -> Value<'a> {
    loop {
        match tokens.next().expect("a reply has as many values as it says") {
            Token::Begin(Aggregate::Attribute, count) => {
                (0..count).for_each(|_| drop(take_value(tokens)));
            }
            Token::Begin(kind, count) => {
                return Value::Many(kind, (0..count).map(|_| take_value(tokens)).collect());
            }
            Token::One(scalar) => return Value::One(scalar),
        }
    }
}

/// A resumable parser for one connection's replies.
#[derive(Clone, Debug)]
pub struct ReplyParser {
    bulk_bytes_max: usize,
    /// Where the next token begins.
    at: usize,
    /// So many bytes of it are known to hold no end of its line.
    searched: usize,
    /// How many values are still to come: in the reply, in what it is within, and so on inwards.
    missing: Vec<usize>,
}

impl ReplyParser {
    /// For a server whose strings have so many bytes at most.
    pub const fn new(bulk_bytes_max: usize) -> Self {
        Self {
            bulk_bytes_max,
            at: 0,
            searched: 0,
            missing: Vec::new(),
        }
    }

    /// The reply that `bytes` begin with; `None` where more bytes are needed. Then it must be called with the same bytes
    /// and more behind them, otherwise with those behind the reply.
    #[inline]
    pub fn parse<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Reply<'a>>, ReplyError> {
        loop {
            let rest = &bytes[self.at..];
            let Some((token, length)) = take_token(rest, self.searched, self.bulk_bytes_max)? else {
                let end = rest[self.searched..].iter().position(|&byte| byte == b'\r');
                self.searched = end.map_or(rest.len(), |end| self.searched + end);
                return Ok(None);
            };
            self.at += length;
            self.searched = 0;
            if self.is_last(token)? {
                let length = std::mem::take(&mut self.at);
                return Ok(Some(Reply {
                    bytes: &bytes[..length],
                }));
            }
        }
    }

    /// Counts the token; whether the reply ends with it.
    #[inline]
    fn is_last(&mut self, token: Token<'_>) -> Result<bool, ReplyError> {
        // An attribute comes in addition to the value that it is about.
        let is_value = !matches!(token, Token::Begin(Aggregate::Attribute, _));
        if is_value && let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
        }
        if let Token::Begin(_, count) = token {
            if self.missing.len() == DEPTH_MAX {
                return Err(ReplyError::Depth);
            }
            if self.missing.is_empty() && !is_value {
                self.missing.push(1);
            }
            self.missing.push(count);
        }
        while self.missing.last() == Some(&0) {
            self.missing.pop();
        }
        Ok(self.missing.is_empty())
    }
}

/// The token that `bytes` begin with, and how many bytes it takes. The first `searched` bytes hold no end of a line.
#[inline]
fn take_token(bytes: &[u8], searched: usize, bulk_bytes_max: usize) -> Result<Option<(Token<'_>, usize)>, ReplyError> {
    let Some((&kind, _)) = bytes.split_first() else {
        return Ok(None);
    };
    if !matches!(
        kind,
        b'+' | b'-' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'=' | b'!' | b'%' | b'~' | b'>' | b'|'
    ) {
        return Err(ReplyError::Kind(kind));
    }
    let Some((line, length)) = take_line(bytes, searched)? else {
        return Ok(None);
    };
    let text = &line[1..];
    let malformed = ReplyError::Malformed(kind);
    let begin = |aggregate, values_each: usize| {
        let count = parse_u64(text).and_then(|count| usize::try_from(count).ok()?.checked_mul(values_each));
        let count = count.ok_or(malformed)?;
        Ok(Some((Token::Begin(aggregate, count), length)))
    };
    let scalar = match kind {
        b'+' => Scalar::Simple(text),
        b'-' => Scalar::Error(text),
        b':' => Scalar::Integer(parse_i64(text).ok_or(malformed)?),
        b'$' if text == b"-1" => Scalar::NullBulk,
        b'*' if text == b"-1" => Scalar::NullArray,
        b'$' | b'=' | b'!' => {
            let said = parse_u64(text).ok_or(malformed)?;
            return take_bulk(kind, &bytes[length..], said, bulk_bytes_max)
                .map(|taken| taken.map(|(scalar, bulk_length)| (Token::One(scalar), length + bulk_length)));
        }
        b'_' if text.is_empty() => Scalar::Null,
        b'#' if text == b"t" || text == b"f" => Scalar::Boolean(text == b"t"),
        b',' => Scalar::Double(text),
        b'(' => Scalar::BigNumber(text),
        b'*' => return begin(Aggregate::Array, 1),
        b'~' => return begin(Aggregate::Set, 1),
        b'>' => return begin(Aggregate::Push, 1),
        b'%' => return begin(Aggregate::Map, 2),
        b'|' => return begin(Aggregate::Attribute, 2),
        _ => return Err(malformed),
    };
    Ok(Some((Token::One(scalar), length)))
}

/// The line that `bytes` begin with, without its end, and how many bytes it takes with it.
#[inline]
fn take_line(bytes: &[u8], searched: usize) -> Result<Option<(&[u8], usize)>, ReplyError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(length) = window[searched..].iter().position(|&byte| byte == b'\r') else {
        return if window.len() == LINE_BYTES_MAX {
            Err(ReplyError::Line)
        } else {
            Ok(None)
        };
    };
    let length = searched + length;
    match bytes.get(length + 1) {
        Some(b'\n') => Ok(Some((&bytes[..length], length + 2))),
        Some(_) => Err(ReplyError::Line),
        None => Ok(None),
    }
}

/// The string of `said` bytes that `bytes` begin with, and how many bytes it takes.
fn take_bulk(
    kind: u8,
    bytes: &[u8],
    said: u64,
    bulk_bytes_max: usize,
) -> Result<Option<(Scalar<'_>, usize)>, ReplyError> {
    let length = usize::try_from(said).ok().filter(|&length| length <= bulk_bytes_max);
    let length = length.ok_or(ReplyError::BulkLength(said))?;
    let Some((string, rest)) = bytes.split_at_checked(length) else {
        return Ok(None);
    };
    match rest {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        _ => return Err(ReplyError::BulkEnd),
    }
    let scalar = match (kind, string) {
        (b'=', [_, _, _, b':', text @ ..]) => Scalar::Verbatim(text),
        (b'=', _) => return Err(ReplyError::Malformed(kind)),
        (b'!', text) => Scalar::Error(text),
        (_, string) => Scalar::Bulk(string),
    };
    Ok(Some((scalar, length + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Value<'_> {
        let mut parser = ReplyParser::new(1000);
        for length in 0..bytes.len() {
            assert_eq!(parser.parse(&bytes[..length]), Ok(None), "after {length} bytes");
        }
        let reply = parser.parse(bytes).unwrap().expect("all of it is there");
        assert_eq!(reply.len(), bytes.len());
        reply.value()
    }

    fn refused(bytes: &[u8]) -> ReplyError {
        ReplyParser::new(1000).parse(bytes).unwrap_err()
    }

    #[test]
    fn every_type_of_both_versions_is_read_from_its_last_byte_on() {
        for (bytes, scalar) in [
            (&b"+OK\r\n"[..], Scalar::Simple(b"OK")),
            (b"-ERR no\r\n", Scalar::Error(b"ERR no")),
            (b"!7\r\nERR\r\nno\r\n", Scalar::Error(b"ERR\r\nno")),
            (b":-17\r\n", Scalar::Integer(-17)),
            (b"$0\r\n\r\n", Scalar::Bulk(b"")),
            (b"$3\r\n\r\nx\r\n", Scalar::Bulk(b"\r\nx")),
            (b"$-1\r\n", Scalar::NullBulk),
            (b"*-1\r\n", Scalar::NullArray),
            (b"_\r\n", Scalar::Null),
            (b"#t\r\n", Scalar::Boolean(true)),
            (b"#f\r\n", Scalar::Boolean(false)),
            (b",-inf\r\n", Scalar::Double(b"-inf")),
            (
                b"(-123456789012345678901\r\n",
                Scalar::BigNumber(b"-123456789012345678901"),
            ),
            (b"=6\r\ntxt:hi\r\n", Scalar::Verbatim(b"hi")),
        ] {
            assert_eq!(whole(bytes), Value::One(scalar));
        }
        let one = |number| Value::One(Scalar::Integer(number));
        for (bytes, kind) in [
            (&b"*2\r\n:1\r\n:2\r\n"[..], Aggregate::Array),
            (b"~2\r\n:1\r\n:2\r\n", Aggregate::Set),
            (b">2\r\n:1\r\n:2\r\n", Aggregate::Push),
            (b"%1\r\n:1\r\n:2\r\n", Aggregate::Map),
        ] {
            assert_eq!(whole(bytes), Value::Many(kind, vec![one(1), one(2)]));
        }
    }

    #[test]
    fn values_lie_within_values() {
        assert_eq!(
            whole(b"*3\r\n*0\r\n%1\r\n+a\r\n*2\r\n:1\r\n$-1\r\n:9\r\n"),
            Value::Many(
                Aggregate::Array,
                vec![
                    Value::Many(Aggregate::Array, vec![]),
                    Value::Many(
                        Aggregate::Map,
                        vec![
                            Value::One(Scalar::Simple(b"a")),
                            Value::Many(
                                Aggregate::Array,
                                vec![Value::One(Scalar::Integer(1)), Value::One(Scalar::NullBulk)]
                            ),
                        ]
                    ),
                    Value::One(Scalar::Integer(9)),
                ]
            )
        );
    }

    #[test]
    fn an_attribute_belongs_to_the_value_behind_it() {
        assert_eq!(
            whole(b"|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n"),
            Value::One(Scalar::Bulk(b"x"))
        );
        assert_eq!(
            whole(b"*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:2\r\n:3\r\n"),
            Value::Many(
                Aggregate::Array,
                vec![Value::One(Scalar::Integer(2)), Value::One(Scalar::Integer(3))]
            )
        );
    }

    #[test]
    fn replies_are_read_one_after_the_other() {
        let bytes = b"+OK\r\n*1\r\n:1\r\n$-1\r\n";
        let (mut parser, mut at, mut tokens) = (ReplyParser::new(10), 0, Vec::new());
        while let Some(reply) = parser.parse(&bytes[at..]).unwrap() {
            tokens.extend(reply.tokens());
            at += reply.len();
        }
        let array = Token::Begin(Aggregate::Array, 1);
        assert_eq!(
            tokens,
            [
                Token::One(Scalar::Simple(b"OK")),
                array,
                Token::One(Scalar::Integer(1)),
                Token::One(Scalar::NullBulk)
            ]
        );
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn what_is_no_reply_is_refused_and_not_waited_for() {
        assert_eq!(refused(b"HTTP/1.1"), ReplyError::Kind(b'H'));
        assert_eq!(refused(b"*1\r\nx"), ReplyError::Kind(b'x'));
        for bytes in [
            &b"$x\r\n"[..],
            b"$-2\r\n",
            b"*-2\r\n",
            b"*+1\r\n",
            b":1.5\r\n",
            b":\r\n",
            b"#x\r\n",
            b"_1\r\n",
            b"%\r\n",
            b"=2\r\nab\r\n",
            b"%18446744073709551615\r\n",
        ] {
            assert_eq!(
                refused(bytes),
                ReplyError::Malformed(bytes[0]),
                "{}",
                bytes.escape_ascii()
            );
        }
        assert_eq!(refused(b"+OK\rx"), ReplyError::Line);
        assert_eq!(refused(&vec![b'+'; LINE_BYTES_MAX]), ReplyError::Line);
        assert_eq!(refused(b"$2\r\nabc"), ReplyError::BulkEnd);
        assert_eq!(refused(b"$2\r\nab\rx"), ReplyError::BulkEnd);
        assert_eq!(refused(b"$1001\r\n"), ReplyError::BulkLength(1001));
        assert_eq!(refused(b"$99999999999999999999\r\n"), ReplyError::Malformed(b'$'));
    }

    #[test]
    fn values_lie_no_deeper_than_the_limit() {
        let nested = |depth| [&b"*1\r\n".repeat(depth)[..], b":1\r\n"].concat();
        assert!(matches!(whole(&nested(DEPTH_MAX)), Value::Many(..)));
        assert_eq!(refused(&nested(DEPTH_MAX + 1)), ReplyError::Depth);
    }

    #[test]
    fn a_line_is_too_long_however_it_comes() {
        let mut line = vec![b'+'; LINE_BYTES_MAX - 1];
        line.extend_from_slice(b"\r\n");
        for piece in [1, 1000, line.len()] {
            let mut parser = ReplyParser::new(0);
            let mut end = 0;
            while end < line.len() {
                end = (end + piece).min(line.len());
                assert_eq!(parser.parse(&line[..end]).unwrap().is_some(), end == line.len());
            }
        }
        line.insert(1, b'x');
        let mut parser = ReplyParser::new(0);
        assert_eq!(parser.parse(&line[..LINE_BYTES_MAX - 1]), Ok(None));
        assert_eq!(parser.parse(&line), Err(ReplyError::Line));
    }
}
