//! RESP as a client sees it: commands out, replies in.

use cartwright::engine::Answer;
use cartwright_protocol::resp::parse_i64;

use crate::violation;
use crate::violation::Checked;

/// Something that a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The answer to a command.
    Answer(Answer),
    /// Something that was not asked for, or the confirmation of a subscription.
    Push(Vec<Answer>),
}

/// Writes a command.
pub fn encode_command(output: &mut Vec<u8>, words: &[&[u8]]) {
    output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        output.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

/// The value at the start of `bytes`, and its length; `None` where it is not whole.
pub fn parse(bytes: &[u8]) -> Checked<Option<(Value, usize)>> {
    let mut reader = Reader { bytes, at: 0 };
    if bytes.first() == Some(&b'>') {
        let parts = reader.line().map(|count| reader.many(count)).transpose()?.flatten();
        return Ok(parts.map(|parts| (Value::Push(parts), reader.at)));
    }
    Ok(reader.answer()?.map(|answer| (Value::Answer(answer), reader.at)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The rest of the line behind its first byte.
    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        self.at += end + 2;
        Some(&rest[1..end])
    }

    fn many(&mut self, count: &[u8]) -> Checked<Option<Vec<Answer>>> {
        (0..number(count)?).map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> Checked<Option<Answer>> {
        let Some(&kind) = self.bytes.get(self.at) else {
            return Ok(None);
        };
        let Some(line) = self.line() else { return Ok(None) };
        let text = || String::from_utf8_lossy(line).into_owned();
        Ok(Some(match kind {
            b'+' if line == b"OK" => Answer::Ok,
            // What a client is told in a line and in a string is the same to it.
            b'+' => Answer::bulk(line),
            b'-' => Answer::error(&text()),
            b':' => Answer::Integer(number(line)?),
            b'_' => Answer::Nil,
            b'$' | b'*' if line == b"-1" => Answer::Nil,
            b'$' => {
                let length = number(line)? as usize;
                let Some(bytes) = self.bytes.get(self.at..self.at + length + 2) else {
                    return Ok(None);
                };
                self.at += length + 2;
                Answer::bulk(&bytes[..length])
            }
            b'*' => match self.many(line)? {
                Some(answers) => Answer::Array(answers),
                None => return Ok(None),
            },
            b'%' => {
                let Some(parts) = self.many((number(line)? * 2).to_string().as_bytes())? else {
                    return Ok(None);
                };
                Answer::Array(parts)
            }
            _ => return Err(violation!("a reply begins with {:?}", char::from(kind))),
        }))
    }
}

fn number(text: &[u8]) -> Checked<i64> {
    parse_i64(text).ok_or_else(|| violation!("a reply has {} for a number", text.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_once_it_is_whole() {
        let bytes = b"*3\r\n:-5\r\n$2\r\nab\r\n$-1\r\n";
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]).unwrap(), None, "{end}");
        }
        let answers = vec![Answer::Integer(-5), Answer::bulk(b"ab"), Answer::Nil];
        let whole = (Value::Answer(Answer::Array(answers)), bytes.len());
        assert_eq!(parse(bytes).unwrap(), Some(whole));
        let push = parse(b">1\r\n+a\r\n:1\r\n").unwrap();
        assert_eq!(push, Some((Value::Push(vec![Answer::bulk(b"a")]), 8)));
        assert!(parse(b"!\r\n").is_err());
    }
}
