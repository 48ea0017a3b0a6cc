//! What a device must have to run a kernel: a function of its module alone.

use std::fmt;
use std::ops::BitOr;

/// What a device must have. CPUs have all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Requirements {
    /// f64 values.
    pub f64: bool,
    /// i64 or u64 values.
    pub int64: bool,
    /// Functions of f64 beyond what SPIR-V has in 64 bits: sin, exp, pow ...
    pub f64_math: bool,
    /// Functions of i64 or u64 that shader writers lack: bit scans ...
    pub int64_math: bool,
}

impl Requirements {
    /// Whether a device that has `self` can run what needs `needed`.
    pub fn meets(self, needed: Requirements) -> bool {
        self | needed == self
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        let named =
            [(self.f64, "f64"), (self.int64, "i64"), (self.f64_math, "f64 math"), (self.int64_math, "i64 math")];
        named.into_iter().filter_map(|(needed, name)| needed.then_some(name)).collect()
    }
}

impl BitOr for Requirements {
    type Output = Requirements;

    fn bitor(self, other: Requirements) -> Requirements {
        Requirements {
            f64: self.f64 | other.f64,
            int64: self.int64 | other.int64,
            f64_math: self.f64_math | other.f64_math,
            int64_math: self.int64_math | other.int64_math,
        }
    }
}

impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names().as_slice() {
            [] => write!(f, "nothing special"),
            names => write!(f, "{}", names.join(", ")),
        }
    }
}
