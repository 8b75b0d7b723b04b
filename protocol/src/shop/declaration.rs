//! How a command is declared, and what a declaration comes to.
//!
//! `command!` is called once for each command, by the files beside this one. The list of all is in
//! [`crate::operation`].

use crate::command::Flags;
use crate::native::ReplyOpcode;
use crate::native::body::Reader;
use crate::resp::Arguments;
use crate::{Customer, Key, Operation, OrderId, Reply, Sku, Slot};

use super::answer::Answer;

/// Commands that may be in flight together on one RESP connection: they do not see each other, or commute but for which
/// of them is refused, or reach the one place of their item or order in the order they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes of items.
    WriteStock,
    /// Looks at items.
    ReadStock,
    /// Carts: these compete for the last units.
    Checkout,
    /// Changes of orders.
    ChangeOrder,
    /// Looks at orders.
    ReadOrder,
    /// Everything else: alone.
    Alone,
}

/// The thing that a command is about: its slot's shard decides, and request keys belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home<'a> {
    /// An item.
    Sku(&'a Sku),
    /// A customer.
    Customer(&'a Customer),
    /// An order.
    Order(&'a OrderId),
}

impl Home<'_> {
    /// The slot of the thing.
    pub fn slot(self) -> Slot {
        match self {
            Self::Sku(sku) => sku.slot(),
            Self::Customer(customer) => customer.slot(),
            Self::Order(id) => id.slot(),
        }
    }
}

/// What kind of thing a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeKind {
    /// An item.
    Sku,
    /// A customer.
    Customer,
    /// An order. Its id is no key for Redis's clients: it carries its slot, which is not that of its digits.
    Order,
}

/// Takes in everything that makes two requests with one key the same request. Kept for ever: fingerprints are on disk.
pub trait Fingerprint {
    /// Begins with the kind of request.
    fn begin(&mut self, kind: u8);

    /// Adds an integer.
    fn integer(&mut self, value: u64);

    /// Adds bytes, with their length.
    fn bytes(&mut self, value: &[u8]);
}

/// A field, as documents and messages need it.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Its name.
    pub name: &'static str,
    /// The keyword before its word; empty where it stands in its place without one.
    pub keyword: &'static str,
    /// Its bytes, as `README.md` of this crate writes them.
    pub wire: &'static str,
}

impl FieldSpec {
    /// Whether its word stands in its place without a keyword.
    pub const fn is_positional(&self) -> bool {
        self.keyword.is_empty()
    }
}

/// A command, for those who go through the list of all ([`Operation::SPECS`]).
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name, in capitals.
    pub name: &'static str,
    /// Its name, as Redis writes names of commands.
    pub lower_name: &'static str,
    /// Its number in native frames.
    pub opcode: u8,
    /// Count of words, the name included; negative: at least that many.
    pub arity: i16,
    /// What it is like.
    pub flags: Flags,
    /// What it is about; nothing: everything.
    pub home: Option<HomeKind>,
    /// What may be in flight with it.
    pub class: Class,
    /// The words behind the name, as documentation writes them.
    pub syntax: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its fields, in the order of the body.
    pub fields: &'static [FieldSpec],
    /// The replies that answer it, errors apart.
    pub replies: &'static [ReplyOpcode],
    /// What the reply says, where its name does not.
    pub answer_note: &'static str,
    /// What the server's README says of its answer.
    pub manual: &'static str,
    /// Tells its request keys from those of other commands; 0: it has none.
    pub fingerprint: u8,
    /// One that can be sent.
    pub example: &'static [&'static str],
    /// The operation in a RESP command, whose count of words is right; or the reply to send at once.
    pub parse: fn(Arguments<'_>) -> Result<Operation, Reply>,
}

/// A command as a type. Written by `command!` alone.
pub trait Command: Into<Operation> {
    /// The type of its answer.
    type Answer: Answer;

    /// For those who do not know the type.
    const SPEC: Spec;

    /// Appends its fields to a frame's body.
    fn put(&self, body: &mut Vec<u8>);

