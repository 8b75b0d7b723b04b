//! The words of a RESP command, found by the fields of its declaration: first what every command needs, in order, then
//! `KEYWORD value` pairs in any order, each at most once.

use super::declaration::FieldSpec;
use crate::argument::{self, named};
use crate::resp::Arguments;
use crate::{Error, NameError, Sku};

/// Most fields of one command.
const FIELDS_MAX: usize = 12;

/// The words of one command; see the module.
pub(crate) struct Words<'a> {
    arguments: Arguments<'a>,
    fields: &'static [FieldSpec],
    /// The values of keywords, by field.
    values: [Option<&'a [u8]>; FIELDS_MAX],
    next: usize,
}

impl<'a> Words<'a> {
    /// Finds what belongs to each keyword. The command table has checked the count of arguments.
    pub(crate) fn of(arguments: Arguments<'a>, fields: &'static [FieldSpec]) -> Result<Self, Error> {
        let mut values = [None; FIELDS_MAX];
        let mut index = 1 + fields.iter().filter(|field| field.is_positional()).count();
        while let Some(word) = arguments.get(index) {
            let is_it =
                |field: &FieldSpec| !field.is_positional() && word.eq_ignore_ascii_case(field.keyword.as_bytes());
            let Some(which) = fields.iter().position(is_it) else {
                let keywords: Vec<_> = fields.iter().filter(|field| !field.is_positional()).collect();
                let keywords: Vec<_> = keywords.into_iter().map(|field| field.keyword).collect();
                return Err(unexpected(index, &keywords.join(", ")));
            };
            set_once(&mut values[which], fields[which].keyword, arguments.get(index + 1))?;
            index += 2;
        }
        Ok(Self {
            arguments,
            fields,
            values,
            next: 0,
        })
    }

    /// The next field's name as a client says it, and its word, if it was given.
    pub(crate) fn next(&mut self) -> (&'static str, Option<&'a [u8]>) {
        let index = self.next;
        self.next += 1;
        let field = &self.fields[index];
        if !field.is_positional() {
            return (field.keyword, self.values[index]);
        }
        let before = self.fields[..index]
            .iter()
            .filter(|field| field.is_positional())
            .count();
        (field.name, self.arguments.get(1 + before))
    }
}

/// Takes the value of a keyword.
pub(super) fn set_once<'a>(slot: &mut Option<&'a [u8]>, keyword: &str, value: Option<&'a [u8]>) -> Result<(), Error> {
    let value = value.ok_or_else(|| Error::malformed(format_args!("syntax error: {keyword} needs a value")))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::malformed(format_args!("syntax error: {keyword} is given twice"))),
    }
}

/// A word where one of the keywords should be.
pub(super) fn unexpected(index: usize, keywords: &str) -> Error {
    Error::malformed(format_args!("syntax error: argument {index} is none of {keywords}"))
}

/// What is wrong with the `line`-th line: its SKU, or else its quantity.
#[cold]
pub(super) fn refused_line(sku: Result<Sku, NameError>, line: usize) -> Error {
    match named(format_args!("sku of line {line}"), sku) {
        Err(error) => error,
        Ok(_) => argument::quantity(format_args!("qty of line {line}"), None).expect_err("no number is no quantity"),
    }
}
