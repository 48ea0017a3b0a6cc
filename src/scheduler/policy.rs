//! Where work goes and how much of it at a time: pure functions of numbers.
//!
//! Nothing here decides whether a block is computed, only where and when; so nothing here can change a result.

/// Seconds of measured work handed out ahead, per slot: long against a round trip, short against a person's patience
/// and against the tail of a job, which dispensed work cannot leave.
pub(super) const CREDIT_SECONDS: f64 = 0.05;

/// Blocks handed out ahead per slot where that is more: one to compute and one to follow it.
pub(super) const CREDIT_BLOCKS: u64 = 2;

/// Blocks handed out to one worker at most: what an agent admits at once.
pub(super) const OUTSTANDING_MAX: u64 = 4096;

/// A block's seconds while nothing was measured: as if two of them filled the credit, so that no more are sent.
pub(super) const SECONDS_ASSUMED: f64 = CREDIT_SECONDS / CREDIT_BLOCKS as f64;

/// What asking a peer for a block takes before its bytes flow.
const FETCH_LATENCY_SECONDS: f64 = 0.000_3;

/// How much one new measurement moves the estimate.
const SMOOTHING: f64 = 0.5;

/// Seconds of a slot that a block takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace(Option<f64>);

impl Pace {
    /// `blocks` blocks kept slots busy for `seconds` in all.
    pub(super) fn measure(&mut self, seconds: f64, blocks: u64) {
        if blocks > 0 {
            let now = seconds / blocks as f64;
            self.0 = Some(self.0.map_or(now, |before| before + SMOOTHING * (now - before)));
        }
    }

    pub(super) fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// The estimate, or what is assumed without one. Never zero.
    pub(super) fn seconds(self) -> f64 {
        self.0.unwrap_or(SECONDS_ASSUMED).max(1e-9)
    }

    /// This, or `other` where this was never measured.
    pub(super) fn or(self, other: Pace) -> Pace {
        Pace(self.0.or(other.0))
    }
}

/// What a worker has been handed and not given back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outstanding {
    pub(super) blocks: u64,
    /// Of all slots together.
    pub(super) seconds: f64,
}

/// How many blocks of `pace` may be handed out on top of `outstanding`; 0 while what is there lasts.
pub(super) fn room(slots: u64, outstanding: Outstanding, pace: Pace) -> u64 {
    let least = (CREDIT_BLOCKS * slots).saturating_sub(outstanding.blocks);
    let most = OUTSTANDING_MAX.saturating_sub(outstanding.blocks);
    if !pace.is_known() {
        return least.min(most);
    }
    let credit = CREDIT_SECONDS * slots as f64;
    let timed = ((credit - outstanding.seconds).max(0.0) / pace.seconds()) as u64;
    // A quarter at a time, so that a message carries many blocks where blocks are small.
    let worth_a_message = timed.min(most) * 4 >= ((credit / pace.seconds()) as u64).min(OUTSTANDING_MAX);
    let timed = if worth_a_message { timed } else { 0 };
    timed.max(least).min(most)
}

/// Seconds until bytes are here.
pub(super) fn fetch_seconds(blocks: u64, bytes: u64, bytes_per_second: u64) -> f64 {
    blocks as f64 * FETCH_LATENCY_SECONDS + bytes as f64 / bytes_per_second.max(1) as f64
}

/// A worker that work may go to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Offer {
    /// Seconds of work before it.
    pub(super) queue: f64,
    /// Seconds that one block takes the whole worker.
    pub(super) work: f64,
    /// Seconds until one block's inputs are there.
    pub(super) fetch: f64,
}

