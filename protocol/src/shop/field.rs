//! What the fields of commands are made of: each kind knows its bytes, its word, and what makes it different.
//!
//! Called by what [`super::declaration`] writes. A kind is the type of the field's value where one type means one thing
//! (`Sku`, `Amount`), and a type of its own where it does not (`i64 as Delta`).

use super::declaration::Fingerprint;
use crate::argument::{self, named};
use crate::native::body::{Reader, put_name, put_optional_name, put_text};
use crate::resp::{parse_i64, parse_u64};
use crate::{
    Amount, CART_LINES_MAX, CartLine, Currency, Customer, Error, Key, Location, ORDER_LIST_COUNT_DEFAULT, OrderId,
    Quantity, Reply, Sku, Text,
};

#[cfg(test)]
use proptest::prelude::Strategy;

/// A kind of field.
///
/// A value is checked in two steps: what can be seen in its own bytes or word ([`Field::take`], [`Field::parse`]), and,
/// once all fields have passed that, what makes the request pointless ([`Field::resolve`]).
pub trait Field {
    /// What the command's type holds.
    type Value: std::fmt::Debug;
    /// What has passed the first step.
    type Raw;

    /// Its bytes, as `README.md` of this crate writes them.
    const WIRE: &'static str;

    /// Appends its bytes.
    fn put(value: &Self::Value, body: &mut Vec<u8>);

    /// Takes its bytes.
    fn take(name: &'static str, body: &mut Reader<'_>) -> Result<Self::Raw, Reply>;

    /// Takes its word; there is none where a keyword was not given.
    fn parse(name: &'static str, word: Option<&[u8]>) -> Result<Self::Raw, Reply>;

    /// The value, or the answer that is clear without asking the shop.
    fn resolve(raw: Self::Raw) -> Result<Self::Value, Reply>;

    /// Adds what makes a request with one value another than that with another.
    fn fingerprint(value: &Self::Value, into: &mut impl Fingerprint);

    /// As test vectors say it.
    fn describe(value: &Self::Value) -> String;

    /// The request key, if it is one.
    fn request_key(_: &Self::Value) -> Option<&Key> {
        None
    }

    /// How many elements the answer may have, if it says that.
    fn answer_elements(_: &Self::Value) -> usize {
        0
    }

    /// All values that it can have.
    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Self::Value> + 'static;
}

/// What an optional field says where there is nothing.
fn or_none(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
fn any_name<T: std::str::FromStr<Err = crate::NameError> + std::fmt::Debug + 'static>() -> impl Strategy<Value = T> {
    let name = proptest::prop_oneof![
        "[!-~]{1,40}",
        "[a-z ]{1,9}",
        proptest::prelude::Just("Räder, rot ✓".to_owned())
    ];
    name.prop_map(|name| name.parse().expect("a name"))
}

#[cfg(test)]
fn any_quantity() -> impl Strategy<Value = Quantity> {
    (1..=crate::QUANTITY_MAX).prop_map(|units| Quantity::new(u64::from(units)).expect("within bounds"))
}

#[cfg(test)]
fn any_order() -> impl Strategy<Value = OrderId> {
    (1u64 << 14..1 << 63).prop_map(|id| OrderId::from_integer(id).expect("within bounds"))
}

/// Names: a length byte and as many bytes.
macro_rules! names {
    ($($name:ident: $value:ident => $fingerprint:expr $(, key $request_key:expr)?;)*) => {$(
        impl Field for $name {
            type Value = Self;
            type Raw = Self;

            const WIRE: &'static str = "name";

            fn put(value: &Self, body: &mut Vec<u8>) {
                put_name(body, value.as_str());
            }

            #[inline]
            fn take(name: &'static str, body: &mut Reader<'_>) -> Result<Self, Reply> {
                Ok(named(name, Self::new(body.name(name)?))?)
            }

            fn parse(name: &'static str, word: Option<&[u8]>) -> Result<Self, Reply> {
                Ok(named(name, Self::new(word.unwrap_or_default()))?)
            }

            fn resolve(raw: Self) -> Result<Self, Reply> {
                Ok(raw)
            }

            fn fingerprint($value: &Self, into: &mut impl Fingerprint) {
                for bytes in $fingerprint {
                    into.bytes(bytes);
                }
            }

            fn describe(value: &Self) -> String {
                value.to_string()
            }

            $(fn request_key($value: &Self) -> Option<&Key> {
                $request_key
            })?

            #[cfg(test)]
            fn strategy() -> impl Strategy<Value = Self> + 'static {
                any_name()
            }
        }
    )*};
}

