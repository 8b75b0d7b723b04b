//! The environments of Python and Node, under `target/clients`: made by the script `prepare` where they are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SKIP_VARIABLE;

/// Where the scripts and the pinned versions are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

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
        let _ = command("python3", "python3");
        let directory = prepared("python", "python3-pip");
        Self {
            program: directory.join("bin/python"),
            directory,
        }
    }

    /// Node, with ioredis and node-redis.
    pub fn node() -> Self {
        let _ = command("npm", "npm");
        Self {
            program: command("node", "nodejs").get_program().into(),
            directory: prepared("node", "npm"),
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

/// The directory of an environment, which is made where it is not made from the pinned versions yet.
fn prepared(name: &str, package: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("it is in target/")
        .join("clients");
    let output = Command::new(Path::new(SOURCES).join("prepare"))
        .arg(&all)
        .arg(name)
        .output()
        .expect("bash runs the script");
    assert!(
        output.status.success(),
        "the environment {name} cannot be made: {} (Debian: apt install {package}; or set {SKIP_VARIABLE}=1):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    all.join(name)
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
