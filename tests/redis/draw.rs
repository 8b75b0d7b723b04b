//! Commands from a seed: forms with their arguments drawn, and some of them spoilt.
//!
//! Nothing drawn goes with the clock: a key expires at once or not before the comparison is over.

use cartwright_tools::random::Random;

use super::forms::{ENDS, KEYSPACE, OTHERS, PUBLISHER, SUBSCRIBER, TRANSACTIONS};
use super::wire::Words;

/// Stands for the payload that the server itself gave to an earlier `DUMP`.
pub const DUMP: &[u8] = b"the payload of a DUMP";

/// Arguments that programs get wrong. None is a number of seconds that pass while the test runs.
const EDGES: &[&[u8]] = &[
    b"",
    b"-1",
    b"0",
    b"-0",
    b"+1",
    b" 1",
    b"1 ",
    b"01",
    b"0x10",
    b"3.0",
    b"abc",
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"18446744073709551615",
    b"-9223372036854775809",
    b"99999999999999999999999999",
    b"\xff\0\r\n",
    b"XX",
    b"*",
];

const VALUES: &[&[u8]] = &[
    b"",
    b"a",
    b"10",
    b"-7",
    b"0",
    b"3.25",
    b"hello",
    b"ohmytext",
    b"mynewtext",
    b"\0\xff\x80\r\n",
    b"\xff\xff\xff",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e2",
    b" 5",
    b"007",
    b"3.0",
    b"inf",
    b"a value of more than forty-four bytes, which Redis keeps in another way",
];

const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "7",
    "-7",
    "100",
    "255",
    "-128",
    "65536",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775807",
    "4611686018427387904",
];

const FLOATS: &[&str] = &[
    "0",
    "1",
    "0.1",
    "-0.1",
    "3.0e3",
    "1.5",
    "-2.75",
    "1e-5",
    "1e17",
    "100",
    "0.30000000000000004",
    "5e-324",
    "nan",
    "inf",
    "-inf",
    "3.",
    ".5",
    "+2",
];

/// Numbers that each server has its own range or its own digits for.
const LARGE_FLOATS: &[&str] = &["1e300", "1e400", "-1e400", "0x1p3", "12345678901234567890.5"];

const CHANNELS: &[&str] = &["news", "news.one", "news.two", "n", "", "other"];

const CHANNEL_PATTERNS: &[&str] = &["*", "n*", "news.*", "news.[ot]*", "?", "other", "", "nope\\*"];

const TYPES: &[&str] = &[
    "u1", "u8", "i8", "u16", "i5", "i32", "u63", "i64", "u64", "i0", "i65", "x8", "u", "8",
];

const PATTERNS: &[&str] = &[
    "*", "s*", "?1", "[sh]2", "[^s]*", "s[0-3]", "nope", "", "h\\1", "s[3-0]", "**", "f*",
];

/// Draws commands.
pub struct Draw {
    random: Random,
    /// Of RESP, which the connection speaks.
    version: u8,
    in_transaction: bool,
}

impl Draw {
    /// The same commands for the same seed.
    pub fn new(seed: u64, version: u8) -> Self {
        Self {
            random: Random::new(seed),
            version,
            in_transaction: false,
        }
    }

    /// So many commands. They leave no transaction open, and the connection with its version of RESP, or ended.
    pub fn commands(&mut self, count: usize) -> Vec<Words> {
        let mut commands: Vec<_> = (2..count).map(|_| self.command()).collect();
        commands.push(vec![b"EXEC".to_vec()]);
        self.in_transaction = false;
        if self.random.index(4) == 0 {
            let end = self.random.pick(ENDS);
            commands.push(self.words(end));
            if *end != "!QUIT" {
                commands.push(self.words("HELLO version"));
            }
        }
        commands
    }

    /// A command of one who subscribes.
    pub fn subscriber_command(&mut self) -> Words {
        let form = self.random.pick(SUBSCRIBER);
        self.words(form)
    }

    /// A command of one who publishes.
    pub fn publisher_command(&mut self) -> Words {
        let form = self.random.pick(PUBLISHER);
        self.words(form)
    }

