//! What commands answer, as Redis 7.2 does.

use cartwright_protocol::command::Flags;

use super::{Client, LISTS, request, script};
use crate::engine::Input;
use crate::engine::books::entries::Answer;

#[test]
fn strings_are_set_and_read_as_in_redis() {
    script(
        r#"
        GET a => nil
        SET a 1 => OK
        GET a => "1"
        SET a 2 NX => nil
        SET b 2 XX => nil
        SET a 2 XX GET => "1"
        SET a 3 NX GET => "2"
        GET a => "2"
        SET a 5 EX 10 PX 10 => -ERR syntax error
        SET a 5 EX x NX XX => -ERR syntax error
        SET e 5 EX 10 EX 20 => OK
        TTL e => 20
        SET a 5 NX XX => -ERR syntax error
        SET a 5 EX 0 => -ERR invalid expire time in 'set' command
        SET a 5 EX x => -ERR value is not an integer or out of range
        SET a 5 EX 10 => OK
        TTL a => 10
        SET a 6 KEEPTTL => OK
        TTL a => 10
        SET a 7 => OK
        TTL a => -1
        SETNX a 8 => 0
        SETNX c 8 => 1
        GETSET c 9 => "8"
        GETDEL c => "9"
        GETDEL c => nil
        SETEX c 100 v => OK
        TTL c => 100
        PSETEX c 0 v => -ERR invalid expire time in 'psetex' command
        GETEX c PERSIST => "v"
        TTL c => -1
        GETEX c EX 50 => "v"
        TTL c => 50
        GETEX c EX 50 PERSIST => -ERR syntax error
        APPEND c xyz => 4
        GET c => "vxyz"
        STRLEN c => 4
        APPEND d 12 => 2
        OBJECT ENCODING d => "int"
        APPEND d 3 => 3
        OBJECT ENCODING d => "raw"
        INCR d => 124
        OBJECT ENCODING d => "int"
        GETRANGE c 1 2 => "xy"
        GETRANGE c -3 -1 => "xyz"
        GETRANGE c 5 9 => ""
        SETRANGE c 6 ab => 8
        GET c => "vxyz\x00\x00ab"
        SETRANGE c -1 x => -ERR offset is out of range
        SETRANGE nothing 5 x => 6
        SETRANGE c 536870912 x => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        "#,
    );
}

