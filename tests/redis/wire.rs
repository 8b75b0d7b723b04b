//! A connection that keeps every reply as it came: types, texts and bytes of either protocol.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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
    stream: BufReader<TcpStream>,
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
            stream: BufReader::new(stream),
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
        let mut sender = self.stream.get_ref().try_clone().expect("a socket can be cloned");
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
        self.stream.get_mut().write_all(&bytes).expect("the server reads");
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
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).ok()?;
        if !line.ends_with(b"\r\n") {
            return None;
        }
        line.truncate(line.len() - 2);
        let kind = line.remove(0);
        let count = || {
            let text = std::str::from_utf8(&line)
                .ok()
                .and_then(|text| text.parse::<i64>().ok());
            text.unwrap_or_else(|| panic!("{:?} is no count", line.escape_ascii().to_string()))
        };
        Some(match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => Reply::Line(kind, line),
            b'$' | b'*' if count() < 0 => Reply::Null(kind),
            b'$' | b'=' => {
                let mut bytes = vec![0; count() as usize + 2];
                self.stream.read_exact(&mut bytes).expect("a bulk string comes whole");
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(kind, bytes)
            }
            b'*' | b'~' | b'>' => Reply::List(kind, (0..count()).map(|_| self.reply()).collect::<Option<_>>()?),
            b'%' => Reply::List(kind, (0..2 * count()).map(|_| self.reply()).collect::<Option<_>>()?),
            _ => panic!("{:?} begins no reply", kind as char),
        })
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
