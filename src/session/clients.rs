//! `CLIENT`: connections as they are listed, named, held back and ended.
//!
//! Called through the command table. What concerns other connections goes to every shard as a query; a connection
//! describes itself to its shard with [`ClientFacts`].

use std::fmt::Write as _;
use std::net::SocketAddr;

use cartwright_protocol::resp::{Writer, parse_i64, shown};

use super::connection::{Call, ReplyMode, label, parse_timeout_ms};
use super::server_task::{PendingTask, ShardQuery, ShardResult, sum};
use super::subscriptions::Kind;
use super::{Front, Session};

/// What a filter asks about a connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts {
    /// `CLIENT ID`.
    pub id: u64,
    /// The client's end.
    pub peer: Option<SocketAddr>,
    /// The server's end.
    pub local: Option<SocketAddr>,
    /// It subscribes to something.
    pub is_subscriber: bool,
    /// Since when it is there, in Unix milliseconds.
    pub since_ms: u64,
}

/// Which connections `CLIENT LIST` and `CLIENT KILL` mean: those for which everything that is set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFilter {
    ids: Vec<u64>,
    /// Subscribers, or the others.
    subscribers: Option<bool>,
    peer: Option<String>,
    local: Option<String>,
    skipped: Option<u64>,
    since_ms_max: Option<u64>,
    /// Of a user or kind that there is not.
    nobody: bool,
}

impl ClientFilter {
    /// Whether this is one of those that are meant.
    pub fn lets_through(&self, client: &ClientFacts) -> bool {
        let is = |wanted: &Option<String>, address: Option<SocketAddr>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| address.is_some_and(|address| address.to_string() == *wanted))
        };
        !self.nobody
            && (self.ids.is_empty() || self.ids.contains(&client.id))
            && self.subscribers.is_none_or(|wanted| wanted == client.is_subscriber)
            && is(&self.peer, client.peer)
            && is(&self.local, client.local)
            && self.skipped != Some(client.id)
            && self.since_ms_max.is_none_or(|most| client.since_ms <= most)
    }

    fn set_kind(&mut self, kind: &[u8]) -> Result<(), String> {
        if kind.eq_ignore_ascii_case(b"normal") {
            self.subscribers = Some(false);
        } else if kind.eq_ignore_ascii_case(b"pubsub") {
            self.subscribers = Some(true);
        } else if [&b"master"[..], b"replica", b"slave"]
            .iter()
            .any(|other| kind.eq_ignore_ascii_case(other))
        {
            self.nobody = true;
        } else {
            return Err(format!("ERR Unknown client type '{}'", shown(kind)));
        }
        Ok(())
    }
}

