//! Block kernels without races, everything from one seed.
//!
//! Between barriers an invocation writes its own word of workgroup memory, or reads those of others, or adds to atomics,
//! or reads them: never two of these. Barriers stand in uniform control flow, but in one kernel of six, which then
//! may miss one. Elements of the outputs are an invocation's own, or outside.

use std::fmt::Write as _;

use super::super::grammar::Chance;

/// Workgroups that are whole gangs and such that are not, along one axis and along several.
const SIZES: [(&str, u32); 10] = [
    ("1", 1),
    ("4", 4),
    ("5", 5),
    ("8", 8),
    ("16", 16),
    ("20", 20),
    ("64", 64),
    ("8, 4", 32),
    ("3, 2, 2", 12),
    ("2, 16", 32),
];

/// Numbers that are there.
const INTEGERS: [&str; 12] =
    ["a", "b", "i", "at", "id.x", "own_id.x", "own_id.y", "three", "one", "hundred", "t[1]", "own"];

/// What may be done to what is shared, between two barriers.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    WriteOwn,
    ReadAny,
    Count,
    ReadCounts,
}

struct Writer {
    chance: Chance,
    text: String,
    names: usize,
    /// Barriers may be missed.
    is_careless: bool,
    access: Access,
    /// Loops around.
    loops: usize,
}

