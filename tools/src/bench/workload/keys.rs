//! Plain keys over RESP: GET and SET as Redis's own benchmark does them, and the six core workloads of YCSB.
//!
//! YCSB's records are hashes of ten fields of 100 bytes, read with HGETALL and updated with HSET, as its Redis binding
//! does. Where that binding keeps a sorted set for scans, a scan here is one MGET of 1 to 100 neighbouring records,
//! which for E are strings of the same 1,000 bytes: so it can be asked of every server with strings.

use std::collections::VecDeque;
use std::sync::Arc;

use clap::ValueEnum;

use super::order::put_words;
use super::{Division, Workload, WorkloadError};
use crate::bench::answer::Answer;
use crate::bench::redis_client::{RedisClient, Value};
use crate::bench::source::{Source, Tag};
use crate::bench::target::Target;
use crate::random::{Random, Weighted};
use crate::text::grouped;

/// The skew of YCSB's Zipf distribution.
const YCSB_THETA: f64 = 0.99;

/// Fields of a YCSB record, and their length.
const FIELD_COUNT: usize = 10;
const FIELD_BYTES: usize = 100;

/// Longest scan of YCSB's E.
const SCAN_LENGTH_MAX: usize = 100;

/// How many requests are drawn ahead.
const DRAW_COUNT: usize = 1 << 18;

const READ: u8 = 0;
const WRITE: u8 = 1;
/// After the inserts.
const SCAN: u8 = 3;

const FIELD_NAMES: [&[u8]; FIELD_COUNT] = [
    b"field0", b"field1", b"field2", b"field3", b"field4", b"field5", b"field6", b"field7", b"field8", b"field9",
];

/// One of YCSB's core workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum YcsbWorkload {
    /// Half reads, half updates
    A,
    /// 95 % reads, 5 % updates
    B,
    /// Only reads
    C,
    /// 95 % reads of what is newest, 5 % inserts
    D,
    /// 95 % scans of up to 100 records, 5 % inserts
    E,
    /// Half reads, half reads followed by an update of the same record
    F,
}

/// Which keys, how, and how large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyPattern {
    /// Strings; this share of the requests reads.
    GetSet {
        /// 0 to 1.
        get_share: f64,
        /// Length of a value.
        value_bytes: usize,
    },
    /// YCSB.
    Ycsb(YcsbWorkload),
}

impl KeyPattern {
    /// How many of 100 requests are reads, writes, inserts and scans.
    fn shares(self) -> [f64; 4] {
        match self {
            Self::GetSet { get_share, .. } => [get_share, 1.0 - get_share, 0.0, 0.0],
            Self::Ycsb(workload) => match workload {
                YcsbWorkload::A => [0.5, 0.5, 0.0, 0.0],
                YcsbWorkload::B => [0.95, 0.05, 0.0, 0.0],
                // The other half of F's requests are reads that a write follows.
                YcsbWorkload::C | YcsbWorkload::F => [1.0, 0.0, 0.0, 0.0],
                YcsbWorkload::D => [0.95, 0.0, 0.05, 0.0],
                YcsbWorkload::E => [0.0, 0.0, 0.05, 0.95],
            },
        }
    }

    /// Whether a record is a string.
    const fn is_string(self) -> bool {
        matches!(self, Self::GetSet { .. } | Self::Ycsb(YcsbWorkload::E))
    }

    /// A record's key. Strings and hashes have different ones, so that no workload meets another's.
    fn key(self, number: u64) -> String {
        let kind = if self.is_string() { "string" } else { "hash" };
        format!("bench:{kind}:{number:010}")
    }

    const fn value_bytes(self) -> usize {
        match self {
            Self::GetSet { value_bytes, .. } => value_bytes,
            Self::Ycsb(_) => FIELD_BYTES * FIELD_COUNT,
        }
    }
}

/// Something that every server with keys answers.
const PROBE: &[&str] = &["GET", "bench:probe"];

/// What a drawn request is.
#[derive(Clone, Copy, Debug)]
struct Draw {
    class: u8,
    /// The record; in D, how far from the newest.
    record: u32,
    /// A field, or the length of a scan.
    detail: u8,
    /// A write follows.
    modifies: bool,
}

fn draw_all(pattern: KeyPattern, key_count: usize, seed: u64) -> Vec<Draw> {
    let mut random = Random::new(seed);
    let shares = Weighted::new(pattern.shares());
    let ranks = matches!(pattern, KeyPattern::Ycsb(_))
        .then(|| Weighted::new((0..key_count).map(|rank| (rank as f64 + 1.0).powf(-YCSB_THETA))));
    // Which record has which rank, so that the popular ones are not neighbours; but in D the newest are.
    let mut records: Vec<u32> = (0..key_count as u32).collect();
    if pattern != KeyPattern::Ycsb(YcsbWorkload::D) {
        random.shuffle(&mut records);
    }
    let mut draw = || {
        let class = shares.draw(&mut random) as u8;
        let place = match &ranks {
            Some(ranks) => ranks.draw(&mut random),
            None => random.index(key_count),
        };
        Draw {
            class,
            record: records[place],
            detail: match class {
                SCAN => 1 + random.index(SCAN_LENGTH_MAX) as u8,
                _ => random.index(FIELD_COUNT) as u8,
            },
            modifies: pattern == KeyPattern::Ycsb(YcsbWorkload::F) && random.unit() < 0.5,
        }
    };
    (0..DRAW_COUNT).map(|_| draw()).collect()
}

