//! What clients ask of the keyspace: transfers between accounts with an entry in a ledger, notes that expire, and looks
//! at all of it; and which answers are true.
//!
//! Every change carries a mark that was never used, so that what is logged can be led back to who asked for it.

use std::collections::BTreeSet;

use cartwright::engine::{Answer, Timestamp};

use crate::client::Awaited;
use crate::keys::{Held, KeyVersion, Keys, Seen, balance};
use crate::random::Random;
use crate::shop::Source;
use crate::violation::Checked;
use crate::{promise, violation};

/// What the names of accounts begin with.
pub const ACCOUNT: &[u8] = b"account-";

/// What each account begins with.
pub const OPENING_BALANCE: i64 = 1000;

/// The channel on which marks are published.
pub const NEWS: &str = "news";

const ACCOUNTS: u64 = 5;
const LEDGERS: u64 = 2;
const NOTES: u64 = 4;

/// Marks that may be looked at or retired, at most.
const MARKS_KEPT: usize = 32;

/// One wish.
#[expect(missing_docs, reason = "the fields' names say what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyWish {
    /// `MSET` of every account.
    Open,
    /// `MULTI`, `DECRBY`, `INCRBY`, `HSET`, maybe a `PUBLISH` of the mark, `EXEC`.
    Transfer {
        from: String,
        to: String,
        amount: i64,
        ledger: String,
        mark: String,
        is_news: bool,
    },
    /// `HDEL` of an entry.
    Retire { ledger: String, mark: String },
    /// `MGET` of every account.
    Look,
    /// `HGET` of an entry.
    Entry { ledger: String, mark: String },
    /// `SET`, with or without a time to live; the value is the mark, or as long as this, and begins with it. Maybe a
    /// `PUBLISH` of the mark behind it.
    Note {
        note: String,
        mark: String,
        expires_ms: Option<u64>,
        bytes: usize,
        is_news: bool,
    },
    /// `GET`.
    Read { note: String },
    /// `DEL` of two notes.
    Forget { one: String, other: String },
    /// `WATCH`: the next transfer on the connection is made only if nobody has changed these.
    Watch { one: String, other: String },
}

/// What was asked, and from when on it may be answered.
#[derive(Clone, Debug)]
pub struct KeyAttempt {
    /// What.
    pub wish: KeyWish,
    /// The keyspace's version when it was sent.
    pub sent: KeyVersion,
    /// What was watched on the connection by then.
    pub watched: Vec<Watched>,
}

/// A key that a connection watches.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Which.
    pub key: String,
    /// The number of the attempt that was the `WATCH`.
    pub watch: u64,
    /// The keyspace's version when it was sent.
    pub sent: KeyVersion,
    /// And when it was answered.
    pub answered: Option<KeyVersion>,
}

fn accounts() -> Vec<String> {
    let stem = std::str::from_utf8(ACCOUNT).expect("letters");
    (0..ACCOUNTS).map(|account| format!("{stem}{account}")).collect()
}

/// What a mark is made longer with.
const FILLER: u8 = b'.';

/// A value of so many bytes that begins with its mark; of the mark alone where that is longer.
fn lengthened(mark: &str, bytes: usize) -> String {
    let filler = char::from(FILLER).to_string();
    mark.to_owned() + &filler.repeat(bytes.saturating_sub(mark.len()))
}

/// The mark that a value begins with.
pub fn mark_in(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|&byte| byte == FILLER);
    &value[..end.unwrap_or(value.len())]
}

/// What there is to tell of a value: itself, or of one that is made longer the mark and the length.
pub fn condensed(value: &[u8]) -> Vec<u8> {
    let mark = mark_in(value);
    let filler = &value[mark.len()..];
    if filler.is_empty() || filler.iter().any(|&byte| byte != FILLER) {
        return value.to_vec();
    }
    [mark, b" of ", value.len().to_string().as_bytes()].concat()
}

