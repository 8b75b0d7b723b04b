//! A small blocking RESP client: what a benchmark asks a server before and after a run.
//!
//! One request at a time, or many and then their answers. Never used while anything is measured.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use cartwright_protocol::resp::{self, ReadError, ReplyReader, Scalar};

use crate::address::Address;

use super::connection::CONNECT_TIMEOUT;

/// How long an answer may take.
const REPLY_TIMEOUT: Duration = Duration::from_mins(1);

/// How many requests are sent before their answers are read.
const BATCH: usize = 256;

/// Longest bulk string that is taken, in bytes.
const BULK_BYTES_MAX: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Nobody listens there.
    #[error("cannot connect to {address}: {source}; start a server there, or give --host and --port")]
    Connect {
        /// Where.
        address: Address,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection failed.
    #[error("{doing} {address} failed: {source}")]
    Io {
        /// Where.
        address: Address,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// No RESP.
    #[error("what answers at {address} speaks no RESP: it said {said:?}")]
    NoResp {
        /// Where.
        address: Address,
        /// What it said.
        said: String,
    },
    /// It refuses.
    #[error("the server at {address} refuses {command}: {said}")]
    Refused {
        /// Where.
        address: Address,
        /// What.
        command: String,
        /// What it said.
        said: String,
    },
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `+` or a bulk string.
    Text(String),
    /// `:`.
    Integer(i64),
    /// Nothing.
    Null,
    /// `*`.
    Array(Vec<Self>),
    /// `-`.
    Error(String),
}

impl Value {
    fn of(value: &resp::Value<'_>) -> Self {
        let owned = |text| String::from_utf8_lossy(text).into_owned();
        match value {
            resp::Value::Many(_, values) => Self::Array(values.iter().map(Self::of).collect()),
            resp::Value::One(Scalar::Error(text)) => Self::Error(owned(text)),
            resp::Value::One(Scalar::Integer(integer)) => Self::Integer(*integer),
            resp::Value::One(Scalar::Boolean(value)) => Self::Integer(i64::from(*value)),
            resp::Value::One(scalar) => scalar.text().map_or(Self::Null, |text| Self::Text(owned(text))),
        }
    }

    /// The text, or nothing where it is none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// See above.
#[derive(Debug)]
pub struct RedisClient {
    address: Address,
    replies: ReplyReader<TcpStream>,
}

impl RedisClient {
    /// Connects.
    pub fn connect(address: &Address) -> Result<Self, RedisError> {
        let failed = |source| RedisError::Connect {
            address: address.clone(),
            source,
        };
        let resolved = address.resolve().map_err(failed)?;
        let stream = TcpStream::connect_timeout(&resolved, CONNECT_TIMEOUT).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(failed)?;
        Ok(Self {
            address: address.clone(),
            replies: ReplyReader::new(stream, BULK_BYTES_MAX),
        })
    }

    /// Asks, and waits for the answer; a refusal is an error.
    pub fn call(&mut self, words: &[&str]) -> Result<Value, RedisError> {
        match self.ask(words)? {
            Value::Error(said) => Err(self.refused(words[0], said)),
            value => Ok(value),
        }
    }

    /// Asks, and waits for the answer; a refusal is one.
    pub fn ask(&mut self, words: &[&str]) -> Result<Value, RedisError> {
        self.send(&command(words))?;
        self.receive()
    }

    /// Asks all of these, many at a time; a refusal of any is an error.
    pub fn call_all(&mut self, commands: impl Iterator<Item = Vec<String>>) -> Result<Vec<Value>, RedisError> {
        let mut values = Vec::new();
        let mut commands = commands.peekable();
        while commands.peek().is_some() {
            let mut bytes = Vec::new();
            let mut names = Vec::new();
            for words in commands.by_ref().take(BATCH) {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                bytes.extend_from_slice(&command(&words));
                names.push(words[0].to_owned());
            }
            self.send(&bytes)?;
            for name in names {
                match self.receive()? {
                    Value::Error(said) => return Err(self.refused(&name, said)),
                    value => values.push(value),
                }
            }
        }
        Ok(values)
    }

    fn refused(&self, command: &str, said: String) -> RedisError {
        RedisError::Refused {
            address: self.address.clone(),
            command: command.to_owned(),
            said,
        }
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> RedisError {
        RedisError::Io {
            address: self.address.clone(),
            doing,
            source,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), RedisError> {
        let sent = self.replies.get_mut().write_all(bytes);
        sent.map_err(|source| self.io("sending to", source))
    }

    fn receive(&mut self) -> Result<Value, RedisError> {
        match self.replies.receive() {
            Ok(reply) => Ok(Value::of(&reply.value())),
            Err(ReadError::NoReply { said, .. }) => Err(RedisError::NoResp {
                address: self.address.clone(),
                said,
            }),
            Err(ReadError::Io(source)) => Err(self.io("receiving from", source)),
        }
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}
