//! The same commands to a real Redis and to this server: every reply is the same.
//!
//! Needs `redis-server` in PATH (Debian: `apt install redis-server`). Where there is none the test fails, unless
//! `CARTWRIGHT_SKIP_REDIS` is set.
//!
//! - `forms`: every command that is compared, with the shapes of its arguments
//! - `draw`: commands from a seed
//! - `wire`: a connection that keeps every reply as it came
//! - `compare`: which replies are the same; what has no order or goes with the clock is told by command
//! - `differences`: the one table of what is allowed to differ

mod compare;
mod differences;
mod draw;
mod forms;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use cartwright_test_support::{Site, start, stop_cleanly};
use cartwright_tools::bench::redis_process::{RedisProcess, find};
use cartwright_tools::server_process::{ServerProcess, SyncMode};
use compare::same;
use differences::{DIFFERENCES, Difference, listed};
use draw::{DUMP, Draw};
use forms::NOT_COMPARED;
use wire::{Reply, Shown, Wire, Words};

/// Commands that are sent before any reply is read.
const CHUNK: usize = 100;

/// Chunks for each protocol and number of shards.
const CHUNK_COUNT: usize = 720;

/// Replies that are compared in each of the four runs, at least: what stands behind a difference is not.
const COMPARED_MIN: usize = 50_000;

/// Chunks until the keyspace is emptied.
const CHUNKS_A_LIFE: usize = 20;

/// Variable that leaves the comparison out.
const SKIP_VARIABLE: &str = "CARTWRIGHT_SKIP_REDIS";

/// Variable that draws other commands: a number.
const SEED_VARIABLE: &str = "CARTWRIGHT_REDIS_SEED";

/// Differences shown for each command.
const SHOWN_MAX: usize = 3;

/// What is added to the seeds.
fn first_seed() -> u64 {
    std::env::var(SEED_VARIABLE).map_or(0, |seed| seed.parse().expect("a seed is a number"))
}

/// A Redis and this server, side by side.
struct Servers {
    /// There until it is stopped.
    ours: Option<ServerProcess>,
    theirs: RedisProcess,
    _directories: (Site, tempfile::TempDir),
}

/// The Redis to compare with. `None`: it is not wanted.
fn redis_binary() -> Option<PathBuf> {
    if std::env::var_os(SKIP_VARIABLE).is_some() {
        eprintln!("{SKIP_VARIABLE} is set: nothing is compared");
        return None;
    }
    let binary = find(&["redis-server"]).unwrap_or_else(|error| {
        panic!("{error}; or set {SKIP_VARIABLE}=1 to leave out the comparison with Redis");
    });
    Some(binary)
}

impl Servers {
    /// Fresh ones. `None`: no Redis is wanted.
    fn start(shard_count: u16) -> Option<Self> {
        let binary = redis_binary()?;
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        // What this server does without is left out of Redis by its own options.
        let options = ["--databases", "1", "--enable-debug-command", "local"];
        let theirs = RedisProcess::start_with(&binary, directory.path(), SyncMode::No, &options);
        let site = Site::new(shard_count);
        let mut options = site.options();
        options.sync = SyncMode::No;
        Some(Self {
            ours: Some(start(&options)),
            theirs: theirs.unwrap_or_else(|error| panic!("{error}")),
            _directories: (site, directory),
        })
    }

    /// A connection to each: this server's first.
    fn connect(&self, version: u8) -> (Wire, Wire) {
        (
            Wire::connect("cartwright", self.ours().port(), version),
            Wire::connect("redis", self.theirs.address().port, version),
        )
    }

    fn ours(&self) -> &ServerProcess {
        self.ours.as_ref().expect("it is not stopped")
    }

    fn stop(mut self) {
        stop_cleanly(self.ours.take().expect("it is stopped once"));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(ours) = &self.ours
        {
            eprintln!("the server said:\n{}", ours.output());
        }
    }
}

/// A command whose replies differ: it, ours, theirs.
type Case = (Words, Reply, Reply);

/// What a chunk of commands came to.
#[derive(Default)]
struct Outcome {
    compared: usize,
    listed: BTreeSet<&'static str>,
    unlisted: Option<Case>,
    /// From here on the servers' states differ, so that all replies would.
    has_parted: bool,
}