/// The line of a connection in `CLIENT LIST`: Redis's fields, and the shard.
pub(super) fn describe(session: &Session) -> String {
    let text = |address: Option<SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    let context = &session.context;
    let seconds_since = |since_ms: u64| context.now_ms().saturating_sub(since_ms) / 1000;
    let mut line = format!(
        "id={} addr={} laddr={} fd=-1",
        session.connection_id,
        text(session.peer),
        text(session.local)
    );
    let (age, idle) = (seconds_since(session.since_ms), seconds_since(session.latest_ms));
    let (input, output) = (session.input.len() - session.start, session.output.len());
    let mut add = |text: std::fmt::Arguments<'_>| line.write_fmt(text).expect("appending to a string cannot fail");
    let Front::Resp(resp) = &session.front else {
        let command = if matches!(session.front, Front::Native(_)) {
            "native"
        } else {
            "NULL"
        };
        add(format_args!(
            " name= age={age} idle={idle} flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf={input} \
             qbuf-free={} argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={output} tot-mem={} events=rw \
             cmd={command} user=default redir=-1 resp=0 lib-name= lib-ver= shard={}",
            session.input.capacity() - session.input.len(),
            session.buffered_bytes(),
            context.shard,
        ));
        return line;
    };
    let connection = &resp.dialogue.connection;
    let count = |kind| connection.subscribed(kind).len();
    let mut flags = String::new();
    for (is_set, flag) in [
        (connection.subscription_count() > 0, 'P'),
        (connection.transaction.is_some(), 'x'),
        (connection.closing, 'c'),
        (connection.no_evict, 'e'),
        (connection.no_touch, 'T'),
    ] {
        if is_set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let command = match connection.latest {
        None => "NULL".to_owned(),
        Some((None, command)) => command.name.to_owned(),
        Some((Some(container), command)) => format!("{}|{}", container.name, command.name),
    };
    let transaction = connection.transaction.as_ref();
    let queued_bytes = transaction.map_or(0, |transaction| transaction.bytes());
    add(format_args!(
        " name={} age={age} idle={idle} flags={flags} db=0 sub={} psub={} ssub={} multi={} watch={} qbuf={input} \
         qbuf-free={} argv-mem=0 multi-mem={queued_bytes} rbs=0 rbp=0 obl=0 oll=0 omem={output} tot-mem={} events=rw \
         cmd={command} user=default redir=-1 resp={} lib-name={} lib-ver={} shard={}",
        connection.name,
        count(Kind::Channel),
        count(Kind::Pattern),
        count(Kind::Sharded),
        transaction.map_or(-1, |transaction| transaction.len() as i64),
        connection.watched.len(),
        session.input.capacity() - session.input.len(),
        session.buffered_bytes() + queued_bytes,
        connection.version as u8,
        connection.library_name,
        connection.library_version,
        context.shard,
    ));
    line
}

pub(super) fn id(call: &mut Call<'_>) {
    let id = call.connection.id;
    call.writer().count(id);
}

/// `CLIENT INFO` is `CLIENT LIST` of oneself.
pub(super) fn info(call: &mut Call<'_>) -> Option<PendingTask> {
    let ids = vec![call.connection.id];
    Some(list_of(ClientFilter {
        ids,
        ..ClientFilter::default()
    }))
}

fn list_of(filter: ClientFilter) -> PendingTask {
    PendingTask::ask(ShardQuery::Clients(filter), |writer, results| {
        let mut lines: Vec<_> = results
            .into_iter()
            .flat_map(|result| match result {
                ShardResult::Lines(lines) => lines,
                _ => Vec::new(),
            })
            .collect();
        lines.sort_unstable_by_key(|(id, _)| *id);
        let mut text = String::new();
        for (_, line) in lines {
            writeln!(text, "{line}").expect("appending to a string cannot fail");
        }
        writer.verbatim(&text);
    })
}

pub(super) fn list(call: &mut Call<'_>) -> Option<PendingTask> {
    let arguments = call.arguments;
    let mut filter = ClientFilter::default();
    match (arguments.get(2), arguments.get(3)) {
        (None, _) => {}
        (Some(word), Some(kind)) if word.eq_ignore_ascii_case(b"TYPE") && arguments.len() == 4 => {
            if let Err(error) = filter.set_kind(kind) {
                call.error(error);
                return None;
            }
        }
        (Some(word), Some(_)) if word.eq_ignore_ascii_case(b"ID") => {
            for wanted in arguments.from(3).iter() {
                let Some(wanted) = parse_i64(wanted) else {
                    call.error("ERR Invalid client ID");
                    return None;
                };
                filter.ids.push(wanted as u64);
            }
        }
        _ => {
            call.syntax_error();
            return None;
        }
    }
    Some(list_of(filter))
}

pub(super) fn kill(call: &mut Call<'_>) -> Option<PendingTask> {
    let arguments = call.arguments;
    if arguments.len() == 3 {
        // The form of old: an address, and an error where there is no such client.
        let filter = ClientFilter {
            peer: Some(String::from_utf8_lossy(call.argument(2)).into_owned()),
            ..ClientFilter::default()
        };
        return Some(PendingTask::ask(ShardQuery::Kill(filter), |writer, results| {
            if sum(&results) == 0 {
                writer.error("ERR No such client");
            } else {
                writer.simple("OK");
            }
        }));
    }
    match kill_filter(call) {
        Ok(filter) => Some(PendingTask::ask(ShardQuery::Kill(filter), |writer, results| {
            writer.count(sum(&results));
        })),
        Err(error) => {
            call.error(error);
            None
        }
    }
}

fn kill_filter(call: &Call<'_>) -> Result<ClientFilter, String> {
    let mut filter = ClientFilter {
        skipped: Some(call.connection.id),
        ..ClientFilter::default()
    };
    let rest: Vec<_> = call.arguments.from(2).iter().collect();
    let (pairs, []) = rest.as_chunks::<2>() else {
        return Err("ERR syntax error".to_owned());
    };
    for [word, value] in pairs {
        let text = || String::from_utf8_lossy(value).into_owned();
        if word.eq_ignore_ascii_case(b"ID") {
            let id = parse_i64(value)
                .filter(|&id| id > 0)
                .ok_or("ERR client-id should be greater than 0")?;
            filter.ids.push(id as u64);
        } else if word.eq_ignore_ascii_case(b"TYPE") {
            filter.set_kind(value)?;
        } else if word.eq_ignore_ascii_case(b"ADDR") {
            filter.peer = Some(text());
        } else if word.eq_ignore_ascii_case(b"LADDR") {
            filter.local = Some(text());
        } else if word.eq_ignore_ascii_case(b"USER") {
            if *value != b"default" {
                return Err(format!("ERR No such user '{}'", shown(value)));
            }
        } else if word.eq_ignore_ascii_case(b"MAXAGE") {
            let seconds = parse_i64(value)
                .filter(|&seconds| seconds > 0)
                .ok_or("ERR maxage is not an integer or out of range")?;
            filter.since_ms_max = Some(
                call.context
                    .now_ms()
                    .saturating_sub((seconds as u64).saturating_mul(1000)),
            );
        } else if word.eq_ignore_ascii_case(b"SKIPME") {
            if value.eq_ignore_ascii_case(b"yes") {
                filter.skipped = Some(call.connection.id);
            } else if value.eq_ignore_ascii_case(b"no") {
                filter.skipped = None;
            } else {
                return Err("ERR syntax error".to_owned());
            }
        } else {
            return Err("ERR syntax error".to_owned());
        }
    }
    Ok(filter)
}

pub(super) fn pause(call: &mut Call<'_>) -> Option<PendingTask> {
    if call.arguments.len() > 4 {
        call.unknown_form();
        return None;
    }
    let writes_only = match call.arguments.get(3) {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"ALL") => false,
        Some(word) if word.eq_ignore_ascii_case(b"WRITE") => true,
        Some(_) => {
            call.error("ERR CLIENT PAUSE mode must be WRITE or ALL");
            return None;
        }
    };
    let now_ms = call.context.now_ms();
    let until_ms = match parse_timeout_ms(call.argument(2)).map(|timeout_ms| now_ms.checked_add(timeout_ms)) {
        Ok(Some(until_ms)) => until_ms,
        Ok(None) => {
            call.error("ERR timeout is out of range");
            return None;
        }
        Err(error) => {
            call.error(error);
            return None;
        }
    };
    Some(PendingTask::tell(ShardQuery::Pause { until_ms, writes_only }))
}

