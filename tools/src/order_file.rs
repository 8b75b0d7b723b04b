//! Reads a shop's order file: CSV with one row per order line, as the UCI *Online Retail* set has it.
//!
//! Columns are found by name in the first row, in any order; others are ignored:
//! `InvoiceNo` (or `Invoice`), `StockCode`, `Description` (may be missing), `Quantity`, `UnitPrice` (or `Price`),
//! `CustomerID` (or `Customer ID`). Text that is not UTF-8 is read as Latin-1. Rows that are no sale are counted by
//! reason and left out. Called by `cart replay` and the demo; never talks to a server.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use cartwright_protocol::{Amount, CART_LINES_MAX, Customer, Key, Quantity, Sku, TEXT_LENGTH_MAX, Text};
use csv::{ByteRecord, ReaderBuilder, Trim};
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::shop::{GUEST, ItemIndex, Shop, ShopItem, ShopLine, ShopOrder, merge};

/// Why a row was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The invoice number does not start with a digit: a cancellation or a correction of the books.
    Number,
    /// No units, or fewer than none.
    Quantity,
    /// No price, or less than none.
    Price,
    /// A code, customer, quantity or price that the server's limits do not allow.
    Limit,
    /// Part of an order with more items than a cart may have lines.
    TooLarge,
}

impl Skip {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Number, Self::Quantity, Self::Price, Self::Limit, Self::TooLarge];

    /// The reason in words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Number => "number does not start with a digit",
            Self::Quantity => "quantity not positive",
            Self::Price => "price not positive",
            Self::Limit => "outside the server's limits",
            Self::TooLarge => "order with too many lines",
        }
    }

    /// Whether such a row is a sale that could not be played, and not just something else than a sale.
    pub const fn is_lost_sale(self) -> bool {
        matches!(self, Self::Limit | Self::TooLarge)
    }
}

/// How many rows were left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped([u64; Skip::ALL.len()]);

impl Skipped {
    /// Rows left out for this reason.
    pub const fn count(&self, skip: Skip) -> u64 {
        self.0[skip as usize]
    }

    /// Rows left out.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    const fn add(&mut self, skip: Skip, rows: u64) {
        self.0[skip as usize] += rows;
    }
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum OrderFileError {
    /// No such file, or no right to read it.
    #[error("cannot open {name}: {source}; give the path of an order file in CSV, or - for standard input")]
    Open {
        /// The file.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not CSV, or reading failed on the way.
    #[error("cannot read {name}: {source}; is it CSV with a header row? (An .xz or .zip must be unpacked first.)")]
    Read {
        /// The file.
        name: String,
        /// What is wrong, and where.
        source: csv::Error,
    },
    /// A needed column is not in the header.
    #[error("{name} has no column {wanted}; its first row must name the columns, and it names: {found}")]
    Column {
        /// The file.
        name: String,
        /// The column's name.
        wanted: &'static str,
        /// What the first row says.
        found: String,
    },
    /// A quantity or price that is no number.
    #[error("{name}, line {line}: {column} is {value:?}, which is no number; correct or remove that row")]
    Number {
        /// The file.
        name: String,
        /// Where, from 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What is there.
        value: String,
    },
    /// Not one row is a sale.
    #[error("{name} holds no sale: {skipped} rows were left out; is it the right file?")]
    NoSale {
        /// The file.
        name: String,
        /// Rows left out.
        skipped: u64,
    },
}

/// What a file holds.
#[derive(Debug)]
pub struct OrderFile {
    /// Its sales.
    pub shop: Shop,
    /// What was left out.
    pub skipped: Skipped,
}

impl OrderFile {
    /// Reads the file at `path`, or standard input where it is `-`.
    pub fn open(path: &Path) -> Result<Self, OrderFileError> {
        if path.as_os_str() == "-" {
            return Self::read(std::io::stdin().lock(), "standard input");
        }
        let name = path.display().to_string();
        match std::fs::File::open(path) {
            Ok(file) => Self::read(file, &name),
            Err(source) => Err(OrderFileError::Open { name, source }),
        }
    }

    /// Reads from `input`, which errors call `name`.
    pub fn read(input: impl Read, name: &str) -> Result<Self, OrderFileError> {
        let failed = |source| OrderFileError::Read {
            name: name.to_owned(),
            source,
        };
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(input);
        let columns = Columns::find(reader.byte_headers().map_err(failed)?, name)?;
        let mut builder = Builder::default();
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(failed)? {
            if let Err(skip) = builder.add(&columns.row(&record, name)?) {
                builder.skipped.add(skip, 1);
            }
        }
        builder.finish(name)
    }
}

struct Columns {
    number: usize,
    sku: usize,
    description: Option<usize>,
    quantity: usize,
    price: usize,
    customer: usize,
}

/// One row; the numbers are read only where the row can be a sale.
struct Row<'a> {
    number: &'a [u8],
    sku: &'a [u8],
    description: &'a [u8],
    quantity: i64,
    price: Decimal,
    customer: &'a [u8],
}