/// The offer that ends `count` blocks first; the first of equals.
pub(super) fn earliest(offers: &[Offer], count: u64) -> Option<usize> {
    let finish = |offer: &Offer| offer.queue + (offer.fetch + offer.work) * count as f64;
    let ends = offers.iter().map(finish).enumerate();
    ends.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

/// Shares `count` blocks so that all end at the same time; what is left by rounding goes to the earliest.
pub(super) fn share(count: u64, offers: &[Offer]) -> Vec<u64> {
    let Some(end) = common_end(count, offers) else {
        return vec![0; offers.len()];
    };
    let ideal = |offer: &Offer| ((end - offer.queue) / (offer.work + offer.fetch)).max(0.0);
    let mut shares: Vec<u64> = offers.iter().map(|offer| (ideal(offer) as u64).min(count)).collect();
    let mut left = count.saturating_sub(shares.iter().sum());
    let mut excess = shares.iter().sum::<u64>().saturating_sub(count);
    for share in shares.iter_mut().rev() {
        let cut = excess.min(*share);
        *share -= cut;
        excess -= cut;
    }
    // Rounding leaves fewer blocks than there are offers, but for the limits of f64.
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by(|&a, &b| {
        let rest = |at: usize| ideal(&offers[at]) - shares[at] as f64;
        rest(b).total_cmp(&rest(a)).then(offers[a].queue.total_cmp(&offers[b].queue)).then(a.cmp(&b))
    });
    for &at in order.iter().cycle().take(left.min(offers.len() as u64) as usize) {
        shares[at] += 1;
        left -= 1;
    }
    shares[order[0]] += left;
    shares
}

/// When `count` blocks end if no worker that has any is idle before.
fn common_end(count: u64, offers: &[Offer]) -> Option<f64> {
    let mut order: Vec<&Offer> = offers.iter().collect();
    order.sort_by(|a, b| a.queue.total_cmp(&b.queue));
    let (mut rate, mut ahead) = (0.0, 0.0);
    let mut end = None;
    for offer in order {
        if end.is_some_and(|end| end <= offer.queue) {
            break;
        }
        let own = 1.0 / (offer.work + offer.fetch);
        rate += own;
        ahead += own * offer.queue;
        end = Some((count as f64 + ahead) / rate);
    }
    end
}

/// Whether an idle worker that must fetch first ends a block before the one that has it at home would begin it.
pub(super) fn steal_pays(thief: Offer, victim: Offer) -> bool {
    thief.queue + thief.fetch <= victim.queue
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(queue: f64, work: f64) -> Offer {
        Offer { queue, work, fetch: 0.0 }
    }

    #[test]
    fn credit_is_two_blocks_a_slot_or_fifty_milliseconds() {
        let none = Outstanding::default();
        assert_eq!(room(4, none, Pace::default()), 8);
        assert_eq!(room(4, none, Pace(Some(10.0))), 8);
        assert_eq!(room(4, none, Pace(Some(0.001))), 200);
        assert_eq!(room(1, none, Pace(Some(1e-7))), OUTSTANDING_MAX);
        // What is there lasts: no message for a few blocks more.
        assert_eq!(room(4, Outstanding { blocks: 190, seconds: 0.19 }, Pace(Some(0.001))), 0);
        assert_eq!(room(4, Outstanding { blocks: 100, seconds: 0.1 }, Pace(Some(0.001))), 100);
        assert_eq!(room(1, Outstanding { blocks: 1, seconds: 10.0 }, Pace(Some(10.0))), 1);
        assert_eq!(room(1, Outstanding { blocks: 2, seconds: 20.0 }, Pace(Some(10.0))), 0);
        assert_eq!(room(1, Outstanding { blocks: OUTSTANDING_MAX, seconds: 0.0 }, Pace(Some(1e-9))), 0);
    }

    #[test]
    fn shares_follow_the_rates_and_the_queues() {
        assert_eq!(share(100, &[offer(0.0, 1.0), offer(0.0, 1.0)]), vec![50, 50]);
        assert_eq!(share(90, &[offer(0.0, 1.0), offer(0.0, 2.0)]), vec![60, 30]);
        assert_eq!(share(10, &[offer(100.0, 1.0), offer(0.0, 1.0)]), vec![0, 10]);
        assert_eq!(share(1, &[offer(1.0, 1.0), offer(0.0, 1.0), offer(0.5, 1.0)]), vec![0, 1, 0]);
        assert_eq!(share(1, &[offer(0.0, 1.0), offer(0.0, 1.0)]), vec![1, 0]);
        assert_eq!(share(7, &[offer(0.0, 1.0); 3]), vec![3, 2, 2]);
        assert_eq!(share(5, &[]), Vec::<u64>::new());
        for count in 0..200 {
            let offers = [offer(3.0, 0.7), offer(0.1, 0.01), offer(7.0, 1e-9), offer(0.0, 2.5)];
            assert_eq!(share(count, &offers).iter().sum::<u64>(), count);
        }
        let large = share(10_000_000_000, &[offer(0.0, 1e-9), offer(1e6, 1.0), offer(0.0, 3e-9)]);
        assert_eq!(large.iter().sum::<u64>(), 10_000_000_000);
    }

    #[test]
    fn a_block_goes_where_it_ends_first() {
        let near = Offer { queue: 1.0, work: 1.0, fetch: 0.0 };
        let far = Offer { queue: 0.0, work: 1.0, fetch: 0.5 };
        assert_eq!(earliest(&[near, far], 1), Some(1));
        assert_eq!(earliest(&[near, far], 10), Some(0));
        assert_eq!(earliest(&[], 1), None);
        assert!(steal_pays(far, near));
        assert!(!steal_pays(Offer { fetch: 2.0, ..far }, near));
    }
}
