//! A workgroup's invocations as gangs: consecutive ones, in local index order.

use super::flat::Told;

/// How the invocations of a workgroup are dealt into gangs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Invocations {
    /// Along x, y and z.
    pub size: [u32; 3],
    /// Of a gang.
    pub lanes: usize,
}

impl Invocations {
    /// Gangs of at most `lanes_max`, which lie in one row of the workgroup if they can.
    pub(super) fn new(size: [u32; 3], lanes_max: usize, lanes_min: usize) -> Invocations {
        let gangs = |lanes| Invocations { size, lanes };
        let halves =
            || std::iter::successors(Some(lanes_max), |lanes| Some(lanes / 2).filter(|&half| half >= lanes_min));
        let best = |is_good: fn(Invocations) -> bool| halves().find(|&lanes| is_good(gangs(lanes)));
        let lanes = best(Invocations::are_rows).or_else(|| best(Invocations::are_whole)).unwrap_or(lanes_min);
        gangs(lanes)
    }

    /// How many there are.
    pub(super) fn count(self) -> usize {
        self.size.iter().map(|&size| size as usize).product()
    }

    pub(super) fn gangs(self) -> usize {
        self.count().div_ceil(self.lanes)
    }

    /// Whether every lane of every gang is an invocation.
    pub(super) fn are_whole(self) -> bool {
        self.count().is_multiple_of(self.lanes)
    }

    /// Whether the invocations of a gang differ by x alone.
    pub(super) fn are_rows(self) -> bool {
        (self.size[0] as usize).is_multiple_of(self.lanes)
    }

    /// Whether the invocations of one gang may be told different things.
    pub(super) fn differ_in_gang(self, told: Told) -> bool {
        self.differ(told) && !(self.are_rows() && matches!(told, Told::Local(1 | 2)))
    }

    /// Whether the invocations of a workgroup may be told different things.
    pub(super) fn differ(self, told: Told) -> bool {
        match told {
            Told::Local(axis) => self.size[axis] > 1,
            Told::LocalIndex => self.count() > 1,
            Told::Group(_) | Told::Groups(_) => false,
        }
    }

    /// What each lane of each gang is told, 0 where it is no invocation. Of nothing but what differs.
    pub(super) fn table(self, told: Told) -> Box<[u32]> {
        let [width, height, _] = self.size;
        let of = |index: usize| {
            let at = index as u32;
            match told {
                Told::Local(0) => at % width,
                Told::Local(1) => at / width % height,
                Told::Local(_) => at / width / height,
                _ => at,
            }
        };
        self.lanes().map(|index| index.map_or(0, of)).collect()
    }

    /// All bits set for each lane that is an invocation.
    pub(super) fn valid(self) -> Box<[u32]> {
        self.lanes().map(|index| index.map_or(0, |_| u32::MAX)).collect()
    }

    fn lanes(self) -> impl Iterator<Item = Option<usize>> {
        (0..self.gangs() * self.lanes).map(move |index| (index < self.count()).then_some(index))
    }
}
