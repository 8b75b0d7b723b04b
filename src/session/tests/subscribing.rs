//! What a subscriber reads, and what it may say.

use super::{context_with, exchange, session};
use crate::session::settings::Number;
use crate::session::{Session, SessionLimits};

#[test]
fn a_subscriber_of_resp2_gets_arrays_and_may_say_little_else() {
    let mut session = session();
    assert_eq!(
        exchange(&mut session, b"SUBSCRIBE a b\r\nPSUBSCRIBE a*\r\n"),
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
         *3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:3\r\n"
    );
    assert_eq!(
        exchange(&mut session, b"PING\r\nPING x\r\nSTOCK.GET a\r\n"),
        "*2\r\n$4\r\npong\r\n$0\r\n\r\n*2\r\n$4\r\npong\r\n$1\r\nx\r\n\
         -ERR Can't execute 'stock.get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context\r\n"
    );
    assert_eq!(
        exchange(
            &mut session,
            b"UNSUBSCRIBE a nosuch\r\nPUNSUBSCRIBE\r\nUNSUBSCRIBE\r\nUNSUBSCRIBE\r\nECHO x\r\n"
        ),
        "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n*3\r\n$11\r\nunsubscribe\r\n$6\r\nnosuch\r\n:2\r\n\
         *3\r\n$12\r\npunsubscribe\r\n$2\r\na*\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n\
         *3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n$1\r\nx\r\n"
    );
}

#[test]
fn a_subscriber_of_resp3_gets_pushes_and_may_say_anything() {
    let mut session = session();
    exchange(&mut session, b"HELLO 3\r\n");
    assert_eq!(
        exchange(&mut session, b"SUBSCRIBE ab\r\nPSUBSCRIBE a*\r\nSSUBSCRIBE ab\r\n"),
        ">3\r\n$9\r\nsubscribe\r\n$2\r\nab\r\n:1\r\n>3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:2\r\n\
         >3\r\n$10\r\nssubscribe\r\n$2\r\nab\r\n:1\r\n"
    );
    assert_eq!(
        exchange(&mut session, b"PUBLISH ab hi\r\nSPUBLISH ab ho\r\nECHO x\r\n"),
        ">3\r\n$7\r\nmessage\r\n$2\r\nab\r\n$2\r\nhi\r\n\
         >4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$2\r\nhi\r\n:2\r\n\
         >3\r\n$8\r\nsmessage\r\n$2\r\nab\r\n$2\r\nho\r\n:1\r\n$1\r\nx\r\n"
    );
}

#[test]
fn a_subscription_begins_when_everything_before_it_is_answered() {
    let mut session = session();
    session.receive(b"STOCK.ADD a 1\r\nSUBSCRIBE a\r\nPING\r\n");
    let (sequence, request) = session.next_request().expect("the first command");
    assert!(session.next_request().is_none() && !session.is_subscriber());
    session.complete(sequence, super::answer(&request));
    assert!(session.next_request().is_none() && session.is_subscriber());
    assert!(session.output().starts_with(b":1\r\n*3\r\n$9\r\nsubscribe"));
    assert!(session.output().ends_with(b"pong\r\n$0\r\n\r\n"));
}

#[test]
fn a_connection_that_ends_leaves_its_channels() {
    let context = context_with(SessionLimits::DEFAULT);
    let mut session = Session::new(1, context.clone());
    exchange(&mut session, b"SUBSCRIBE a\r\nPSUBSCRIBE b\r\nSSUBSCRIBE c\r\n");
    assert!(!context.subscriptions.borrow().is_empty());
    drop(session);
    assert!(context.subscriptions.borrow().is_empty());
    let mut session = Session::new(2, context.clone());
    exchange(&mut session, b"SUBSCRIBE a\r\nRESET\r\n");
    assert!(context.subscriptions.borrow().is_empty());
}

#[test]
fn subscriptions_queued_commands_and_waiting_messages_are_bounded() {
    let context = context_with(SessionLimits::DEFAULT);
    let settings = &context.settings;
    settings.set_number(Number::SubscriptionsMax, 2);
    settings.set_number(Number::QueuedCommandsMax, 2);
    settings.set_number(Number::PubSubBytesMax, 2000);
    let mut session = Session::new(1, context.clone());
    let reply = exchange(&mut session, b"MULTI\r\nPING\r\nPING\r\nPING\r\nEXEC\r\n");
    assert!(
        reply.contains("ERR a MULTI has at most 2 commands") && reply.contains("EXECABORT"),
        "{reply}"
    );
    let reply = exchange(&mut session, b"SUBSCRIBE a b c\r\nSUBSCRIBE a b a\r\n");
    assert!(
        reply.starts_with("-ERR a connection has at most 2 subscriptions") && reply.ends_with(":2\r\n"),
        "{reply}"
    );
    let message = crate::session::server_task::Message {
        channel: b"a"[..].into(),
        payload: vec![0; 1500].into(),
        sharded: false,
    };
    settings.set_number(Number::PubSubSoftBytesMax, 1600);
    assert!(session.deliver(&message, None));
    assert!(session.deliver(&message, None), "less than both limits waited");
    assert!(!session.deliver(&message, None), "more than the hard limit waits");
    session.output().truncate(1700);
    assert!(
        session.deliver(&message, None),
        "the soft limit may be passed for a while"
    );
    session.output().truncate(1700);
    context.turn_us.set(context.turn_us.get() + 61_000_000);
    assert!(!session.deliver(&message, None), "but not for so long");
}

