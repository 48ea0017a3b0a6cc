//! How many may knock, from one address and in all. A pure function of time and of who has knocked before.
//!
//! An address is one of IPv4, or all 2^64 that a host of IPv6 may call its own. A handshake costs the one that is dialled a signature; a flood must neither eat a core nor lock the others out. So
//! every address has a bucket that fills slowly, and all addresses together have another. While the common one is less
//! than half full, an address must first show that it is not forged, which costs nothing to ask.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Handshakes that one address may begin at once: two for each of 256 processes that a node starts together.
const ADDRESS_BURST: f64 = 512.0;
/// And in each second from then on.
const ADDRESS_PER_SECOND: f64 = 64.0;
/// Handshakes that may begin at once in all.
const TOTAL_BURST: f64 = 4096.0;
/// And in each second from then on: about a third of a core.
const TOTAL_PER_SECOND: f64 = 1024.0;
/// Addresses remembered. One is forgotten when its bucket is full again.
const ADDRESSES_MAX: usize = 4096;
/// Connections of one address that may be in the middle of joining or saying hello.
const OPEN_MAX_PER_ADDRESS: u32 = 128;
/// And of all addresses.
const OPEN_MAX: u32 = 512;

/// What is to be done with who knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let in. [`Admission::ended`] is to be called when it has said who it is, or has failed to.
    Admit,
    /// Asked to show that its address is its own.
    Validate,
    /// Turned away.
    Refuse,
}

/// Who has knocked.
#[derive(Default)]
pub(super) struct Admission {
    /// Admissions taken and not yet refilled.
    total: Bucket,
    addresses: HashMap<IpAddr, Bucket>,
}

/// Counts what was taken; empties with time.
#[derive(Clone, Copy, Default)]
struct Bucket {
    taken: f64,
    seen: Duration,
    open: u32,
}

impl Bucket {
    fn refill(&mut self, now: Duration, per_second: f64) {
        let elapsed = now.saturating_sub(self.seen).as_secs_f64();
        self.taken = (self.taken - elapsed * per_second).max(0.0);
        self.seen = now;
    }

    fn take(&mut self) {
        self.taken += 1.0;
        self.open += 1;
    }
}

impl Admission {
    pub(super) fn knock(&mut self, now: Duration, address: IpAddr, is_validated: bool) -> Verdict {
        self.total.refill(now, TOTAL_PER_SECOND);
        let is_busy = self.total.taken > TOTAL_BURST / 2.0 || self.total.open > OPEN_MAX / 2;
        if is_busy && !is_validated {
            return Verdict::Validate;
        }
        if self.total.taken + 1.0 > TOTAL_BURST || self.total.open >= OPEN_MAX || !self.has_room_for(now, address) {
            return Verdict::Refuse;
        }
        let bucket = self.addresses.entry(owner(address)).or_insert(Bucket { seen: now, ..Bucket::default() });
        bucket.refill(now, ADDRESS_PER_SECOND);
        if bucket.taken + 1.0 > ADDRESS_BURST || bucket.open >= OPEN_MAX_PER_ADDRESS {
            return Verdict::Refuse;
        }
        bucket.take();
        self.total.take();
        Verdict::Admit
    }

    /// An admitted one is in, or out again.
    pub(super) fn ended(&mut self, address: IpAddr) {
        self.total.open = self.total.open.saturating_sub(1);
        if let Some(bucket) = self.addresses.get_mut(&owner(address)) {
            bucket.open = bucket.open.saturating_sub(1);
        }
    }

    fn has_room_for(&mut self, now: Duration, address: IpAddr) -> bool {
        if self.addresses.len() < ADDRESSES_MAX || self.addresses.contains_key(&owner(address)) {
            return true;
        }
        self.addresses.retain(|_, bucket| {
            bucket.refill(now, ADDRESS_PER_SECOND);
            bucket.taken > 0.0 || bucket.open > 0
        });
        self.addresses.len() < ADDRESSES_MAX
    }
}

/// The one address that stands for all that its owner may dial from.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// How many of `count` that knock and end at once are admitted.
    fn admitted(admission: &mut Admission, now: Duration, from: impl Fn(u32) -> IpAddr, count: u32) -> u32 {
        let mut admitted = 0;
        for number in 0..count {
            if admission.knock(now, from(number), true) == Verdict::Admit {
                admission.ended(from(number));
                admitted += 1;
            }
        }
        admitted
    }

    #[test]
    fn one_address_is_slowed_down_and_the_others_are_not() {
        let mut admission = Admission::default();
        assert_eq!(admitted(&mut admission, SECOND, |_| address(1), 1000), 512);
        assert_eq!(admission.knock(SECOND, address(2), false), Verdict::Admit);
        assert_eq!(admitted(&mut admission, 2 * SECOND, |_| address(1), 1000), 64);
        assert_eq!(admitted(&mut admission, 60 * SECOND, |_| address(1), 1000), 512);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let mut admission = Admission::default();
        let inside = |number: u32| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number) << 20).into();
        assert_eq!(admitted(&mut admission, SECOND, inside, 2000), 512);
        let outside = Ipv6Addr::from_bits(0x2001_0db9 << 96).into();
        assert_eq!(admission.knock(SECOND, outside, false), Verdict::Admit);
        let mapped = |number: u32| Ipv4Addr::from_bits(number).to_ipv6_mapped().into();
        assert_eq!(admission.knock(SECOND, mapped(1), true), Verdict::Admit);
        assert_eq!(admitted(&mut admission, SECOND, |_| mapped(2), 512), 512, "others than the first");
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_in_memory_and_number() {
        let mut admission = Admission::default();
        assert_eq!(admitted(&mut admission, SECOND, address, 100_000), 4096);
        assert!(admission.addresses.len() <= ADDRESSES_MAX);
        assert_eq!(admission.knock(SECOND, address(7), false), Verdict::Validate, "forged addresses cost nothing");
        assert_eq!(admitted(&mut admission, 2 * SECOND, |_| address(1 << 30), 10_000), 512, "forgotten when full");
        assert!(admission.addresses.len() <= 2);
    }

    #[test]
    fn who_says_nothing_keeps_out_only_its_own_address() {
        let mut admission = Admission::default();
        let knocks = (0..200).filter(|_| admission.knock(SECOND, address(1), true) == Verdict::Admit);
        assert_eq!(knocks.count(), 128);
        assert_eq!(admission.knock(SECOND, address(2), true), Verdict::Admit);
        admission.ended(address(1));
        assert_eq!(admission.knock(SECOND, address(1), true), Verdict::Admit);
    }
}
