//! A connection that keeps every reply as it came: types, texts and bytes of either protocol.

use std::fmt;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use cartwright_protocol::resp::{Aggregate, ParserLimits, ReadError, ReplyReader, Scalar, Value};

/// How long a reply may take on a slow machine.
const REPLY_TIMEOUT: Duration = Duration::from_mins(1);

/// Bytes of an argument that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// The arguments of a command, its name first.
pub type Words = Vec<Vec<u8>>;

/// A reply, byte for byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// Anything that is one line: its kind (`+ - : , # _ (`) and the rest.
    Line(u8, Vec<u8>),
    /// `$` or `=`, and the bytes.
    Bulk(u8, Vec<u8>),
    /// The null of RESP2: `$-1` or `*-1`, by its kind.
    Null(u8),
    /// `* ~ % >`, and what is in it; a map is its pairs, flat.
    List(u8, Vec<Self>),
}

impl Reply {
    fn of(value: &Value<'_>) -> Self {
        let line = |kind, text: &[u8]| Self::Line(kind, text.to_vec());
        match *value {
            Value::Many(kind, ref values) => {
                let kind = match kind {
                    Aggregate::Array => b'*',
                    Aggregate::Map | Aggregate::Attribute => b'%',
                    Aggregate::Set => b'~',
                    Aggregate::Push => b'>',
                };
                Self::List(kind, values.iter().map(Self::of).collect())
            }
            Value::One(Scalar::Simple(text)) => line(b'+', text),
            Value::One(Scalar::Error(text)) => line(b'-', text),
            Value::One(Scalar::Integer(integer)) => line(b':', integer.to_string().as_bytes()),
            Value::One(Scalar::Boolean(value)) => line(b'#', if value { b"t" } else { b"f" }),
            Value::One(Scalar::Double(text)) => line(b',', text),
            Value::One(Scalar::BigNumber(text)) => line(b'(', text),
            Value::One(Scalar::Null) => line(b'_', b""),
            Value::One(Scalar::Bulk(bytes)) => Self::Bulk(b'$', bytes.to_vec()),
            Value::One(Scalar::Verbatim(bytes)) => Self::Bulk(b'=', bytes.to_vec()),
            Value::One(Scalar::NullBulk) => Self::Null(b'$'),
            Value::One(Scalar::NullArray) => Self::Null(b'*'),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(kind, rest) => write!(to, "{}{}", *kind as char, rest.escape_ascii()),
            Self::Bulk(kind, bytes) if bytes.len() > SHOWN_BYTES_MAX => {
                write!(
                    to,
                    "{}{} bytes {}…",
                    *kind as char,
                    bytes.len(),
                    bytes[..SHOWN_BYTES_MAX].escape_ascii()
                )
            }
            Self::Bulk(kind, bytes) => write!(to, "{}{:?}", *kind as char, bytes.escape_ascii().to_string()),
            Self::Null(kind) => write!(to, "{}-1", *kind as char),
            Self::List(kind, items) => {
                write!(to, "{}", *kind as char)?;
                to.debug_list().entries(items).finish()
            }
        }
    }
}

/// A command as a person reads it.
pub struct Shown<'a>(pub &'a Words);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in self.0 {
            let shown = word[..word.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string();
            if word.is_empty() || shown.contains(' ') {
                write!(to, "\"{shown}\" ")?;
            } else {
                write!(to, "{shown} ")?;
            }
        }
        Ok(())
    }
}

/// A connection.
pub struct Wire {
    /// Whose it is, for messages.
    server: &'static str,
    replies: ReplyReader<TcpStream>,
}

impl Wire {
    /// Connects, and speaks the given version of the protocol from then on.
    pub fn connect(server: &'static str, port: u16, version: u8) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream
            .set_read_timeout(Some(REPLY_TIMEOUT))
            .expect("a socket takes a timeout");
        let mut wire = Self {
            server,
            replies: ReplyReader::new(stream, ParserLimits::REDIS.bulk_bytes_max),
        };
        wire.speak(version);
        wire
    }

    /// Speaks the given version of the protocol from then on.
    pub fn speak(&mut self, version: u8) {
        let hello = [b"HELLO".to_vec(), version.to_string().into_bytes()].to_vec();
        let greeting = self.pipeline(&[hello]);
        assert!(matches!(greeting[0], Reply::List(..)), "HELLO gave {greeting:?}");
    }

    /// Says all commands, then reads all replies. They have to fit the sockets' buffers.
    pub fn pipeline(&mut self, commands: &[Words]) -> Vec<Reply> {
        let mut bytes = Vec::new();
        for words in commands {
            put_command(&mut bytes, words);
        }
        let mut sender = self.replies.get_mut().try_clone().expect("a socket can be cloned");
        std::thread::scope(|scope| {
            scope.spawn(move || sender.write_all(&bytes).expect("the server reads"));
            commands
                .iter()
                .enumerate()
                .map(|(index, words)| {
                    let reply = self.reply();
                    reply.unwrap_or_else(|| {
                        let before = index.checked_sub(1).map(|before| Shown(&commands[before]));
                        let (server, words) = (self.server, Shown(words));
                        panic!("{server} gave no reply to {words:?}, behind {before:?}")
                    })
                })
                .collect()
        })
    }

    /// Says a command, and gives everything that comes for it, however much that is.
    pub fn all_to(&mut self, words: &Words) -> Vec<Reply> {
        self.all_after(std::slice::from_ref(words))
    }

    /// Everything that has come without being asked for.
    pub fn all_until_now(&mut self) -> Vec<Reply> {
        self.all_after(&[])
    }

    /// Says commands with a `PING` behind them, which is answered whatever the connection subscribes to, and gives
    /// everything before its answer.
    fn all_after(&mut self, commands: &[Words]) -> Vec<Reply> {
        const MARK: &[u8] = b"the mark behind all that comes";
        let ping = [b"PING".to_vec(), MARK.to_vec()].to_vec();
        let mut bytes = Vec::new();
        for words in commands.iter().chain([&ping]) {
            put_command(&mut bytes, words);
        }
        self.replies.get_mut().write_all(&bytes).expect("the server reads");
        let mut replies = Vec::new();
        loop {
            let reply = self
                .reply()
                .unwrap_or_else(|| panic!("{} gave nothing more behind {replies:?}", self.server));
            let is_mark = |reply: &Reply| matches!(reply, Reply::Bulk(_, text) if text == MARK);
            match &reply {
                Reply::List(_, parts) if parts.last().is_some_and(is_mark) => return replies,
                reply if is_mark(reply) => return replies,
                _ => replies.push(reply),
            }
        }
    }

    /// The next reply; none where the connection ends, or nothing comes in time.
    fn reply(&mut self) -> Option<Reply> {
        match self.replies.receive() {
            Ok(reply) => Some(Reply::of(&reply.value())),
            Err(ReadError::Io(_)) => None,
            Err(error) => panic!("{} gave something else: {error}", self.server),
        }
    }
}

/// Adds a command as RESP has it.
fn put_command(bytes: &mut Vec<u8>, words: &Words) {
    bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
}