    /// The command in a frame's body, or the reply to send at once.
    fn take(body: Reader<'_>) -> Result<Self, Reply>;

    /// The command in these words, field by field.
    fn parse_fields(arguments: Arguments<'_>) -> Result<Self, Reply>;

    /// The command in these words, or the reply to send at once.
    fn parse(arguments: Arguments<'_>) -> Result<Self, Reply> {
        Self::parse_fields(arguments)
    }

    /// What it is about; `None`: everything.
    fn home(&self) -> Option<Home<'_>>;

    /// Its request key, if it has one.
    fn request_key(&self) -> Option<&Key>;

    /// Adds what makes it another request than others with its key. The key and the home are compared apart.
    fn fingerprint(&self, into: &mut impl Fingerprint);

    /// How long its reply can become, on either protocol, in bytes.
    fn reply_bytes_max(&self) -> usize;

    /// Its fields, as test vectors say them.
    fn describe(&self) -> String;

    /// All commands of this type.
    #[cfg(test)]
    fn strategy() -> impl proptest::strategy::Strategy<Value = Self> + 'static;
}

/// One line of documentation without the blank before it, or a syntax without that of its first word.
pub(crate) const fn without_blank(text: &'static str) -> &'static str {
    if text.is_empty() { text } else { text.split_at(1).1 }
}

/// The text that was given instead, if one was.
pub(crate) const fn or(given: &'static str, regular: &'static str) -> &'static str {
    if given.is_empty() { regular } else { given }
}

/// Count of words of a regular command: as many as there are fields without a keyword, and its name.
pub(crate) const fn arity(fields: &[FieldSpec], given: i16) -> i16 {
    if given != 0 {
        return given;
    }
    let (mut words, mut index) = (1, 0);
    while index < fields.len() {
        words += fields[index].is_positional() as i16;
        index += 1;
    }
    if words as usize == fields.len() + 1 {
        words
    } else {
        -words
    }
}

/// A name in small letters.
pub(crate) const fn lower<const LENGTH: usize>(name: &str) -> [u8; LENGTH] {
    let mut lower = [0; LENGTH];
    let mut index = 0;
    while index < LENGTH {
        lower[index] = name.as_bytes()[index].to_ascii_lowercase();
        index += 1;
    }
    lower
}

/// The home, where one is told.
pub(crate) const fn only(told: &[HomeKind]) -> Option<HomeKind> {
    match told {
        [] => None,
        [home, ..] => Some(*home),
    }
}

/// Whether two names are the same.
pub(crate) const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// The kind of a field: that which is told, or its type.
macro_rules! kind_of {
    ($type:ty) => {
        $type
    };
    ($type:ty as $kind:ty) => {
        $kind
    };
}

/// A field's part of the syntax.
macro_rules! syntax_of {
    ($field:ident) => {
        concat!(" ", stringify!($field))
    };
    ($field:ident $keyword:ident $word:ident) => {
        concat!(" [", stringify!($keyword), " ", stringify!($word), "]")
    };
}

/// Declares a command: its type, and all that [`Command`] and [`Spec`] say of it. In this order:
///
/// * its summary, its type's name, its opcode (never used before) and its name;
/// * its fields in the order of the body: the type of the value, the kind where the type does not say it, and the keyword
///   with the word that stands for its value, where it has one. Fields without a keyword come first, in the same order;
/// * `answer`: the type of its answer, and what it says; `manual`: the same for people, in the server's README;
/// * `home`: the field that it is about;
/// * `class`: what may be in flight with it on one connection, `flags`: what it is like;
/// * `fingerprint`, where it has a key: a number that no other command has, or had;
/// * `words`, where its words are irregular: their count, its syntax, and the function that reads them;
/// * `example`: one that can be sent.
macro_rules! command {
    (
        #[doc = $summary:literal]
        $name:ident = $opcode:literal $text:literal {
            $(
                $(#[$field_doc:meta])*
                $field:ident: $type:ty $(as $kind:ty)? $(= [$keyword:ident $word:ident])?
            ),* $(,)?
        }
        answer: $answer:ty $(= $answer_note:literal)?;
        manual: $manual:literal;
        $(home: $home_kind:ident($home:ident);)?
        class: $class:ident;
        flags: $flags:expr;
        $(fingerprint: $fingerprint:literal;)?
        $(words: $arity:literal $syntax:literal $parse:ident;)?
        example: $($example:literal)+;
    ) => {
        #[doc = concat!("`", $text, "`:", $summary)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::shop::Command for $name {
            type Answer = $answer;

            const SPEC: $crate::shop::Spec = {
                const FIELDS: &[$crate::shop::FieldSpec] = &[$($crate::shop::FieldSpec {
                    name: stringify!($field),
                    keyword: concat!("" $(, stringify!($keyword))?),
                    wire: <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::WIRE,
                }),*];
                const LOWER: [u8; $text.len()] = $crate::shop::declaration::lower($text);
                $crate::shop::Spec {
                    name: $text,
                    lower_name: match std::str::from_utf8(&LOWER) {
                        Ok(name) => name,
                        Err(_) => panic!("names are of letters and dots"),
                    },
                    opcode: $opcode,
                    arity: $crate::shop::declaration::arity(FIELDS, 0 $(+ $arity)?),
                    flags: $flags,
                    home: $crate::shop::declaration::only(&[$($crate::shop::HomeKind::$home_kind)?]),
                    class: $crate::shop::Class::$class,
                    syntax: $crate::shop::declaration::or(
                        concat!("" $(, $syntax)?),
                        $crate::shop::declaration::without_blank(
                            concat!($(syntax_of!($field $($keyword $word)?)),*)
                        ),
                    ),
                    summary: $crate::shop::declaration::without_blank($summary),
                    fields: FIELDS,
                    replies: <$answer as $crate::shop::Answer>::REPLIES,
                    answer_note: concat!("" $(, $answer_note)?),
                    manual: $manual,
                    fingerprint: 0 $(+ $fingerprint)?,
                    example: &[$($example),+],
                    parse: |arguments| Ok(Self::parse(arguments)?.into()),
                }
            };

            #[allow(unused_variables, reason = "a command may have no fields")]
            fn put(&self, body: &mut Vec<u8>) {
                $(<kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::put(&self.$field, body);)*
            }

            #[allow(unused_mut, reason = "a command may have no fields")]
            fn take(mut body: $crate::native::body::Reader<'_>) -> Result<Self, $crate::Reply> {
                $(let $field = <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::take(stringify!($field), &mut body)?;)*
                body.finish()?;
                Ok(Self {
                    $($field: <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::resolve($field)?,)*
                })
            }

            #[allow(unused_mut, unused_variables, reason = "a command may have no fields")]
            fn parse_fields(arguments: $crate::resp::Arguments<'_>) -> Result<Self, $crate::Reply> {
                let mut words = $crate::shop::words::Words::of(arguments, Self::SPEC.fields)?;
                $(
                    let (name, word) = words.next();
                    let $field = <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::parse(name, word)?;
                )*
                Ok(Self {
                    $($field: <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::resolve($field)?,)*
                })
            }

            $(fn parse(arguments: $crate::resp::Arguments<'_>) -> Result<Self, $crate::Reply> {
                $parse(arguments)
            })?

            fn home(&self) -> Option<$crate::shop::Home<'_>> {
                [$($crate::shop::Home::$home_kind(&self.$home))?].into_iter().next()
            }

            fn request_key(&self) -> Option<&$crate::Key> {
                let keys: &[Option<&$crate::Key>] = &[
                    $(<kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::request_key(&self.$field)),*
                ];
                keys.iter().copied().flatten().next()
            }

            fn fingerprint(&self, into: &mut impl $crate::shop::Fingerprint) {
                #[allow(dead_code, reason = "a command may have no fields")]
                const HOME: &str = concat!("" $(, stringify!($home))?);
                into.begin(Self::SPEC.fingerprint);
                $(
                    if const { !$crate::shop::declaration::is_same(stringify!($field), HOME) } {
                        <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::fingerprint(&self.$field, into);
                    }
                )*
            }

            fn reply_bytes_max(&self) -> usize {
                use $crate::shop::answer::{Answer, SMALL_REPLY_BYTES};
                let elements = 0 $(+ <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::answer_elements(&self.$field))*;
                SMALL_REPLY_BYTES + <$answer>::BYTES_MAX + elements * <$answer>::ELEMENT_BYTES_MAX
            }

            fn describe(&self) -> String {
                let fields: &[(&str, String)] = &[$((
                    stringify!($field),
                    <kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::describe(&self.$field),
                )),*];
                let fields = fields.iter().map(|(field, value)| format!(" {field}={value}"));
                fields.fold($text.to_owned(), |all, field| all + &field)
            }

            #[cfg(test)]
            fn strategy() -> impl proptest::strategy::Strategy<Value = Self> + 'static {
                use proptest::strategy::{Just, Strategy};
                (Just(()), $(<kind_of!($type $(as $kind)?) as $crate::shop::field::Field>::strategy(),)*)
                    .prop_map(|((), $($field,)*)| Self { $($field,)* })
            }
        }
    };
}