struct Keys {
    pattern: KeyPattern,
    key_count: u64,
    draws: Arc<Vec<Draw>>,
    next_draw: usize,
    left: u64,
    value: Vec<u8>,
    /// This worker inserts records of its own: every `worker_count`-th behind those that were loaded.
    worker: u64,
    worker_count: u64,
    inserted: u64,
    /// Records that were read to be written.
    following: VecDeque<(u32, u8)>,
}

impl Keys {
    fn inserted_record(&self, place: u64) -> u64 {
        self.key_count + place * self.worker_count + self.worker
    }

    /// The `back`-th newest of this worker's and the loaded records.
    fn newest(&self, back: u64) -> u64 {
        if back < self.inserted {
            self.inserted_record(self.inserted - 1 - back)
        } else {
            self.key_count - 1 - (back - self.inserted).min(self.key_count - 1)
        }
    }

    fn put_read(&self, output: &mut Vec<u8>, record: u64) {
        let command: &[u8] = if self.pattern.is_string() { b"GET" } else { b"HGETALL" };
        put_words(output, &[command, self.pattern.key(record).as_bytes()]);
    }

    fn put_write(&self, output: &mut Vec<u8>, record: u64, field: u8) {
        let key = self.pattern.key(record);
        if self.pattern.is_string() {
            put_words(output, &[b"SET", key.as_bytes(), &self.value]);
        } else {
            let value = &self.value[..FIELD_BYTES];
            put_words(
                output,
                &[b"HSET", key.as_bytes(), FIELD_NAMES[usize::from(field)], value],
            );
        }
    }

    fn put_record(&self, output: &mut Vec<u8>, record: u64) {
        let key = self.pattern.key(record);
        if self.pattern.is_string() {
            put_words(output, &[b"SET", key.as_bytes(), &self.value]);
        } else {
            let mut words = vec![&b"HSET"[..], key.as_bytes()];
            for (name, value) in FIELD_NAMES.iter().zip(self.value.chunks(FIELD_BYTES)) {
                words.extend([*name, value]);
            }
            put_words(output, &words);
        }
    }

    fn put_scan(&self, output: &mut Vec<u8>, from: u64, length: u8) {
        let keys: Vec<String> = (from..from + u64::from(length))
            .map(|record| self.pattern.key(record))
            .collect();
        let mut words = vec![&b"MGET"[..]];
        words.extend(keys.iter().map(String::as_bytes));
        put_words(output, &words);
    }
}

impl Source for Keys {
    fn next(&mut self, output: &mut Vec<u8>, _request_id: u64) -> Option<Tag> {
        if let Some((record, field)) = self.following.pop_front() {
            self.put_write(output, u64::from(record), field);
            return Some(Tag { class: WRITE, about: 0 });
        }
        self.left = self.left.checked_sub(1)?;
        let place = self.next_draw;
        let draw = self.draws[place];
        self.next_draw = (place + 1) % self.draws.len();
        let record = u64::from(draw.record);
        match draw.class {
            READ if self.pattern == KeyPattern::Ycsb(YcsbWorkload::D) => self.put_read(output, self.newest(record)),
            READ => self.put_read(output, record),
            WRITE => self.put_write(output, record, draw.detail),
            SCAN => self.put_scan(output, record, draw.detail),
            _ => {
                self.put_record(output, self.inserted_record(self.inserted));
                self.inserted += 1;
            }
        }
        Some(Tag {
            class: draw.class,
            about: place as u32,
        })
    }

    fn answered(&mut self, tag: Tag, _answer: &Answer<'_>) {
        if tag.class == READ {
            let draw = self.draws[tag.about as usize];
            if draw.modifies {
                self.following.push_back((draw.record, draw.detail));
            }
        }
    }
}

/// The workload.
#[derive(Debug)]
pub struct KeyWorkload {
    pattern: KeyPattern,
    key_count: usize,
    seed: u64,
    is_loaded: bool,
}

impl KeyWorkload {
    /// So many keys.
    pub const fn new(pattern: KeyPattern, key_count: usize, seed: u64) -> Self {
        Self {
            pattern,
            key_count,
            seed,
            is_loaded: false,
        }
    }

