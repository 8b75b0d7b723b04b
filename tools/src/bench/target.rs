//! The server under test: what it is, how durable it is, and which process it runs in.
//!
//! Asked once before a run, over RESP, which both this server and Redis speak.

use super::answer::Wire;
use super::process::{Process, ProcessError};
use super::redis_client::{RedisClient, RedisError};
use crate::address::Address;

/// What kind of server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Cartwright,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Cartwright => "Cartwright",
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// Why the server cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It does not answer.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Its process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Neither.
    #[error("what answers at {0} is no Cartwright, Redis or Valkey: its INFO names no version")]
    Unknown(Address),
    /// Only this server speaks it.
    #[error("{0} speaks no native protocol; give --protocol resp, or leave it out")]
    NoNative(Kind),
}

/// See above.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where.
    pub address: Address,
    /// What.
    pub kind: Kind,
    /// Its version.
    pub version: String,
    /// How it is spoken to.
    pub wire: Wire,
    /// When it syncs to disk.
    pub durability: String,
    /// Its shards; 1 for a Redis.
    pub shard_count: u16,
    /// Most requests in flight on one connection, where it has such a bound.
    pub in_flight_max: Option<usize>,
    /// Its process, where that is on this machine.
    pub process: Option<Process>,
}

impl Target {
    /// Asks the server. `wire`: the protocol wished for; `process_id`: the server's process, where the user knows it.
    pub fn probe(address: &Address, wire: Option<Wire>, process_id: Option<u32>) -> Result<Self, TargetError> {
        let mut client = RedisClient::connect(address)?;
        let info = client.call(&["INFO"])?.text().unwrap_or_default().to_owned();
        let field = |name: &str| field(&info, name);
        let (kind, version) = [
            (Kind::Cartwright, "cartwright_version"),
            (Kind::Valkey, "valkey_version"),
            (Kind::Redis, "redis_version"),
        ]
        .into_iter()
        .find_map(|(kind, name)| Some((kind, field(name)?)))
        .ok_or_else(|| TargetError::Unknown(address.clone()))?;
        let wire = match (kind, wire) {
            (Kind::Cartwright, wire) => wire.unwrap_or(Wire::Native),
            (_, None | Some(Wire::Resp)) => Wire::Resp,
            (kind, Some(Wire::Native)) => return Err(TargetError::NoNative(kind)),
        };
        let process = match process_id {
            Some(process_id) => Some(Process::of(process_id)?),
            None => field("process_id")
                .and_then(|text| text.parse().ok())
                .and_then(|process_id| local_process(address, process_id, kind)),
        };
        let durability = match kind {
            Kind::Cartwright => own_durability(field("sync"), process),
            Kind::Redis | Kind::Valkey => redis_durability(&mut client),
        };
        Ok(Self {
            address: address.clone(),
            kind,
            version: version.to_owned(),
            wire,
            durability,
            shard_count: field("shards").and_then(|text| text.parse().ok()).unwrap_or(1),
            in_flight_max: field("in_flight_max").and_then(|text| text.parse().ok()),
            process,
        })
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

/// The process with this id, if it is on this machine and bears the server's name: a container's ids are its own.
fn local_process(address: &Address, process_id: u32, kind: Kind) -> Option<Process> {
    if !address.resolve().ok()?.ip().is_loopback() {
        return None;
    }
    let process = Process::of(process_id).ok()?;
    let name = process.name().ok()?;
    let expected = kind.to_string().to_lowercase();
    // A Valkey may be run under Redis's name.
    (name.contains(&expected) || (kind == Kind::Valkey && name.contains("redis"))).then_some(process)
}

/// What the server says, or else its command line; unless told, it syncs before it answers.
fn own_durability(said: Option<&str>, process: Option<Process>) -> String {
    if let Some(said) = said {
        return format!("--sync {said}");
    }
    let Some(words) = process.and_then(|process| process.command_line().ok()) else {
        return "--sync not known".to_owned();
    };
    let told = words.iter().enumerate().find_map(|(place, word)| {
        word.strip_prefix("--sync=")
            .or_else(|| (word == "--sync").then(|| words.get(place + 1).map(String::as_str))?)
    });
    format!("--sync {}", told.unwrap_or("always"))
}

fn redis_durability(client: &mut RedisClient) -> String {
    let mut setting = |name: &str| match client.ask(&["CONFIG", "GET", name]) {
        Ok(super::redis_client::Value::Array(pair)) => pair.get(1).and_then(|value| value.text().map(str::to_owned)),
        _ => None,
    };
    match (setting("appendonly").as_deref(), setting("appendfsync")) {
        (Some("yes"), Some(when)) => format!("appendfsync {when}"),
        (Some("no"), _) => "no append-only file".to_owned(),
        _ => "durability not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "# Server\r\nredis_version:7.2.0\r\nversion:9\r\n";
        assert_eq!(field(info, "version"), Some("9"));
        assert_eq!(field(info, "redis_version"), Some("7.2.0"));
        assert_eq!(field(info, "redis"), None);
    }
}
