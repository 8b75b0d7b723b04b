//! A tiny RESP client: enough to say a command and read any reply of either version.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cartwright_protocol::resp::{self, ParserLimits, ReplyReader, Scalar};

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A status or a bulk string.
    Text(String),
    /// A refusal, with its code.
    Error(String),
    /// A number.
    Integer(i64),
    /// Nothing, in either version's form.
    Null,
    /// An array; a RESP3 map is the array of its pairs.
    Array(Vec<Value>),
}

impl Value {
    fn of(value: &resp::Value<'_>) -> Self {
        let owned = |text: &[u8]| String::from_utf8(text.to_vec()).expect("the shop's texts are UTF-8");
        match value {
            resp::Value::Many(_, values) => Self::Array(values.iter().map(Self::of).collect()),
            resp::Value::One(Scalar::Error(text)) => Self::Error(owned(text)),
            resp::Value::One(Scalar::Integer(integer)) => Self::Integer(*integer),
            resp::Value::One(Scalar::Boolean(value)) => Self::Integer(i64::from(*value)),
            resp::Value::One(scalar) => scalar.text().map_or(Self::Null, |text| Self::Text(owned(text))),
        }
    }

    /// The value after this name, in the array of pairs that a map is.
    pub fn field(&self, name: &str) -> &Self {
        let Self::Array(pairs) = self else {
            panic!("{self:?} is no map")
        };
        let of_name = |pair: &&[Self]| pair[0] == Self::Text(name.to_owned());
        let pair = pairs
            .chunks(2)
            .find(of_name)
            .unwrap_or_else(|| panic!("{self:?} has no {name}"));
        &pair[1]
    }
}

/// A bulk or simple string.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// `OK`.
pub fn ok() -> Value {
    text("OK")
}

/// An array of strings.
pub fn texts(words: &[&str]) -> Value {
    Value::Array(words.iter().map(|word| text(word)).collect())
}

/// A connection.
pub struct Resp {
    replies: ReplyReader<TcpStream>,
}

impl Resp {
    /// Connects to a server on this machine.
    pub fn connect(port: u16) -> Self {
        Self::connect_to(&format!("127.0.0.1:{port}"))
    }

    /// Connects to a server at an address.
    pub fn connect_to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a socket takes a timeout");
        Self {
            replies: ReplyReader::new(stream, ParserLimits::REDIS.bulk_bytes_max),
        }
    }

    /// A command in RESP.
    pub fn encode(words: &[&str]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
        bytes
    }

    /// Says commands without waiting for replies between them, and gives all replies.
    pub fn pipeline(&mut self, commands: &[&[&str]]) -> Vec<Value> {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| Self::encode(words)).collect();
        self.send(&bytes);
        commands.iter().map(|_| self.receive()).collect()
    }

    /// Whether the server closes the connection, and says nothing before.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.replies.get_mut().read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
            ),
        }
    }

    /// The client's address, as the server sees it.
    pub fn local_address(&self) -> String {
        self.replies
            .get_ref()
            .local_addr()
            .expect("a connected socket has an address")
            .to_string()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.replies.get_mut().write_all(bytes).expect("the server reads");
    }

    /// Says a command, and waits for its reply.
    pub fn call(&mut self, words: &[&str]) -> Value {
        self.send(&Self::encode(words));
        self.receive()
    }

    /// The next reply.
    pub fn receive(&mut self) -> Value {
        match self.replies.receive() {
            Ok(reply) => Value::of(&reply.value()),
            Err(error) => panic!("no reply came in time: {error}"),
        }
    }
}
