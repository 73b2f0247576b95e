//! Numbers as few bits: what is kept of runs is mostly small numbers, and there are a billion of them a year.

/// Writes numbers, the high bit first.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are in use; 0: it is full.
    used: u8,
}

/// Reads what [`BitWriter`] wrote. Behind the end there are only zeros, and [`Self::is_over`] tells.
pub(super) struct BitReader<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// A quotient of this many is written out instead: far outliers must not cost a bit for each of their units.
const QUOTIENT_MAX: u64 = 24;

impl BitWriter {
    /// The low bits of a number.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        let mut missing = count;
        while missing > 0 {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let free = 8 - u32::from(self.used);
            let taken = free.min(missing);
            missing -= taken;
            let part = (value >> missing) & ((1 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::try_from(part << (free - taken)).unwrap_or_default();
            }
            self.used = u8::try_from((u32::from(self.used) + taken) % 8).unwrap_or_default();
        }
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.bits(flag.into(), 1);
    }

    /// Elias' gamma code of a number plus one: 0 is one bit, n some 2 log2 n.
    pub(super) fn gamma(&mut self, value: u64) {
        let value = value.saturating_add(1);
        let length = 64 - value.leading_zeros();
        self.bits(0, length - 1);
        self.bits(value, length);
    }

    /// A number that may be negative.
    pub(super) fn signed(&mut self, value: i64) {
        self.gamma(value.unsigned_abs().saturating_mul(2).saturating_sub((value < 0).into()));
    }

    /// Rice's code: good for numbers around 2 to the power of `width`.
    pub(super) fn rice(&mut self, value: u64, width: u32) {
        let quotient = value >> width;
        if quotient >= QUOTIENT_MAX {
            self.bits((1 << QUOTIENT_MAX) - 1, 24);
            self.bits(value, 64);
            return;
        }
        for _ in 0..quotient {
            self.flag(true);
        }
        self.flag(false);
        self.bits(value, width);
    }

    /// A number with a fraction: whole ones are short.
    pub(super) fn float(&mut self, value: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "it is compared with what it was")]
        let whole = value as i64;
        #[expect(clippy::cast_precision_loss, reason = "it is compared with what it was")]
        let is_whole = whole.unsigned_abs() < 1 << 53 && (whole as f64).to_bits() == value.to_bits();
        self.flag(is_whole);
        if is_whole {
            self.signed(whole);
        } else {
            self.bits(value.to_bits(), 64);
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.gamma(text.len() as u64);
        for byte in text.bytes() {
            self.bits(byte.into(), 8);
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// How many bits [`BitWriter::rice`] takes.
pub(super) fn rice_bits(value: u64, width: u32) -> u64 {
    let quotient = value >> width;
    if quotient >= QUOTIENT_MAX { QUOTIENT_MAX + 64 } else { quotient + 1 + u64::from(width) }
}

impl<'b> BitReader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Whether more was read than there is.
    pub(super) fn is_over(&self) -> bool {
        self.at > self.bytes.len() * 8
    }

    /// The next 64 bits, which stay where they are.
    fn ahead(&self) -> u64 {
        let (byte, bit) = (self.at / 8, self.at % 8);
        let rest = self.bytes.get(byte..).unwrap_or_default();
        if let Some((word, behind)) = rest.split_first_chunk() {
            let next = behind.first().copied().unwrap_or_default();
            return (u64::from_be_bytes(*word) << bit) | (u64::from(next) >> (8 - bit));
        }
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(word) << bit
    }

    pub(super) fn bits(&mut self, count: u32) -> u64 {
        let value = self.ahead().checked_shr(64 - count).unwrap_or_default();
        self.at += count as usize;
        value
    }

    pub(super) fn flag(&mut self) -> bool {
        self.bits(1) == 1
    }

    pub(super) fn gamma(&mut self) -> u64 {
        let zeros = self.ahead().leading_zeros();
        if zeros > 63 {
            self.at += 64;
            return 0;
        }
        self.at += zeros as usize + 1;
        ((1_u64 << zeros) | self.bits(zeros)) - 1
    }

    pub(super) fn signed(&mut self) -> i64 {
        let value = self.gamma();
        let size = i64::try_from(value.div_ceil(2)).unwrap_or(i64::MAX);
        if value % 2 == 1 { -size } else { size }
    }

    pub(super) fn rice(&mut self, width: u32) -> u64 {
        let quotient = u64::from(self.ahead().leading_ones());
        if quotient >= QUOTIENT_MAX {
            self.at += 24;
            return self.bits(64);
        }
        self.at += usize::try_from(quotient).unwrap_or_default() + 1;
        (quotient << width) | self.bits(width)
    }

    pub(super) fn float(&mut self) -> f64 {
        if self.flag() {
            #[expect(clippy::cast_precision_loss, reason = "only what fits was written so")]
            let whole = self.signed() as f64;
            return whole;
        }
        f64::from_bits(self.bits(64))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.gamma()).ok().filter(|length| *length <= self.bytes.len())?;
        let bytes = (0..length).map(|_| u8::try_from(self.bits(8)).unwrap_or_default()).collect();
        String::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in prop::collection::vec((0_u64..u64::MAX - 1, i64::MIN / 4..i64::MAX / 4, 0_u32..40, any::<f64>()), 0..50),
            small in prop::collection::vec(0_u64..9, 0..50), text: String,
        ) {
            let mut writer = BitWriter::default();
            writer.text(&text);
            for (number, signed, width, float) in &numbers {
                writer.gamma(*number);
                writer.signed(*signed);
                writer.rice(*number, *width);
                writer.float(*float);
                writer.flag(*signed > 0);
            }
            for number in &small {
                writer.gamma(*number);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            prop_assert_eq!(reader.text(), Some(text));
            for (number, signed, width, float) in numbers {
                prop_assert_eq!(reader.gamma(), number);
                prop_assert_eq!(reader.signed(), signed);
                prop_assert_eq!(reader.rice(width), number);
                prop_assert_eq!(reader.float().to_bits(), float.to_bits());
                prop_assert_eq!(reader.flag(), signed > 0);
            }
            for number in small {
                prop_assert_eq!(reader.gamma(), number);
            }
            prop_assert!(!reader.is_over());
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = BitReader::new(&bytes);
            while !reader.is_over() {
                reader.gamma();
                reader.rice(3);
                reader.float();
                reader.text();
            }
        }
    }
}
