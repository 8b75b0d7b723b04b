//! The reply writer: RESP values appended to a buffer, in version 2 or 3.
//!
//! Called by sessions. What version 2 lacks (maps, sets, doubles, booleans, pushes) it writes as Redis does there.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// Which RESP a connection speaks; `HELLO` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RespVersion {
    /// Version 2.
    #[default]
    Two = 2,
    /// Version 3.
    Three = 3,
}

/// Appends values to a buffer. Aggregates are a header with a count, then as many values.
#[derive(Debug)]
pub struct Writer<'a> {
    output: &'a mut Vec<u8>,
    version: RespVersion,
}

/// A client's bytes within an error's text: up to the first zero, as Redis shows them, and what is no text as U+FFFD.
pub fn shown(bytes: &[u8]) -> Cow<'_, str> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
}

/// Digits of the largest `u64`.
const DIGITS_MAX: usize = 20;

impl<'a> Writer<'a> {
    /// A writer that appends to `output`.
    pub const fn new(output: &'a mut Vec<u8>, version: RespVersion) -> Self {
        Self { output, version }
    }

    /// The version it writes.
    pub const fn version(&self) -> RespVersion {
        self.version
    }

    /// `+text`; `text` is a word of the protocol, without line ends.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
        self.output.push(b'+');
        self.output.extend_from_slice(text.as_bytes());
        self.end();
    }

    /// `-text`, its code first; line ends, which would end it, become spaces.
    pub fn error(&mut self, text: impl Display) {
        struct OneLine<'a>(&'a mut Vec<u8>);
        impl std::fmt::Write for OneLine<'_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.extend(
                    text.bytes()
                        .map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }),
                );
                Ok(())
            }
        }
        self.output.push(b'-');
        write!(OneLine(self.output), "{text}").expect("appending to a vector cannot fail");
        self.end();
    }

    /// `:integer`.
    pub fn integer(&mut self, integer: i64) {
        self.output.push(b':');
        if integer < 0 {
            self.output.push(b'-');
        }
        self.digits(integer.unsigned_abs());
        self.end();
    }

    /// `:integer` of an unsigned count; saturates at the largest that RESP can say.
    pub fn count(&mut self, count: u64) {
        self.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.output.extend_from_slice(bytes);
        self.end();
    }

    /// The beginning of a bulk string of so many bytes, which are to follow, and then [`Writer::bulk_end`].
    pub fn bulk_begin(&mut self, length: usize) {
        self.header(b'$', length);
    }

    /// The end of a bulk string.
    pub fn bulk_end(&mut self) {
        self.end();
    }

    /// A bulk string of text.
    pub fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// Text whose format is told in version 3 (`=15\r\ntxt:Some string`), as `INFO` answers; a bulk string in 2.
    pub fn verbatim(&mut self, text: &str) {
        match self.version {
            RespVersion::Two => self.text(text),
            RespVersion::Three => {
                self.header(b'=', text.len() + 4);
                self.output.extend_from_slice(b"txt:");
                self.output.extend_from_slice(text.as_bytes());
                self.end();
            }
        }
    }

    /// No value.
    pub fn null(&mut self) {
        self.output.extend_from_slice(match self.version {
            RespVersion::Two => b"$-1\r\n",
            RespVersion::Three => b"_\r\n",
        });
    }

    /// No array: where version 2 has a null of its own.
    pub fn null_array(&mut self) {
        self.output.extend_from_slice(match self.version {
            RespVersion::Two => b"*-1\r\n",
            RespVersion::Three => b"_\r\n",
        });
    }

    /// The header of an array of `length` values.
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// The header of a map of `pairs` keys and values; in version 2 a flat array.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            RespVersion::Two => self.header(b'*', pairs * 2),
            RespVersion::Three => self.header(b'%', pairs),
        }
    }

    /// The header of a set of `length` values; in version 2 an array.
    pub fn set(&mut self, length: usize) {
        match self.version {
            RespVersion::Two => self.header(b'*', length),
            RespVersion::Three => self.header(b'~', length),
        }
    }

    /// The header of a push of `length` values, which answers no request; in version 2 an array.
    pub fn push(&mut self, length: usize) {
        match self.version {
            RespVersion::Two => self.header(b'*', length),
            RespVersion::Three => self.header(b'>', length),
        }
    }

    /// A boolean; in version 2 the integer 0 or 1.
    pub fn boolean(&mut self, value: bool) {
        self.output.extend_from_slice(match (self.version, value) {
            (RespVersion::Two, false) => b":0\r\n",
            (RespVersion::Two, true) => b":1\r\n",
            (RespVersion::Three, false) => b"#f\r\n",
            (RespVersion::Three, true) => b"#t\r\n",
        });
    }

    /// A double, in the shortest form that reads back the same; in version 2 a bulk string.
    pub fn double(&mut self, value: f64) {
        let text = if value.is_nan() {
            "nan".to_owned()
        } else if value.is_infinite() {
            (if value > 0.0 { "inf" } else { "-inf" }).to_owned()
        } else {
            value.to_string()
        };
        match self.version {
            RespVersion::Two => self.text(&text),
            RespVersion::Three => {
                self.output.push(b',');
                self.output.extend_from_slice(text.as_bytes());
                self.end();
            }
        }
    }

    fn header(&mut self, kind: u8, length: usize) {
        self.output.push(kind);
        self.digits(length as u64);
        self.end();
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0; DIGITS_MAX];
        let mut first = DIGITS_MAX;
        loop {
            first -= 1;
            digits[first] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.output.extend_from_slice(&digits[first..]);
    }

    fn end(&mut self) {
        self.output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: RespVersion, write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut output = Vec::new();
        write(&mut Writer::new(&mut output, version));
        String::from_utf8(output).expect("the test writes text")
    }

    #[test]
    fn values_have_their_form_in_both_versions() {
        fn both(write: impl Fn(&mut Writer<'_>)) -> (String, String) {
            (written(RespVersion::Two, &write), written(RespVersion::Three, &write))
        }
        let pair = |two: &str, three: &str| (two.to_owned(), three.to_owned());
        assert_eq!(both(|w| w.simple("OK")), pair("+OK\r\n", "+OK\r\n"));
        assert_eq!(
            both(|w| w.integer(i64::MIN)),
            pair(":-9223372036854775808\r\n", ":-9223372036854775808\r\n")
        );
        assert_eq!(both(|w| w.integer(0)), pair(":0\r\n", ":0\r\n"));
        assert_eq!(
            both(|w| w.count(u64::MAX)),
            pair(":9223372036854775807\r\n", ":9223372036854775807\r\n")
        );
        assert_eq!(both(|w| w.text("Räder")), pair("$6\r\nRäder\r\n", "$6\r\nRäder\r\n"));
        assert_eq!(
            both(|w| w.verbatim("Some string")),
            pair("$11\r\nSome string\r\n", "=15\r\ntxt:Some string\r\n")
        );
        assert_eq!(
            both(|w| {
                w.null();
            }),
            pair("$-1\r\n", "_\r\n")
        );
        assert_eq!(
            both(|w| {
                w.null_array();
            }),
            pair("*-1\r\n", "_\r\n")
        );
        assert_eq!(both(|w| w.array(10)), pair("*10\r\n", "*10\r\n"));
        assert_eq!(both(|w| w.map(2)), pair("*4\r\n", "%2\r\n"));
        assert_eq!(both(|w| w.set(2)), pair("*2\r\n", "~2\r\n"));
        assert_eq!(both(|w| w.push(2)), pair("*2\r\n", ">2\r\n"));
        assert_eq!(both(|w| w.boolean(true)), pair(":1\r\n", "#t\r\n"));
        assert_eq!(both(|w| w.double(1.5)), pair("$3\r\n1.5\r\n", ",1.5\r\n"));
        assert_eq!(
            both(|w| w.double(f64::NEG_INFINITY)),
            pair("$4\r\n-inf\r\n", ",-inf\r\n")
        );
    }

    #[test]
    fn an_error_cannot_smuggle_in_a_second_reply() {
        assert_eq!(
            written(RespVersion::Two, |w| w.error("ERR no\r\n+OK")),
            "-ERR no  +OK\r\n"
        );
    }
}
