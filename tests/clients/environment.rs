//! The environments of Python and Node: made once under `target/clients`, again when the pinned versions change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SKIP_VARIABLE;

/// Where the scripts and the pinned versions are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The file in an environment that says what it was made from; written last.
const STAMP: &str = "made-from";

/// A program that runs scripts, with the libraries that they use.
pub struct Environment {
    /// The program.
    pub program: PathBuf,
    /// Where the scripts are copied to, beside the libraries.
    directory: PathBuf,
}

impl Environment {
    /// Python, with redis-py.
    pub fn python() -> Self {
        let directory = made("python", &["requirements.txt"], |directory| {
            // Without a pip of its own: that would need a package which some systems keep apart.
            run(
                command("python3", "python3")
                    .args(["-m", "venv", "--without-pip"])
                    .arg(directory),
                "python3",
            );
            run(
                command("python3", "python3")
                    .args(["-m", "pip", "--python"])
                    .arg(directory.join("bin/python"))
                    .args([
                        "install",
                        "--quiet",
                        "--disable-pip-version-check",
                        "--require-hashes",
                        "-r",
                    ])
                    .arg(directory.join("requirements.txt")),
                "python3-pip",
            );
        });
        Self {
            program: directory.join("bin/python"),
            directory,
        }
    }

    /// Node, with ioredis and node-redis.
    pub fn node() -> Self {
        let directory = made("node", &["package.json", "package-lock.json"], |directory| {
            run(
                command("npm", "npm")
                    .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
                    .current_dir(directory),
                "npm",
            );
        });
        Self {
            program: command("node", "nodejs").get_program().into(),
            directory,
        }
    }

    /// A script of this environment, with what it imports beside it; the path to run.
    pub fn script(&self, name: &str, imports: &[&str]) -> PathBuf {
        for file in imports.iter().chain([&name]) {
            copy(file, &self.directory);
        }
        self.directory.join(name)
    }
}

/// A program that has to be there.
pub fn command(program: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    assert!(
        found,
        "there is no {program} in PATH: install it (Debian: apt install {package}), or set {SKIP_VARIABLE}=1"
    );
    Command::new(program)
}

/// Runs a command that must succeed.
fn run(command: &mut Command, package: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {} (Debian: apt install {package}; or set {SKIP_VARIABLE}=1). It said:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The environment's directory, which `make` makes where it is not made from these files yet.
fn made(name: &str, pins: &[&str], make: impl FnOnce(&Path)) -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("it is in target/")
        .join("clients");
    fs::create_dir_all(&all).expect("target/ can be written");
    let directory = all.join(name);
    // Held until the end, against other tests and other test runs.
    let lock = File::create(all.join(format!("{name}.lock"))).expect("target/ can be written");
    lock.lock().expect("a file can be locked");
    let wanted: String = pins.iter().map(|pin| read(&Path::new(SOURCES).join(pin))).collect();
    let stamp = directory.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return directory;
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("target/ can be written");
    }
    fs::create_dir(&directory).expect("target/ can be written");
    for pin in pins {
        copy(pin, &directory);
    }
    make(&directory);
    fs::write(stamp, wanted).expect("target/ can be written");
    directory
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Copies a file of the sources, at once: another test may be running the one that is there.
fn copy(file: &str, directory: &Path) {
    let copy = tempfile::NamedTempFile::new_in(directory).expect("target/ can be written");
    fs::write(copy.path(), read(&Path::new(SOURCES).join(file))).expect("target/ can be written");
    copy.persist(directory.join(file)).expect("target/ can be written");
}