impl Outcome {
    fn look(&mut self, words: &Words, ours: &Reply, theirs: &Reply) {
        self.compared += 1;
        if same(words, ours, theirs) {
            return;
        }
        if let Some(Difference { commands, parts, .. }) = listed(words, ours, theirs) {
            self.listed.insert(commands);
            self.has_parted |= parts;
        } else {
            self.unlisted = Some((words.clone(), ours.clone(), theirs.clone()));
            self.has_parted = true;
        }
    }
}

/// Compares the replies to a chunk of commands, up to where the servers part.
fn outcome(commands: &[Words], ours: &[Reply], theirs: &[Reply]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut queued: Vec<&Words> = Vec::new();
    for (index, words) in commands.iter().enumerate() {
        let (ours, theirs) = (&ours[index], &theirs[index]);
        let of_queue = std::mem::take(&mut queued);
        match (ours, theirs) {
            (Reply::List(b'*', ours), Reply::List(b'*', theirs))
                if words[0].eq_ignore_ascii_case(b"exec") && ours.len() == theirs.len() =>
            {
                for (at, words) in of_queue.iter().enumerate() {
                    if !outcome.has_parted {
                        outcome.look(words, &ours[at], &theirs[at]);
                    }
                }
            }
            _ => outcome.look(words, ours, theirs),
        }
        if outcome.has_parted {
            return outcome;
        }
        match theirs {
            Reply::Line(b'+', status) if status == b"QUEUED" => {
                queued = of_queue;
                queued.push(words);
            }
            // A command that is refused while queueing leaves the queue, for which EXEC then answers.
            Reply::Line(b'-', _) if !words[0].eq_ignore_ascii_case(b"exec") => queued = of_queue,
            _ => (),
        }
    }
    outcome
}

/// What was found in a run.
#[derive(Default)]
struct Findings {
    compared: usize,
    listed: BTreeSet<&'static str>,
    /// Differences that are not listed, by command.
    unlisted: BTreeMap<String, Vec<String>>,
}

impl Findings {
    fn take(&mut self, outcome: Outcome) {
        self.compared += outcome.compared;
        self.listed.extend(outcome.listed);
        if let Some((words, ours, theirs)) = outcome.unlisted {
            let name = words[0].to_ascii_uppercase().escape_ascii().to_string();
            self.unlisted.entry(name).or_default().push(format!(
                "{:?}\n      cartwright: {ours:?}\n      redis:      {theirs:?}",
                Shown(&words)
            ));
        }
    }

    #[track_caller]
    fn assert_none(&self, seed: u64) {
        let mut report = String::new();
        for (name, cases) in &self.unlisted {
            writeln!(report, "  {name}: {} times", cases.len()).expect("appending to a string cannot fail");
            for case in cases.iter().take(SHOWN_MAX) {
                writeln!(report, "    {case}").expect("appending to a string cannot fail");
            }
        }
        assert!(
            report.is_empty(),
            "replies differ from those of Redis (seed {seed}); mend them, or list them in \
             tests/redis/differences.rs:\n{report}"
        );
    }
}

/// Puts what a server answered to an earlier `DUMP` where a command wants it: a payload is each server's own.
fn with_dump(commands: &[Words], dump: &[u8]) -> Vec<Words> {
    let word = |word: &Vec<u8>| if word == DUMP { dump.to_vec() } else { word.clone() };
    commands.iter().map(|words| words.iter().map(word).collect()).collect()
}

/// The payload of the last `DUMP` that was answered.
fn last_dump(commands: &[Words], replies: &[Reply]) -> Option<usize> {
    (0..commands.len())
        .rev()
        .find(|&index| commands[index][0].eq_ignore_ascii_case(b"dump") && matches!(replies[index], Reply::Bulk(..)))
}

