//! What the black-box tests share: a server process with a fresh directory, a small RESP client, buyers under load.
//!
//! Nothing here looks inside the server: it is started from its binary and known by its port.

pub mod books;
pub mod buyers;
pub mod resp;

use std::path::PathBuf;
use std::sync::LazyLock;

use cartwright_protocol::client::Client;
use cartwright_protocol::{
    Amount, AuditReport, CartLine, Checkout, Currency, Customer, ItemPut, Key, Operation, OrderGet, OrderId, OrderView,
    Quantity, Receipt, Reply, Sku, StockAdd, StockGet, StockView, Text,
};
use cartwright_tools::server_process::{ServerOptions, ServerProcess, ServerProcessError};

/// The server's program, which cargo builds before the tests of the package that it belongs to.
pub fn binary() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        std::env::var("CARGO_BIN_EXE_cartwright").expect("cargo names the server's program to the tests of its package")
    });
    &PATH
}

/// The smallest segments there are: servers start sooner, and change segments more often.
const SEGMENT_MB: u32 = 20;

/// A data directory that goes away at the end of the test, and how to run a server on it.
pub struct Site {
    directory: tempfile::TempDir,
    shard_count: u16,
}

impl Site {
    /// A fresh directory for a server with so many shards.
    pub fn new(shard_count: u16) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("cartwright-test-")
            .tempdir()
            .expect("a temporary directory can be made");
        Self { directory, shard_count }
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// How a server on it starts.
    pub fn options(&self) -> ServerOptions {
        ServerOptions::new(binary(), self.data())
            .shards(self.shard_count)
            .segments_of(SEGMENT_MB)
    }

    /// Starts a server on it, which must succeed.
    pub fn start(&self) -> ServerProcess {
        start(&self.options())
    }

    /// Starts a server that must not come up, and gives what it said.
    pub fn start_in_vain(options: &ServerOptions) -> String {
        match ServerProcess::start(options) {
            Err(ServerProcessError::Ended { status, output }) => {
                assert!(
                    !status.success(),
                    "a server that cannot serve ended with 0 and said:\n{output}"
                );
                output
            }
            Err(other) => panic!("{other}"),
            Ok(server) => panic!("the server came up and said:\n{}", server.output()),
        }
    }
}

/// A client of the server.
pub fn connect(server: &ServerProcess) -> Client {
    server
        .address()
        .connect()
        .unwrap_or_else(|error| panic!("{error}; the server said:\n{}", server.output()))
}

/// An item's code that must be one.
pub fn sku(text: &str) -> Sku {
    text.parse().expect("the test's SKU is one")
}

/// A customer that must be one.
pub fn customer(text: &str) -> Customer {
    text.parse().expect("the test's customer is one")
}

/// A request key that must be one.
pub fn key(text: &str) -> Key {
    text.parse().expect("the test's key is one")
}

/// A cart; quantities from 1.
pub fn checkout(who: &str, with: &str, lines: &[(&str, u64)]) -> Checkout {
    Checkout {
        customer: customer(who),
        key: key(with),
        hold_ms: None,
        lines: lines
            .iter()
            .map(|&(code, units)| CartLine {
                sku: sku(code),
                quantity: Quantity::new(units).expect("the test's quantity is one"),
            })
            .collect(),
    }
}

/// Puts an item at 2.50 and stocks it.
pub fn stock_item(client: &mut Client, code: &str, units: i64) {
    let put = Operation::ItemPut(Box::new(ItemPut {
        sku: sku(code),
        price: Amount::new(250).expect("250 is an amount"),
        currency: Currency::new(b"GBP").expect("GBP is a currency"),
        name: Text::default(),
        limit: None,
        backorder: None,
        key: None,
    }));
    assert_eq!(client.call(&put).unwrap(), Reply::Ok);
    let add = Operation::StockAdd(Box::new(StockAdd {
        sku: sku(code),
        delta: units,
        location: None,
        reason: Text::default(),
        key: None,
    }));
    assert_eq!(client.call(&add).unwrap(), Reply::Integer(units));
}

/// Sends a checkout that must succeed.
pub fn buy(client: &mut Client, cart: &Checkout) -> Receipt {
    match client.call(&Operation::Checkout(Box::new(cart.clone()))).unwrap() {
        Reply::Receipt(receipt) => receipt,
        other => panic!("{cart:?} was answered with {other:?}"),
    }
}

/// How much there is of an item.
pub fn stock(client: &mut Client, code: &str) -> StockView {
    match client
        .call(&Operation::StockGet(StockGet {
            sku: sku(code),
            location: None,
        }))
        .unwrap()
    {
        Reply::Stock(level) => level,
        other => panic!("STOCK.GET {code} was answered with {other:?}"),
    }
}

/// An order; `None` where there is none of this id.
pub fn order(client: &mut Client, id: OrderId) -> Option<OrderView> {
    match client.call(&Operation::OrderGet(OrderGet { id })).unwrap() {
        Reply::Order(view) => Some(*view),
        Reply::Null => None,
        other => panic!("ORDER.GET {id} was answered with {other:?}"),
    }
}

/// An audit, which must find nothing.
pub fn clean_audit(client: &mut Client) -> AuditReport {
    match client.call(&Operation::Audit).unwrap() {
        Reply::Audit(report) => {
            assert_eq!(report.violations, 0, "{report:?}");
            report
        }
        other => panic!("AUDIT was answered with {other:?}"),
    }
}

/// Stops the server, which must end with 0.
pub fn stop_cleanly(server: ServerProcess) {
    let status = server.stop().unwrap_or_else(|error| panic!("{error}"));
    assert!(status.success(), "after SIGTERM the server ended with {status}");
}

/// Starts a server that must come up.
pub fn start(options: &ServerOptions) -> ServerProcess {
    ServerProcess::start(options).unwrap_or_else(|error| panic!("{error}"))
}