impl Columns {
    fn find(header: &ByteRecord, name: &str) -> Result<Self, OrderFileError> {
        let place = |names: &[&'static str]| {
            let is_it = |field: &[u8]| names.iter().any(|name| field.eq_ignore_ascii_case(name.as_bytes()));
            header.iter().position(is_it).ok_or_else(|| OrderFileError::Column {
                name: name.to_owned(),
                wanted: names[0],
                found: header.iter().take(20).map(decoded).collect::<Vec<_>>().join(", "),
            })
        };
        Ok(Self {
            number: place(&["InvoiceNo", "Invoice"])?,
            sku: place(&["StockCode"])?,
            description: place(&["Description"]).ok(),
            quantity: place(&["Quantity"])?,
            price: place(&["UnitPrice", "Price"])?,
            customer: place(&["CustomerID", "Customer ID"])?,
        })
    }

    fn row<'a>(&self, record: &'a ByteRecord, name: &str) -> Result<Row<'a>, OrderFileError> {
        let number = &record[self.number];
        let not_a_number = |column, value: &[u8]| OrderFileError::Number {
            name: name.to_owned(),
            line: record.position().map_or(0, csv::Position::line),
            column,
            value: decoded(value),
        };
        let (mut quantity, mut price) = (0, Decimal::ZERO);
        if number.first().is_some_and(u8::is_ascii_digit) {
            let field = &record[self.quantity];
            quantity = parsed(field).ok_or_else(|| not_a_number("Quantity", field))?;
            let field = &record[self.price];
            price = parsed(field).ok_or_else(|| not_a_number("UnitPrice", field))?;
        }
        Ok(Row {
            number,
            sku: &record[self.sku],
            description: self.description.map_or(b"", |column| &record[column]),
            quantity,
            price,
            customer: &record[self.customer],
        })
    }
}

fn parsed<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Text as it was meant: UTF-8, or else Latin-1, in which this set is often passed on.
fn decoded(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), str::to_owned)
}

/// Pounds to pence, half to even; `None` above the largest amount.
fn pence(pounds: Decimal) -> Option<Amount> {
    pounds
        .checked_mul(Decimal::ONE_HUNDRED)?
        .round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven)
        .to_u64()
        .and_then(Amount::new)
}

/// A name that the server takes: control characters become spaces, and what is over the limit is cut.
fn item_name(description: &[u8]) -> Text {
    let mut name: String = decoded(description)
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    while name.len() > TEXT_LENGTH_MAX {
        name.pop();
    }
    Text::new(name.as_bytes()).expect("a text without control characters and within the limit is one")
}

/// The customer without the `.0` that spreadsheets add to a number when some cells of its column are empty.
fn customer(field: &[u8]) -> Result<Customer, Skip> {
    let field = field.strip_suffix(b".0").unwrap_or(field);
    let field = if field.is_empty() { GUEST.as_bytes() } else { field };
    Customer::new(decoded(field).as_bytes()).map_err(|_| Skip::Limit)
}

#[derive(Default)]
struct Builder {
    shop: Shop,
    skipped: Skipped,
    item_of: HashMap<Sku, ItemIndex>,
    order_of: HashMap<Key, usize>,
}

impl Builder {
    fn add(&mut self, row: &Row<'_>) -> Result<(), Skip> {
        if !row.number.first().is_some_and(u8::is_ascii_digit) {
            return Err(Skip::Number);
        }
        if row.quantity <= 0 {
            return Err(Skip::Quantity);
        }
        if row.price <= Decimal::ZERO {
            return Err(Skip::Price);
        }
        let key = Key::new(decoded(row.number).as_bytes()).map_err(|_| Skip::Limit)?;
        let sku = Sku::new(decoded(row.sku).as_bytes()).map_err(|_| Skip::Limit)?;
        let customer = customer(row.customer)?;
        let quantity = Quantity::new(row.quantity as u64).ok_or(Skip::Limit)?;
        let price = pence(row.price).ok_or(Skip::Limit)?;

        let item = self.item(sku, row.description, price);
        let orders = &mut self.shop.orders;
        let order = *self.order_of.entry(key).or_insert_with_key(|key| {
            orders.push(ShopOrder {
                key: key.clone(),
                customer,
                lines: Vec::new(),
            });
            orders.len() - 1
        });
        orders[order].lines.push(ShopLine { item, quantity });
        Ok(())
    }