pub(super) fn unpause(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::tell(ShardQuery::Unpause))
}

pub(super) fn setname(call: &mut Call<'_>) {
    match label("Client names", call.argument(2)) {
        Ok(name) => {
            call.connection.name = name;
            call.ok();
        }
        Err(error) => call.error(error),
    }
}

pub(super) fn getname(call: &mut Call<'_>) {
    let mut writer = Writer::new(call.output, call.connection.version);
    if call.connection.name.is_empty() {
        writer.null();
    } else {
        writer.text(&call.connection.name);
    }
}

pub(super) fn setinfo(call: &mut Call<'_>) {
    let (what, is_name) = match call.argument(2) {
        option if option.eq_ignore_ascii_case(b"LIB-NAME") => ("lib-name", true),
        option if option.eq_ignore_ascii_case(b"LIB-VER") => ("lib-ver", false),
        option => {
            let option = shown(option);
            return call.error(format_args!("ERR Unrecognized option '{option}'"));
        }
    };
    match label(what, call.argument(3)) {
        Ok(value) => {
            let connection = &mut *call.connection;
            *(if is_name {
                &mut connection.library_name
            } else {
                &mut connection.library_version
            }) = value;
            call.ok();
        }
        Err(error) => call.error(error),
    }
}

/// `NO-EVICT`: nothing here is evicted, so either answer holds already; `CLIENT LIST` tells which was asked for.
pub(super) fn no_evict(call: &mut Call<'_>) {
    if let Some(on) = switch(call) {
        call.connection.no_evict = on;
        call.ok();
    }
}

/// `NO-TOUCH`: nothing here ages, likewise.
pub(super) fn no_touch(call: &mut Call<'_>) {
    if let Some(on) = switch(call) {
        call.connection.no_touch = on;
        call.ok();
    }
}

fn switch(call: &mut Call<'_>) -> Option<bool> {
    let value = call.argument(2);
    let on = value.eq_ignore_ascii_case(b"ON");
    if on || value.eq_ignore_ascii_case(b"OFF") {
        return Some(on);
    }
    call.syntax_error();
    None
}

pub(super) fn reply(call: &mut Call<'_>) {
    let value = call.argument(2);
    if value.eq_ignore_ascii_case(b"ON") {
        call.connection.reply_mode = ReplyMode::On;
        call.ok();
    } else if value.eq_ignore_ascii_case(b"OFF") {
        call.connection.reply_mode = ReplyMode::Off;
    } else if value.eq_ignore_ascii_case(b"SKIP") {
        if call.connection.reply_mode == ReplyMode::On {
            call.connection.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        call.syntax_error();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_lets_through_only_what_everything_holds_for() {
        let client = ClientFacts {
            id: 7,
            peer: Some("127.0.0.1:5000".parse().unwrap()),
            local: Some("127.0.0.1:6379".parse().unwrap()),
            is_subscriber: true,
            since_ms: 1000,
        };
        let all = ClientFilter::default();
        assert!(all.lets_through(&client));
        let matching = ClientFilter {
            ids: vec![3, 7],
            subscribers: Some(true),
            peer: Some("127.0.0.1:5000".to_owned()),
            local: Some("127.0.0.1:6379".to_owned()),
            skipped: Some(8),
            since_ms_max: Some(1000),
            nobody: false,
        };
        assert!(matching.lets_through(&client));
        for other in [
            ClientFilter {
                ids: vec![3],
                ..matching.clone()
            },
            ClientFilter {
                subscribers: Some(false),
                ..matching.clone()
            },
            ClientFilter {
                peer: Some("127.0.0.1:5001".to_owned()),
                ..matching.clone()
            },
            ClientFilter {
                local: Some("127.0.0.1:1".to_owned()),
                ..matching.clone()
            },
            ClientFilter {
                skipped: Some(7),
                ..matching.clone()
            },
            ClientFilter {
                since_ms_max: Some(999),
                ..matching.clone()
            },
            ClientFilter {
                nobody: true,
                ..matching
            },
        ] {
            assert!(!other.lets_through(&client), "{other:?}");
        }
    }
}
