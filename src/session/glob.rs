//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^a]`, `\` before a literal.
//!
//! Called by the commands that filter by a pattern: over names of settings and commands without regard to case, over
//! channels to the letter. Takes time in proportion to pattern × name at worst, whatever the
//! pattern: a star goes back only to itself.

/// Whether `pattern` matches all of `name`, in any case.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    matches_in::<false>(pattern, name)
}

/// Whether `pattern` matches all of `name`, to the letter.
pub(super) fn matches_exactly(pattern: &[u8], name: &[u8]) -> bool {
    matches_in::<true>(pattern, name)
}

fn matches_in<const EXACT: bool>(pattern: &[u8], name: &[u8]) -> bool {
    if name.is_empty() {
        // Not even a star matches it, in Redis.
        return pattern.is_empty();
    }
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
        if let Some(after) = name.get(at).and_then(|&byte| one::<EXACT>(rest, byte)) {
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

const fn folded<const EXACT: bool>(byte: u8) -> u8 {
    if EXACT { byte } else { byte.to_ascii_lowercase() }
}

/// The pattern behind its first element, where that matches `byte`.
fn one<const EXACT: bool>(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let same = |literal: u8| folded::<EXACT>(literal) == folded::<EXACT>(byte);
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => one_of::<EXACT>(class, folded::<EXACT>(byte)),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => same(*literal).then_some(after),
    }
}

fn one_of<const EXACT: bool>(class: &[u8], byte: u8) -> Option<&[u8]> {
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
                found |= folded::<EXACT>(*literal) == byte;
                after
            }
            [first, b'-', last, after @ ..] => {
                let (first, last) = (folded::<EXACT>(*first), folded::<EXACT>(*last));
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= folded::<EXACT>(*literal) == byte;
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
            ("", ""),
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
            ("*", ""),
            ("s*x", "save"),
            ("[^s]ave", "save"),
            ("?", ""),
            ("\\*", "x"),
        ] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn case_counts_where_it_should() {
        assert!(matches_exactly(b"News.[A-C]*", b"News.Beta"));
        for pattern in [&b"news.*"[..], b"News.[a-c]*"] {
            assert!(matches(pattern, b"News.Beta") && !matches_exactly(pattern, b"News.Beta"));
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_pattern_times_name() {
        let pattern = b"*a".repeat(2000);
        assert!(!matches(&pattern, &b"a".repeat(1999)));
    }
}
