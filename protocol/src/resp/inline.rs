//! Inline commands: a line of words, for people at a terminal. Quoting follows Redis's `sdssplitargs`.
//!
//! Called by the parser with one whole line; words are unescaped into a scratch buffer.

/// The line has a quote that does not end, or something stuck to one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Appends the words of `line` to `scratch`, and the range of each in it to `words`.
pub(super) fn split(line: &[u8], scratch: &mut Vec<u8>, words: &mut Vec<(u32, u32)>) -> Result<(), Unbalanced> {
    let mut rest = line;
    loop {
        while let [first, after @ ..] = rest
            && is_space(*first)
        {
            rest = after;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = scratch.len();
        rest = word(rest, scratch)?;
        words.push((start as u32, scratch.len() as u32));
    }
}

/// C's `isspace`, and NUL, which Redis takes for the end of a word.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0)
}

fn word<'a>(mut rest: &'a [u8], scratch: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Ok(rest),
            [byte, ..] if is_space(*byte) => return Ok(rest),
            [b'"', after @ ..] => return closed(double_quoted(after, scratch)?),
            [b'\'', after @ ..] => return closed(single_quoted(after, scratch)?),
            [byte, after @ ..] => {
                scratch.push(*byte);
                after
            }
        };
    }
}

/// A closing quote ends its word.
fn closed(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest {
        [byte, ..] if !is_space(*byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], scratch: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Err(Unbalanced),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                scratch.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                scratch.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                scratch.push(*byte);
                after
            }
        };
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], scratch: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Err(Unbalanced),
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => {
                scratch.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                scratch.push(*byte);
                after
            }
        };
    }
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let (mut scratch, mut ranges) = (Vec::new(), Vec::new());
        split(line.as_bytes(), &mut scratch, &mut ranges)?;
        Ok(ranges
            .into_iter()
            .map(|(start, end)| scratch[start as usize..end as usize].to_vec())
            .collect())
    }

    #[test]
    fn words_are_split_and_unescaped_as_redis_does() {
        assert_eq!(words("  PING\t x "), Ok(vec![b"PING".to_vec(), b"x".to_vec()]));
        assert_eq!(
            words(r#"a "b c" 'd \' e' """#).unwrap(),
            [&b"a"[..], b"b c", b"d ' e", b""]
        );
        assert_eq!(words(r#""\x41\n\"\q\xzz""#).unwrap(), [b"A\n\"qxzz"]);
        assert_eq!(words(r#"pre"fix""#).unwrap(), [b"prefix"]);
        assert_eq!(words(""), Ok(vec![]));
    }

    #[test]
    fn an_open_or_glued_quote_is_refused() {
        for line in ["\"open", "'open", "\"a\"b", "'a'b", "\"a\\"] {
            assert_eq!(words(line), Err(Unbalanced), "{line}");
        }
    }
}