/// Nothing that a fingerprint takes in.
const NOTHING: [&[u8]; 0] = [];

names! {
    Sku: value => [value.as_bytes()];
    Customer: value => [value.as_bytes()];
    // Two requests are compared only where their keys are the same.
    Key: value => { let _ = value; NOTHING }, key Some(value);
}

/// Names that need not be given: length 0 says so.
macro_rules! optional_names {
    ($($kind:ty = $name:ident $wire:literal: $value:ident => $fingerprint:expr $(, key $request_key:expr)?;)*) => {$(
        impl Field for $kind {
            type Value = Option<$name>;
            type Raw = Option<$name>;

            const WIRE: &'static str = $wire;

            fn put(value: &Option<$name>, body: &mut Vec<u8>) {
                put_optional_name(body, value.as_ref().map($name::as_str));
            }

            fn take(name: &'static str, body: &mut Reader<'_>) -> Result<Option<$name>, Reply> {
                let bytes = body.optional_name(name)?;
                Ok(bytes.map(|bytes| named(name, $name::new(bytes))).transpose()?)
            }

            fn parse(name: &'static str, word: Option<&[u8]>) -> Result<Option<$name>, Reply> {
                Ok(word.map(|word| named(name, $name::new(word))).transpose()?)
            }

            fn resolve(raw: Option<$name>) -> Result<Option<$name>, Reply> {
                Ok(raw)
            }

            fn fingerprint($value: &Option<$name>, into: &mut impl Fingerprint) {
                for bytes in $fingerprint {
                    into.bytes(bytes);
                }
            }

            fn describe(value: &Option<$name>) -> String {
                or_none(value.as_ref())
            }

            $(fn request_key($value: &Option<$name>) -> Option<&Key> {
                $request_key
            })?

            #[cfg(test)]
            fn strategy() -> impl Strategy<Value = Option<$name>> + 'static {
                proptest::option::of(any_name())
            }
        }
    )*};
}

/// A location, or the sum over all.
#[derive(Debug)]
pub struct LocationOrAll;

optional_names! {
    Option<Key> = Key "optional name": value => { let _ = value; NOTHING }, key value.as_ref();
    Option<Location> = Location "optional name (none: `main`)":
        value => [value.as_ref().map_or(Location::MAIN, Location::as_str).as_bytes()];
    LocationOrAll = Location "optional name (none: the sum over all)":
        value => [value.as_ref().map_or("", Location::as_str).as_bytes()];
}

impl Field for Text {
    type Value = Self;
    type Raw = Self;

    const WIRE: &'static str = "text";

    fn put(value: &Self, body: &mut Vec<u8>) {
        put_text(body, value.as_str());
    }

    fn take(name: &'static str, body: &mut Reader<'_>) -> Result<Self, Reply> {
        Ok(named(name, Self::new(body.text(name)?))?)
    }

    fn parse(name: &'static str, word: Option<&[u8]>) -> Result<Self, Reply> {
        Ok(named(name, Self::new(word.unwrap_or_default()))?)
    }

    fn resolve(raw: Self) -> Result<Self, Reply> {
        Ok(raw)
    }

    fn fingerprint(value: &Self, into: &mut impl Fingerprint) {
        into.bytes(value.as_str().as_bytes());
    }

    fn describe(value: &Self) -> String {
        value.as_str().to_owned()
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Self> + 'static {
        "[ -~é]{0,500}".prop_map(|text| Self::new(text.as_bytes()).expect("a text"))
    }
}

impl Field for Currency {
    type Value = Self;
    type Raw = Self;

    const WIRE: &'static str = "3 bytes";

    fn put(value: &Self, body: &mut Vec<u8>) {
        body.extend_from_slice(value.as_bytes());
    }

    fn take(name: &'static str, body: &mut Reader<'_>) -> Result<Self, Reply> {
        Ok(argument::currency(name, body.bytes(3, name)?)?)
    }

    fn parse(name: &'static str, word: Option<&[u8]>) -> Result<Self, Reply> {
        Ok(argument::currency(name, word.unwrap_or_default())?)
    }

