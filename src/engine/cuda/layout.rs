//! Matrix layout in device memory: formats, planes and their sizes. Only arithmetic; the kernels' side is `common.cuh`.

use std::ops::Range;

use crate::engine::cpu::GgmlType;

/// A matrix in planes (`common.cuh`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mat {
    pub main: u64,
    pub high: u64,
    pub scale: u64,
    pub extra: u64,
    pub rows: i32,
    pub cols: i32,
    pub format: i32,
    pub pad: i32,
}

impl Mat {
    pub fn format(&self) -> Format {
        Format::from_number(self.format)
    }

    /// The matrix of these rows, in the same memory. The first row must be a multiple of 64, so that every plane of it
    /// begins at a multiple of 16 bytes.
    pub fn of_rows(&self, rows: Range<usize>) -> Self {
        let skipped = self.format().planes(rows.start, self.cols as usize);
        let after = |plane: u64, bytes: u64| if plane == 0 { 0 } else { plane + bytes };
        Self {
            main: after(self.main, skipped[0]),
            high: after(self.high, skipped[1]),
            scale: after(self.scale, skipped[2]),
            extra: after(self.extra, skipped[3]),
            rows: rows.len() as i32,
            ..*self
        }
    }
}

/// Alignment of every plane, in bytes.
pub const ALIGNMENT: u64 = 256;

/// A storage format of the kernels, numbered as in `enum Format` of `common.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Format {
    F32 = 0,
    F16 = 1,
    Bf16 = 2,
    Q4_0 = 3,
    Q4_1 = 4,
    Q5_0 = 5,
    Q5_1 = 6,
    Q8_0 = 7,
    Q4K = 8,
    Q5K = 9,
    Q6K = 10,
}

impl Format {
    /// Every format, indexed by number.
    pub const ALL: [Format; 11] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
    ];

    /// The device format of a file's type: the same, except Q3_K becomes Q6_K (lossless) and Q2_K becomes bf16.
    pub fn of(kind: GgmlType) -> Self {
        match kind {
            GgmlType::F32 => Format::F32,
            GgmlType::F16 => Format::F16,
            GgmlType::BF16 | GgmlType::Q2K => Format::Bf16,
            GgmlType::Q4_0 => Format::Q4_0,
            GgmlType::Q4_1 => Format::Q4_1,
            GgmlType::Q5_0 => Format::Q5_0,
            GgmlType::Q5_1 => Format::Q5_1,
            GgmlType::Q8_0 => Format::Q8_0,
            GgmlType::Q4K => Format::Q4K,
            GgmlType::Q5K => Format::Q5K,
            GgmlType::Q3K | GgmlType::Q6K => Format::Q6K,
        }
    }

    /// The format with that number; F32 if there is none (numbers only come from `Format` itself).
    pub fn from_number(number: i32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Format::F32)
    }

    /// Whether the format is an unquantised float type.
    pub fn is_plain(self) -> bool {
        matches!(self, Format::F32 | Format::F16 | Format::Bf16)
    }

    /// (Bytes, elements) of a run in each of the planes main, high, scale, extra.
    fn plane_bytes(self) -> [(u64, u64); 4] {
        let each = |n| (n, 32);
        let none = (0, 32);
        match self {
            Format::F32 => [each(128), none, none, none],
            Format::F16 | Format::Bf16 => [each(64), none, none, none],
            Format::Q4_0 => [each(16), none, each(2), none],
            Format::Q4_1 => [each(16), none, each(4), none],
            Format::Q5_0 => [each(16), each(4), each(2), none],
            Format::Q5_1 => [each(16), each(4), each(4), none],
            Format::Q8_0 => [each(16), each(16), each(2), none],
            Format::Q4K => [each(16), none, (16, 256), none],
            Format::Q5K => [each(16), each(4), (16, 256), none],
            Format::Q6K => [each(16), each(8), each(2), (2, 256)],
        }
    }

    /// Bytes of one ring unit of a matrix-vector kernel (`weight_ring.cuh`): `steps` x 32 words of 16 bytes of two
    /// rows' main planes, and the matching parts of the other planes.
    pub fn unit_bytes(self, steps: u64) -> u64 {
        let [_, high, scale, extra] = self.plane_bytes().map(|(bytes, of)| bytes * 256 / of);
        // Other planes are copied as whole words of 16 bytes, at any alignment.
        let room = |bytes8: u64| if bytes8 == 0 { 0 } else { (bytes8 * 4 * steps + 30) & !15 };
        let (words, high) = if self == Format::Q8_0 { (2, 0) } else { (1, high) };
        words * 1024 * steps + 2 * (room(high) + room(scale) + room(extra))
    }

    /// Bytes of each plane of a matrix, without padding.
    pub fn planes(self, rows: usize, cols: usize) -> [u64; 4] {
        let numbers = rows as u64 * cols as u64;
        self.plane_bytes().map(|(bytes, of)| numbers / of * bytes)
    }

    /// Bytes of a matrix that a decode step reads: all planes, without padding.
    pub fn bytes(self, rows: usize, cols: usize) -> u64 {
        self.planes(rows, cols).iter().sum()
    }
}

