//! The engine's side of a kernel as WGSL: where values come from, and what becomes of the results.
//!
//! A [`Shader`] is the structure of a dispatch and nothing else: equal structures are one pipeline. Every number that
//! a block brings along is a parameter, at a place that this module fixes. The element program itself is a stub here,
//! to be replaced by its validated function ([`crate::kernel::splice`]).

use std::fmt::Write;

use crate::dtype::DType;

use super::accumulate::Accumulator;
use super::adapter::AdapterFeatures;
use super::numbers::numbers;
use super::origin::{LeafShader, Origin, is_wide, stored};
use super::params::{at_at, place_at};
use super::space::AXES_WORDS;

/// Invocations of a workgroup: what every GPU has.
pub(super) const GROUP: u64 = 256;
/// Elements that one workgroup reduces: each invocation takes 64, well below the 32k iterations that some drivers do.
pub(super) const TREE_CHUNK: u64 = 64 * GROUP;
/// Elements that one invocation reduces alone, and partials that it combines.
pub(super) const SERIAL_CHUNK: u64 = 64;

/// What every shader begins with.
pub(super) const PRELUDE: &str = include_str!("../../../shaders/prelude.wgsl");
const PHILOX: &str = include_str!("../../../shaders/philox.wgsl");
const RANDOM64: &str = include_str!("../../../shaders/random64.wgsl");
const AT: &str = "struct At { rank: u32, index: array<u32, 8>, block: array<u32, 8>, shape: array<u32, 8> }\n";

/// The entry point.
pub(super) const ENTRY: &str = "main";
/// The stub of the element program.
pub(super) const ELEMENT: &str = "element";

/// What becomes of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sink<'a> {
    /// Each field of an element is stored at its number.
    Store,
    /// One invocation reduces [`SERIAL_CHUNK`] elements.
    Serial(&'a Accumulator, Place),
    /// One workgroup reduces [`TREE_CHUNK`] elements.
    Tree(&'a Accumulator, Place),
}

/// How an element's place along the reduced axes becomes its place in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Nobody asks.
    Unused,
    /// By adding a base.
    Linear,
    /// Axis by axis.
    Strided,
}

/// The structure of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shader<'a> {
    pub(super) leaves: Vec<LeafShader>,
    /// What the program yields.
    pub(super) results: Vec<DType>,
    /// Whether the program is leaf 0 as it is: then there is no stub.
    pub(super) is_identity: bool,
    pub(super) uses_at: bool,
    pub(super) sink: Sink<'a>,
}