    fn resolve(raw: Self) -> Result<Self, Reply> {
        Ok(raw)
    }

    fn fingerprint(value: &Self, into: &mut impl Fingerprint) {
        into.bytes(value.as_bytes());
    }

    fn describe(value: &Self) -> String {
        value.as_str().to_owned()
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Self> + 'static {
        "[A-Z]{3}".prop_map(|code| Self::new(code.as_bytes()).expect("three capitals"))
    }
}

/// Integers in little-endian order, and decimal in a word: a field for each kind.
pub trait Number {
    /// What the command's type holds.
    type Value: std::fmt::Debug;
    /// What has passed the first check; see [`Field`].
    type Raw;

    /// See [`Field::WIRE`].
    const WIRE: &'static str;
    /// Its bytes, 8 or fewer.
    const BYTES: usize = 8;

    /// The integer in a body.
    fn to_wire(value: &Self::Value) -> u64;

    /// What is meant where it is not given, and by 0 in a body. `None`: it has to be given.
    fn absent() -> Option<Self::Raw> {
        None
    }

    /// The integer in a word.
    fn read(word: &[u8]) -> Option<u64> {
        parse_u64(word)
    }

    /// The first check; `None` is what was no integer at all.
    fn check(name: &'static str, integer: Option<u64>) -> Result<Self::Raw, Error>;

    /// See [`Field::resolve`].
    fn resolve(raw: Self::Raw) -> Result<Self::Value, Reply>;

    /// See [`Field::describe`].
    fn describe(value: &Self::Value) -> String;

    /// See [`Field::answer_elements`].
    fn answer_elements(_: &Self::Value) -> usize {
        0
    }

    /// See [`Field::strategy`].
    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Self::Value> + 'static;
}

impl<N: Number> Field for N {
    type Value = N::Value;
    type Raw = N::Raw;

    const WIRE: &'static str = N::WIRE;

    #[inline]
    fn put(value: &N::Value, body: &mut Vec<u8>) {
        body.extend_from_slice(&N::to_wire(value).to_le_bytes()[..N::BYTES]);
    }

    #[inline]
    fn take(name: &'static str, body: &mut Reader<'_>) -> Result<N::Raw, Reply> {
        let mut bytes = [0; 8];
        bytes[..N::BYTES].copy_from_slice(body.bytes(N::BYTES, name)?);
        let integer = u64::from_le_bytes(bytes);
        match N::absent() {
            Some(absent) if integer == 0 => Ok(absent),
            _ => Ok(N::check(name, Some(integer))?),
        }
    }

    fn parse(name: &'static str, word: Option<&[u8]>) -> Result<N::Raw, Reply> {
        match (word, N::absent()) {
            (None, Some(absent)) => Ok(absent),
            _ => Ok(N::check(name, word.and_then(N::read))?),
        }
    }

    fn resolve(raw: N::Raw) -> Result<N::Value, Reply> {
        N::resolve(raw)
    }

    fn fingerprint(value: &N::Value, into: &mut impl Fingerprint) {
        into.integer(N::to_wire(value));
    }

    fn describe(value: &N::Value) -> String {
        N::describe(value)
    }

    fn answer_elements(value: &N::Value) -> usize {
        N::answer_elements(value)
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = N::Value> + 'static {
        N::strategy()
    }
}

impl Number for Amount {
    type Value = Self;
    type Raw = Self;

    const WIRE: &'static str = "`u64`";

    fn to_wire(value: &Self) -> u64 {
        value.minor_units()
    }

    fn check(name: &'static str, integer: Option<u64>) -> Result<Self, Error> {
        argument::amount(name, integer)
    }

    fn resolve(raw: Self) -> Result<Self, Reply> {
        Ok(raw)
    }

    fn describe(value: &Self) -> String {
        value.minor_units().to_string()
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Self> + 'static {
        (0..=crate::AMOUNT_MAX).prop_map(|amount| Self::new(amount).expect("within bounds"))
    }
}

/// A change of stock.
#[derive(Debug)]
pub struct Delta;

impl Number for Delta {
    type Value = i64;
    type Raw = i64;

    const WIRE: &'static str = "`i64` (not 0)";

    fn to_wire(value: &i64) -> u64 {
        value.cast_unsigned()
    }

    fn read(word: &[u8]) -> Option<u64> {
        parse_i64(word).map(i64::cast_unsigned)
    }

