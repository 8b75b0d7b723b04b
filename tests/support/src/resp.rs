//! A tiny RESP client: enough to say a command and read any reply of either version.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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
    stream: BufReader<TcpStream>,
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
            stream: BufReader::new(stream),
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
        match self.stream.read(&mut byte) {
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
        self.stream
            .get_ref()
            .local_addr()
            .expect("a connected socket has an address")
            .to_string()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server reads");
    }

    /// Says a command, and waits for its reply.
    pub fn call(&mut self, words: &[&str]) -> Value {
        self.send(&Self::encode(words));
        self.receive()
    }

    /// The next reply.
    pub fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a reply comes in time");
        let line = line.trim_end_matches("\r\n");
        assert!(!line.is_empty(), "the server closed the connection");
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().unwrap_or_else(|_| panic!("{line:?} has no number"));
        match kind {
            "+" | "," => Value::Text(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(number()),
            "_" => Value::Null,
            "$" => self.bulk(number()),
            "*" | "%" if number() < 0 => Value::Null,
            "#" => Value::Integer(i64::from(rest == "t")),
            "=" => match self.bulk(number()) {
                Value::Text(text) => Value::Text(text[4..].to_owned()),
                other => other,
            },
            "*" | "~" | ">" => Value::Array((0..number()).map(|_| self.receive()).collect()),
            "%" => Value::Array((0..2 * number()).map(|_| self.receive()).collect()),
            _ => panic!("{line:?} is no reply"),
        }
    }

    fn bulk(&mut self, length: i64) -> Value {
        if length < 0 {
            return Value::Null;
        }
        let mut bytes = vec![0; length as usize + 2];
        self.stream.read_exact(&mut bytes).expect("a bulk string comes whole");
        bytes.truncate(length as usize);
        Value::Text(String::from_utf8(bytes).expect("the shop's texts are UTF-8"))
    }
}