impl KeyWish {
    /// Draws one. `marks` are those of entries that were asked for.
    pub fn draw(mark: String, marks: &mut Vec<(String, String)>, random: &mut Random) -> Self {
        let ledger = |random: &mut Random| format!("ledger-{}", random.below(LEDGERS));
        let note = |random: &mut Random| format!("note-{}", random.below(NOTES));
        let (accounts, from) = (accounts(), random.below(ACCOUNTS));
        let to = (from + random.between(1, ACCOUNTS - 1)) % ACCOUNTS;
        let known = (!marks.is_empty()).then(|| random.pick(marks).clone());
        match (random.below(10), known) {
            (0..=3, _) => {
                let ledger = ledger(random);
                marks.push((ledger.clone(), mark.clone()));
                if marks.len() > MARKS_KEPT {
                    marks.remove(0);
                }
                Self::Transfer {
                    from: accounts[from as usize].clone(),
                    to: accounts[to as usize].clone(),
                    amount: random.between(1, 50) as i64,
                    ledger,
                    mark,
                    is_news: random.below(4) == 0,
                }
            }
            (4, Some((ledger, mark))) => Self::Retire { ledger, mark },
            (5, Some((ledger, mark))) => Self::Entry { ledger, mark },
            (6, _) => Self::Note {
                note: note(random),
                mark,
                expires_ms: (random.below(2) == 0).then(|| random.between(1, 5000)),
                bytes: 0,
                is_news: random.below(3) == 0,
            },
            (7, _) => Self::Read { note: note(random) },
            (8, _) => match random.below(3) {
                0 => Self::Watch {
                    one: note(random),
                    other: accounts[to as usize].clone(),
                },
                _ => Self::Forget {
                    one: note(random),
                    other: note(random),
                },
            },
            _ => Self::Look,
        }
    }

    /// The commands of it, and what they are to be answered; the attempt's number is `sequence`.
    pub fn commands(&self, sequence: u64) -> Vec<(Vec<Vec<u8>>, Awaited)> {
        fn words(words: &[&str]) -> Vec<Vec<u8>> {
            words.iter().map(|word| word.as_bytes().to_vec()).collect()
        }
        let alone = |parts: &[&str]| vec![(words(parts), Awaited::Attempt(sequence))];
        let news = |mark: &str| words(&["PUBLISH", NEWS, mark]);
        match self {
            Self::Open => {
                let balance = OPENING_BALANCE.to_string();
                let mut parts = words(&["MSET"]);
                for account in accounts() {
                    parts.extend([account.into_bytes(), balance.clone().into_bytes()]);
                }
                vec![(parts, Awaited::Attempt(sequence))]
            }
            Self::Transfer {
                from,
                to,
                amount,
                ledger,
                mark,
                is_news,
            } => {
                let amount = amount.to_string();
                let queued = || Awaited::Exactly(Answer::bulk(b"QUEUED"));
                let mut commands = vec![
                    (words(&["MULTI"]), Awaited::Exactly(Answer::Ok)),
                    (words(&["DECRBY", from, &amount]), queued()),
                    (words(&["INCRBY", to, &amount]), queued()),
                    (words(&["HSET", ledger, mark, &amount]), queued()),
                ];
                if *is_news {
                    commands.push((news(mark), queued()));
                }
                commands.push((words(&["EXEC"]), Awaited::Attempt(sequence)));
                commands
            }
            Self::Retire { ledger, mark } => alone(&["HDEL", ledger, mark]),
            Self::Look => {
                let mut parts = words(&["MGET"]);
                parts.extend(accounts().into_iter().map(String::into_bytes));
                vec![(parts, Awaited::Attempt(sequence))]
            }
            Self::Entry { ledger, mark } => alone(&["HGET", ledger, mark]),
            Self::Note {
                note,
                mark,
                expires_ms,
                bytes,
                is_news,
            } => {
                let value = lengthened(mark, *bytes);
                let mut commands = match expires_ms {
                    None => alone(&["SET", note, &value]),
                    Some(ms) => alone(&["SET", note, &value, "PX", &ms.to_string()]),
                };
                if *is_news {
                    commands.push((news(mark), Awaited::Receivers));
                }
                commands
            }
            Self::Read { note } => alone(&["GET", note]),
            Self::Forget { one, other } => alone(&["DEL", one, other]),
            Self::Watch { one, other } => alone(&["WATCH", one, other]),
        }
    }