    /// The item's place; its price, and its name where this row has one, are now these.
    fn item(&mut self, sku: Sku, description: &[u8], price: Amount) -> ItemIndex {
        let items = &mut self.shop.items;
        let index = *self.item_of.entry(sku).or_insert_with_key(|sku| {
            items.push(ShopItem {
                sku: sku.clone(),
                name: Text::default(),
                price,
            });
            (items.len() - 1) as ItemIndex
        });
        let item = &mut items[index as usize];
        item.price = price;
        if !description.is_empty() {
            item.name = item_name(description);
        }
        index
    }

    fn finish(mut self, name: &str) -> Result<OrderFile, OrderFileError> {
        let skipped = &mut self.skipped;
        self.shop.orders.retain_mut(|order| {
            let fits = fit(&mut order.lines);
            if !fits {
                skipped.add(Skip::TooLarge, order.lines.len() as u64);
            }
            fits
        });
        if self.shop.orders.is_empty() {
            return Err(OrderFileError::NoSale {
                name: name.to_owned(),
                skipped: self.skipped.total(),
            });
        }
        Ok(OrderFile {
            shop: self.shop,
            skipped: self.skipped,
        })
    }
}

/// Makes the lines a cart by adding up those of one item, where there are too many; whether that was enough.
fn fit(lines: &mut Vec<ShopLine>) -> bool {
    if lines.len() <= CART_LINES_MAX {
        return true;
    }
    let merged = merge(lines);
    let line = |(item, units)| {
        Some(ShopLine {
            item,
            quantity: Quantity::new(units)?,
        })
    };
    if merged.len() > CART_LINES_MAX {
        return false;
    }
    match merged.into_iter().map(line).collect::<Option<Vec<_>>>() {
        Some(fitting) => *lines = fitting,
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn read(rows: &str) -> Result<OrderFile, OrderFileError> {
        OrderFile::read(format!("{HEADER}{rows}").as_bytes(), "test.csv")
    }

    #[test]
    fn rows_that_are_no_sale_are_counted_by_reason() {
        let file = read(
            "C1,A,a cancellation,-1,,1.00,1.0,UK\n\
             A2,B,Adjust bad debt,1,,-11062.06,,UK\n\
             3,A,lost,-5,,0.0,,UK\n\
             3,A,a gift,5,,0.0,,UK\n\
             3,A,a sale,5,,2.5,,UK\n\
             3,A\u{7f}B,a bad code,5,,2.5,,UK\n\
             3,A,too many,5000000000,,2.5,,UK\n",
        )
        .unwrap();
        let counts = Skip::ALL.map(|skip| file.skipped.count(skip));
        assert_eq!((counts, file.skipped.total()), ([2, 1, 1, 2, 0], 6));
        assert_eq!((file.shop.orders.len(), file.shop.items.len()), (1, 1));
    }

    #[test]
    fn the_last_price_and_name_seen_are_the_items() {
        let file =
            read("1,A,old,1,,2.55,,\n2,BANK CHARGES,bank,1,,15.0,,\n3,A,,1,,2.1,,\n4,A,new,1,,1.95,,\n").unwrap();
        let items: Vec<_> = file
            .shop
            .items
            .iter()
            .map(|item| (item.sku.as_str(), item.name.as_str(), item.price.minor_units()))
            .collect();
        assert_eq!(items, [("A", "new", 195), ("BANK CHARGES", "bank", 1500)]);
    }

    #[test]
    fn interleaved_invoices_are_whole_orders_in_the_order_of_their_first_row() {
        let file =
            read("7,A,,1,,1,17850.0,\n6,B,,2,,1,,\n7,B,,3,,1,17850.0,\n6,A,,4,,1,,\n7,A,,5,,1,17850.0,\n").unwrap();
        let orders: Vec<_> = file
            .shop
            .orders
            .iter()
            .map(|order| {
                let lines: Vec<_> = order
                    .lines
                    .iter()
                    .map(|line| (line.item, line.quantity.units()))
                    .collect();
                (order.key.as_str(), order.customer.as_str(), lines)
            })
            .collect();
        assert_eq!(
            orders,
            [
                ("7", "17850", vec![(0, 1), (1, 3), (0, 5)]),
                ("6", "guest", vec![(1, 2), (0, 4)])
            ]
        );
    }

    #[test]
    fn half_a_penny_goes_to_the_even_one_and_may_be_nothing() {
        for (pounds, expected) in [
            ("0.001", 0),
            ("0.005", 0),
            ("0.015", 2),
            ("0.025", 2),
            ("2.5500", 255),
            ("1714.17", 171_417),
        ] {
            assert_eq!(pence(pounds.parse().unwrap()), Amount::new(expected), "{pounds}");
        }
        assert_eq!(pence(Decimal::MAX), None);
        assert_eq!(
            read("1,PADS,,1,,0.001,,\n").unwrap().shop.items[0].price,
            Amount::default()
        );
    }

    #[test]
    fn an_order_over_the_cart_limit_is_added_up_or_left_out_and_never_cut() {
        let rows = |distinct: usize| {
            let rows = (0..=CART_LINES_MAX).map(|n| format!("1,S{},,1,,1,,\n", n % distinct));
            rows.collect::<Vec<_>>().concat()
        };
        let many = rows(9);
        let file = read(&many).unwrap();
        assert_eq!(file.shop.orders[0].lines.len(), 9);
        assert_eq!(file.shop.totals().units, CART_LINES_MAX as u64 + 1);

        let distinct = rows(CART_LINES_MAX + 1);
        let file = read(&format!("{distinct}2,S1,,1,,1,,\n")).unwrap();
        assert_eq!(
            (file.shop.orders.len(), file.skipped.count(Skip::TooLarge)),
            (1, CART_LINES_MAX as u64 + 1)
        );
    }

    #[test]
    fn latin_1_a_byte_order_mark_and_long_names_are_read() {
        let mut bytes = format!("\u{feff}{HEADER}1,A,").into_bytes();
        bytes.extend(b"10\xa3 voucher");
        bytes.extend(format!(",1,,1,,\n1,B,{},1,,1,,\n", "é".repeat(600)).into_bytes());
        let file = OrderFile::read(&bytes[..], "test.csv").unwrap();
        assert_eq!(file.shop.items[0].name.as_str(), "10£ voucher");
        assert_eq!(file.shop.items[1].name.as_str(), "é".repeat(512));
    }

    #[test]
    fn a_bad_file_is_refused_with_place_and_remedy() {
        let message = |result: Result<OrderFile, OrderFileError>| result.unwrap_err().to_string();
        let missing = OrderFile::read(&b"InvoiceNo,StockCode,Quantity,CustomerID\n1,A,1,\n"[..], "x.csv");
        assert!(message(missing).contains("x.csv has no column UnitPrice"));
        assert!(message(read("1,A,,one,,1,,\n")).contains("line 2: Quantity is \"one\""));
        assert!(message(read("1,A,,1,,1,,\n1,A,,1,,a pound,,\n")).contains("line 3: UnitPrice is \"a pound\""));
        assert!(message(read("1,A,,1\n")).contains("cannot read test.csv"));
        assert!(message(read("C1,A,,1,,1,,\n")).contains("no sale: 1 rows"));
        assert!(message(OrderFile::open(Path::new("/no/such/file"))).contains("cannot open /no/such/file"));
    }

    proptest! {
        #[test]
        fn every_row_is_either_sold_or_counted(rows in prop::collection::vec(
            ("[0-9C]{1,3}", "[A-C ]{0,2}", -3i64..5, -100i64..300), 1..60,
        )) {
            let mut text = String::from(HEADER);
            for (number, sku, quantity, price) in &rows {
                let price = Decimal::new(*price, 2);
                writeln!(text, "{number},{sku},,{quantity},,{price},,").unwrap();
            }
            match OrderFile::read(text.as_bytes(), "test.csv") {
                Ok(file) => prop_assert_eq!(file.shop.totals().rows + file.skipped.total(), rows.len() as u64),
                Err(OrderFileError::NoSale { skipped, .. }) => prop_assert_eq!(skipped, rows.len() as u64),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = OrderFile::read(&bytes[..], "test.csv");
            let mut rows = HEADER.as_bytes().to_vec();
            rows.extend(bytes);
            let _ = OrderFile::read(&rows[..], "test.csv");
        }
    }
}
