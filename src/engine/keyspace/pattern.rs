//! Redis's glob patterns over keys and fields: `*`, `?`, `[a-z]`, `[^a]`, `\` before a literal. Case counts.
//!
//! Takes time in proportion to pattern × text at worst: a star goes back only to itself.

/// A pattern.
#[derive(Clone, Copy, Debug)]
pub struct Pattern<'a> {
    pattern: &'a [u8],
}

impl<'a> Pattern<'a> {
    /// As a client wrote it.
    pub const fn new(pattern: &'a [u8]) -> Self {
        Self { pattern }
    }

    /// Whether it matches all of `text`.
    pub fn matches(self, text: &[u8]) -> bool {
        if text.is_empty() {
            // More than one star is too much for it, in Redis.
            return matches!(self.pattern, b"" | b"*");
        }
        let (mut rest, mut at) = (self.pattern, 0);
        // The pattern behind the latest star, and from where in the text it is tried.
        let mut star: Option<(&[u8], usize)> = None;
        loop {
            if let [b'*', after @ ..] = rest {
                if after.is_empty() {
                    return true;
                }
                star = Some((after, at));
                rest = after;
                continue;
            }
            if at == text.len() && rest.is_empty() {
                return true;
            }
            if let Some(after) = text.get(at).and_then(|&byte| one(rest, byte)) {
                rest = after;
                at += 1;
                continue;
            }
            match star {
                Some((after, from)) if from < text.len() => {
                    star = Some((after, from + 1));
                    (rest, at) = (after, from + 1);
                }
                _ => return false,
            }
        }
    }
}

/// The pattern behind its first element, where that matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => in_class(class, byte),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte).then_some(after),
    }
}

/// The pattern behind a class that `byte` is in. A class that does not end, ends with the pattern, as in Redis.
fn in_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        match rest {
            [] => break,
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                rest = after;
            }
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [first, b'-', last, after @ ..] => {
                found |= (*first.min(last)..=*first.max(last)).contains(&byte);
                rest = after;
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                rest = after;
            }
        }
    }
    (found != negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "", false),
            ("**", "a", true),
            ("*", "anything", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("h?llo", "hello", true),
            ("h?llo", "Hello", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[", "x", false),
            ("[a", "a", true),
            ("[\\]]", "]", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(
                Pattern::new(pattern.as_bytes()).matches(text.as_bytes()),
                matches,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = b"*a".repeat(1000);
        assert!(!Pattern::new(&pattern).matches(&b"a".repeat(999)));
        assert!(!Pattern::new(b"a*a*a*a*a*a*a*a*a*b").matches(&b"a".repeat(10_000)));
    }
}
