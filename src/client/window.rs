//! How many blocks may be on their way between a client and the workers.

use gridloom_worker::wire::Parcel;

/// Bytes on their way: enough to keep any link busy.
const WINDOW_BYTES: u64 = 64 << 20;

/// Parcels on their way at most, however small their blocks.
const PARCELS_MAX: u64 = 64;

/// Blocks of `block_bytes` that may be on their way: two at least, so that one comes while the other is handed out.
pub(super) fn window(block_bytes: u64) -> u64 {
    (WINDOW_BYTES / block_bytes.max(1)).clamp(2, PARCELS_MAX * Parcel::blocks_max(block_bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_window_holds_few_large_blocks_and_not_too_many_small_ones() {
        let sizes = [0, 8, 8 << 10, 1 << 20, 16 << 20, 128 << 20, u64::MAX];
        assert_eq!(sizes.map(super::window), [64 << 10, 64 << 10, 512, 64, 4, 2, 2]);
    }
}