    /// Whether `CLIENT PAUSE ... WRITE` holds it back.
    pub const fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Look | Self::Entry { .. } | Self::Read { .. } | Self::Watch { .. }
        )
    }

    /// The key that it is about, where it is about one alone.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Retire { ledger, .. } | Self::Entry { ledger, .. } => Some(ledger),
            Self::Note { note, .. } | Self::Read { note } => Some(note),
            _ => None,
        }
    }

    /// The mark that its change carries.
    pub fn mark(&self) -> Option<&str> {
        match self {
            Self::Transfer { mark, .. } | Self::Note { mark, .. } => Some(mark),
            _ => None,
        }
    }
}

/// What explains answers: the sequential keyspace, and what of it no crash can take back.
pub struct Explained<'a> {
    /// The keyspace.
    pub keys: &'a Keys,
    /// Whether a record is on disk.
    pub is_durable: &'a dyn Fn(Source) -> bool,
    /// The latest time that any shard was told.
    pub latest: Timestamp,
}

impl Explained<'_> {
    /// The answer must be true at some moment since the request was sent, and by then on disk.
    pub fn check(&self, attempt: &KeyAttempt, answer: &Answer) -> Checked {
        let is_true =
            match (&attempt.wish, answer) {
                (KeyWish::Open | KeyWish::Watch { .. }, Answer::Ok)
                | (KeyWish::Forget { .. }, Answer::Integer(0..=2)) => true,
                (
                    KeyWish::Transfer {
                        from,
                        to,
                        mark,
                        is_news,
                        ..
                    },
                    Answer::Array(answers),
                ) => {
                    // What was published last is counted behind the keys.
                    let (keys, news) = answers.split_at(answers.len() - usize::from(*is_news));
                    news.iter().all(|count| matches!(count, Answer::Integer(0..)))
                        && self.is_transferred(attempt, [from, to], mark, keys)?
                }
                (KeyWish::Transfer { mark, .. }, Answer::Nil) => {
                    self.check_refused([mark])?;
                    self.is_given_up(&attempt.watched)
                }
                (KeyWish::Note { mark, .. }, Answer::Ok) => self.is_written_once(mark)?.is_some(),
                (KeyWish::Retire { mark, .. }, Answer::Integer(1)) => {
                    let source = self.keys.retired(mark.as_bytes());
                    source.is_some_and(self.is_durable)
                }
                (KeyWish::Retire { ledger, mark }, Answer::Integer(0))
                | (KeyWish::Entry { ledger, mark }, Answer::Nil) => self.is_missing(attempt.sent, ledger, mark),
                (KeyWish::Look, Answer::Array(answers)) => self.is_look(attempt.sent, answers),
                (KeyWish::Entry { ledger, mark }, Answer::Bulk(value)) => self.holds(attempt.sent, ledger, |seen| {
                    let field = seen.and_then(|seen| field(seen, mark));
                    field.is_some_and(|field| *field == **value)
                }),
                (KeyWish::Read { note }, Answer::Bulk(value)) => self.holds(attempt.sent, note, |seen| {
                    let held = seen.and_then(|seen| seen.held.as_ref());
                    matches!(held, Some(Held::String(text)) if *text == condensed(value))
                }),
                (KeyWish::Read { note }, Answer::Nil) => self.holds(attempt.sent, note, |seen| {
                    let is_there = |seen: &Seen| seen.held.is_some() && !self.may_have_expired(seen);
                    !seen.is_some_and(is_there)
                }),
                _ => false,
            };
        promise!(
            is_true,
            "at no moment since it was sent (version {} to {}), and as far as the disk has it, was {:?} to be answered \
             {answer:?}; its key has held {:?}",
            attempt.sent,
            self.keys.version,
            attempt.wish,
            attempt.wish.key().map(|key| self.keys.history(key.as_bytes()))
        );
        Ok(())
    }

    fn may_have_expired(&self, seen: &Seen) -> bool {
        seen.expires_at != 0 && seen.expires_at <= self.latest.unix_ms()
    }

    /// Where the change with this mark is, if it is on disk; it may have been made only once.
    fn is_written_once(&self, mark: &str) -> Checked<Option<KeyVersion>> {
        let Some((version, source, count)) = self.keys.written(mark.as_bytes()) else {
            return Ok(None);
        };
        promise!(count == 1, "the change with mark {mark} was made {count} times");
        Ok((self.is_durable)(source).then_some(version))
    }

    fn is_transferred(
        &self,
        attempt: &KeyAttempt,
        [from, to]: [&str; 2],
        mark: &str,
        answers: &[Answer],
    ) -> Checked<bool> {
        let Some(version) = self.is_written_once(mark)? else {
            return Ok(false);
        };
        for watched in &attempt.watched {
            // What changed before WATCH was answered may have been seen, and what changed after EXEC was sent may have
            // changed behind it.
            let before = self.keys.at(watched.key.as_bytes(), attempt.sent.min(version - 1));
            let changed = before.filter(|seen| watched.answered.is_none_or(|answered| seen.version > answered));
            promise!(
                changed.is_none_or(|seen| seen.held.is_none()),
                "a transfer is made at version {version} though {watched:?} has changed since it was watched"
            );
        }
        let balance_at = |account: &str| {
            let seen = self.keys.at(account.as_bytes(), version);
            let balance = seen.and_then(|seen| balance(seen.held.as_ref()?));
            balance.map(Answer::Integer)
        };
        let wanted = [balance_at(from), balance_at(to), Some(Answer::Integer(1))];
        Ok(answers.len() == 3
            && answers
                .iter()
                .zip(&wanted)
                .all(|(answer, wanted)| Some(answer) == wanted.as_ref()))
    }

    /// Whether something that was watched may have changed since.
    fn is_given_up(&self, watched: &[Watched]) -> bool {
        let may_have_changed = |watched: &Watched| {
            // A note may expire at any time, and one that is not there shares its version with others.
            !watched.key.as_bytes().starts_with(ACCOUNT)
                || self.keys.versions([watched.key.as_bytes()], watched.sent).len() > 1
        };
        watched.iter().any(may_have_changed)
    }

    /// Whether the key was at some version since `sent`, by what is on disk, as told.
    fn holds(&self, sent: KeyVersion, key: &str, is_so: impl Fn(Option<&Seen>) -> bool) -> bool {
        self.keys.versions([key.as_bytes()], sent).into_iter().any(|version| {
            let seen = self.keys.at(key.as_bytes(), version);
            is_so(seen) && seen.is_none_or(|seen| (self.is_durable)(seen.source))
        })
    }

    fn is_missing(&self, sent: KeyVersion, ledger: &str, mark: &str) -> bool {
        self.holds(sent, ledger, |seen| seen.is_none_or(|seen| field(seen, mark).is_none()))
    }

    fn is_look(&self, sent: KeyVersion, answers: &[Answer]) -> bool {
        let accounts = accounts();
        let versions = self.keys.versions(accounts.iter().map(String::as_bytes), sent);
        versions.into_iter().any(|version| {
            answers.len() == accounts.len()
                && accounts.iter().zip(answers).all(|(account, answer)| {
                    let seen = self.keys.at(account.as_bytes(), version);
                    let is_durable = seen.is_none_or(|seen| (self.is_durable)(seen.source));
                    let held = seen.and_then(|seen| seen.held.as_ref());
                    is_durable
                        && match (held, answer) {
                            (None, Answer::Nil) => true,
                            (Some(Held::String(text)), Answer::Bulk(value)) => *text == **value,
                            _ => false,
                        }
                })
        })
    }

    /// A refused change has no effect, now or later.
    pub fn check_refused<'m>(&self, marks: impl IntoIterator<Item = &'m String>) -> Checked {
        for mark in marks {
            if self.keys.written(mark.as_bytes()).is_some() {
                return Err(violation!("the change with mark {mark} was refused, and made"));
            }
        }
        Ok(())
    }
}

fn field<'a>(seen: &'a Seen, mark: &str) -> Option<&'a Vec<u8>> {
    match seen.held.as_ref()? {
        Held::Hash(fields) => fields.get(mark.as_bytes()),
        Held::String(_) => None,
    }
}

/// Requests to the keyspace that may be answered, and those that were refused.
#[derive(Debug, Default)]
pub struct KeyAttempts {
    /// By sequence number.
    pub open: std::collections::BTreeMap<u64, KeyAttempt>,
    /// The marks of those refused.
    pub refused: BTreeSet<String>,
}
