//! What RESP commands answer, to the letter.

use super::{command, exchange, order_id, session};
use crate::session::commands;

#[track_caller]
fn answers(input: &str, expected: &str) {
    assert_eq!(exchange(&mut session(), input.as_bytes()), expected, "{input}");
}

#[test]
fn redis_commands_answer_in_the_words_of_redis() {
    for (input, expected) in [
        ("PING\r\n", "+PONG\r\n"),
        ("ping hello\r\n", "$5\r\nhello\r\n"),
        ("PING a b\r\n", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("SELECT 0\r\n", "+OK\r\n"),
        ("SELECT abc\r\n", "-ERR value is not an integer or out of range\r\n"),
        ("SELECT 99\r\n", "-ERR DB index is out of range\r\n"),
        ("HELLO 4\r\n", "-NOPROTO unsupported protocol version\r\n"),
        (
            "HELLO x\r\n",
            "-ERR Protocol version is not an integer or out of range\r\n",
        ),
        ("HELLO 3 FOO\r\n", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        ("HELLO 2 SETNAME\r\n", "-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        (
            "HELLO 2 AUTH foo bar baz\r\n",
            "-ERR Syntax error in HELLO option 'baz'\r\n",
        ),
        (
            "HELLO 2 AUTH foo bar\r\n",
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        ),
        ("AUTH default x\r\n", "+OK\r\n"),
        ("AUTH\r\n", "-ERR wrong number of arguments for 'auth' command\r\n"),
        (
            "FOO a b\r\n",
            "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' \r\n",
        ),
        ("FOO\r\n", "-ERR unknown command 'FOO', with args beginning with: \r\n"),
        (
            "FOO \"a\\nb\"\r\n",
            "-ERR unknown command 'FOO', with args beginning with: 'a b' \r\n",
        ),
        ("CLIENT FOO\r\n", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n"),
        ("CLIENT\r\n", "-ERR wrong number of arguments for 'client' command\r\n"),
        (
            "CLIENT SETNAME\r\n",
            "-ERR wrong number of arguments for 'client|setname' command\r\n",
        ),
        (
            "CONFIG GET\r\n",
            "-ERR wrong number of arguments for 'config|get' command\r\n",
        ),
        ("CONFIG GET save\r\n", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (
            "CONFIG SET port 1\r\n",
            "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config\r\n",
        ),
        (
            "CONFIG SET save \"\" timeout 5\r\nCONFIG GET timeout\r\n",
            "+OK\r\n*2\r\n$7\r\ntimeout\r\n$1\r\n5\r\n",
        ),
        (
            "CONFIG SET timeout 6 nosuch 1\r\nCONFIG GET timeout\r\n",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n",
        ),
        ("TIME\r\n", "*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n"),
        ("WAIT 1 100\r\n", ":0\r\n"),
        ("WAIT x 100\r\n", "-ERR value is not an integer or out of range\r\n"),
        ("WAIT -1 0\r\n", ":0\r\n"),
        ("WAIT 1 x\r\n", "-ERR timeout is not an integer or out of range\r\n"),
        ("CLIENT PAUSE -1\r\n", "-ERR timeout is negative\r\n"),
        (
            "CLIENT PAUSE 1 ALL x\r\n",
            "-ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.\r\n",
        ),
        ("SHUTDOWN NOSAVE SAVE\r\nPING\r\n", "-ERR syntax error\r\n+PONG\r\n"),
        ("SHUTDOWN ABORT NOW\r\nPING\r\n", "-ERR syntax error\r\n+PONG\r\n"),
        (
            "SELECT 2147483648\r\n",
            "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
        ),
        ("MULTI\r\nUNWATCH\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"),
        (
            "FOO \"a\\x00b\"\r\n",
            "-ERR unknown command 'FOO', with args beginning with: 'a' \r\n",
        ),
        ("CONFIG GET SAVE\r\n", "*2\r\n$4\r\nSAVE\r\n$0\r\n\r\n"),
        (
            "CONFIG SET timeout x\r\n",
            "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an \
             integer\r\n",
        ),
        (
            "CONFIG SET timeout -1\r\n",
            "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument must be between 0 and \
             2147483647 inclusive\r\n",
        ),
        (
            "CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n",
            "+OK\r\n+PONG\r\n",
        ),
        ("CLIENT REPLY SKIP\r\nPING\r\nPING\r\n", "+PONG\r\n"),
        ("EXEC\r\n", "-ERR EXEC without MULTI\r\n"),
        ("DISCARD\r\n", "-ERR DISCARD without MULTI\r\n"),
        (
            "MULTI\r\nMULTI\r\nEXEC\r\n",
            "+OK\r\n-ERR MULTI calls can not be nested\r\n*0\r\n",
        ),
        (
            "MULTI\r\nPING\r\nPUBLISH a b\r\nECHO x\r\nEXEC\r\nPING\r\n",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+PONG\r\n:0\r\n$1\r\nx\r\n+PONG\r\n",
        ),
        (
            "MULTI\r\nPING\r\nDISCARD\r\nPING\r\n",
            "+OK\r\n+QUEUED\r\n+OK\r\n+PONG\r\n",
        ),
        (
            "MULTI\r\nPING a b c\r\nEXEC\r\n",
            "+OK\r\n+QUEUED\r\n*1\r\n-ERR wrong number of arguments for 'ping' command\r\n",
        ),
        (
            "MULTI\r\nECHO\r\nEXEC\r\nPING\r\n",
            "+OK\r\n-ERR wrong number of arguments for 'echo' command\r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n+PONG\r\n",
        ),
        (
            "MULTI\r\nSUBSCRIBE a\r\nEXEC\r\n",
            "+OK\r\n-ERR Command not allowed inside a transaction\r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
        (
            "MULTI\r\nSTOCK.GET a\r\nEXEC\r\n",
            "+OK\r\n-ERR 'stock.get' cannot be part of a MULTI: of the shop's commands CHECKOUT, ORDER.CONFIRM and ORDER.CANCEL \
             can be. Send it before MULTI or after EXEC\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
        ("PUBLISH a hello\r\n", ":0\r\n"),
        ("CLIENT GETNAME\r\n", "$-1\r\n"),
        ("CLIENT SETNAME ab\r\nCLIENT GETNAME\r\n", "+OK\r\n$2\r\nab\r\n"),
        (
            "CLIENT SETNAME \"a b\"\r\n",
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        ),
        (
            "CLIENT SETINFO LIB-NAME redis-py\r\nCLIENT SETINFO lib-ver 5.0\r\n",
            "+OK\r\n+OK\r\n",
        ),
        ("CLIENT SETINFO FOO x\r\n", "-ERR Unrecognized option 'FOO'\r\n"),
        ("CLIENT ID\r\n", ":7\r\n"),
        ("CLIENT NO-EVICT on\r\n", "+OK\r\n"),
        ("CLIENT NO-EVICT x\r\n", "-ERR syntax error\r\n"),
        (
            "COMMAND FOO\r\n",
            "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n",
        ),
        ("COMMAND GETKEYS item.get a\r\n", "*1\r\n$1\r\na\r\n"),
        (
            "COMMAND GETKEYS order.get 5\r\n",
            "-ERR The command has no key arguments\r\n",
        ),
        ("COMMAND GETKEYS foo 5\r\n", "-ERR Invalid command specified\r\n"),
        ("COMMAND LIST FILTERBY PATTERN item.p*\r\n", "*1\r\n$8\r\nitem.put\r\n"),
        ("COMMAND LIST FILTERBY FOO x\r\n", "-ERR syntax error\r\n"),
        ("COMMAND INFO nosuch\r\n", "*1\r\n*-1\r\n"),
        ("RESET\r\nQUIT\r\nPING\r\n", "+RESET\r\n+OK\r\n"),
        ("\r\n\r\nPING\r\n", "+PONG\r\n"),
    ] {
        answers(input, expected);
    }
}

#[test]
fn an_unknown_command_is_cut_where_redis_cuts_it() {
    let input = format!("{} {} bbb\r\n", "F".repeat(200), "a".repeat(200));
    let expected = format!(
        "-ERR unknown command '{}', with args beginning with: '{}' \r\n",
        "F".repeat(128),
        "a".repeat(128)
    );
    answers(&input, &expected);
}

#[test]
fn hello_switches_the_version_and_tells_about_the_server() {
    let hello = "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.5\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n\
                 $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
    answers(
        "HELLO 3 AUTH default x SETNAME foo\r\nCLIENT GETNAME\r\n",
        &format!("%7\r\n{hello}$3\r\nfoo\r\n"),
    );
    answers("HELLO\r\n", &format!("*14\r\n{}", hello.replace(":3", ":2")));
}

#[test]
fn info_has_what_clients_look_for() {
    let mut session = session();
    let info = exchange(&mut session, b"INFO\r\n");
    for line in [
        "redis_version:7.2.5\r\n",
        "loading:0\r\n",
        "uptime_in_seconds:90\r\n",
        "connected_clients:3\r\n",
        "shards:2\r\n",
    ] {
        assert!(info.contains(line), "{line} in {info}");
    }
    assert!(info.contains("cartwright_version:"));
    let clients = exchange(&mut session, b"INFO clients\r\n");
    assert!(
        clients.contains("# Clients\r\n") && !clients.contains("# Server"),
        "{clients}"
    );
    assert!(exchange(&mut session, b"HELLO 3\r\nINFO nosuch\r\n").ends_with("=4\r\ntxt:\r\n"));
}

#[test]
fn maps_have_their_fields_in_both_versions() {
    let id = order_id();
    let line = "$3\r\nsku\r\n$5\r\n22423\r\n$5\r\nprice\r\n:250\r\n$7\r\nordered\r\n:5\r\n$9\r\ncancelled\r\n:1\r\n\
                $7\r\nshipped\r\n:2\r\n$8\r\nreturned\r\n:0\r\n";
    let placed = "$5\r\nstate\r\n$6\r\nplaced\r\n";
    let money = "$5\r\ntotal\r\n:1250\r\n$8\r\ncurrency\r\n$3\r\nGBP\r\n";
    for (input, pairs, body) in [
        (
            "ITEM.GET 22423\r\n".to_owned(),
            6,
            "$3\r\nsku\r\n$5\r\n22423\r\n$5\r\nprice\r\n:250\r\n$8\r\ncurrency\r\n$3\r\nGBP\r\n$4\r\nname\r\n\
             $7\r\na thing\r\n$5\r\nlimit\r\n:3\r\n$9\r\nbackorder\r\n:0\r\n"
                .to_owned(),
        ),
        (
            "STOCK.GET 22423 LOCATION leeds\r\n".to_owned(),
            4,
            "$7\r\non_hand\r\n:10\r\n$4\r\nheld\r\n:2\r\n$9\r\ncommitted\r\n:9\r\n$9\r\navailable\r\n:-1\r\n"
                .to_owned(),
        ),
        (
            "CHECKOUT ann KEY k LINES 1 22423 5\r\n".to_owned(),
            5,
            format!("$2\r\nid\r\n:{id}\r\n{placed}{money}$10\r\nexpires_at\r\n:0\r\n"),
        ),
        (
            "AUDIT\r\n".to_owned(),
            6,
            "$5\r\nitems\r\n:1\r\n$6\r\norders\r\n:0\r\n$5\r\nlines\r\n:0\r\n$10\r\nviolations\r\n:0\r\n\
             $10\r\nstate_hash\r\n$16\r\n00000000000000ab\r\n$9\r\npaused_ms\r\n:0\r\n"
                .to_owned(),
        ),
    ] {
        answers(&input, &format!("*{}\r\n{body}", pairs * 2));
        let mut session = session();
        exchange(&mut session, b"HELLO 3\r\n");
        assert_eq!(exchange(&mut session, input.as_bytes()), format!("%{pairs}\r\n{body}"));
    }
    let order = format!(
        "$2\r\nid\r\n:{id}\r\n$8\r\ncustomer\r\n$3\r\nann\r\n{placed}$8\r\ncurrency\r\n$3\r\nGBP\r\n$5\r\ntotal\r\n:1250\r\n\
         $10\r\ncreated_at\r\n:11\r\n$10\r\nupdated_at\r\n:12\r\n$10\r\nexpires_at\r\n:0\r\n$5\r\nlines\r\n*1\r\n"
    );
    answers(&format!("ORDER.GET {id}\r\n"), &format!("*18\r\n{order}*12\r\n{line}"));
    answers(
        "ORDER.LIST ann COUNT 5\r\n",
        &format!(
            "*1\r\n*10\r\n$2\r\nid\r\n:{id}\r\n$5\r\nstate\r\n$7\r\nexpired\r\n{money}$10\r\ncreated_at\r\n:5\r\n"
        ),
    );
}

#[test]
fn shop_commands_take_their_keywords_in_any_case_and_order() {
    for (input, expected) in [
        (
            "item.put sku 1 GBP key k name \"a b\" LIMIT 0 backorder 5\r\n",
            "+OK\r\n",
        ),
        (
            "STOCK.ADD \"BANK CHARGES\" -5 REASON lost location leeds KEY k\r\n",
            ":-5\r\n",
        ),
        ("ITEM.GET none\r\n", "$-1\r\n"),
        ("ORDER.GET 5\r\n", "$-1\r\n"),
        ("ORDER.LIST ann BEFORE 5\r\n", "*0\r\n"),
        ("ORDER.CANCEL 987654321 KEY k\r\n", "$9\r\ncancelled\r\n"),
        ("ORDER.CONFIRM 987654321\r\n", "$6\r\nplaced\r\n"),
        (
            "CHECKOUT ann KEY k LINES 1 a 101\r\n",
            "-OUTOFSTOCK 22423 wanted 101, available 3\r\n",
        ),
    ] {
        answers(input, expected);
    }
    let held = exchange(&mut session(), b"checkout ann hold 400 key k lines 2 a 1 a 1\r\n");
    assert!(
        held.contains("held") && held.ends_with("expires_at\r\n:400\r\n"),
        "{held}"
    );
}

#[test]
fn a_refused_argument_is_named() {
    let too_long = "x".repeat(41);
    for (input, expected) in [
        (
            "ITEM.PUT a -1 GBP",
            "ERR price must be an integer of minor units from 0 to 1000000000000000",
        ),
        (
            "ITEM.PUT a 1 POUNDS",
            "ERR currency must be an ISO 4217 code: three capital letters",
        ),
        ("ITEM.PUT a 1", "ERR wrong number of arguments for 'item.put' command"),
        ("ITEM.PUT \"a\\nb\" 1 GBP", "ERR sku contains a control character"),
        (&format!("ITEM.PUT {too_long} 1 GBP"), "ERR sku is longer than 40 bytes"),
        (
            "ITEM.PUT a 1 GBP COLOR red",
            "ERR syntax error: argument 4 is none of NAME, LIMIT, BACKORDER, KEY",
        ),
        ("ITEM.PUT a 1 GBP NAME", "ERR syntax error: NAME needs a value"),
        ("ITEM.PUT a 1 GBP KEY k KEY k", "ERR syntax error: KEY is given twice"),
        ("ITEM.PUT a 1 GBP KEY \"\"", "ERR KEY is empty"),
        (
            "STOCK.ADD a 0",
            "ERR delta must be an integer from -1000000000 to 1000000000, not 0",
        ),
        ("STOCK.GET a LOCATION \"\"", "ERR LOCATION is empty"),
        (
            "CHECKOUT ann KEY k LINES",
            "ERR wrong number of arguments for 'checkout' command",
        ),
        (
            "CHECKOUT ann HOLD 5 LINES 1 a 1",
            "ERR syntax error: CHECKOUT needs a KEY, so that a retry is no second order",
        ),
        (
            "CHECKOUT ann KEY k HOLD 5 HOLD 6",
            "ERR syntax error: HOLD is given twice",
        ),
        ("CHECKOUT ann KEY k HOLD 5", "ERR syntax error: CHECKOUT needs LINES"),
        (
            "CHECKOUT ann KEY k HOLD 0 LINES 1 a 1",
            "ERR HOLD must be an integer of milliseconds from 1 to 604800000",
        ),
        (
            "CHECKOUT ann KEY k LINES 2 a 1",
            "ERR syntax error: LINES 2 is followed by 4 arguments, sku and qty of each line, not by 2",
        ),
        (
            "CHECKOUT ann KEY k LINES 2 a 1 b 1.5",
            "ERR qty of line 2 must be an integer from 1 to 1000000000",
        ),
        (
            "CHECKOUT ann KEY k LINES 1 a 10000000000",
            "ERR qty of line 1 must be an integer from 1 to 1000000000",
        ),
        (
            "CHECKOUT ann KEY k LINES 0 a 1",
            "ERR LINES must be an integer from 1 to 4096",
        ),
        (
            "CHECKOUT ann KEY k LINES 4097 a 1",
            "TOOBIG a cart has at most 4096 lines, this one has 4097",
        ),
        (
            "ORDER.GET abc",
            "ERR id must be an order id: a positive integer below 2^63",
        ),
        ("ORDER.CANCEL 5", "NOORDER 5"),
        (
            "ORDER.LIST ann COUNT 1001",
            "ERR COUNT must be an integer from 1 to 1000",
        ),
    ] {
        answers(&format!("{input}\r\n"), &format!("-{expected}\r\n"));
    }
}

#[test]
fn every_row_of_the_table_is_described() {
    let mut session = session();
    let count = commands::count();
    assert_eq!(exchange(&mut session, b"COMMAND COUNT\r\n"), format!(":{count}\r\n"));
    let bare = exchange(&mut session, b"COMMAND\r\n");
    assert_eq!(exchange(&mut session, b"COMMAND INFO\r\n"), bare);
    assert!(bare.starts_with(&format!(
        "*{count}\r\n*10\r\n$8\r\nitem.put\r\n:-4\r\n*3\r\n+write\r\n+fast\r\n+no_multi\r\n:1\r\n:1\r\n:1\r\n"
    )));
    exchange(&mut session, b"HELLO 3\r\n");
    let docs = exchange(&mut session, b"COMMAND DOCS\r\n");
    assert!(docs.starts_with(&format!("%{count}\r\n")));
    for row in commands::all() {
        assert!(bare.contains(row.name) && docs.contains(row.summary), "{}", row.name);
        if !row.subcommands.is_empty() {
            let help = exchange(&mut session, &command(&[row.name, "HELP"]));
            assert!(
                row.subcommands
                    .iter()
                    .all(|subcommand| help.contains(subcommand.summary)),
                "{help}"
            );
        }
    }
}

#[test]
fn a_browser_gets_no_further_than_its_first_lines() {
    let mut session = session();
    let request = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSTOCK.ADD a 1\r\n";
    let reply = exchange(&mut session, request);
    assert_eq!(reply.matches("\r\n").count(), 1, "{reply}");
    assert!(session.is_closing());
}
