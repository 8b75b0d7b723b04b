//! `cargo xtask`: the tasks of everyday work, each a few commands that are worth not having to remember.
//!
//! It needs nothing but cargo, and holds no rule of its own: what a task checks is in the tests and in `.ci/run`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// How a task ends that did not do what it was for.
struct Failed(String);

type Done = Result<(), Failed>;

/// A task: its name, what it takes and does, and what runs it with the arguments behind its name.
struct Task {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&[String]) -> Done,
}

const TASKS: &[Task] = &[
    Task {
        name: "check",
        arguments: "",
        summary: "format and lints of the workspace: before every commit",
        run: check,
    },
    Task {
        name: "quick",
        arguments: "",
        summary: "the unit tests, layers, documents and some black-box tests: two minutes",
        run: quick,
    },
    Task {
        name: "test",
        arguments: "[FILTER …]",
        summary: "every test, or those of a filter, as `cargo test --workspace`",
        run: test,
    },
    Task {
        name: "sim",
        arguments: "[SEED | ARGUMENTS …]",
        summary: "one seed step by step, or the simulator with its arguments (--minutes 60)",
        run: simulate,
    },
    Task {
        name: "demo",
        arguments: "[ARGUMENTS …]",
        summary: "builds server and tools, and shows a shop, a crash and no loss, as `cart demo ARGUMENTS`",
        run: demo,
    },
    Task {
        name: "bench",
        arguments: "[ARGUMENTS …]",
        summary: "a server of its own under load, as `cart bench ARGUMENTS`; get-set unless told",
        run: bench,
    },
    Task {
        name: "readme",
        arguments: "",
        summary: "writes the generated tables of the README and the protocol's page anew",
        run: readme,
    },
    Task {
        name: "faults",
        arguments: "",
        summary: "writes down which seeds notice the planted faults by now",
        run: faults,
    },
    Task {
        name: "golden",
        arguments: "",
        summary: "reads every golden file of every format",
        run: golden,
    },
    Task {
        name: "ci",
        arguments: "[lint | test | simulate | system]",
        summary: "what the CI runs, whole or one job, as `.ci/run`",
        run: ci,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = arguments
        .first()
        .and_then(|name| TASKS.iter().find(|task| task.name == name));
    let Some(task) = task else {
        print_help();
        let is_asked = arguments.first().is_some_and(|name| name == "help" || name == "--help");
        return if is_asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    match (task.run)(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(what)) => {
            eprintln!("cargo xtask {}: {what}", task.name);
            ExitCode::FAILURE
        }
    }
}

fn print_help() {
    println!("cargo xtask TASK\n");
    for Task {
        name,
        arguments,
        summary,
        ..
    } in TASKS
    {
        println!("  {:<32} {summary}", format!("{name} {arguments}"));
    }
}

/// The repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A command in the repository, with these words behind its name.
fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).current_dir(root());
    command
}

fn cargo(words: &[&str]) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), words)
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Done {
    eprintln!("+ {command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failed(format!("{command:?} ended with {status}"))),
        Err(error) => Err(Failed(format!("{command:?}: {error}"))),
    }
}

fn check(_: &[String]) -> Done {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).env("CARGO_TERM_QUIET", "true"))
}

fn quick(_: &[String]) -> Done {
    run(&mut cargo(&["test", "--workspace", "--lib"]))?;
    run(&mut cargo(&["test", "--test", "layers", "--test", "documents"]))?;
    run(&mut cargo(&[
        "test",
        "--test",
        "it",
        "--",
        "lifecycle",
        "wire",
        "transactions",
    ]))
}

fn test(filters: &[String]) -> Done {
    run(cargo(&["test", "--workspace", "--"]).args(filters))
}

fn simulate(arguments: &[String]) -> Done {
    let mut command = cargo(&["run", "--release", "--package", "cartwright-simulator", "--"]);
    match arguments {
        [seed] if seed.parse::<u64>().is_ok() => run(command.args(["--seed", seed, "--log"])),
        _ => run(command.args(arguments)),
    }
}

/// A server in a directory of its own; both are gone when this goes.
struct Server {
    process: Child,
    directory: PathBuf,
    port: String,
}

impl Server {
    fn start() -> Result<Self, Failed> {
        let failed = |error: std::io::Error| Failed(format!("the server cannot be started: {error}"));
        let directory = std::env::temp_dir().join(format!("cartwright-bench-{}", std::process::id()));
        let process = command("target/release/cartwright", &["serve", "--port", "0", "--data"])
            .arg(&directory)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut server = Self {
            process,
            directory,
            port: String::new(),
        };
        // It says so on one of the two, and is silent from then on.
        let said = server.process.stderr.take().map(BufReader::new);
        for line in said.into_iter().flat_map(BufRead::lines) {
            let line = line.map_err(failed)?;
            if let Some((_, port)) = line.split_once("serving on 127.0.0.1:") {
                server.port = port.chars().take_while(char::is_ascii_digit).collect();
                return Ok(server);
            }
            eprintln!("{line}");
        }
        Err(Failed("the server ended at its start".to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn build() -> Done {
    run(&mut cargo(&[
        "build",
        "--release",
        "-p",
        "cartwright",
        "-p",
        "cartwright-tools",
    ]))
}

fn demo(arguments: &[String]) -> Done {
    build()?;
    run(command("target/release/cart", &["demo"]).args(arguments))
}

fn bench(arguments: &[String]) -> Done {
    build()?;
    let server = Server::start()?;
    let mut cart = command("target/release/cart", &["bench"]);
    if arguments.is_empty() {
        cart.arg("get-set");
    }
    run(cart.args(arguments).args(["--port", &server.port]))
}

fn readme(_: &[String]) -> Done {
    let mut library = cargo(&["test", "--workspace", "--lib", "--", "readme"]);
    run(library.env("CARTWRIGHT_UPDATE_README", "1"))?;
    let mut differences = cargo(&["test", "--test", "redis_differential", "--", "readme"]);
    run(differences.env("CARTWRIGHT_UPDATE_README", "1"))
}

fn faults(_: &[String]) -> Done {
    let mut noticed = cargo(&["test", "-p", "cartwright-simulator", "--test", "mutations"]);
    run(noticed.env("CARTWRIGHT_UPDATE_FAULTS", "1"))
}

fn golden(_: &[String]) -> Done {
    run(&mut cargo(&[
        "test",
        "-p",
        "cartwright",
        "--lib",
        "--test",
        "it",
        "--",
        "golden",
    ]))
}

fn ci(jobs: &[String]) -> Done {
    run(command(".ci/run", &[]).args(jobs))
}
