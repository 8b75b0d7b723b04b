//! Images: a whole value as bytes, type and encoding included; in effects, checkpoints and `DUMP`.

use super::types::Value;

/// Adds the image of a value to `bytes`: the whole of it, type and encoding included.
pub fn put_image(bytes: &mut Vec<u8>, value: &Value) {
    value.put_image(bytes);
}

/// How long the image of a value is, at most; found without a look at what it holds.
pub fn image_bytes_max(value: &Value) -> usize {
    value.image_bytes_max()
}

/// The value of an image, if it is one.
pub fn read_image(image: &[u8]) -> Option<Value> {
    Value::read_image(image)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::bytes::ValueBytes;
    use super::super::types::hash::Hash;
    use super::super::types::string::StringValue;
    use super::*;

    #[test]
    fn images_keep_type_value_and_encoding() {
        let mut list = Hash::default();
        list.set(b"b", b"1");
        list.set(b"a", b"2");
        let mut table = Hash::table();
        table.set(b"f", b"v");
        for value in [
            StringValue::Integer(-5).into(),
            StringValue::new(b"text").into(),
            StringValue::Bytes(ValueBytes::Growing(Arc::new(b"1".to_vec()))).into(),
            Value::from(Arc::new(list)),
            Value::from(Arc::new(table)),
        ] {
            let mut image = Vec::new();
            put_image(&mut image, &value);
            assert!(image.len() <= image_bytes_max(&value));
            let read = read_image(&image).unwrap();
            assert_eq!(format!("{read:?}"), format!("{value:?}"));
            assert_eq!(read.encoding(), value.encoding());
        }
        assert!(read_image(&[]).is_none() && read_image(&[9, 1]).is_none() && read_image(&[3]).is_none());
    }
}
