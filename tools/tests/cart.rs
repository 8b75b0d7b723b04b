//! The `cart` program's answers where there is nothing to play: each cause has its exit code and says what to do.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

fn replay(arguments: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cart"))
        .arg("replay")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it has read everything closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn without_a_server_it_says_where_it_looked_and_how_to_start_one() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let sale = format!("{HEADER}1,A,,1,,1,,\n");
    let (code, said) = replay(&["-", "--port", &unused.to_string()], &sale);
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains(&format!("127.0.0.1:{unused}")) && said.contains("cartwright serve"),
        "{said}"
    );
}

#[test]
fn what_is_no_cartwright_server_is_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = std::thread::spawn(move || {
        listener
            .accept()
            .unwrap()
            .0
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    });
    let (code, said) = replay(&["-", "--port", &port.to_string()], &format!("{HEADER}1,A,,1,,1,,\n"));
    other.join().unwrap().unwrap();
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("no Cartwright server"), "{said}");
}

#[test]
fn a_bad_file_is_named_with_its_fault() {
    let (code, said) = replay(&["/no/such/file.csv"], "");
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("/no/such/file.csv"), "{said}");
    let (code, said) = replay(&["-"], "InvoiceNo,StockCode\n1,A\n");
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("no column Quantity"), "{said}");
}

#[test]
fn a_wrong_command_line_is_refused() {
    let (code, said) = replay(&["-", "--pipeline", "0"], "");
    assert_eq!(code, 2, "{said}");
}

#[test]
fn a_demo_without_a_server_says_how_to_get_one() {
    let cart = Path::new(env!("CARGO_BIN_EXE_cart"));
    let nowhere = tempfile::tempdir_in(cart.parent().unwrap()).unwrap();
    let demo = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .arg("demo")
            .args(arguments)
            .env("PATH", nowhere.path())
            .env("TMPDIR", nowhere.path())
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = demo(
        env!("CARGO_BIN_EXE_cart"),
        &["--count", "1", "--server", "/no/such/program"],
    );
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("/no/such/program") && said.contains("cargo build"),
        "{said}"
    );

    // Where none is beside it.
    let alone = nowhere.path().join("cart");
    std::fs::hard_link(cart, &alone).unwrap();
    let (code, said) = demo(alone.to_str().unwrap(), &["--count", "1"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot run cartwright"), "{said}");
    std::fs::remove_file(&alone).unwrap();
    assert_eq!(
        std::fs::read_dir(nowhere.path()).unwrap().count(),
        0,
        "it left files behind"
    );
}