/// Compares a seed's commands on fresh servers.
fn every_reply_is_that_of_redis(shard_count: u16, version: u8) {
    let Some(servers) = Servers::start(shard_count) else {
        return;
    };
    let seed = first_seed() + u64::from(shard_count) * 10 + u64::from(version);
    let (mut ours, mut theirs) = servers.connect(version);
    let mut findings = Findings::default();
    let mut draw = Draw::new(seed, version);
    let mut dumps = (Vec::new(), Vec::new());
    for chunk in 0..CHUNK_COUNT {
        let commands = draw.commands(CHUNK);
        let replies = (
            ours.pipeline(&with_dump(&commands, &dumps.0)),
            theirs.pipeline(&with_dump(&commands, &dumps.1)),
        );
        let outcome = outcome(&commands, &replies.0, &replies.1);
        let has_parted = outcome.has_parted;
        findings.take(outcome);
        if !has_parted
            && let Some(at) = last_dump(&commands, &replies.0)
            && let (Reply::Bulk(_, one), Reply::Bulk(_, other)) = (&replies.0[at], &replies.1[at])
        {
            dumps = (one.clone(), other.clone());
        }
        let is_over = commands
            .last()
            .is_some_and(|words| words[0].eq_ignore_ascii_case(b"QUIT"));
        let empties = has_parted || chunk % CHUNKS_A_LIFE == CHUNKS_A_LIFE - 1;
        if empties || is_over {
            (ours, theirs) = servers.connect(version);
        }
        if empties {
            let flush = [vec![b"FLUSHALL".to_vec()]];
            assert_eq!(ours.pipeline(&flush), theirs.pipeline(&flush));
        }
    }
    drop((ours, theirs));
    servers.stop();
    findings.assert_none(seed);
    assert!(
        findings.compared >= COMPARED_MIN,
        "only {} replies were compared; {COMPARED_MIN} should be",
        findings.compared
    );
    for Difference { commands, .. } in DIFFERENCES {
        assert!(
            findings.listed.contains(commands),
            "nothing differs as tests/redis/differences.rs says of {commands}: take the row out"
        );
    }
}

#[test]
fn every_reply_is_that_of_redis_on_one_shard_in_resp2() {
    every_reply_is_that_of_redis(1, 2);
}

#[test]
fn every_reply_is_that_of_redis_on_one_shard_in_resp3() {
    every_reply_is_that_of_redis(1, 3);
}

#[test]
fn every_reply_is_that_of_redis_on_two_shards_in_resp2() {
    every_reply_is_that_of_redis(2, 2);
}

#[test]
fn every_reply_is_that_of_redis_on_two_shards_in_resp3() {
    every_reply_is_that_of_redis(2, 3);
}

/// Steps of the comparison of channels, for each protocol and number of shards.
const STEP_COUNT: usize = 3_000;

/// Steps until all channels are left.
const STEPS_A_LIFE: usize = 50;

/// Compares what one who subscribes and one who publishes are told.
fn channels_are_those_of_redis(shard_count: u16, version: u8) {
    let Some(servers) = Servers::start(shard_count) else {
        return;
    };
    let seed = first_seed() + 100 + u64::from(shard_count) * 10 + u64::from(version);
    let mut draw = Draw::new(seed, version);
    let mut subscribers = servers.connect(version);
    let mut publishers = servers.connect(version);
    let mut message_count = 0;
    for step in 0..STEP_COUNT {
        // A message is with its subscribers once its publisher has the answer.
        if draw.once_in(2) {
            let words = draw.publisher_command();
            let ours = publishers.0.pipeline(std::slice::from_ref(&words));
            let theirs = publishers.1.pipeline(std::slice::from_ref(&words));
            let is_same = same(&words, &ours[0], &theirs[0]) || listed(&words, &ours[0], &theirs[0]).is_some();
            assert!(
                is_same,
                "{:?} (seed {seed}): {ours:?}, redis: {theirs:?}",
                Shown(&words)
            );
            let (ours, theirs) = (subscribers.0.all_until_now(), subscribers.1.all_until_now());
            message_count += theirs.len();
            assert_eq!(
                in_any_order(&ours),
                in_any_order(&theirs),
                "{:?} (seed {seed})",
                Shown(&words)
            );
        } else {
            let words = draw.subscriber_command();
            let (ours, theirs) = (subscribers.0.all_to(&words), subscribers.1.all_to(&words));
            // All channels at once are left in each server's own order, and so with each other's counts.
            let is_all = words.len() == 1;
            let is_same = if is_all {
                parts_in_any_order(&ours) == parts_in_any_order(&theirs)
            } else {
                ours == theirs
            };
            assert!(
                is_same || ours.len() == 1 && listed(&words, &ours[0], &theirs[0]).is_some(),
                "{:?} (seed {seed}): {ours:?}, redis: {theirs:?}",
                Shown(&words)
            );
        }
        if step % STEPS_A_LIFE == STEPS_A_LIFE - 1 {
            let reset = vec![b"RESET".to_vec()];
            assert_eq!(subscribers.0.all_to(&reset), subscribers.1.all_to(&reset));
            for subscriber in [&mut subscribers.0, &mut subscribers.1] {
                subscriber.speak(version);
            }
        }
    }
    drop((subscribers, publishers));
    servers.stop();
    assert!(
        message_count > STEP_COUNT / 20,
        "only {message_count} messages were compared"
    );
}