impl Shader<'_> {
    /// The text of the whole module for a device with these features, stubs included.
    pub(super) fn text(&self, features: AdapterFeatures) -> String {
        let mut text = [PRELUDE, &numbers(features, self.uses_floats())].concat();
        let is_random = |leaf: &LeafShader| matches!(leaf.origin, Origin::Uniform | Origin::Normal);
        let is_random64 = |leaf: &LeafShader| leaf.origin == Origin::Normal || is_random(leaf) && is_wide(leaf.dtype);
        if self.leaves.iter().any(is_random) {
            text.push_str(PHILOX);
        }
        if self.leaves.iter().any(is_random64) {
            text.push_str(RANDOM64);
        }
        if self.uses_at {
            text.push_str(AT);
            text.push_str(&at_function(at_at(self.leaves.len())));
        }
        self.leaves.iter().enumerate().for_each(|(at, leaf)| text.push_str(&leaf.text(at, self.binding(at))));
        if !self.is_identity {
            text.push_str(&self.stub());
        }
        match self.sink {
            Sink::Store => text.push_str(&self.store()),
            Sink::Serial(accumulator, place) => text.push_str(&self.serial(accumulator, place)),
            Sink::Tree(accumulator, place) => text.push_str(&self.tree(accumulator, place)),
        }
        text
    }

    /// Whether floats of 64 bits are computed with.
    fn uses_floats(&self) -> bool {
        let makes_floats =
            |leaf: &LeafShader| leaf.dtype == DType::F64 || matches!(leaf.origin, Origin::Linspace | Origin::Normal);
        let is_sink_of_floats = match self.sink {
            Sink::Store => false,
            Sink::Serial(accumulator, _) | Sink::Tree(accumulator, _) => accumulator.uses_floats,
        };
        is_sink_of_floats || self.leaves.iter().any(makes_floats) || self.results.contains(&DType::F64)
    }

    /// The binding of a leaf's buffer: the parameters come first.
    fn binding(&self, leaf: usize) -> usize {
        1 + self.leaves[..leaf].iter().filter(|leaf| leaf.origin == Origin::Buffer).count()
    }

    /// The binding of the first output.
    fn output(&self) -> usize {
        self.binding(self.leaves.len())
    }

    /// A function of the program's signature.
    fn stub(&self) -> String {
        let leaves = self.leaves.iter().enumerate().map(|(at, leaf)| format!("x{at}: {}", leaf.dtype));
        let at = self.uses_at.then(|| "at: At".to_owned());
        let parameters = leaves.chain(at).collect::<Vec<_>>().join(", ");
        match self.results.as_slice() {
            [one] => format!("fn {ELEMENT}({parameters}) -> {one} {{ return {one}(); }}\n"),
            many => {
                let members = many.iter().enumerate().map(|(at, dtype)| format!("r{at}: {dtype}"));
                let members = members.collect::<Vec<_>>().join(", ");
                format!(
                    "struct Results {{ {members} }}\nfn {ELEMENT}({parameters}) -> Results {{ return Results(); }}\n"
                )
            }
        }
    }

    /// The call of the program for the element numbered `e`, and the expressions of its fields.
    fn call(&self) -> (String, Vec<String>) {
        if self.is_identity {
            return ("let r = leaf0(e);".to_owned(), vec!["r".to_owned()]);
        }
        let leaves = (0..self.leaves.len()).map(|at| format!("leaf{at}(e)"));
        let at = self.uses_at.then(|| "at_element(e)".to_owned());
        let arguments = leaves.chain(at).collect::<Vec<_>>().join(", ");
        let fields = match self.results.len() {
            1 => vec!["r".to_owned()],
            many => (0..many).map(|at| format!("r.r{at}")).collect(),
        };
        (format!("let r = {ELEMENT}({arguments});"), fields)
    }

    fn store(&self) -> String {
        let mut text = String::new();
        let (call, fields) = self.call();
        let mut stores = String::new();
        for (at, (dtype, field)) in self.results.iter().zip(fields).enumerate() {
            let binding = self.output() + at;
            let stored = stored(*dtype);
            let _ =
                writeln!(text, "@group(0) @binding({binding}) var<storage, read_write> output{at}: array<{stored}>;");
            let value = if *dtype == DType::Bool { format!("select(0u, 1u, {field})") } else { field };
            let _ = writeln!(stores, "    output{at}[e] = {value};");
        }
        let body = format!("    if e >= params[0] {{ return; }}\n    {call}\n{stores}");
        let _ = write!(text, "{}", entry("let e = invocation(group, groups, lane);", &body));
        text
    }

    /// The statements that make `lifted` of the element at `at` along the reduced axes, for result `k`.
    fn lift(&self, accumulator: &Accumulator, place: Place) -> String {
        let (call, fields) = self.call();
        let record = place_at(self.leaves.len());
        let place = match place {
            Place::Unused => String::new(),
            Place::Linear => format!("let place = wide_sum(wide_param({}u), Wide(at, 0u));", record + AXES_WORDS),
            Place::Strided => format!("let place = address(at, {record}u, {}u);", record + AXES_WORDS),
        };
        let values = fields.iter().zip(&self.results);
        let values: Vec<String> = values.map(|(field, &dtype)| accumulator.argument(field, dtype)).collect();
        let arguments = values.into_iter().chain((!place.is_empty()).then(|| "place".to_owned()));
        let arguments = arguments.collect::<Vec<_>>().join(", ");
        format!("let e = k * extent + at; {call} {place} let lifted = {}({arguments});", accumulator.lift)
    }

    fn serial(&self, accumulator: &Accumulator, place: Place) -> String {
        let Accumulator { text, gather, end, seal, .. } = accumulator;
        let (lift, output) = (self.lift(accumulator, place), self.output());
        let body = format!(
            "    let results = params[0];
    let extent = params[1];
    if id >= results * params[2] {{ return; }}
    let k = id % results;
    let first = id / results * {SERIAL_CHUNK}u;
    let last = min(first + {SERIAL_CHUNK}u, extent);
    var run: Run;
    for (var at = first; at < last; at += 1u) {{
        {lift}
        if at == first {{ run = lifted; }} else {{ run = {gather}(run, lifted); }}
    }}
    partials[id] = {seal}({end}(run));
"
        );
        let partials = format!("@group(0) @binding({output}) var<storage, read_write> partials: array<Acc>;\n");
        [text.clone(), partials, entry("let id = invocation(group, groups, lane);", &body)].concat()
    }

    fn tree(&self, accumulator: &Accumulator, place: Place) -> String {
        let Accumulator { text, gather, end, combine, seal, .. } = accumulator;
        let (lift, output) = (self.lift(accumulator, place), self.output());
        let body = format!(
            "    let results = params[0];
    let extent = params[1];
    if id >= results * params[2] {{ return; }}
    let k = id % results;
    let first = id / results * {TREE_CHUNK}u;
    let count = min({TREE_CHUNK}u, extent - first);
    var run: Run;
    for (var taken = lane; taken < count; taken += {GROUP}u) {{
        let at = first + taken;
        {lift}
        if taken == lane {{ run = lifted; }} else {{ run = {gather}(run, lifted); }}
    }}
    lanes[lane] = {end}(run);
    workgroupBarrier();
    for (var half = {half}u; half > 0u; half /= 2u) {{
        if lane < half && lane + half < count {{ lanes[lane] = {combine}(lanes[lane], lanes[lane + half]); }}
        workgroupBarrier();
    }}
    if lane == 0u {{ partials[id] = {seal}(lanes[0]); }}
",
            half = GROUP / 2
        );
        let variables = format!(
            "@group(0) @binding({output}) var<storage, read_write> partials: array<Acc>;
var<workgroup> lanes: array<Acc, {GROUP}>;\n"
        );
        [text.clone(), variables, entry("let id = group_number(group, groups);", &body)].concat()
    }
}