#[test]
fn where_a_password_is_set_nothing_is_served_without_it() {
    let context = context_with(SessionLimits::DEFAULT);
    context.settings.set_password(b"secret").unwrap();
    let mut session = Session::new(1, context.clone());
    let noauth = "-NOAUTH Authentication required.\r\n";
    for command in ["STOCK.GET a", "PING", "SUBSCRIBE a", "MULTI", "CLIENT ID", "INFO"] {
        assert_eq!(
            exchange(&mut session, format!("{command}\r\n").as_bytes()),
            noauth,
            "{command}"
        );
    }
    assert!(exchange(&mut session, b"HELLO 3\r\n").starts_with("-NOAUTH HELLO must be called"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    for attempt in ["AUTH secre", "AUTH other secret", "HELLO 3 AUTH default x"] {
        assert_eq!(
            exchange(&mut session, format!("{attempt}\r\n").as_bytes()),
            wrong,
            "{attempt}"
        );
    }
    assert_eq!(
        exchange(&mut session, b"AUTH secret\r\nPING\r\nRESET\r\nPING\r\n"),
        format!("+OK\r\n+PONG\r\n+RESET\r\n{noauth}")
    );
    assert!(exchange(&mut session, b"HELLO 3 AUTH default secret\r\n").starts_with("%7"));
    let mut native = Session::new(2, context);
    native.receive(
        &cartwright_protocol::native::ClientHello {
            version: cartwright_protocol::native::PROTOCOL_VERSION,
            shard: cartwright_protocol::native::SHARD_ANY,
        }
        .encode(),
    );
    assert!(native.is_closing(), "the native protocol cannot say a password");
}

#[test]
fn protected_mode_serves_this_machine_alone() {
    let refused = |peer: &str, context: &std::rc::Rc<crate::session::SessionContext>| {
        let mut session = Session::new(1, context.clone()).with_peer(peer.parse().unwrap());
        let reply = exchange(&mut session, b"PING\r\n");
        assert_eq!(reply.starts_with("-DENIED "), session.is_closing(), "{reply}");
        session.is_closing()
    };
    let context = context_with(SessionLimits::DEFAULT);
    for peer in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(!refused(peer, &context), "{peer}");
    }
    for peer in ["10.0.0.1:1", "0.0.0.0:1", "[::ffff:10.0.0.1]:1", "[2001:db8::1]:1"] {
        assert!(refused(peer, &context), "{peer}");
    }
    let mut session = Session::new(1, context.clone()).with_peer("10.0.0.1:1".parse().unwrap());
    assert_eq!(
        exchange(&mut session, b""),
        "-DENIED Cartwright runs in protected mode: no password is set, so that only clients on this machine are served. \
         Start the server with --requirepass-file (or --requirepass), or, where everybody who can reach the port may use \
         the shop, with --protected-mode no\r\n"
    );
    context.settings.set_number(Number::ProtectedMode, 0);
    assert!(!refused("10.0.0.1:1", &context));
    context.settings.set_number(Number::ProtectedMode, 1);
    context.settings.set_password(b"x").unwrap();
    let mut session = Session::new(1, context.clone()).with_peer("10.0.0.1:1".parse().unwrap());
    assert!(exchange(&mut session, b"PING\r\n").starts_with("-NOAUTH"));
}

#[test]
fn a_pause_holds_back_what_it_says_and_ends() {
    let context = context_with(SessionLimits::DEFAULT);
    let mut session = Session::new(1, context.clone());
    let now_ms = context.now_ms();
    let pause = |writes_only| {
        context.paused.set(Some(crate::session::Pause {
            until_ms: now_ms + 50,
            writes_only,
        }));
    };
    pause(true);
    assert_eq!(
        exchange(&mut session, b"PING\r\nSTOCK.ADD a 1\r\nPING\r\n"),
        "+PONG\r\n"
    );
    assert!(!session.wants_input());
    context.turn_us.set((now_ms + 50) * 1000);
    assert_eq!(exchange(&mut session, b""), ":1\r\n+PONG\r\n");
    context.turn_us.set(now_ms * 1000);
    pause(false);
    assert_eq!(
        exchange(&mut session, b"CLIENT UNPAUSE\r\nPING\r\n"),
        "+OK\r\n",
        "only an administrator goes on"
    );
}
