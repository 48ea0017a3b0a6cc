//! How many blocks may be on their way between a client and the workers.

/// Bytes on their way: enough to keep any link busy.
const WINDOW_BYTES: u64 = 64 << 20;

/// Blocks on their way at most, however small.
const BLOCKS_MAX: u64 = 64;

/// Blocks of `block_bytes` that may be on their way: two at least, so that one comes while the other is handed out.
pub(super) fn window(block_bytes: u64) -> usize {
    (WINDOW_BYTES / block_bytes.max(1)).clamp(2, BLOCKS_MAX) as usize
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_window_holds_few_large_blocks_and_not_too_many_small_ones() {
        assert_eq!([0, 8, 1 << 20, 16 << 20, 128 << 20, u64::MAX].map(super::window), [64, 64, 64, 4, 2, 2]);
    }
}