/// The text of the level above: [`SERIAL_CHUNK`] partials of a result become one.
pub(super) fn fold_text(accumulator: &Accumulator, features: AdapterFeatures) -> String {
    let Accumulator { text, combine, seal, uses_floats, .. } = accumulator;
    let body = format!(
        "    let results = params[0];
    let partials = params[1];
    if id >= results * params[2] {{ return; }}
    let k = id % results;
    let first = id / results * {SERIAL_CHUNK}u;
    let end = min(first + {SERIAL_CHUNK}u, partials);
    var sum = lower[first * results + k];
    for (var at = first + 1u; at < end; at += 1u) {{
        sum = {combine}(sum, lower[at * results + k]);
    }}
    upper[id] = {seal}(sum);
"
    );
    let variables = "@group(0) @binding(1) var<storage, read> lower: array<Acc>;
@group(0) @binding(2) var<storage, read_write> upper: array<Acc>;\n";
    let numbers = numbers(features, *uses_floats);
    [PRELUDE, &numbers, text, variables, &entry("let id = invocation(group, groups, lane);", &body)].concat()
}

fn entry(number: &str, body: &str) -> String {
    format!(
        "@compute @workgroup_size({GROUP})
fn {ENTRY}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {{
    {number}
{body}}}\n"
    )
}

