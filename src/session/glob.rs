//! Redis's glob patterns over names, without regard to case: `*`, `?`, `[a-z]`, `[^a]`, `\` before a literal.
//!
//! Called by the commands that filter by a pattern. Takes time in proportion to pattern × name at worst, whatever the
//! pattern: a star goes back only to itself.

/// Whether `pattern` matches all of `name`.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut rest, mut at) = (pattern, 0);
    // The pattern behind the latest star, and from where in the name it is tried.
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            star = Some((after, at));
            rest = after;
            continue;
        }
        if at == name.len() && rest.is_empty() {
            return true;
        }
        if let Some(after) = name.get(at).and_then(|&byte| one(rest, byte)) {
            rest = after;
            at += 1;
            continue;
        }
        match star {
            Some((after, from)) if from < name.len() => {
                star = Some((after, from + 1));
                (rest, at) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// The pattern behind its first element, where that matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let same = |literal: u8| literal.eq_ignore_ascii_case(&byte);
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => one_of(class, byte.to_ascii_lowercase()),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => same(*literal).then_some(after),
    }
}

fn one_of(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut class) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        class = match class {
            [] => return (found != negated).then_some(class),
            [b']', after @ ..] => return (found != negated).then_some(after),
            [b'\\', literal, after @ ..] => {
                found |= literal.to_ascii_lowercase() == byte;
                after
            }
            [first, b'-', last, after @ ..] => {
                let (first, last) = (first.to_ascii_lowercase(), last.to_ascii_lowercase());
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= literal.to_ascii_lowercase() == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, name) in [
            ("*", ""),
            ("save", "SAVE"),
            ("s*e", "save"),
            ("*a*b", "aab"),
            ("s?ve", "save"),
            ("[r-t]ave", "save"),
            ("[^a]ave", "save"),
            ("\\*", "*"),
            ("max*y*", "maxmemory-policy"),
        ] {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("a", ""),
            ("s*x", "save"),
            ("[^s]ave", "save"),
            ("?", ""),
            ("\\*", "x"),
        ] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_pattern_times_name() {
        let pattern = b"*a".repeat(2000);
        assert!(!matches(&pattern, &b"a".repeat(1999)));
    }
}
