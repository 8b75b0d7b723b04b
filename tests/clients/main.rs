//! The clients people use, against this server: each works unmodified, and finds what it expects of a Redis.
//!
//! The environments of Python and Node are made under `target/clients` the first time, from the pinned versions beside
//! this file. They, and Debian's `redis-tools`, are left out where `CARTWRIGHT_SKIP_CLIENTS` is set.

mod environment;
mod fred_rs;
mod redis_rs;
mod redis_tools;
mod script;
mod versions;

use environment::Environment;

/// Variable that leaves out the clients that are programs of their own.
const SKIP_VARIABLE: &str = "CARTWRIGHT_SKIP_CLIENTS";

/// Whether the clients that are programs of their own are left out.
fn are_left_out() -> bool {
    let left_out = std::env::var_os(SKIP_VARIABLE).is_some();
    if left_out {
        eprintln!("{SKIP_VARIABLE} is set: no client is started");
    }
    left_out
}

#[test]
fn redis_py_over_resp2() {
    redis_py("2");
}

#[test]
fn redis_py_over_resp3() {
    redis_py("3");
}

fn redis_py(version: &str) {
    if !are_left_out() {
        let python = Environment::python();
        script::run(&python, &python.script("redis_py.py", &["checks.py"]), &[version], 20);
    }
}

#[test]
fn ioredis() {
    if !are_left_out() {
        let node = Environment::node();
        script::run(&node, &node.script("ioredis.mjs", &["checks.mjs"]), &[], 15);
    }
}

#[test]
fn node_redis_over_resp2() {
    node_redis("2");
}

#[test]
fn node_redis_over_resp3() {
    node_redis("3");
}

fn node_redis(version: &str) {
    if !are_left_out() {
        let node = Environment::node();
        script::run(&node, &node.script("node_redis.mjs", &["checks.mjs"]), &[version], 15);
    }
}
