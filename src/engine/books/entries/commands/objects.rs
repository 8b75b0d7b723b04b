//! Commands about how values are held, and those that carry one elsewhere.

use cartwright_protocol::command::{Group, KEY_OF_SUBCOMMAND, ONE_KEY};
use cartwright_protocol::resp::{Arguments, parse_i64};
use crc::{CRC_64_REDIS, Crc, Table};

use super::spec::{CommandSpec, Scope};
use super::{READ, WRITE_MORE, argument, either, first, integer};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::image::{image_bytes_max, put_image, read_image};
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::types::Value;
use crate::engine::books::entries::value::Entry;
use crate::engine::kernel::ids::Timestamp;

/// The version of RDB that payloads name, as Redis 7.2.
const PAYLOAD_VERSION: u16 = 11;
const PAYLOAD_FOOTER_BYTES: usize = 10;

/// Tells a payload of this server's from one of Redis's: no type of RDB has this number.
const PAYLOAD_KIND: u8 = 0xC7;

/// CRC-64 of Jones, as Redis; a table of sixteen bytes a step, since a payload may be half a gigabyte.
static CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[&DUMP, &RESTORE];

/// `OBJECT ENCODING`
pub static OBJECT_ENCODING: CommandSpec = CommandSpec {
    name: "object|encoding",
    arity: 3,
    flags: READ,
    keys: KEY_OF_SUBCOMMAND,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives how a key's value is held.",
    scope: Scope::Keys,
    run: |keys, arguments| about(keys, arguments, |entry| Answer::bulk(entry.value.encoding().as_bytes())),
};

/// `OBJECT IDLETIME`
pub static OBJECT_IDLETIME: CommandSpec = CommandSpec {
    name: "object|idletime",
    arity: 3,
    flags: READ,
    keys: KEY_OF_SUBCOMMAND,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives 0 for a key that is there.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        // Nothing is evicted, so nobody counts.
        about(keys, arguments, |_| Answer::Integer(0))
    },
};

/// `OBJECT FREQ`
pub static OBJECT_FREQ: CommandSpec = CommandSpec {
    name: "object|freq",
    arity: 3,
    flags: READ,
    keys: KEY_OF_SUBCOMMAND,
    group: Group::Keys,
    syntax: "key",
    summary: "Refused, as uses are not counted.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        about(keys, arguments, |_| {
            Answer::error(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
            )
        })
    },
};

/// `OBJECT REFCOUNT`
pub static OBJECT_REFCOUNT: CommandSpec = CommandSpec {
    name: "object|refcount",
    arity: 3,
    flags: READ,
    keys: KEY_OF_SUBCOMMAND,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives 1 for a key that is there.",
    scope: Scope::Keys,
    run: |keys, arguments| about(keys, arguments, |entry| Answer::Integer(entry.value.references())),
};

/// `MEMORY USAGE`
pub static MEMORY_USAGE: CommandSpec = CommandSpec {
    name: "memory|usage",
    arity: -3,
    flags: READ,
    keys: KEY_OF_SUBCOMMAND,
    group: Group::Server,
    syntax: "key [SAMPLES count]",
    summary: "Gives the bytes that a key takes.",
    scope: Scope::Keys,
    run: |keys, arguments| either(memory_usage(keys, arguments)),
};

/// `DUMP`
pub static DUMP: CommandSpec = CommandSpec {
    name: "dump",
    arity: 2,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives what a key holds, for RESTORE.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        let Some(entry) = keys.find(name) else {
            return Answer::Nil;
        };
        let mut payload = Vec::with_capacity(image_bytes_max(&entry.value) + PAYLOAD_FOOTER_BYTES + 1);
        payload.push(PAYLOAD_KIND);
        put_image(&mut payload, &entry.value);
        payload.extend_from_slice(&PAYLOAD_VERSION.to_le_bytes());
        let checksum = CHECKSUM.checksum(&payload);
        payload.extend_from_slice(&checksum.to_le_bytes());
        Answer::bulk(&payload)
    },
};

/// `RESTORE`
pub static RESTORE: CommandSpec = CommandSpec {
    name: "restore",
    arity: -4,
    flags: WRITE_MORE,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    summary: "Makes a key from what DUMP gave.",
    scope: Scope::Keys,
    run: |keys, arguments| either(restore(keys, arguments)),
};