/// The text of a kernel.
pub(super) fn draw(seed: u64) -> String {
    let mut chance = Chance(seed.wrapping_mul(31) ^ 0x10c5);
    let (size, count) = SIZES[chance.below(SIZES.len())];
    let is_careless = chance.below(6) == 0;
    let change = ["atomicAdd", "atomicMax", "atomicXor", "atomicOr", "atomicMin", "atomicSub"][chance.below(6)];
    let mut writer = Writer { chance, text: String::new(), names: 0, is_careless, access: Access::WriteOwn, loops: 0 };
    writer.text = format!(
        "@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<u32>;
@group(0) @binding(4) var<storage, read_write> totals: array<atomic<u32>>;
const N = {count}u;
var<workgroup> w: array<f32, {count}>;
var<workgroup> u: array<u32, {count}>;
var<workgroup> counts: array<atomic<u32>, 8>;
var<workgroup> flag: vec2<u32>;
var<private> own: u32 = 3;
var<private> trail: array<u32, 4>;
fn mix(a: u32, p: ptr<function, f32>) -> u32 {{
    if a % 3 == 1 {{ *p += 1.5; return a * 7; }}
    own += a;
    for (var j = 0u; j < a % 5; j++) {{ trail[(a + j) & 3] += j; if j == 3 {{ break; }} }}
    return own ^ trail[a & 3];
}}
fn turned(i: u32, value: u32) -> u32 {{
    workgroupBarrier();
    u[i] = value;
    workgroupBarrier();
    let other = u[(i + 1) % N];
    workgroupBarrier();
    if value % 2 == 9 {{ return 0; }}
    return other;
}}
fn count(bin: u32, value: u32) {{ {change}(&counts[bin % 8], value); {change}(&totals[bin % 16], value); }}
@compute @workgroup_size({size}) fn f(
    @builtin(local_invocation_index) i: u32, @builtin(local_invocation_id) own_id: vec3<u32>,
    @builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>) {{
    let at = group.x * N + i;
    // What naga cannot fold, and so not refuse.
    var one = 1u; var three = 3u; var hundred = 100u;
    var a = id.x; var b = k[at]; var p = x[at]; var q = 1.0f; var c = i % 3 == 0; var t = array<u32, 4>(1, 2, i, 4);
"
    );
    writer.together(0);
    let _ = writeln!(writer.text, "y[at] = p + q;\nz[at] = a + b * 3 + t[b % 5] + own + u32(c);\n}}");
    writer.text
}

impl Writer {
    fn of(&mut self, choices: &[&str]) -> String {
        choices[self.chance.below(choices.len())].to_owned()
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{text}");
    }

    fn barrier(&mut self) {
        let barrier = self.of(&["workgroupBarrier();", "workgroupBarrier(); storageBarrier();"]);
        self.line(&barrier);
        self.access = [Access::WriteOwn, Access::ReadAny, Access::Count, Access::ReadCounts][self.chance.below(4)];
    }

    /// What all invocations find alike.
    fn uniform(&mut self) -> String {
        match self.is_careless && self.chance.below(2) == 0 {
            true => self.of(&["(i % 7)", "k[at] % 3", "a % 4"]),
            false => self.of(&["(group.x % 3)", "(k[0] % 4)", "k[group.x] % 3", "2u", "groups.x % 3", "k[77] % 2"]),
        }
    }

    /// Statements with barriers.
    fn together(&mut self, depth: usize) {
        for _ in 0..1 + self.chance.below(4) {
            match self.chance.below(if depth < 3 { 10 } else { 4 }) {
                0..=2 => self.segment(0),
                3 => {
                    let name = self.fresh();
                    self.line("workgroupBarrier();\nif i == 0 { flag = vec2(k[3] % 5, group.x); }");
                    self.line(&format!("let {name} = workgroupUniformLoad(&flag);\na += {name}.x + {name}.y;"));
                    self.line(&format!("if {name}.x > 2 {{"));
                    self.barrier();
                    self.segment(1);
                    self.line("}");
                }
                4 | 5 => {
                    let (name, limit) = (self.fresh(), self.uniform());
                    self.line(&format!("for (var {name} = 0u; {name} < {limit}; {name}++) {{"));
                    self.barrier();
                    self.segment(0);
                    if self.chance.below(3) == 0 {
                        let (left, jump) = (self.uniform(), self.of(&["break", "continue"]));
                        self.line(&format!("if {left} == {name} {{ q += 1.0; {jump}; }}"));
                    }
                    self.barrier();
                    self.together(depth + 1);
                    self.line("}");
                }
                6 => {
                    let condition = self.uniform();
                    self.line(&format!("if {condition} > 1 {{"));
                    self.together(depth + 1);
                    self.line("} else {");
                    self.barrier();
                    self.segment(0);
                    self.line("}");
                }
                7 => {
                    let selector = self.uniform();
                    self.line(&format!("switch {selector} {{ case 0: {{"));
                    self.barrier();
                    self.segment(0);
                    self.line("} case 1, 3: {");
                    self.barrier();
                    self.together(depth + 1);
                    self.line("} default: { b += 1; } }");
                }
                8 => {
                    let value = self.integer(1);
                    self.line(&format!("b += turned(i, {value});"));
                }
                _ => self.line("if i % 3 == 1 { a += 1; if k[0] > 5000 { workgroupBarrier(); } b ^= a; }"),
            }
            self.barrier();
        }
    }

    /// Statements without.
    fn segment(&mut self, depth: usize) {
        for _ in 0..1 + self.chance.below(4) {
            self.statement(depth);
        }
    }

    fn statement(&mut self, depth: usize) {
        match self.chance.below(if depth < 3 { 16 } else { 11 }) {
            0 | 1 => self.set("a", Self::integer),
            2 => self.set("b", Self::integer),
            3 => self.set("p", Self::float),
            4 => self.set("q", Self::float),
            5 => self.set("c", Self::condition),
            6 => {
                let (index, value) = (self.integer(1), self.integer(2));
                let place = self.of(&["t", "trail"]);
                self.line(&format!("{place}[{index}] += {value};"));
            }
            7 => {
                let value = self.integer(1);
                self.line(&format!("a ^= mix({value}, &q);"));
            }
            8 | 9 => self.shared(),
            10 => {
                let (value, beyond) = (self.float(1), self.integer(0));
                let place = self.of(&["y[at]", "y[arrayLength(&y) + (# & 63)]", "y[i32(at)]", "y[~(# & 7)]"]);
                self.line(&format!("{} = {value};", place.replace('#', &beyond)));
            }
            11 | 12 => {
                let condition = self.condition(2);
                self.line(&format!("if {condition} {{"));
                self.segment(depth + 1);
                if self.chance.below(2) == 0 {
                    self.line("} else {");
                    self.segment(depth + 1);
                }
                self.line("}");
            }
            13 | 14 if self.loops < 2 => {
                let (name, limit) = (self.fresh(), self.integer(1));
                self.line(&format!("for (var {name} = 0u; {name} < ({limit} & 7); {name}++) {{"));
                self.loops += 1;
                self.segment(depth + 1);
                let (condition, jump) = (self.condition(1), self.of(&["break", "continue"]));
                self.line(&format!("if {condition} {{ {jump}; }}"));
                self.segment(depth + 1);
                self.loops -= 1;
                self.line("}");
            }
            _ => {
                let selector = self.integer(1);
                self.line(&format!("switch {selector} & 3 {{ case 0, 2: {{"));
                self.segment(depth + 1);
                self.line("} default: {");
                self.segment(depth + 1);
                self.line("} }");
            }
        }
    }

    fn set(&mut self, name: &str, value: fn(&mut Self, usize) -> String) {
        let value = value(self, 3);
        self.line(&format!("{name} = {value};"));
    }

    /// Something that invocations share.
    fn shared(&mut self) {
        let (a, b, p) = (self.integer(1), self.integer(1), self.float(1));
        match self.access {
            Access::WriteOwn => {
                let line = self.of(&["w[i] = P;", "u[i] = A;", "u[i] += A;", "w[i] = w[i] * 0.5 + P;"]);
                self.line(&line.replace('A', &a).replace('P', &p));
            }
            Access::ReadAny => {
                let line = self.of(&["p += w[A];", "a += u[B];", "b ^= u[N - 1 - i];", "q = w[i + 1];"]);
                self.line(&line.replace('A', &a).replace('B', &b));
            }
            Access::Count => self.line(&format!("count({a}, {b});")),
            Access::ReadCounts => self.line(&format!("a += atomicLoad(&counts[{b}]);")),
        }
    }

    fn integer(&mut self, depth: usize) -> String {
        if depth == 0 || self.chance.below(4) == 0 {
            return self.of(&INTEGERS);
        }
        let (a, b) = (self.integer(depth - 1), self.integer(depth - 1));
        match self.chance.below(9) {
            0 => format!("k[{a}]"),
            1 => format!("k[at + {}]", self.chance.below(9)),
            2 => format!("t[{a}]"),
            3 => format!("select({a}, {b}, c)"),
            4 => format!("min({a}, {b} % 32)"),
            5 => format!("u32({})", self.float(depth - 1)),
            6 => format!("(arrayLength(&k) - {a})"),
            _ => format!("({a} {} {b})", self.of(&["+", "-", "*", "/", "%", "&", "|", "^"])),
        }
    }

    fn float(&mut self, depth: usize) -> String {
        if depth == 0 || self.chance.below(4) == 0 {
            return self.of(&["p", "q", "0.5f", "2.0f", "x[at]"]);
        }
        let (a, b) = (self.float(depth - 1), self.float(depth - 1));
        match self.chance.below(8) {
            0 => format!("x[{}]", self.integer(depth - 1)),
            1 => format!("x[at - {}u]", self.chance.below(9)),
            2 => format!("f32({})", self.integer(depth - 1)),
            3 => format!("max({a}, {b})"),
            4 => format!("abs({a})"),
            _ => format!("({a} {} {b})", self.of(&["+", "-", "*", "/"])),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        match self.chance.below(4) {
            0 => "c".to_owned(),
            1 => format!("({} < {})", self.float(depth), self.float(depth)),
            2 => format!("({} % 3 == 1)", self.integer(depth)),
            _ => format!("({} < {})", self.integer(depth), self.integer(depth)),
        }
    }
}