    /// Whether something happens that does once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.random.index(times) == 0
    }

    fn command(&mut self) -> Words {
        let others_percent = if self.in_transaction { 1 } else { 6 };
        let form = match self.random.index(100) {
            0..6 => self.random.pick(TRANSACTIONS),
            percent if percent < 6 + others_percent => self.random.pick(OTHERS),
            _ => self.random.pick(KEYSPACE),
        };
        match *form {
            "MULTI" => self.in_transaction = true,
            "EXEC" | "DISCARD" => self.in_transaction = false,
            // Each empties the keyspace, which leaves the commands after it little to find.
            form if form.starts_with("FLUSH") && !self.once_in(4) => return self.command(),
            // Each has Redis start a process, or write a file.
            "!SAVE" | "!BGSAVE" | "!BGSAVE SCHEDULE" if !self.once_in(8) => return self.command(),
            _ => (),
        }
        let mut words = self.words(form);
        if !TRANSACTIONS.contains(form) && !form.starts_with('!') {
            self.spoil(&mut words);
        }
        words
    }

    fn words(&mut self, form: &str) -> Words {
        let mut words = Words::new();
        for word in form.trim_start_matches('!').split(' ') {
            let (shapes, count) = match word.strip_suffix('+') {
                Some(shapes) => (shapes, 1 + self.random.index(4)),
                None => (word, 1),
            };
            for _ in 0..count {
                words.extend(shapes.split(',').map(|shape| self.word(shape)));
            }
        }
        words
    }

    fn word(&mut self, shape: &str) -> Vec<u8> {
        let random = &mut self.random;
        let text = match shape {
            // Keys of strings and hashes, and now and then one of the other: so types are wrong sometimes.
            "k" if random.index(8) > 0 => format!("s{}", random.index(24)),
            "h" if random.index(12) > 0 => format!("h{}", random.index(8)),
            "k" => format!("h{}", random.index(8)),
            "h" => return random.pick(&[&b"s1"[..], b"s2", b"", b"\0\xff"]).to_vec(),
            "fd" => format!("f{}", random.index(12)),
            "v" => return self.value(),
            "i" => (*random.pick(INTEGERS)).to_owned(),
            "f" => (*random.pick(FLOATS)).to_owned(),
            "large" => (*random.pick(LARGE_FLOATS)).to_owned(),
            "c" => (*random.pick(CHANNELS)).to_owned(),
            "cp" => (*random.pick(CHANNEL_PATTERNS)).to_owned(),
            "long" => "x".repeat(1_000 + random.index(50)),
            "label" => format!("name-{}", random.index(9)),
            "version" => self.version.to_string(),
            "dump" => return DUMP.to_vec(),
            "o" => (random.index(60) as i64 - 30).to_string(),
            "n" => random.index(9).to_string(),
            "#n" => format!("#{}", random.index(9)),
            "bo" => random.index(400).to_string(),
            "bit" => random.index(2).to_string(),
            "ty" => (*random.pick(TYPES)).to_owned(),
            "pat" => (*random.pick(PATTERNS)).to_owned(),
            "s" => (10_000 + random.index(1_000_000_000)).to_string(),
            "ms" => (10_000_000 + random.index(1_000_000_000_000)).to_string(),
            "at" | "atms" if random.index(6) == 0 => random.index(1_000_000).to_string(),
            "at" | "later" => (3_000_000_000 + random.index(1_000_000_000)).to_string(),
            "atms" | "laterms" => (3_000_000_000_000 + random.index(1_000_000_000_000)).to_string(),
            literal if random.index(4) == 0 => literal.to_lowercase(),
            literal => literal.to_owned(),
        };
        text.into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.index(40) {
            0 => vec![b'x'; 1 + self.random.index(4_000)],
            1..4 => (0..self.random.index(40)).map(|_| self.random.bits() as u8).collect(),
            _ => self.random.pick(VALUES).to_vec(),
        }
    }

    /// One in ten gets an argument wrong, or one too few or too many.
    fn spoil(&mut self, words: &mut Words) {
        match self.random.index(30) {
            0 if words.len() > 1 => {
                words.pop();
            }
            1 => words.push(self.random.pick(EDGES).to_vec()),
            2 if words.len() > 1 => {
                let at = 1 + self.random.index(words.len() - 1);
                words[at] = self.random.pick(EDGES).to_vec();
            }
            _ => (),
        }
    }
}