/// The key of a container's subcommand is its second argument.
fn about(keys: &mut Keys<'_>, arguments: Arguments<'_>, tell: impl FnOnce(&Entry) -> Answer) -> Answer {
    let name = keys.name(arguments, 2);
    keys.find(name).map_or(Answer::Nil, tell)
}

fn memory_usage(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    match (arguments.len(), arguments.get(3)) {
        (3, _) => {}
        (5, Some(word)) if word.eq_ignore_ascii_case(b"SAMPLES") => {
            if integer(arguments, 4)? < 0 {
                return Err(Answer::syntax_error());
            }
        }
        _ => return Err(Answer::syntax_error()),
    }
    Ok(about(keys, arguments, |entry| {
        Answer::count(size_of::<Entry>() + entry.key.heap_bytes() + entry.value.heap_bytes())
    }))
}

fn restore(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let (mut replaces, mut is_absolute, mut index) = (false, false, 4);
    let (mut tells_idle_time, mut tells_frequency) = (false, false);
    while let Some(word) = arguments.get(index) {
        let is = |option: &str| word.eq_ignore_ascii_case(option.as_bytes());
        let value = arguments.get(index + 1);
        match value {
            _ if is("REPLACE") => replaces = true,
            _ if is("ABSTTL") => is_absolute = true,
            Some(value) if is("IDLETIME") && !tells_frequency || is("FREQ") && !tells_idle_time => {
                (tells_idle_time, tells_frequency) = (is("IDLETIME"), is("FREQ"));
                let value = parse_i64(value).ok_or_else(Answer::not_an_integer)?;
                if is("IDLETIME") && value < 0 {
                    return Err(Answer::error("ERR Invalid IDLETIME value, must be >= 0"));
                }
                if is("FREQ") && !(0..=255).contains(&value) {
                    return Err(Answer::error("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
                index += 1;
            }
            _ => return Err(Answer::syntax_error()),
        }
        index += 1;
    }
    let name = first(keys, arguments);
    if !replaces && keys.find(name).is_some() {
        return Err(Answer::error("BUSYKEY Target key name already exists."));
    }
    let ttl = integer(arguments, 2)?;
    let ttl = u64::try_from(ttl).map_err(|_| Answer::error("ERR Invalid TTL value, must be >= 0"))?;
    let payload = argument(arguments, 3);
    let value = value_of(payload)?;
    let expires_at = match (ttl, is_absolute) {
        (0, _) => Timestamp::default(),
        (at, true) => Timestamp(at),
        (ttl, false) => Timestamp(ttl + keys.now.unix_ms()),
    };
    // What lies behind the end of Redis's time is over, for Redis.
    let is_over = expires_at <= keys.now || i64::try_from(expires_at.unix_ms()).is_err();
    if expires_at != Timestamp::default() && is_over {
        keys.delete(name);
        return Ok(Answer::Ok);
    }
    keys.put(name, &value, expires_at, payload.len())?;
    Ok(Answer::Ok)
}

fn value_of(payload: &[u8]) -> Result<Value, Answer> {
    let wrong = || Answer::error("ERR DUMP payload version or checksum are wrong");
    let (rest, checksum) = payload.split_last_chunk::<8>().ok_or_else(wrong)?;
    let (content, version) = rest.split_last_chunk::<2>().ok_or_else(wrong)?;
    if u16::from_le_bytes(*version) > PAYLOAD_VERSION || u64::from_le_bytes(*checksum) != CHECKSUM.checksum(rest) {
        return Err(wrong());
    }
    let value = match content.split_first() {
        Some((&PAYLOAD_KIND, image)) => read_image(image),
        _ => None,
    };
    match value {
        // Held as it would be if it was set.
        Some(value) => Ok(value.encoded_anew()),
        None => Err(Answer::error("ERR Bad data format")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_redis() {
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_checksum_of_many_bytes_is_that_of_bit_after_bit() {
        const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
        let bytes: Vec<u8> = (0..200u32).map(|at| (at * at / 3) as u8).collect();
        let mut crc = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            assert_eq!(CHECKSUM.checksum(&bytes[..at]), crc, "{at} bytes");
            crc ^= u64::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ POLYNOMIAL };
            }
        }
    }
}
