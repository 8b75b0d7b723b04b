//! The request parser: multibulk and inline commands, resumable, without copying arguments.
//!
//! Called by a session with the unconsumed bytes of its connection, which begin where the current command begins. When
//! a command is incomplete the parser remembers how far it came, so bytes are looked at once however they are split.
//! It never keeps the bytes themselves, and knows no command.

use super::inline;
use super::number::parse_i64;

/// Longest inline command, and longest line with a count or a length, in bytes. Redis's `PROTO_INLINE_MAX_SIZE`.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Ranges kept from one command to the next; a longer list is given back.
const RANGES_KEPT_MAX: usize = 16 * 1024;

/// Ranges reserved on the word of a command's first line alone.
const RANGES_RESERVED_MAX: usize = 1024;

/// What a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParserLimits {
    /// Most arguments of one command, its name included.
    pub arguments_max: usize,
    /// Longest argument, in bytes.
    pub bulk_bytes_max: usize,
    /// Longest command with everything around its arguments, in bytes; below 4 GiB.
    pub command_bytes_max: usize,
}

impl ParserLimits {
    /// Redis's own limits.
    pub const REDIS: Self = Self {
        arguments_max: 1_048_576,
        bulk_bytes_max: 512 << 20,
        command_bytes_max: 1 << 30,
    };
}

impl Default for ParserLimits {
    fn default() -> Self {
        Self::REDIS
    }
}

/// Why the bytes are no RESP. The stream is out of step, so the connection cannot go on. The texts are Redis's, without
/// the leading `ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The count after `*` is no integer, or over the limit.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// The line with the count does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLine,
    /// The length after `$` is no integer, negative, or over the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// The line with the length does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// An argument that is no bulk string.
    #[error("Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    /// An argument is longer, or shorter, than it says.
    #[error("Protocol error: expected CRLF after bulk data")]
    BulkEnd,
    /// An inline command that does not end.
    #[error("Protocol error: too big inline request")]
    InlineLine,
    /// An inline command with an open quote.
    #[error("Protocol error: unbalanced quotes in request")]
    Unbalanced,
    /// All arguments together are over the limit.
    #[error("Protocol error: command exceeds the query buffer limit of {0} bytes")]
    CommandBytes(usize),
}

const fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' {
        byte as char
    } else {
        '?'
    }
}

/// The arguments of one command, its name first.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [(u32, u32)],
}

impl<'a> Arguments<'a> {
    /// The arguments that stand at `ranges`, start and end, in `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8], ranges: &'a [(u32, u32)]) -> Self {
        Self { bytes, ranges }
    }

    /// How many there are, the name included.
    #[inline]
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is none: the command is to be ignored.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument with this index; the name is 0.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.ranges
            .get(index)
            .map(|&(start, end)| &self.bytes[start as usize..end as usize])
    }

    /// All of them, the name first.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + use<'a> {
        let bytes = self.bytes;
        self.ranges
            .iter()
            .map(move |&(start, end)| &bytes[start as usize..end as usize])
    }

    /// Those from `index` on.
    #[must_use]
    pub fn from(&self, index: usize) -> Self {
        Self {
            bytes: self.bytes,
            ranges: &self.ranges[index.min(self.ranges.len())..],
        }
    }
}

impl std::fmt::Debug for Arguments<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(<[u8]>::escape_ascii))
            .finish()
    }
}

/// Parses commands, one after another.
#[derive(Debug)]
pub struct RequestParser {
    limits: ParserLimits,
    /// Up to where the current command has been parsed.
    position: usize,
    /// Up to where the line at `position` has been searched for its end.
    searched: usize,
    /// Arguments still to come; 0 before a command's first line.
    missing: usize,
    /// The length of the argument that begins at `position`, once it is known.
    bulk: Option<usize>,
    inline: bool,
    ranges: Vec<(u32, u32)>,
    scratch: Vec<u8>,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new(limits: ParserLimits) -> Self {
        let mut parser = Self {
            limits,
            position: 0,
            searched: 0,
            missing: 0,
            bulk: None,
            inline: false,
            ranges: Vec::new(),
            scratch: Vec::new(),
        };
        parser.set_limits(limits);
        parser
    }