#[test]
fn numbers_are_counted_as_in_redis() {
    script(
        "
        INCR n => 1
        INCRBY n 41 => 42
        DECR n => 41
        DECRBY n 50 => -9
        SET n 9223372036854775807 => OK
        INCR n => -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808 => -ERR decrement would overflow
        SET n x => OK
        INCR n => -ERR value is not an integer or out of range
        INCRBY n y => -ERR value is not an integer or out of range
        SET f 10.50 => OK
        INCRBYFLOAT f 0.1 => \"10.6\"
        INCRBYFLOAT f -5 => \"5.6\"
        INCRBYFLOAT f x => -ERR value is not a valid float
        SET f 5.0e3 => OK
        INCRBYFLOAT f 2.0e2 => \"5200\"
        HSET h a 1 => 1
        INCR h => -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}

#[test]
fn keys_come_and_go_as_in_redis() {
    script(
        r#"
        MSET a 1 b 2 c 3 => OK
        MGET a b x c => ["1" "2" nil "3"]
        MSETNX d 1 a 2 => 0
        MSETNX d 1 e 2 => 1
        EXISTS a a b nothing => 3
        DEL a a nothing => 1
        TYPE a => +none
        TYPE b => +string
        HSET h f v => 1
        TYPE h => +hash
        MGET h b => [nil "2"]
        GET h => -WRONGTYPE Operation against a key holding the wrong kind of value
        RENAME nothing b => -ERR no such key
        EXPIRE b 100 => 1
        RENAME b h => OK
        GET h => "2"
        TTL h => 100
        RENAMENX h c => 0
        RENAMENX h h2 => 1
        RENAME h2 h2 => OK
        COPY h2 h2 => -ERR source and destination objects are the same
        COPY h2 c => 0
        COPY h2 c REPLACE => 1
        COPY nothing c => 0
        MGET h2 c => ["2" "2"]
        TTL c => 100
        DBSIZE => 4
        KEYS h* => ["h2"]
        FLUSHALL => OK
        DBSIZE => 0
        KEYS * => []
        RANDOMKEY => nil
        SET only 1 => OK
        RANDOMKEY => "only"
        "#,
    );
}

#[test]
fn keys_expire_as_in_redis() {
    script(
        r#"
        SET a 1 => OK
        TTL a => -1
        TTL nothing => -2
        EXPIRE nothing 10 => 0
        EXPIRE a 10 => 1
        PTTL a => 10000
        EXPIRETIME a => 1010
        PEXPIRETIME a => 1010000
        EXPIRE a 20 NX => 0
        EXPIRE a 5 GT => 0
        EXPIRE a 20 GT => 1
        EXPIRE a 30 LT => 0
        EXPIRE a 10 LT XX => 1
        EXPIRE a 1 NX XX => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE a 1 GT LT => -ERR GT and LT options at the same time are not compatible
        EXPIRE a 1 SOON => -ERR Unsupported option SOON
        EXPIRE a 9223372036854775807 => -ERR invalid expire time in 'expire' command
        PERSIST a => 1
        PERSIST a => 0
        EXPIRE a 10 GT => 0
        EXPIRE a 10 LT => 1
        wait 9999 => .
        GET a => "1"
        wait 1 => .
        GET a => nil
        DBSIZE => 0
        SET a 1 => OK
        EXPIRE a -1 => 1
        EXISTS a => 0
        SET a 1 => OK
        EXPIREAT a 1 => 1
        EXISTS a => 0
        SET a 1 PX 100 => OK
        wait 100 => .
        INCR a => 1
        TTL a => -1
        SET a x PXAT 5 => OK
        GET a => nil
        "#,
    );
}

#[test]
fn hashes_hold_fields_as_in_redis() {
    script(
        r#"
        HSET h a 1 b 2 => 2
        HSET h a 3 c 4 => 1
        HSET h a => -ERR wrong number of arguments for 'hset' command
        HMSET h d 5 => OK
        HGETALL h => {"a" "3" "b" "2" "c" "4" "d" "5"}
        HGETALL nothing => {}
        HKEYS h => ["a" "b" "c" "d"]
        HVALS h => ["3" "2" "4" "5"]
        HGET h a => "3"
        HGET h x => nil
        HGET nothing x => nil
        HMGET h a x c => ["3" nil "4"]
        HMGET nothing a b => [nil nil]
        HLEN h => 4
        HEXISTS h a => 1
        HEXISTS h x => 0
        HSTRLEN h a => 1
        HSETNX h a 9 => 0
        HSETNX h e 9 => 1
        HDEL h a a x => 1
        HINCRBY h b 5 => 7
        HINCRBY h new -5 => -5
        HINCRBY h b x => -ERR value is not an integer or out of range
        HSET h text x => 1
        HINCRBY h text 1 => -ERR hash value is not an integer
        HINCRBYFLOAT h b 0.5 => "7.5"
        HINCRBYFLOAT h text 1 => -ERR hash value is not a float
        HINCRBYFLOAT h text inf => -ERR value is NaN or Infinity
        OBJECT ENCODING h => "listpack"
        HSCAN h 0 MATCH b => ["0" ["b" "7.5"]]
        HSCAN h 0 MATCH b NOVALUES => ["0" ["b"]]
        HSCAN h x => -ERR invalid cursor
        HSCAN h - => -ERR invalid cursor
        HSCAN h +00 MATCH b => ["0" ["b" "7.5"]]
        HDEL h b c d e new text => 6
        EXISTS h => 0
        HRANDFIELD h => nil
        HRANDFIELD h 5 => []
        HSET h only 1 => 1
        HRANDFIELD h => "only"
        HRANDFIELD h -3 => ["only" "only" "only"]
        HRANDFIELD h 3 WITHVALUES => ["only" "1"]
        SET s 1 => OK
        HSET s f v => -WRONGTYPE Operation against a key holding the wrong kind of value
        HGET s f => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn bits_are_those_of_redis() {
    script(
        r#"
        SETBIT b 7 1 => 0
        SETBIT b 7 1 => 1
        GETBIT b 7 => 1
        GETBIT b 100 => 0
        GET b => "\x01"
        SETBIT b x 1 => -ERR bit offset is not an integer or out of range
        SETBIT b 4294967296 1 => -ERR bit offset is not an integer or out of range
        SETBIT b 1 2 => -ERR bit is not an integer or out of range
        SET s foobar => OK
        BITCOUNT s => 26
        BITCOUNT s 0 0 => 4
        BITCOUNT s 1 1 => 6
        BITCOUNT s 5 30 BIT => 17
        BITCOUNT s 1 => -ERR syntax error
        BITCOUNT nothing => 0
        BITPOS s 1 => 1
        BITPOS s 0 => 0
        BITPOS s 2 => -ERR The bit argument must be 1 or 0.
        BITPOS s 1 -9 -12 => 1
        BITPOS nothing 1 => -1
        BITPOS nothing 1 x => -1
        BITCOUNT nothing x y => 0
        BITPOS nothing 0 => 0
        SETRANGE z 2 \x00 => 6
        BITPOS z 1 0 1 => -1
        SET one abc => OK
        SET other xyzw => OK
        BITOP AND to one other => 4
        GET to => "``b\x00"
        BITOP NOT to one other => -ERR BITOP NOT must be called with a single source key.
        BITOP XOR to one one => 3
        GET to => "\x00\x00\x00"
        OBJECT ENCODING to => "raw"
        BITOP OR to nothing nowhere => 0
        EXISTS to => 0
        BITFIELD f SET u8 0 255 INCRBY u8 0 10 => [0 9]
        BITFIELD f OVERFLOW SAT INCRBY u8 0 255 GET u8 0 => [255 255]
        BITFIELD f OVERFLOW FAIL INCRBY u8 0 1 => [nil]
        BITFIELD f SET i5 #1 -3 GET i5 #1 => [-4 -3]
        BITFIELD f GET u8 9223372036854775807 => -ERR bit offset is not an integer or out of range
        BITFIELD sat OVERFLOW SAT SET u8 0 -1 GET u8 0 => [0 255]
        BITFIELD grown OVERFLOW FAIL INCRBY u8 16 300 => [nil]
        STRLEN grown => 3
        SET int 5 => OK
        BITFIELD int OVERFLOW FAIL SET u2 0 5 => [nil]
        OBJECT ENCODING int => "raw"
        BITFIELD_RO f SET u4 0 1 2 => -ERR syntax error
        BITFIELD f GET u64 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
        BITFIELD_RO f GET u4 0 => [15]
        BITFIELD_RO f SET u4 0 1 => -ERR BITFIELD_RO only supports the GET subcommand
        SET l1 ohmytext => OK
        SET l2 mynewtext => OK
        LCS l1 l2 => "mytext"
        LCS l1 l2 LEN => 6
        LCS l1 l2 IDX MINMATCHLEN 4 WITHMATCHLEN => {"matches" [[[4 7] [5 8] 4]] "len" 6}
        LCS l1 l2 IDX LEN => -ERR If you want both the length and indexes, please just use IDX.
        "#,
    );
}

#[test]
fn a_hash_of_many_short_fields_is_restored_with_no_more_room_than_its_dump_takes() {
    let mut client = Client::new(1);
    let names: Vec<String> = (0..20_000).map(|number| format!("{number:08}")).collect();
    let mut words = vec![&b"HSET"[..], b"h"];
    words.extend(names.iter().flat_map(|name| [name.as_bytes(), b"12345678"]));
    assert_eq!(client.call(request(&words)), Answer::Integer(20_000));
    let Answer::Bulk(payload) = client.call(request(&[b"DUMP", b"h"])) else {
        panic!("a dump is a string")
    };
    let space = Input::LogSpace {
        bytes: payload.len() as u64 + 10_000,
        piece_bytes: 0,
        blocked: None,
    };
    client.cluster.input(0, space);
    assert_eq!(client.call(request(&[b"RESTORE", b"g", b"0", &payload])), Answer::Ok);
    assert_eq!(client.run("HLEN g"), "20000");
}

#[test]
fn a_dumped_value_comes_back_and_a_damaged_one_is_refused() {
    for shard_count in [1, 4] {
        let mut client = Client::new(shard_count);
        client.run("HSET h a 1 b 2");
        let Answer::Bulk(payload) = client.call(request(&[b"DUMP", b"h"])) else {
            panic!("a payload")
        };
        assert_eq!(client.call(request(&[b"RESTORE", b"g", b"5000", &payload])), Answer::Ok);
        assert_eq!(client.run("HGETALL g"), r#"{"a" "1" "b" "2"}"#);
        assert_eq!(client.run("PTTL g"), "5000");
        let busy = Answer::error("BUSYKEY Target key name already exists.");
        assert_eq!(client.call(request(&[b"RESTORE", b"g", b"0", &payload])), busy);
        for index in 0..payload.len() {
            let mut damaged = payload.to_vec();
            damaged[index] ^= 1;
            let answer = client.call(request(&[b"RESTORE", b"x", b"0", &damaged]));
            assert_eq!(answer, Answer::error("ERR DUMP payload version or checksum are wrong"));
        }
        assert_eq!(client.run("DUMP nothing"), "nil");
        client.check();
    }
}

#[test]
fn what_takes_too_much_log_is_refused_and_changes_nothing() {
    let mut client = Client::new(4);
    let large = vec![b'x'; 5 << 20];
    let of_several_shards = client.call(request(&[b"MSET", b"a", b"1", b"b", &large]));
    let Answer::Error(text) = of_several_shards else {
        panic!("{of_several_shards:?} is no refusal")
    };
    assert!(
        text.starts_with("ERR the change of keys on several shards may take"),
        "{text}"
    );
    assert_eq!(client.run("DBSIZE"), "0");
    // Field by field a hash grows beyond what can be moved to another shard.
    for field in 0..5 {
        let name = [b'0' + field];
        client.call(request(&[b"HSET", b"h", &name, &large[..1 << 20]]));
    }
    assert!(client.run("RENAME h g").starts_with("-ERR the change takes"));
    assert_eq!(client.run("HLEN h"), "5");
    assert_eq!(client.run("EXISTS g"), "0");
    assert_eq!(client.run("RENAME h {h}g"), "OK");
    assert_eq!(client.run("HLEN {h}g"), "5");
    client.check();
}

#[test]
fn changes_of_one_shard_may_be_large() {
    let mut client = Client::new(1);
    let large = vec![b'x'; 5 << 20];
    assert_eq!(client.call(request(&[b"MSET", b"a", b"1", b"b", &large])), Answer::Ok);
    assert_eq!(client.run("APPEND b x"), "5242881");
    assert_eq!(client.run("COPY b c"), "1");
    assert_eq!(client.run("BITOP NOT d b"), "5242881");
    let Answer::Bulk(payload) = client.call(request(&[b"DUMP", b"c"])) else {
        panic!("a key has a payload")
    };
    assert_eq!(client.call(request(&[b"RESTORE", b"e", b"0", &payload])), Answer::Ok);
    assert_eq!(client.run("STRLEN e"), "5242881");
    client.check();
}

#[test]
fn a_full_table_takes_what_removes_and_nothing_else_that_writes() {
    let mut client = Client::new(1);
    for command in ["SET a 1", "SET b 1", "SET c 1", "SET d 1", "HSET h f 1 g 2"] {
        client.run(command);
    }
    client.cluster.shards[0].limits.books.entries.entries_max = 1;
    for refused in [
        "SET z 1",
        "SET a 2",
        "EXPIRE a 100",
        "RENAME a b",
        "HSET h f 2",
        "INCR a",
    ] {
        let answer = client.run(refused);
        assert!(answer.starts_with("-BUSY"), "{refused}: {answer}");
    }
    assert_eq!(
        client.execute(&["DEL a", "SET z 1"]),
        "-BUSY shard 0 has 1 keys, its limit; try again in a moment"
    );
    for (command, expected) in [
        ("GET a", "\"1\""),
        ("GETDEL a", "\"1\""),
        ("DEL b", "1"),
        ("UNLINK c", "1"),
        ("HDEL h f", "1"),
        ("FLUSHDB", "OK"),
    ] {
        assert_eq!(client.run(command), expected, "{command}");
    }
    assert_eq!(client.run("DBSIZE"), "0");
}

#[test]
fn only_what_writes_is_said_to_remove_or_to_carry() {
    for command in LISTS.iter().copied().flatten() {
        assert!(
            command.writes() || !(command.removes_only() || command.carries()),
            "{}",
            command.name
        );
        assert!(
            !command.removes_only() || !command.flags.has(Flags::DENYOOM),
            "{}",
            command.name
        );
    }
}