    fn check(name: &'static str, integer: Option<u64>) -> Result<i64, Error> {
        argument::delta(name, integer.map(u64::cast_signed))
    }

    fn resolve(raw: i64) -> Result<i64, Reply> {
        Ok(raw)
    }

    fn describe(value: &i64) -> String {
        value.to_string()
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = i64> + 'static {
        let most = i64::from(crate::QUANTITY_MAX);
        (-most..=most).prop_filter("0 changes nothing", |&delta| delta != 0)
    }
}

/// Units, where 0 and nothing say that none are meant.
impl Number for Option<Quantity> {
    type Value = Self;
    type Raw = Self;

    const WIRE: &'static str = "`u32` (0: none)";
    const BYTES: usize = 4;

    fn to_wire(value: &Self) -> u64 {
        value.map_or(0, Quantity::units).into()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn check(name: &'static str, integer: Option<u64>) -> Result<Self, Error> {
        argument::quantity_or_none(name, integer)
    }

    fn resolve(raw: Self) -> Result<Self, Reply> {
        Ok(raw)
    }

    fn describe(value: &Self) -> String {
        or_none(value.map(Quantity::units))
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Self> + 'static {
        proptest::option::of(any_quantity())
    }
}

/// For how long an order is held; nothing: it is placed at once.
#[derive(Debug)]
pub struct Hold;

impl Number for Hold {
    type Value = Option<u32>;
    type Raw = Option<u32>;

    const WIRE: &'static str = "`u32` (0: placed at once)";
    const BYTES: usize = 4;

    fn to_wire(value: &Option<u32>) -> u64 {
        value.unwrap_or(0).into()
    }

    fn absent() -> Option<Option<u32>> {
        Some(None)
    }

    fn check(name: &'static str, integer: Option<u64>) -> Result<Option<u32>, Error> {
        argument::hold_ms(name, integer).map(Some)
    }

    fn resolve(raw: Option<u32>) -> Result<Option<u32>, Reply> {
        Ok(raw)
    }

    fn describe(value: &Option<u32>) -> String {
        or_none(*value)
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Option<u32>> + 'static {
        proptest::option::of(1..=crate::HOLD_MS_MAX)
    }
}

/// How many elements a list may have.
#[derive(Debug)]
pub struct ListCount;

impl Number for ListCount {
    type Value = u32;
    type Raw = u32;

    const WIRE: &'static str = "`u32` (0: 100)";
    const BYTES: usize = 4;

    fn to_wire(value: &u32) -> u64 {
        u64::from(*value)
    }

    fn absent() -> Option<u32> {
        Some(ORDER_LIST_COUNT_DEFAULT)
    }

    fn check(name: &'static str, integer: Option<u64>) -> Result<u32, Error> {
        argument::list_count(name, integer)
    }

    fn resolve(raw: u32) -> Result<u32, Reply> {
        Ok(raw)
    }

    fn describe(value: &u32) -> String {
        value.to_string()
    }