/// A bump allocator of device addresses. With base 0 it only computes the total size.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    next: u64,
}

impl Arena {
    /// An arena that begins at `base`, a multiple of [`ALIGNMENT`].
    pub fn new(base: u64) -> Self {
        Self { next: base }
    }

    /// Reserves `bytes` and returns their address.
    pub fn take(&mut self, bytes: u64) -> u64 {
        let at = self.next;
        self.next = (at + bytes).next_multiple_of(ALIGNMENT);
        at
    }

    /// Reserves all planes of a matrix.
    pub fn matrix(&mut self, format: Format, rows: usize, cols: usize) -> Mat {
        let [main, high, scale, extra] = format.planes(rows, cols);
        let mut plane = |bytes: u64| if bytes == 0 { 0 } else { self.take(bytes) };
        let (main, high, scale, extra) = (plane(main), plane(high), plane(scale), plane(extra));
        Mat { main, high, scale, extra, rows: rows as i32, cols: cols as i32, format: format as i32, pad: 0 }
    }

    /// The first free address.
    pub fn end(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_have_the_size_of_the_file_data_except_q2_k_and_q3_k() {
        for kind in GgmlType::ALL {
            let format = Format::of(kind);
            let file = (4096 * 512 / kind.block_size() * kind.block_bytes()) as u64;
            match kind {
                GgmlType::Q2K | GgmlType::Q3K => assert!(format.bytes(4096, 512) > file),
                _ => assert_eq!(format.bytes(4096, 512), file, "{}", kind.name()),
            }
        }
    }

    #[test]
    fn unit_bytes_match_the_kernels() {
        let sizes = Format::ALL.map(|format| format.unit_bytes(1));
        assert_eq!(sizes, [1024, 1024, 1024, 1184, 1312, 1472, 1600, 2208, 1184, 1472, 1792]);
        let sizes = [Format::Bf16, Format::Q4K, Format::Q6K].map(|format| format.unit_bytes(2));
        assert_eq!(sizes, [2048, 2336, 3456]);
    }

    #[test]
    fn matrices_do_not_overlap_and_planes_are_aligned() {
        let mut arena = Arena::new(1024);
        let a = arena.matrix(Format::Q6K, 3, 256);
        let b = arena.matrix(Format::Bf16, 5, 96);
        let c = arena.matrix(Format::Bf16, 5, 96);
        assert_eq!((a.main, a.high, a.scale, a.extra), (1024, 1024 + 512, 1024 + 768, 1024 + 1024));
        assert!([b.main, c.main, arena.end()].iter().all(|p| p % ALIGNMENT == 0));
        assert_eq!(b.main, a.extra + 256);
        assert!(c.main >= b.main + 5 * 96 * 2 && (b.high, b.scale, b.extra) == (0, 0, 0));
    }

    #[test]
    fn format_numbers_match_the_kernels() {
        for (number, format) in Format::ALL.into_iter().enumerate() {
            assert_eq!((format as usize, Format::from_number(number as i32)), (number, format));
        }
    }
}
