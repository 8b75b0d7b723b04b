//! Images: a whole value as bytes, type and encoding included; in effects, checkpoints and `DUMP`.

use std::sync::Arc;

use super::bytes::ValueBytes;
use super::encoding::{LENGTH_BYTES_MAX, Reader, Strings, put_string};
use super::hash::{Field, Hash};
use super::value::Value;

const IMAGE_INTEGER: u8 = 0;
const IMAGE_STRING: u8 = 1;
const IMAGE_GROWING: u8 = 2;
const IMAGE_HASH_LIST: u8 = 3;
const IMAGE_HASH_TABLE: u8 = 4;

/// Adds the image of a value to `bytes`: the whole of it, type and encoding included.
pub fn put_image(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Integer(integer) => {
            bytes.push(IMAGE_INTEGER);
            bytes.extend_from_slice(&integer.to_le_bytes());
        }
        Value::String(string) => put_string_image(bytes, string.is_growing(), string),
        Value::Hash(hash) => put_hash_image(bytes, hash.is_list(), hash.iter()),
    }
}

/// Adds the image of a string, or of a part of one, to `bytes`.
pub fn put_string_image(bytes: &mut Vec<u8>, is_growing: bool, string: &[u8]) {
    bytes.push(if is_growing { IMAGE_GROWING } else { IMAGE_STRING });
    bytes.extend_from_slice(string);
}

/// Adds the image of a hash with these fields to `bytes`.
pub fn put_hash_image<'a>(bytes: &mut Vec<u8>, is_list: bool, fields: impl Iterator<Item = &'a Field>) {
    bytes.push(if is_list { IMAGE_HASH_LIST } else { IMAGE_HASH_TABLE });
    for field in fields {
        put_string(bytes, &field.name);
        put_string(bytes, &field.value);
    }
}

/// The fields and values of the image of a hash that is a table.
pub fn strings_of_image(image: &[u8]) -> Option<Strings<'_>> {
    let (&IMAGE_HASH_TABLE, bytes) = image.split_first()? else {
        return None;
    };
    let (mut reader, mut count) = (Reader { bytes }, 0);
    while !reader.bytes.is_empty() {
        reader.string()?;
        count += 1;
    }
    (count % 2 == 0).then_some(Strings::Encoded(count, bytes))
}

/// How long the image of a value is, at most; found without a look at what it holds.
pub fn image_bytes_max(value: &Value) -> usize {
    1 + match value {
        Value::Integer(_) => 8,
        Value::String(string) => string.len(),
        Value::Hash(hash) => hash.content_bytes() + hash.len() * 2 * LENGTH_BYTES_MAX,
    }
}

/// The value of an image, if it is one.
pub fn read_image(image: &[u8]) -> Option<Value> {
    let (&kind, rest) = image.split_first()?;
    Some(match kind {
        IMAGE_INTEGER => Value::Integer(i64::from_le_bytes(rest.try_into().ok()?)),
        IMAGE_STRING => Value::String(ValueBytes::new(rest)),
        IMAGE_GROWING => Value::String(ValueBytes::Growing(Arc::new(rest.to_vec()))),
        IMAGE_HASH_LIST | IMAGE_HASH_TABLE => {
            let mut hash = if kind == IMAGE_HASH_LIST {
                Hash::default()
            } else {
                Hash::table()
            };
            let mut reader = Reader { bytes: rest };
            while !reader.bytes.is_empty() {
                hash.set(reader.string()?, reader.string()?);
            }
            if hash.is_empty() {
                return None;
            }
            Value::Hash(Arc::new(hash))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_keep_type_value_and_encoding() {
        let mut list = Hash::default();
        list.set(b"b", b"1");
        list.set(b"a", b"2");
        let mut table = Hash::table();
        table.set(b"f", b"v");
        for value in [
            Value::Integer(-5),
            Value::string(b"text"),
            Value::String(ValueBytes::Growing(Arc::new(b"1".to_vec()))),
            Value::Hash(Arc::new(list)),
            Value::Hash(Arc::new(table)),
        ] {
            let mut image = Vec::new();
            put_image(&mut image, &value);
            assert!(image.len() <= image_bytes_max(&value));
            let read = read_image(&image).unwrap();
            assert_eq!(format!("{read:?}"), format!("{value:?}"));
            assert_eq!(read.encoding(), value.encoding());
        }
        assert!(read_image(&[]).is_none() && read_image(&[9, 1]).is_none() && read_image(&[IMAGE_HASH_LIST]).is_none());
    }
}