    fn answer_elements(value: &u32) -> usize {
        *value as usize
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = u32> + 'static {
        1..=crate::ORDER_LIST_COUNT_MAX
    }
}

/// An order's number, whatever is said where no order can have it.
macro_rules! orders {
    ($($(#[$doc:meta])* $kind:ident: $absent:ident => $answer:expr;)*) => {$(
        $(#[$doc])*
        impl Number for $kind {
            type Value = OrderId;
            type Raw = u64;

            const WIRE: &'static str = "`u64`";

            fn to_wire(value: &OrderId) -> u64 {
                value.to_integer()
            }

            fn check(name: &'static str, integer: Option<u64>) -> Result<u64, Error> {
                argument::order_number(name, integer)
            }

            fn resolve($absent: u64) -> Result<OrderId, Reply> {
                OrderId::from_integer($absent).ok_or_else(|| $answer)
            }

            fn describe(value: &OrderId) -> String {
                value.to_string()
            }

            #[cfg(test)]
            fn strategy() -> impl Strategy<Value = OrderId> + 'static {
                any_order()
            }
        }
    )*};
}

/// An order that is asked for: where no order can have the number, null.
#[derive(Debug)]
pub struct OrderOrNull;

orders! {
    /// An order that is to be there: where no order can have the number, `NOORDER`.
    OrderId: number => argument::no_order(number).into();
    OrderOrNull: number => { let _ = number; Reply::Null };
}

/// The order before which a list begins: where that is below every order's number, the list is empty.
#[derive(Debug)]
pub struct Before;

impl Number for Before {
    type Value = Option<OrderId>;
    type Raw = Option<u64>;

    const WIRE: &'static str = "`u64` (0: from the newest)";

    fn to_wire(value: &Option<OrderId>) -> u64 {
        value.map_or(0, OrderId::to_integer)
    }

    fn absent() -> Option<Option<u64>> {
        Some(None)
    }

    fn check(name: &'static str, integer: Option<u64>) -> Result<Option<u64>, Error> {
        argument::order_number(name, integer).map(Some)
    }

    fn resolve(raw: Option<u64>) -> Result<Option<OrderId>, Reply> {
        raw.map(|number| OrderId::from_integer(number).ok_or(Reply::Orders(Vec::new())))
            .transpose()
    }

    fn describe(value: &Option<OrderId>) -> String {
        or_none(*value)
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Option<OrderId>> + 'static {
        proptest::option::of(any_order())
    }
}

/// The lines of a cart.
#[derive(Debug)]
pub struct Lines;

impl Field for Lines {
    type Value = Vec<CartLine>;
    type Raw = Vec<CartLine>;

    const WIRE: &'static str = "`u16` · per line: sku name, quantity `u32`";

    /// More lines than a cart may have are written as far as a frame can say, and refused by the server.
    fn put(value: &Vec<CartLine>, body: &mut Vec<u8>) {
        let count = value.len().min(CART_LINES_MAX + 1);
        body.extend_from_slice(&(count as u16).to_le_bytes());
        for line in &value[..count] {
            put_name(body, line.sku.as_str());
            body.extend_from_slice(&line.quantity.units().to_le_bytes());
        }
    }

    fn take(name: &'static str, body: &mut Reader<'_>) -> Result<Vec<CartLine>, Reply> {
        let count = argument::line_count(name, Some(u64::from(body.u16(name)?)))?;
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count {
            let before = body.clone();
            match take_line(body) {
                Some(line) => lines.push(line),
                None => return Err(refused_line(before, lines.len() + 1)),
            }
        }
        Ok(lines)
    }

    /// They are not one word: see the declaration that has them.
    fn parse(name: &'static str, _: Option<&[u8]>) -> Result<Vec<CartLine>, Reply> {
        Err(Error::malformed(format_args!("syntax error: {name} are several words")).into())
    }

    fn resolve(raw: Vec<CartLine>) -> Result<Vec<CartLine>, Reply> {
        Ok(raw)
    }

    fn fingerprint(value: &Vec<CartLine>, into: &mut impl Fingerprint) {
        for CartLine { sku, quantity } in value {
            into.bytes(sku.as_bytes());
            into.integer(quantity.units().into());
        }
    }

    fn describe(value: &Vec<CartLine>) -> String {
        let lines = value
            .iter()
            .map(|line| format!("{}:{}", line.sku, line.quantity.units()));
        lines.collect::<Vec<_>>().join(",")
    }

    #[cfg(test)]
    fn strategy() -> impl Strategy<Value = Vec<CartLine>> + 'static {
        let line = (any_name(), any_quantity()).prop_map(|(sku, quantity)| CartLine { sku, quantity });
        proptest::collection::vec(line, 1..30)
    }
}

/// A line, or that something is wrong with it: a request's most frequent part, kept free of everything that only an
/// error needs.
#[inline]
fn take_line(body: &mut Reader<'_>) -> Option<CartLine> {
    let sku = Sku::new(body.name("sku").ok()?).ok()?;
    let quantity = Quantity::new(u64::from(body.u32("quantity").ok()?))?;
    Some(CartLine { sku, quantity })
}

/// What is wrong with the line that `body` begins with, the `line`-th.
#[cold]
fn refused_line(mut body: Reader<'_>, line: usize) -> Reply {
    let refusal = |body: &mut Reader<'_>| -> Result<Quantity, Reply> {
        named(format_args!("sku of line {line}"), Sku::new(body.name("sku")?))?;
        let units = u64::from(body.u32("quantity")?);
        Ok(argument::quantity(
            format_args!("quantity of line {line}"),
            Some(units),
        )?)
    };
    refusal(&mut body).expect_err("only a line that was refused is asked about")
}
