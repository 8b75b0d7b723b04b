//! Data directories that a server cannot or must not use: it says what is wrong with which path, ends with that cause's
//! exit code, and leaves everything as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::files_of;
use cartwright::runtime::ExitCode;
use cartwright_test_support::{Site, binary, connect, start, stock, stock_item, stop_cleanly};
use cartwright_tools::server_process::ServerProcess;
use tempfile::TempDir;

/// The user and group that nobody's files belong to.
const NOBODY: u32 = 65534;

/// How many servers are started on one directory at once.
const RIVAL_COUNT: usize = 4;

/// A stopped server's directory with five of `a` in stock.
fn stopped_site() -> Site {
    let site = Site::new(1);
    let server = site.start();
    stock_item(&mut connect(&server), "a", 5);
    stop_cleanly(server);
    site
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// `serve` on `data`, run to its end: the exit code, and what it said. For starts that must fail.
fn refusal(mut command: Command, data: &Path) -> (Option<i32>, String) {
    command
        .args(["serve", "--port", "0", "--shards", "1", "--segment-mb", "20", "--data"])
        .arg(data);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let (mut lines, mut said) = (child.stderr.take().unwrap(), Vec::new());
    // One that serves after all says so; without this the test would wait for its end.
    while !String::from_utf8_lossy(&said).contains("serving on") {
        let mut piece = [0; 4096];
        match std::io::Read::read(&mut lines, &mut piece).unwrap() {
            0 => break,
            length => said.extend_from_slice(&piece[..length]),
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    if said.contains("serving on") {
        child.kill().unwrap();
    }
    (child.wait().unwrap().code(), said)
}

#[track_caller]
fn assert_refused(command: Command, data: &Path, expected: ExitCode, parts: &[&str]) {
    let (code, said) = refusal(command, data);
    assert_eq!(code, Some(expected as i32), "{said}");
    for part in parts {
        assert!(said.contains(part), "it does not say {part:?}: {said}");
    }
}

#[test]
fn of_servers_started_at_once_on_one_directory_exactly_one_serves() {
    let site = Site::new(1);
    let rivals: Vec<_> = (0..RIVAL_COUNT)
        .map(|_| {
            let options = site.options();
            std::thread::spawn(move || ServerProcess::start(&options))
        })
        .collect();
    let mut serving = Vec::new();
    for rival in rivals {
        match rival.join().unwrap() {
            Ok(server) => serving.push(server),
            Err(error) => assert!(error.to_string().contains("in use by another process"), "{error}"),
        }
    }
    assert_eq!(serving.len(), 1);
    let server = serving.pop().unwrap();
    let mut client = connect(&server);
    stock_item(&mut client, "a", 5);

    let verify = Command::new(binary())
        .args(["verify", "--data"])
        .arg(site.data())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verify.stderr);
    assert_eq!(verify.status.code(), Some(ExitCode::DataDirectory as i32), "{said}");
    assert!(said.contains(&format!("process {}", server.id())), "{said}");
    assert_eq!(stock(&mut client, "a").available, 5);
    stop_cleanly(server);
}

#[test]
fn files_of_a_newer_format_are_refused_as_such_and_left_alone() {
    let site = stopped_site();
    let segment = site.data().join("log/generation-00001/shard-000/segment-00000001.log");
    let newer_segment: fn(&mut Vec<u8>) = |bytes| bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    let newer_manifest: fn(&mut Vec<u8>) =
        |bytes| *bytes = b"cartwright-manifest 7\nand what nobody knows yet\n".to_vec();
    let newer_checkpoint: fn(&mut Vec<u8>) = |bytes| {
        bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&checksum.to_le_bytes());
    };
    let checkpoint = files_of(&site.data(), 0, "checkpoint").pop();
    for (path, change, code) in [
        (segment, newer_segment, ExitCode::Damage),
        (
            checkpoint.expect("a stop takes one"),
            newer_checkpoint,
            ExitCode::Damage,
        ),
        (site.data().join("MANIFEST"), newer_manifest, ExitCode::DataDirectory),
    ] {
        let before = fs::read(&path).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let parts = [
            path.to_str().unwrap(),
            "format version 7",
            "start the version that wrote it",
        ];
        assert_refused(Command::new(binary()), &site.data(), code, &parts);
        assert!(fs::read(&path).unwrap() == bytes, "{} was changed", path.display());
        fs::write(&path, before).unwrap();
    }
    let server = site.start();
    assert_eq!(stock(&mut connect(&server), "a").available, 5);
}

#[test]
fn a_path_that_is_or_leads_through_a_file_is_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    for data in [file.clone(), file.join("data"), file.join("deep/data")] {
        let parts = [data.to_str().unwrap(), "not a directory"];
        assert_refused(Command::new(binary()), &data, ExitCode::DataDirectory, &parts);
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn data_of_another_user_is_refused() {
    if !is_root() {
        println!("skipped: only root can give files to another user");
        return;
    }
    let site = stopped_site();
    let manifest = site.data().join("MANIFEST");
    chown(&manifest, Some(54321), None).unwrap();
    let parts = [manifest.to_str().unwrap(), "belongs to user 54321", "runs as user 0"];
    assert_refused(Command::new(binary()), &site.data(), ExitCode::DataDirectory, &parts);
}

/// A place where permissions bind: as root, the server runs as nobody, who owns the directory.
struct Unprivileged {
    directory: TempDir,
    program: PathBuf,
}

/// Makes a path the server's own.
fn give(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

impl Unprivileged {
    /// `None`, having said why, where it cannot be had.
    fn new() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mut program = PathBuf::from(binary());
        if is_root() {
            if Command::new("setpriv").arg("--version").output().is_err() {
                println!("skipped: there is no setpriv to run the server as another user with");
                return None;
            }
            // The build may be where only root can reach it.
            program = directory.path().join("cartwright");
            fs::copy(binary(), &program).unwrap();
            fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        }
        let home = directory.path().join("home");
        fs::create_dir(&home).unwrap();
        let place = Self { directory, program };
        give(&home);
        Some(place)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("home/data")
    }

    fn command(&self) -> Command {
        if !is_root() {
            return Command::new(&self.program);
        }
        let mut command = Command::new("setpriv");
        let user = NOBODY.to_string();
        command
            .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
            .arg(&self.program);
        command
    }

    /// Starts a server there, which must succeed.
    fn start(&self) -> ServerProcess {
        let script = self.directory.path().join("serve");
        let command = self.command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let mut options = Site::new(1).options();
        (options.binary, options.data) = (script, self.data());
        start(&options)
    }
}

#[test]
fn what_the_server_may_not_read_or_write_is_named_and_nothing_is_lost() {
    let Some(place) = Unprivileged::new() else { return };
    let data = place.data();
    let server = place.start();
    stock_item(&mut connect(&server), "a", 5);
    server.kill().unwrap();
    let segment = "log/generation-00001/shard-000/segment-00000001.log";
    for (name, mode, code) in [
        ("", 0o000, ExitCode::DataDirectory),
        ("", 0o555, ExitCode::DataDirectory),
        ("LOCK", 0o444, ExitCode::DataDirectory),
        ("MANIFEST", 0o000, ExitCode::DataDirectory),
        ("log", 0o000, ExitCode::DataDirectory),
        (segment, 0o000, ExitCode::Storage),
        (segment, 0o444, ExitCode::Storage),
    ] {
        let path = if name.is_empty() { data.clone() } else { data.join(name) };
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let (ended, said) = refusal(place.command(), &data);
        fs::set_permissions(&path, before).unwrap();
        assert_eq!(ended, Some(code as i32), "{name} with mode {mode:03o}: {said}");
        assert!(
            said.contains(path.to_str().unwrap()),
            "{name} with mode {mode:03o}: {said}"
        );
        assert!(
            said.to_lowercase().contains("permission"),
            "{name} with mode {mode:03o}: {said}"
        );
    }
    let server = place.start();
    assert_eq!(stock(&mut connect(&server), "a").available, 5);
}

#[test]
fn a_directory_that_may_not_be_made_is_refused_by_name() {
    let Some(place) = Unprivileged::new() else { return };
    let home = place.directory.path().join("home");
    fs::set_permissions(&home, Permissions::from_mode(0o555)).unwrap();
    let data = place.data();
    let parts = [data.to_str().unwrap(), "no permission"];
    assert_refused(place.command(), &data, ExitCode::DataDirectory, &parts);
}
