//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^a]`, `\` before a literal.
//!
//! Called by whatever filters by a pattern: keys, fields and channels to the letter, names of settings and commands in
//! any case. Takes time in proportion to pattern × text at worst: a star goes back only to itself.

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

    /// Whether it matches all of `text`, to the letter.
    pub fn matches(self, text: &[u8]) -> bool {
        matches(self.pattern, text, |byte| byte)
    }

    /// Whether it matches all of `text`, in any case.
    pub fn matches_in_any_case(self, text: &[u8]) -> bool {
        matches(self.pattern, text, |byte| byte.to_ascii_lowercase())
    }

    /// Whether it matches a key or a field. A star alone stands for all of them in Redis, so for the empty one, too.
    pub fn matches_key(self, key: &[u8]) -> bool {
        self.pattern == b"*" || self.matches(key)
    }
}

/// Whether `pattern` matches all of `text`; `fold` makes the same of what is to count as the same.
fn matches(pattern: &[u8], text: &[u8], fold: impl Fn(u8) -> u8) -> bool {
    if text.is_empty() {
        // Not even a star matches it, in Redis.
        return pattern.is_empty();
    }
    let (mut rest, mut at) = (pattern, 0);
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
        if let Some(after) = text.get(at).and_then(|&byte| one(rest, byte, &fold)) {
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

/// The pattern behind its first element, where that matches `byte`.
fn one(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => in_class(class, fold(byte), fold),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (fold(*literal) == fold(byte)).then_some(after),
    }
}

/// The pattern behind a class that `byte`, folded, is in. A class that does not end, ends with the pattern, as in Redis.
fn in_class(class: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<&[u8]> {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        match rest {
            [] => break,
            [b'\\', literal, after @ ..] => {
                found |= fold(*literal) == byte;
                rest = after;
            }
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [first, b'-', last, after @ ..] => {
                // Swapped before they are folded, as in Redis.
                let (first, last) = (*first.min(last), *first.max(last));
                found |= (fold(first)..=fold(last)).contains(&byte);
                rest = after;
            }
            [literal, after @ ..] => {
                found |= fold(*literal) == byte;
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
            ("a", "", false),
            ("?", "", false),
            ("*", "", false),
            ("**", "", false),
            ("**", "a", true),
            ("*", "anything", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*a*b", "aab", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*", "a", true),
            ("a?*", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "Hello", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hAllo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("h[a-b]llo", "hBllo", false),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[", "x", false),
            ("[a", "a", true),
            ("[\\]]", "]", true),
            ("a\\", "a\\", true),
        ] {
            let pattern = Pattern::new(pattern.as_bytes());
            assert_eq!(pattern.matches(text.as_bytes()), matches, "{pattern:?} {text}");
        }
    }

    #[test]
    fn case_counts_where_it_should() {
        for (pattern, text, in_any_case, to_the_letter) in [
            ("save", "SAVE", true, false),
            ("max*Y*", "maxmemory-policy", true, false),
            ("\\S[R-T]*", "stop", true, false),
            ("[^s]ave", "Save", false, true),
            ("news.[a-c]*", "News.Beta", true, false),
            ("News.[A-C]*", "News.Beta", true, true),
            ("[Z-a]", "a", false, true),
        ] {
            let (pattern, text) = (Pattern::new(pattern.as_bytes()), text.as_bytes());
            assert_eq!(pattern.matches_in_any_case(text), in_any_case, "{pattern:?}");
            assert_eq!(pattern.matches(text), to_the_letter, "{pattern:?}");
        }
    }

    #[test]
    fn only_a_star_alone_is_every_key() {
        assert!(Pattern::new(b"*").matches_key(b"") && !Pattern::new(b"**").matches_key(b""));
        assert!(Pattern::new(b"k*").matches_key(b"key") && !Pattern::new(b"k*").matches_key(b"x"));
    }

    #[test]
    fn many_stars_cost_no_more_than_pattern_times_text() {
        assert!(!Pattern::new(&b"*a".repeat(2000)).matches(&b"a".repeat(1999)));
        assert!(!Pattern::new(b"a*a*a*a*a*a*a*a*a*b").matches(&b"a".repeat(10_000)));
    }
}
