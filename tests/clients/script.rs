//! A script that checks a client: told where the servers are, it may have one restarted, and says what it has checked.
//!
//! It writes a line for each check, `restart` when it wants the server killed and started again (it is told `restarted`
//! on its input), and at last `checked N`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use cartwright_tools::server_process::ServerProcess;

use crate::environment::Environment;
use cartwright_test_support::{Site, start, stop_cleanly};

/// How long a script may take.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The password of the server that asks for one.
pub const PASSWORD: &str = "correct horse";

/// Runs a script against two servers, one of which asks for a password; it must check at least so many things.
pub fn run(environment: &Environment, script: &Path, arguments: &[&str], checks_min: usize) {
    let (site, locked_site) = (Site::new(2), Site::new(2));
    let mut server = site.start();
    let locked = start(&locked_site.options().with(&["--requirepass", PASSWORD]));
    let mut child = std::process::Command::new(&environment.program)
        .arg(script)
        .args(arguments)
        .env("SERVER_PORT", server.port().to_string())
        .env("LOCKED_PORT", locked.port().to_string())
        .env("PASSWORD", PASSWORD)
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_or_else(|error| panic!("{}: {error}", environment.program.display()), Script);
    let (sender, lines) = channel();
    read_lines(child.0.stdout.take().expect("it is piped"), sender.clone());
    read_lines(child.0.stderr.take().expect("it is piped"), sender);
    let mut said = String::new();
    let deadline = Instant::now() + TIMEOUT;
    while let Some(line) = next(&lines, deadline, &said) {
        if line == "restart" {
            server = restart(server, &site);
            let input = child.0.stdin.as_mut().expect("it is piped");
            input.write_all(b"restarted\n").expect("the script waits for it");
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.0.wait().expect("a child can be waited for");
    let checked = said
        .lines()
        .find_map(|line| line.strip_prefix("checked "))
        .and_then(|count| count.parse::<usize>().ok());
    assert!(
        status.success() && checked.is_some_and(|checked| checked >= checks_min),
        "the script ended with {status}. It said:\n{said}\nThe server said:\n{}",
        server.output()
    );
    stop_cleanly(server);
    stop_cleanly(locked);
}

/// Ended when dropped, should a test fail before it ends.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        // Both fail only where it has ended and been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_lines(output: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

fn next(lines: &Receiver<String>, deadline: Instant, said: &str) -> Option<String> {
    match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("the script did not end within {TIMEOUT:?}. It said:\n{said}"),
    }
}

/// Kills the server, and starts another on its data and its port.
fn restart(server: ServerProcess, site: &Site) -> ServerProcess {
    let port = server.port();
    server.kill().unwrap_or_else(|error| panic!("{error}"));
    start(&site.options().on_port(port))
}
