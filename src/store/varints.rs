//! Lists of integers in a BLOB: LEB128, 7 bits in each byte, the lowest first. Token ids take 1 to 3 bytes, the
//! microseconds between two tokens 2 or 3.

/// The bytes of `values`.
pub(super) fn to_bytes(values: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut value in values {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes
}

/// The values in `bytes`; `None` if they are damaged.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Vec<u64>> {
    let (mut values, mut value, mut shift) = (Vec::new(), 0u64, 0);
    for byte in bytes {
        if shift > 63 || (shift == 63 && byte & 0x7f > 1) {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            values.push(value);
            (value, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_values_are_short_and_damaged_bytes_are_refused() {
        assert_eq!(to_bytes([0, 1, 127, 128, 300]), [0, 1, 127, 0x80, 1, 0xac, 2]);
        assert_eq!(from_bytes(&[0x80]), None, "cut off");
        assert_eq!(from_bytes(&[0xff; 11]), None, "too long");
        assert_eq!(from_bytes(&[]), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn values_come_back(values in proptest::collection::vec(any::<u64>(), 0..40)) {
            prop_assert_eq!(from_bytes(&to_bytes(values.iter().copied())), Some(values));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(values) = from_bytes(&bytes) {
                prop_assert!(values.len() <= bytes.len());
            }
        }
    }
}