/// Replies that have no order among each other.
fn in_any_order(replies: &[Reply]) -> Vec<&Reply> {
    let mut replies: Vec<_> = replies.iter().collect();
    replies.sort();
    replies
}

/// The elements of replies each of which is a list, without their order.
fn parts_in_any_order(replies: &[Reply]) -> Vec<&Reply> {
    let parts = replies.iter().flat_map(|reply| match reply {
        Reply::List(_, parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    });
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    parts
}

#[test]
fn channels_are_those_of_redis_on_one_shard() {
    channels_are_those_of_redis(1, 2);
    channels_are_those_of_redis(1, 3);
}

#[test]
fn channels_are_those_of_redis_on_two_shards() {
    channels_are_those_of_redis(2, 2);
    channels_are_those_of_redis(2, 3);
}

/// The names in the answer to `COMMAND`: every command, `container|subcommand` for those that have some.
fn command_names(server: &Servers) -> BTreeSet<String> {
    let (mut wire, _) = server.connect(2);
    let replies = wire.pipeline(&[vec![b"COMMAND".to_vec()]]);
    let Reply::List(_, rows) = &replies[0] else {
        panic!("COMMAND answered {:?}", replies[0])
    };
    let mut names = BTreeSet::new();
    let name_of = |fields: &[Reply]| match &fields[0] {
        Reply::Bulk(_, name) => String::from_utf8(name.clone()).expect("a command's name is text"),
        other => panic!("{other:?} is no command's name"),
    };
    for row in rows {
        let Reply::List(_, fields) = row else {
            panic!("{row:?} describes no command")
        };
        let categories = &fields[6];
        if format!("{categories:?}").contains("@shop") {
            continue;
        }
        let Reply::List(_, subcommands) = &fields[9] else {
            panic!("{:?} lists no subcommands", fields[9])
        };
        if subcommands.is_empty() || name_of(fields) == "command" {
            names.insert(name_of(fields));
        }
        for subcommand in subcommands {
            let Reply::List(_, fields) = subcommand else {
                panic!("{subcommand:?} describes no subcommand")
            };
            names.insert(name_of(fields));
        }
    }
    names
}

#[test]
fn every_command_is_compared_or_said_not_to_be() {
    let Some(servers) = Servers::start(1) else {
        return;
    };
    let names = command_names(&servers);
    servers.stop();
    let drawn = forms::names();
    for name in &names {
        let is_left_out = NOT_COMPARED.iter().any(|(left_out, _)| left_out == name);
        assert!(
            drawn.contains(name) != is_left_out,
            "{name} should be either in the forms of tests/redis/forms.rs or in NOT_COMPARED, with the reason"
        );
    }
    for (name, _) in NOT_COMPARED {
        assert!(names.contains(*name), "there is no command {name} to be left out");
    }
    assert!(names.contains("client|setname") && names.contains("hset") && names.len() > 100);
}

/// The README's table of [`DIFFERENCES`].
fn table_of_differences() -> String {
    let mut table = String::from("\n| commands | what differs, and why |\n| --- | --- |\n");
    for Difference { commands, reason, .. } in DIFFERENCES {
        writeln!(table, "| {commands} | {reason} |").expect("appending to a string cannot fail");
    }
    table.push('\n');
    table
}

#[test]
fn the_readme_shows_what_differs_from_redis() {
    const BEGIN: &str = "<!-- the differences: generated, see tests/redis/differences.rs -->\n";
    const END: &str = "<!-- end of the differences -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("the README is there");
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the table's beginning");
    let (shown, after) = rest.split_once(END).expect("the README has the table's end");
    if std::env::var_os("CARTWRIGHT_UPDATE_README").is_some() {
        let table = table_of_differences();
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).expect("the README can be written");
        return;
    }
    assert_eq!(
        shown,
        table_of_differences(),
        "the README's table is behind: run\n  \
         CARTWRIGHT_UPDATE_README=1 cargo test --test redis_differential readme_shows"
    );
}
