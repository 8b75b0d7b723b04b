//! A server process of one's own, on a free port: started, killed, stopped, and never left behind.
//!
//! Used by the demo and by the black-box tests. It knows the server only by its command line and its port.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cartwright_protocol::client::Client;
use rustix::process::{Pid, Signal, kill_process};

use crate::address::Address;

/// How long a server may take to recover and answer.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a server may take to stop after SIGTERM.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How many of the last lines that a server wrote are kept.
const OUTPUT_LINES_MAX: usize = 200;

/// How many free ports are tried: another process may take one between asking for it and using it.
const PORT_TRIES_MAX: u32 = 5;

/// What a server says last of its start.
const SERVING: &str = "serving on ";

/// How often a start or a stop is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerProcessError {
    /// The program cannot be run.
    #[error("cannot run {binary}: {source}; build it with `cargo build --release`")]
    Spawn {
        /// The program.
        binary: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No port is free.
    #[error("cannot find a free port on 127.0.0.1: {0}")]
    Port(std::io::Error),
    /// It ended instead of serving.
    #[error("the server ended at its start ({status}). It said:\n{output}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// Its last lines.
        output: String,
    },
    /// It runs but does not answer.
    #[error("the server did not answer on port {port} within {seconds} s. It said:\n{output}")]
    Silent {
        /// Where it was asked.
        port: u16,
        /// For how long.
        seconds: u64,
        /// Its last lines.
        output: String,
    },
    /// It does not end.
    #[error("the server did not stop within {seconds} s of SIGTERM and was killed. It said:\n{output}")]
    Stubborn {
        /// For how long.
        seconds: u64,
        /// Its last lines.
        output: String,
    },
    /// The system does not let us signal or wait.
    #[error("{doing} the server failed: {source}")]
    Control {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// When a server syncs to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Before any answer that depends on it.
    #[default]
    Always,
    /// Each second.
    EverySecond,
    /// When it stops.
    No,
}

impl SyncMode {
    /// What the server calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The `cartwright` program.
    pub binary: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Its port; `None`: any free one.
    pub port: Option<u16>,
    /// Its shards; `None`: one a core.
    pub shard_count: Option<u16>,
    /// Size of its log segments, in MiB; `None`: what it takes by itself.
    pub segment_mb: Option<u32>,
    /// How much log a shard writes before it takes a checkpoint, in MiB; `None`: as by itself.
    pub checkpoint_mb: Option<u32>,
    /// When it syncs.
    pub sync: SyncMode,
    /// Further arguments of `serve`.
    pub arguments: Vec<String>,
}

impl ServerOptions {
    /// A free port and a shard for each core.
    pub fn new(binary: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            data: data.into(),
            port: None,
            shard_count: None,
            segment_mb: None,
            checkpoint_mb: None,
            sync: SyncMode::Always,
            arguments: Vec::new(),
        }
    }

    /// The same with further arguments of `serve`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Whether it asks for a password, which the native protocol cannot say.
    fn asks_for_password(&self) -> bool {
        self.arguments
            .iter()
            .any(|argument| argument.starts_with("--requirepass"))
    }

    /// The same with so many shards.
    #[must_use]
    pub const fn shards(mut self, shard_count: u16) -> Self {
        self.shard_count = Some(shard_count);
        self
    }

    /// The same on this port.
    #[must_use]
    pub const fn on_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same with log segments of so many MiB.
    #[must_use]
    pub const fn segments_of(mut self, segment_mb: u32) -> Self {
        self.segment_mb = Some(segment_mb);
        self
    }

    /// The same with a checkpoint after so many MiB of a shard's log.
    #[must_use]
    pub const fn checkpoints_after(mut self, checkpoint_mb: u32) -> Self {
        self.checkpoint_mb = Some(checkpoint_mb);
        self
    }

    /// The same, syncing when told so.
    #[must_use]
    pub const fn syncing(mut self, sync: SyncMode) -> Self {
        self.sync = sync;
        self
    }

    /// The command line.
    pub fn command(&self, port: u16) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--data").arg(&self.data).args([
            "--port",
            &port.to_string(),
            "--sync",
            self.sync.as_str(),
        ]);
        if let Some(shard_count) = self.shard_count {
            command.args(["--shards", &shard_count.to_string()]);
        }
        if let Some(segment_mb) = self.segment_mb {
            command.args(["--segment-mb", &segment_mb.to_string()]);
        }
        if let Some(checkpoint_mb) = self.checkpoint_mb {
            command.args(["--checkpoint-mb", &checkpoint_mb.to_string()]);
        }
        command.args(&self.arguments);
        // Settings meant for the caller's own server are not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARTWRIGHT_") {
                command.env_remove(name);
            }
        }
        // In a group of its own, so that Ctrl-C reaches whoever started it, who then ends it.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