    /// From here on other limits hold.
    pub fn set_limits(&mut self, limits: ParserLimits) {
        assert!(
            u32::try_from(limits.command_bytes_max).is_ok(),
            "argument ranges are 32 bits wide"
        );
        self.limits = limits;
    }

    /// Parses the command at the start of `bytes`. The number of bytes it takes, or `None` where it is not whole: call
    /// again with the same bytes and more. An empty line, or an array of nothing, is a command without arguments, which
    /// gets no reply.
    #[inline]
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let parsed = self.advance(bytes)?;
        if parsed {
            let consumed = self.position;
            (self.position, self.searched) = (0, 0);
            return Ok(Some(consumed));
        }
        if bytes.len() > self.limits.command_bytes_max {
            return Err(ProtocolError::CommandBytes(self.limits.command_bytes_max));
        }
        Ok(None)
    }

    /// The arguments of the command that [`RequestParser::parse`] has just found in `bytes`.
    #[inline]
    pub fn arguments<'a>(&'a self, bytes: &'a [u8]) -> Arguments<'a> {
        Arguments {
            bytes: if self.inline { &self.scratch } else { bytes },
            ranges: &self.ranges,
        }
    }

    /// Whether a whole command stands in `ranges`.
    fn advance(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
        if self.missing == 0 {
            match bytes.get(self.position) {
                None => return Ok(false),
                Some(b'*') => {
                    let Some(count) = self.line(bytes, ProtocolError::MultibulkLine)? else {
                        return Ok(false);
                    };
                    let count = parse_i64(count).ok_or(ProtocolError::MultibulkLength)?;
                    if count > self.limits.arguments_max as i64 {
                        return Err(ProtocolError::MultibulkLength);
                    }
                    self.begin(false);
                    self.missing = usize::try_from(count).unwrap_or(0);
                    self.ranges.reserve(self.missing.min(RANGES_RESERVED_MAX));
                }
                Some(_) => return self.inline_line(bytes),
            }
        }
        while self.missing > 0 {
            if !self.bulk(bytes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn begin(&mut self, inline: bool) {
        self.inline = inline;
        self.ranges.clear();
        self.ranges.shrink_to(RANGES_KEPT_MAX);
        self.scratch.clear();
    }

    /// What stands between the type byte at `position` and the next CR LF; moves behind it.
    #[inline]
    fn line<'a>(&mut self, bytes: &'a [u8], too_long: ProtocolError) -> Result<Option<&'a [u8]>, ProtocolError> {
        let from = self.searched.max(self.position + 1);
        // A CR in the very last place waits for its LF.
        match bytes[from.min(bytes.len())..]
            .iter()
            .position(|&byte| byte == b'\r')
            .map(|found| from + found)
        {
            Some(end) if end + 1 < bytes.len() => {
                let line = &bytes[self.position + 1..end];
                self.position = end + 2;
                Ok(Some(line))
            }
            found => {
                self.searched = found.unwrap_or(bytes.len());
                if bytes.len() - self.position > LINE_BYTES_MAX {
                    Err(too_long)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// One argument; `false` where it is not whole.
    #[inline]
    fn bulk(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
        let length = match self.bulk {
            Some(length) => length,
            None => match self.bulk_length(bytes)? {
                Some(length) => length,
                None => return Ok(false),
            },
        };
        let end = self.position + length;
        let Some(terminator) = bytes.get(end..end + 2) else {
            return Ok(false);
        };
        if terminator != b"\r\n" {
            return Err(ProtocolError::BulkEnd);
        }
        self.ranges.push((self.position as u32, end as u32));
        self.bulk = None;
        self.position = end + 2;
        self.missing -= 1;
        Ok(true)
    }

    /// The length of the argument at `position`; moves behind its line.
    #[inline]
    fn bulk_length(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        // The first two are nearly every argument there is.
        let length = match &bytes[self.position..] {
            [b'$', ones @ b'0'..=b'9', b'\r', b'\n', ..] => {
                self.position += 4;
                usize::from(ones - b'0')
            }
            [b'$', tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] => {
                self.position += 5;
                usize::from(tens - b'0') * 10 + usize::from(ones - b'0')
            }
            [b'$', ..] => match self.line(bytes, ProtocolError::BulkLine)? {
                Some(line) => parse_i64(line)
                    .and_then(|length| usize::try_from(length).ok())
                    .ok_or(ProtocolError::BulkLength)?,
                None => return Ok(None),
            },
            [] => return Ok(None),
            [other, ..] => return Err(ProtocolError::ExpectedBulk(*other)),
        };
        if length > self.limits.bulk_bytes_max {
            return Err(ProtocolError::BulkLength);
        }
        if self.position + length > self.limits.command_bytes_max {
            return Err(ProtocolError::CommandBytes(self.limits.command_bytes_max));
        }
        self.bulk = Some(length);
        Ok(Some(length))
    }

    /// One inline command, perhaps an empty one; `false` where its line has not ended.
    fn inline_line(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
        let from = self.searched.max(self.position);
        let found = bytes[from..].iter().position(|&byte| byte == b'\n');
        let end = found.map_or(bytes.len(), |found| from + found);
        if end - self.position > LINE_BYTES_MAX {
            return Err(ProtocolError::InlineLine);
        }
        if found.is_none() {
            self.searched = end;
            return Ok(false);
        }
        self.begin(true);
        let line = &bytes[self.position..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::split(line, &mut self.scratch, &mut self.ranges).map_err(|_| ProtocolError::Unbalanced)?;
        self.position = end + 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: ParserLimits = ParserLimits {
        arguments_max: 100,
        bulk_bytes_max: 1000,
        command_bytes_max: 5000,
    };

    /// Every command in `stream`, given in pieces of these lengths (again and again), and the error that ended it.
    fn parsed(stream: &[u8], pieces: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let mut parser = RequestParser::new(SMALL);
        let (mut commands, mut start, mut end) = (Vec::new(), 0, 0);
        let mut pieces = pieces.iter().cycle();
        while end < stream.len() {
            end = (end + pieces.next().expect("cycles")).min(stream.len());
            loop {
                match parser.parse(&stream[start..end]) {
                    Ok(Some(consumed)) => {
                        let arguments = parser.arguments(&stream[start..end]);
                        if !arguments.is_empty() {
                            commands.push(arguments.iter().map(<[u8]>::to_vec).collect());
                        }
                        start += consumed;
                    }
                    Ok(None) => break,
                    Err(error) => return (commands, Some(error)),
                }
            }
        }
        (commands, None)
    }

    fn error_of(stream: &[u8]) -> String {
        parsed(stream, &[usize::MAX / 2]).1.expect("an error").to_string()
    }

    #[test]
    fn errors_are_told_in_the_words_of_redis() {
        assert_eq!(error_of(b"*3\r\n$-5\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(error_of(b"*1\r\n$abc\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(error_of(b"*1\r\n$1001\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(
            error_of(b"*99999999999\r\n"),
            "Protocol error: invalid multibulk length"
        );
        assert_eq!(error_of(b"*abc\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(error_of(b"*101\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(error_of(b"*1\r\nfoo\r\n"), "Protocol error: expected '$', got 'f'");
        assert_eq!(
            error_of(b"*1\r\n$2\r\nabc\r\n"),
            "Protocol error: expected CRLF after bulk data"
        );
        assert_eq!(
            error_of(b"PING \"abc\r\n"),
            "Protocol error: unbalanced quotes in request"
        );
        assert_eq!(
            error_of(&vec![b'$'; LINE_BYTES_MAX + 1]),
            "Protocol error: too big inline request"
        );
        let digits = |start: &[u8]| [start, &vec![b'1'; LINE_BYTES_MAX + 1]].concat();
        assert_eq!(error_of(&digits(b"*")), "Protocol error: too big mbulk count string");
        assert_eq!(
            error_of(&digits(b"*1\r\n$")),
            "Protocol error: too big bulk count string"
        );
    }

    #[test]
    fn a_command_over_the_buffer_limit_is_refused_before_it_is_read() {
        let mut stream = b"*10\r\n".to_vec();
        for _ in 0..4 {
            stream.extend_from_slice(b"$1000\r\n");
            stream.extend_from_slice(&[b'x'; 1000]);
            stream.extend_from_slice(b"\r\n");
        }
        assert_eq!(parsed(&stream, &[9999]), (vec![], None));
        stream.extend_from_slice(b"$1000\r\n");
        assert_eq!(parsed(&stream, &[9999]).1, Some(ProtocolError::CommandBytes(5000)));
    }

    #[test]
    fn empty_lines_and_empty_commands_are_skipped() {
        let (commands, error) = parsed(b"\r\n\n*0\r\n*-1\r\nPING\r\n*1\r\n$4\r\nPING\r\n", &[1000]);
        assert_eq!((commands.len(), error), (2, None));
    }

    #[test]
    fn a_long_command_a_byte_at_a_time_costs_no_more_than_its_length() {
        let mut stream = b"*1000000\r\n".to_vec();
        let header = stream.len();
        for _ in 0..50_000 {
            stream.extend_from_slice(b"$3\r\nabc\r\n");
        }
        let mut parser = RequestParser::new(ParserLimits::REDIS);
        // Bytes already passed are overwritten: a parser that looked at them again would fail.
        for end in 1..=stream.len() {
            assert_eq!(parser.parse(&stream[..end]), Ok(None));
            if parser.position > header {
                let passed = parser.position;
                stream[passed - 1] = 0xff;
            }
        }
        let mut line = RequestParser::new(ParserLimits::REDIS);
        let spaces = vec![b'x'; LINE_BYTES_MAX];
        for end in 1..=spaces.len() {
            assert_eq!(line.parse(&spaces[..end]), Ok(None));
            assert_eq!(line.searched, end);
        }
    }

    fn command() -> impl Strategy<Value = Vec<u8>> {
        let multibulk =
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..12).prop_map(|all| {
                let mut bytes = format!("*{}\r\n", all.len()).into_bytes();
                for argument in all {
                    bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                    bytes.extend_from_slice(&argument);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes
            });
        let inline = "[a-z]{1,9}( [a-z0-9]{0,9}){0,4}( \"[a-z ]{0,5}\")?\r?\n".prop_map(String::into_bytes);
        let odd = prop_oneof![
            Just(b"*0\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"*1\r\n$3\r\nabcd\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..30),
        ];
        prop_oneof![8 => multibulk, 4 => inline, 1 => odd]
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_gives_the_same_commands(
            commands in proptest::collection::vec(command(), 0..8),
            pieces in proptest::collection::vec(1usize..50, 1..20),
        ) {
            let stream = commands.concat();
            prop_assert_eq!(parsed(&stream, &pieces), parsed(&stream, &[usize::MAX / 2]));
            prop_assert_eq!(parsed(&stream, &[1]), parsed(&stream, &[usize::MAX / 2]));
        }

        #[test]
        fn arguments_are_what_was_sent(arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 1..20)) {
            let mut stream = format!("*{}\r\n", arguments.len()).into_bytes();
            for argument in &arguments {
                stream.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                stream.extend_from_slice(argument);
                stream.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(parsed(&stream, &[7]), (vec![arguments], None));
        }

        #[test]
        fn garbage_is_commands_or_an_error(stream in proptest::collection::vec(any::<u8>(), 0..600), piece in 1usize..40) {
            let _ = parsed(&stream, &[piece]);
        }
    }
}