/// What tells a kernel where element `e` stands.
fn at_function(record: usize) -> String {
    let (start, block, shape, divisor) = (record + 1, record + 9, record + 17, record + 25);
    format!(
        "fn at_element(e: u32) -> At {{
    var at: At;
    at.rank = params[{record}];
    for (var axis = 0u; axis < at.rank; axis += 1u) {{
        let length = params[{shape}u + axis];
        at.index[axis] = params[{start}u + axis] + e / params[{divisor}u + axis] % length;
        at.block[axis] = params[{block}u + axis];
        at.shape[axis] = length;
    }}
    return at;
}}\n"
    )
}

#[cfg(test)]
mod tests {
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::*;
    use crate::stage::ReduceOp;

    #[track_caller]
    fn check(text: &str, features: AdapterFeatures) {
        let module =
            naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
        let mut capabilities = Capabilities::default();
        capabilities.set(Capabilities::FLOAT64, features.has_f64());
        capabilities.set(Capabilities::SHADER_INT64, features.i64);
        if let Err(error) = Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
            panic!("{}", error.emit_to_string(text));
        }
    }

    /// Devices with all numbers of 64 bits, with integers alone, and with none.
    fn kinds() -> [AdapterFeatures; 3] {
        let features = |(f64, i64)| AdapterFeatures { f64, i64, ..AdapterFeatures::default() };
        [(true, true), (false, true), (false, false)].map(features)
    }

    /// Whether such a device has a dtype.
    fn has(features: AdapterFeatures, dtype: DType) -> bool {
        if dtype == DType::F64 { features.has_f64() } else { features.i64 || !is_wide(dtype) }
    }

    #[test]
    fn every_origin_is_valid_for_the_dtypes_it_makes() {
        use Origin::{Buffer, Constant, Iota, Linspace, Normal, Uniform};
        let kinds = kinds().into_iter().flat_map(|features| DType::ALL.map(|dtype| (features, dtype)));
        for (features, dtype) in kinds.filter(|&(features, dtype)| has(features, dtype)) {
            for (origin, makes) in [
                (Buffer, true),
                (Constant, true),
                (Iota, features.i64 || dtype != DType::F32),
                (Linspace, features.has_f64() && dtype.is_float()),
                (Uniform, dtype.is_float() || dtype == DType::U32),
                (Normal, features.has_f64() && dtype.is_float()),
            ] {
                for is_linear in [false, true].into_iter().filter(|_| makes) {
                    let leaf = LeafShader { dtype, origin, is_linear };
                    let leaves = vec![leaf, leaf];
                    let results = vec![dtype, DType::Bool];
                    let shader = Shader { leaves, results, is_identity: false, uses_at: true, sink: Sink::Store };
                    check(&shader.text(features), features);
                }
            }
        }
    }

    #[test]
    fn every_reduction_is_valid() {
        let ops = [
            ReduceOp::Sum,
            ReduceOp::Prod,
            ReduceOp::Mean,
            ReduceOp::Var { ddof: 1.0 },
            ReduceOp::Min,
            ReduceOp::Max,
            ReduceOp::Any,
            ReduceOp::All,
            ReduceOp::ArgMin,
            ReduceOp::ArgMax,
        ];
        let works = ops.into_iter().flat_map(|op| DType::ALL.map(|dtype| (op, dtype)));
        for ((op, dtype), features) in works.flat_map(|work| kinds().map(|features| (work, features))) {
            let accumulator = Accumulator::built_in(op, dtype);
            let places: &[Place] = if op.is_arg() { &[Place::Linear, Place::Strided] } else { &[Place::Unused] };
            for &place in places.iter().filter(|_| has(features, dtype)) {
                for sink in [Sink::Serial(&accumulator, place), Sink::Tree(&accumulator, place)] {
                    let leaves = vec![LeafShader { dtype, origin: Origin::Buffer, is_linear: true }];
                    let shader = Shader { leaves, results: vec![dtype], is_identity: true, uses_at: false, sink };
                    check(&shader.text(features), features);
                }
                check(&fold_text(&accumulator, features), features);
            }
        }
    }
}