    fn source(&self, draws: &Arc<Vec<Draw>>, worker: usize, division: &Division) -> Keys {
        let mut random = Random::new(self.seed);
        Keys {
            pattern: self.pattern,
            key_count: self.key_count as u64,
            draws: Arc::clone(draws),
            next_draw: DRAW_COUNT * worker / division.worker_count,
            left: division.limit_of(worker),
            value: (0..self.pattern.value_bytes())
                .map(|_| b'a' + random.index(26) as u8)
                .collect(),
            worker: worker as u64,
            worker_count: division.worker_count as u64,
            inserted: 0,
            following: VecDeque::new(),
        }
    }
}

impl Workload for KeyWorkload {
    fn title(&self) -> String {
        let keys = grouped(self.key_count as u64);
        match self.pattern {
            KeyPattern::GetSet { get_share, value_bytes } => format!(
                "get-set: {:.0} % GET, {:.0} % SET, {keys} keys of {value_bytes} bytes",
                get_share * 100.0,
                (1.0 - get_share) * 100.0
            ),
            KeyPattern::Ycsb(workload) => {
                format!("YCSB {workload:?}: {keys} records of 1,000 bytes, Zipf {YCSB_THETA}")
            }
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        match self.pattern {
            KeyPattern::GetSet { .. } => &["get", "set"],
            KeyPattern::Ycsb(_) => &["read", "update", "insert", "scan"],
        }
    }

    fn is_resp_only(&self) -> bool {
        true
    }

    fn prepare(&mut self, target: &Target) -> Result<(), WorkloadError> {
        if self.is_loaded {
            return Ok(());
        }
        let mut client = RedisClient::connect(&target.address)?;
        if let Value::Error(_) = client.ask(PROBE)? {
            return Err(WorkloadError::Target {
                workload: "a workload of plain keys",
                needs: "a server with keys (GET, SET, HSET)",
                kind: target.kind,
                version: target.version.clone(),
            });
        }
        let division = Division {
            worker_count: 1,
            request_count: None,
            run: 0,
        };
        let source = self.source(&Arc::new(Vec::new()), 0, &division);
        let text = String::from_utf8(source.value).expect("letters are UTF-8");
        let record = |number| {
            let mut words = vec![self.pattern.key(number)];
            if self.pattern.is_string() {
                words.insert(0, "SET".to_owned());
                words.push(text.clone());
            } else {
                words.insert(0, "HSET".to_owned());
                for (name, value) in FIELD_NAMES.iter().zip(text.as_bytes().chunks(FIELD_BYTES)) {
                    words.extend([*name, value].map(|word| String::from_utf8_lossy(word).into_owned()));
                }
            }
            words
        };
        client.call_all((0..self.key_count as u64).map(record))?;
        self.is_loaded = true;
        Ok(())
    }

    fn sources(&mut self, _target: &Target, division: &Division) -> Result<Vec<Box<dyn Source>>, WorkloadError> {
        let draws = Arc::new(draw_all(self.pattern, self.key_count, self.seed));
        let source = |worker| -> Box<dyn Source> { Box::new(self.source(&draws, worker, division)) };
        Ok((0..division.worker_count).map(source).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(pattern: KeyPattern, answers: usize) -> String {
        let workload = KeyWorkload::new(pattern, 1_000, 3);
        let division = Division {
            worker_count: 1,
            request_count: None,
            run: 1,
        };
        let mut source = workload.source(&Arc::new(draw_all(pattern, 1_000, 3)), 0, &division);
        let mut output = Vec::new();
        for _ in 0..answers {
            let tag = source.next(&mut output, 0).unwrap();
            source.answered(tag, &Answer::Done(0));
        }
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn each_ycsb_workload_asks_what_its_definition_says() {
        let share = |text: &str, word: &str| text.matches(&format!("\r\n{word}\r\n")).count() as f64 / 10_000.0;
        let near = |seen: f64, expected: f64| assert!((seen - expected).abs() < 0.02, "{seen} is not {expected}");
        for (workload, read, update) in [
            (YcsbWorkload::A, 0.5, 0.5),
            (YcsbWorkload::B, 0.95, 0.05),
            (YcsbWorkload::C, 1.0, 0.0),
            (YcsbWorkload::D, 0.95, 0.05),
            // Every second read is followed by a write: a third of all requests.
            (YcsbWorkload::F, 2.0 / 3.0, 1.0 / 3.0),
        ] {
            let text = text_of(KeyPattern::Ycsb(workload), 10_000);
            near(share(&text, "HGETALL"), read);
            near(share(&text, "HSET"), update);
        }
        let text = text_of(KeyPattern::Ycsb(YcsbWorkload::E), 10_000);
        near(share(&text, "MGET"), 0.95);
        near(share(&text, "SET"), 0.05);
    }

    #[test]
    fn d_reads_what_was_inserted_last_most_often() {
        let text = text_of(KeyPattern::Ycsb(YcsbWorkload::D), 10_000);
        let inserted = text
            .lines()
            .filter(|line| line.starts_with("bench:") && *line >= "bench:hash:0000001000")
            .count();
        assert!(inserted > 5_000, "{inserted} of 10,000 requests are about new records");
    }
}
