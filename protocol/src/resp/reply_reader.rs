//! Replies from a socket, or whatever else gives bytes: reads until one is whole.
//!
//! Called by blocking clients: tools and tests. Never writes.

use std::io::{self, ErrorKind, Read};

use super::reply::{Reply, ReplyError, ReplyParser};

/// Bytes asked for at a time.
const READ_BYTES: usize = 16 << 10;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed, or nothing came in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something else came.
    #[error("what came is no RESP: {error}: {said:?}")]
    NoReply {
        /// What is wrong with it.
        error: ReplyError,
        /// Its first bytes.
        said: String,
    },
}

/// Reads replies.
#[derive(Debug)]
pub struct ReplyReader<R> {
    stream: R,
    parser: ReplyParser,
    bytes: Vec<u8>,
    /// Where the next reply begins.
    start: usize,
}

impl<R: Read> ReplyReader<R> {
    /// From `stream`, whose strings have so many bytes at most.
    pub const fn new(stream: R, bulk_bytes_max: usize) -> Self {
        Self {
            stream,
            parser: ReplyParser::new(bulk_bytes_max),
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// What it reads from.
    pub const fn get_ref(&self) -> &R {
        &self.stream
    }

    /// The same, to be written to, where it can be.
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// The next reply; `UnexpectedEof` where the stream ends instead.
    pub fn receive(&mut self) -> Result<Reply<'_>, ReadError> {
        let length = loop {
            match self.parser.parse(&self.bytes[self.start..]) {
                Ok(Some(reply)) => break reply.len(),
                Ok(None) => self.read()?,
                Err(error) => {
                    let said = &self.bytes[self.start..];
                    let said = String::from_utf8_lossy(&said[..said.len().min(60)]).into_owned();
                    return Err(ReadError::NoReply { error, said });
                }
            }
        };
        let reply = &self.bytes[self.start..self.start + length];
        self.start += length;
        Ok(Reply::of_whole(reply))
    }

    fn read(&mut self) -> io::Result<()> {
        self.bytes.drain(..std::mem::take(&mut self.start));
        let before = self.bytes.len();
        self.bytes.resize(before + READ_BYTES, 0);
        let read = self.stream.read(&mut self.bytes[before..]);
        self.bytes.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::{Scalar, Token};
    use super::*;

    /// Gives one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(1);
            self.0.read(&mut bytes[..length])
        }
    }

    #[test]
    fn replies_come_whole_however_their_bytes_come() {
        let text = b"+OK\r\n$3\r\nabc\r\n*2\r\n:1\r\n_\r\n";
        let mut reader = ReplyReader::new(Slow(text), 10);
        let mut first = || reader.receive().map(|reply| format!("{:?}", reply.tokens().next()));
        assert_eq!(
            first().unwrap(),
            format!("{:?}", Some(Token::One(Scalar::Simple(b"OK"))))
        );
        assert_eq!(
            first().unwrap(),
            format!("{:?}", Some(Token::One(Scalar::Bulk(b"abc"))))
        );
        assert!(first().unwrap().contains("Array"));
        let end = reader.receive().unwrap_err();
        assert!(
            matches!(&end, ReadError::Io(error) if error.kind() == ErrorKind::UnexpectedEof),
            "{end}"
        );
    }

    #[test]
    fn what_is_no_reply_is_shown() {
        let error = ReplyReader::new(&b"HTTP/1.1 400 Bad Request\r\n"[..], 10)
            .receive()
            .unwrap_err();
        assert!(error.to_string().contains("HTTP/1.1 400"), "{error}");
    }
}