/// A port nobody uses at the moment.
pub fn free_port() -> Result<u16, ServerProcessError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(ServerProcessError::Port)
}

/// The last lines that the server wrote.
#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    fn collect(&self, stream: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == OUTPUT_LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }

    fn contains(&self, text: &str) -> bool {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| line.contains(text))
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().flat_map(|line| ["    ", line, "\n"]).collect()
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    port: u16,
    output: Output,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl ServerProcess {
    /// Starts a server, and waits until it answers.
    pub fn start(options: &ServerOptions) -> Result<Self, ServerProcessError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let port = options.port.map_or_else(free_port, Ok)?;
            match Self::start_on(options, port) {
                Err(ServerProcessError::Ended { .. })
                    if options.port.is_none() && tries < PORT_TRIES_MAX && is_taken(port) => {}
                result => return result,
            }
        }
    }

    fn start_on(options: &ServerOptions, port: u16) -> Result<Self, ServerProcessError> {
        let mut child = options
            .command(port)
            .spawn()
            .map_err(|source| ServerProcessError::Spawn {
                binary: options.binary.clone(),
                source,
            })?;
        let output = Output::default();
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|stream| output.collect(stream)));
        readers.extend(child.stderr.take().map(|stream| output.collect(stream)));
        let mut server = Self {
            child,
            port,
            output,
            readers,
        };
        server.wait_until_it_answers(options.asks_for_password())?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self, asks_for_password: bool) -> Result<(), ServerProcessError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.try_wait()? {
                self.join_readers();
                return Err(ServerProcessError::Ended {
                    status,
                    output: self.output(),
                });
            }
            // It serves a moment before it says so, and callers read what a start says.
            if self.has_said_that_it_serves() && (asks_for_password || self.answers()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(ServerProcessError::Silent {
                    port: self.port,
                    seconds: START_TIMEOUT.as_secs(),
                    output: self.output(),
                });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn has_said_that_it_serves(&self) -> bool {
        self.output.contains(SERVING)
    }

    fn answers(&self) -> bool {
        let within = Duration::from_secs(5);
        let Ok(mut client) = Client::connect_within(("127.0.0.1", self.port), within) else {
            return false;
        };
        client.set_timeout(Some(within)).is_ok() && client.ping().is_ok()
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::local(self.port)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that it wrote.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// How it ended, if it did.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, ServerProcessError> {
        let failed = |source| ServerProcessError::Control {
            doing: "waiting for",
            source,
        };
        self.child.try_wait().map_err(failed)
    }

    /// SIGKILL: it ends as in a crash, at once, with no chance to write anything.
    pub fn kill(mut self) -> Result<(), ServerProcessError> {
        let failed = |source| ServerProcessError::Control {
            doing: "killing",
            source,
        };
        self.child.kill().map_err(failed)?;
        self.child.wait().map_err(failed).map(drop)
    }

    /// SIGTERM: it finishes what is in flight and ends. Gives its exit status.
    pub fn stop(mut self) -> Result<ExitStatus, ServerProcessError> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(|source| ServerProcessError::Control {
            doing: "stopping",
            source: source.into(),
        })?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.try_wait()? {
                self.join_readers();
                return Ok(status);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Err(ServerProcessError::Stubborn {
            seconds: STOP_TIMEOUT.as_secs(),
            output: self.output(),
        })
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader that panicked has only lost some lines.
            let _ = reader.join();
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only where the process has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_taken(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_err()
}

/// The program with this name beside the running one.
pub fn sibling(name: &str) -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or_else(|| Path::new(".")).join(name))
}
