//! Kernels drawn from a grammar over all that the language lets through, everything from one seed.
//!
//! Every loop has a counter of its own that nothing else writes, so every kernel ends. naga folds constants, and refuses
//! those that overflow: such a kernel is drawn again.

mod expression;

use std::fmt::Write as _;

use gridloom_worker::dtype::DType;

use expression::literal;

/// Numbers that follow from a seed (SplitMix64).
pub(super) struct Chance(pub u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

/// A kernel's text, and what it takes.
pub(super) struct Drawn {
    pub text: String,
    pub parameters: Vec<DType>,
}

#[derive(Clone, Copy, PartialEq)]
enum Ty {
    Scalar(DType),
    Vector(usize, DType),
    Array(usize, DType),
    Matrix(DType),
    Struct,
}

impl Ty {
    fn name(self) -> String {
        match self {
            Ty::Scalar(dtype) => dtype.to_string(),
            Ty::Vector(size, dtype) => format!("vec{size}<{dtype}>"),
            Ty::Array(length, dtype) => format!("array<{dtype}, {length}>"),
            Ty::Matrix(dtype) => format!("mat2x2<{dtype}>"),
            Ty::Struct => "S".to_owned(),
        }
    }
}

#[derive(Clone)]
struct Name {
    text: String,
    ty: Ty,
    is_mutable: bool,
    /// A pointer parameter: named with a `*`.
    is_pointer: bool,
}

struct Helper {
    name: String,
    parameters: Vec<(Ty, bool)>,
    result: DType,
}

struct Writer<'c> {
    chance: &'c mut Chance,
    numbers: Numbers,
    dtypes: Vec<DType>,
    scope: Vec<Name>,
    helpers: Vec<Helper>,
    text: String,
    names: usize,
    /// Loops around, which bounds how often a statement runs.
    loops: usize,
    /// Whether `break` and `continue` may stand here.
    in_loop: bool,
    in_switch: bool,
    /// What the function returns.
    result: Vec<DType>,
    is_entry: bool,
    statements: usize,
}

/// Which numbers a drawn kernel computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Numbers {
    /// All of them.
    All,
    /// Those that every device owes exactly: integers, bools, and floats that are small whole numbers, whose sums and
    /// products need no rounding, however they are ordered or fused. A float that may be rounded otherwise would decide
    /// branches and indices otherwise.
    Exact,
}

impl Numbers {
    /// The dtypes of one kernel.
    fn dtypes(self, chance: &mut Chance) -> Vec<DType> {
        let (first, all, wide): (&[DType], &[DType], &[DType]) = match self {
            Numbers::All => (&[DType::F32, DType::F32, DType::F64], &DType::ALL, &[DType::I64, DType::U64, DType::F64]),
            Numbers::Exact => (
                &[DType::I32, DType::U32, DType::I64],
                &[DType::I32, DType::U32, DType::I64, DType::U64, DType::Bool],
                &[DType::I64, DType::U64],
            ),
        };
        let mut dtypes = vec![chance.of(first), chance.of(all), DType::I32, DType::U32];
        if chance.one_in(2) {
            dtypes.push(chance.of(wide));
        }
        dtypes.push(DType::Bool);
        dtypes
    }
}

/// Draws a kernel.
pub(super) fn draw(seed: u64, numbers: Numbers) -> Drawn {
    let mut chance = Chance(seed);
    let dtypes = numbers.dtypes(&mut chance);
    let parameters: Vec<DType> = (0..1 + chance.below(3)).map(|_| chance.of(&dtypes)).collect();
    let mut writer = Writer {
        chance: &mut chance,
        numbers,
        dtypes,
        scope: Vec::new(),
        helpers: Vec::new(),
        text: String::new(),
        names: 0,
        loops: 0,
        in_loop: false,
        in_switch: false,
        result: Vec::new(),
        is_entry: false,
        statements: 0,
    };
    writer.module(&parameters);
    Drawn { text: writer.text, parameters }
}

impl Writer<'_> {
    fn module(&mut self, parameters: &[DType]) {
        let (p, q) = (self.dtype(), self.dtype());
        let _ = writeln!(self.text, "struct S {{ p: {p}, q: vec2<{q}>, r: array<{p}, 3> }}");
        // The last two are the struct's: see `fields_of_struct`.
        self.dtypes.extend([p, q]);
        for _ in 0..self.chance.below(4) {
            self.helper();
        }
        let fields: Vec<DType> = (0..1 + self.chance.below(3)).map(|_| self.dtype()).collect();
        let members: Vec<String> = fields.iter().enumerate().map(|(at, dtype)| format!("x{at}: {dtype}")).collect();
        let _ = writeln!(self.text, "struct Out {{ {} }}", members.join(", "));
        let names: Vec<String> = parameters.iter().enumerate().map(|(at, dtype)| format!("a{at}: {dtype}")).collect();
        let _ = writeln!(self.text, "fn f({}, at: At) -> Out {{", names.join(", "));
        self.scope.clear();
        for (at, &dtype) in parameters.iter().enumerate() {
            self.scope.push(name(format!("a{at}"), Ty::Scalar(dtype), false));
        }
        self.scope.push(name("at.index[0]".to_owned(), Ty::Scalar(DType::U32), false));
        self.scope.push(name("at.shape[0]".to_owned(), Ty::Scalar(DType::U32), false));
        self.constants();
        self.statements = 0;
        (self.result, self.is_entry) = (fields, true);
        self.block(0, 6);
        let result = self.out();
        let _ = writeln!(self.text, "return {result};\n}}");
    }

    fn fields_of_struct(&self) -> (DType, DType) {
        (self.dtypes[self.dtypes.len() - 2], self.dtypes[self.dtypes.len() - 1])
    }

    /// A variable of each dtype, which naga cannot fold.
    fn constants(&mut self) {
        let mut dtypes = self.dtypes.clone();
        dtypes.sort();
        dtypes.dedup();
        for dtype in dtypes {
            let (text, value) = (self.fresh(), self.chance.of(&[0, 1, 2, 3, 7, 31, 100]));
            let _ = writeln!(self.text, "var {text} = {};", literal(dtype, value));
            self.scope.push(name(text, Ty::Scalar(dtype), true));
        }
    }

    fn dtype(&mut self) -> DType {
        self.chance.of(&self.dtypes)
    }

    fn ty(&mut self) -> Ty {
        let dtype = self.dtype();
        match self.chance.below(10) {
            0 | 1 => Ty::Vector(2 + self.chance.below(3), dtype),
            2 => Ty::Array(2 + self.chance.below(7), dtype),
            3 if dtype.is_float() => Ty::Matrix(dtype),
            4 => Ty::Struct,
            _ => Ty::Scalar(dtype),
        }
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn helper(&mut self) {
        let name_of_helper = format!("h{}", self.helpers.len());
        let parameters: Vec<(Ty, bool)> =
            (0..1 + self.chance.below(3)).map(|_| (self.ty(), self.chance.one_in(3))).collect();
        let result = self.dtype();
        self.scope.clear();
        let mut list = Vec::new();
        for (at, &(ty, is_pointer)) in parameters.iter().enumerate() {
            let type_name = if is_pointer { format!("ptr<function, {}>", ty.name()) } else { ty.name() };
            list.push(format!("p{at}: {type_name}"));
            let text = if is_pointer { format!("(*p{at})") } else { format!("p{at}") };
            self.scope.push(Name { text, ty, is_mutable: is_pointer, is_pointer });
        }
        let _ = writeln!(self.text, "fn {name_of_helper}({}) -> {result} {{", list.join(", "));
        self.constants();
        self.statements = 20;
        self.result = vec![result];
        self.block(0, 3);
        let value = self.out();
        let _ = writeln!(self.text, "return {value};\n}}");
        self.helpers.push(Helper { name: name_of_helper, parameters, result });
    }

    /// What the function returns, from here: a scalar, or the entry's struct.
    fn out(&mut self) -> String {
        let dtypes = self.result.clone();
        let values: Vec<String> = dtypes.iter().map(|&dtype| self.scalar(dtype, 2)).collect();
        if self.is_entry { format!("Out({})", values.join(", ")) } else { values[0].clone() }
    }

    fn block(&mut self, depth: usize, statements: usize) {
        let scope = self.scope.len();
        for _ in 0..1 + self.chance.below(statements) {
            self.statement(depth);
        }
        self.scope.truncate(scope);
    }

    fn statement(&mut self, depth: usize) {
        self.statements += 1;
        if self.statements > 60 {
            return;
        }
        let nested = depth < 4;
        match self.chance.below(20) {
            0..=3 => self.declare(),
            4..=8 => self.assign(),
            9..=11 if nested => self.if_else(depth),
            12 if nested => self.switch(depth),
            13 | 14 if nested && self.loops < 2 => self.for_loop(depth),
            15 if nested && self.loops < 2 => self.endless_loop(depth),
            16 | 17 => self.jump(),
            18 => self.call(),
            _ => self.assign(),
        }
    }

    fn declare(&mut self) {
        let (ty, text) = (self.ty(), self.fresh());
        let value = self.value(ty, 2);
        let is_mutable = !self.chance.one_in(3);
        let keyword = if is_mutable { "var" } else { "let" };
        match is_mutable && self.chance.one_in(5) {
            true => writeln!(self.text, "var {text}: {};", ty.name()),
            false => writeln!(self.text, "{keyword} {text}: {} = {value};", ty.name()),
        }
        .unwrap();
        self.scope.push(name(text, ty, is_mutable));
    }

    fn assign(&mut self) {
        let mutable: Vec<Name> = self.scope.iter().filter(|name| name.is_mutable).cloned().collect();
        if mutable.is_empty() {
            return self.declare();
        }
        let target = self.chance.of(&mutable);
        if self.chance.one_in(4) {
            let value = self.value(target.ty, 2);
            let _ = writeln!(self.text, "{} = {value};", target.text);
            return;
        }
        let (place, dtype) = self.place(&target);
        if dtype != DType::Bool && self.chance.one_in(3) {
            let (op, value) = (self.chance.of(&["+", "-", "*"]), self.scalar(dtype, 2));
            let _ = writeln!(self.text, "{place} {op}= {value};");
        } else {
            let value = self.scalar(dtype, 3);
            let _ = writeln!(self.text, "{place} = {value};");
        }
    }

    /// A scalar within a variable.
    fn place(&mut self, of: &Name) -> (String, DType) {
        match of.ty {
            Ty::Scalar(dtype) => (of.text.clone(), dtype),
            Ty::Vector(size, dtype) => match self.chance.one_in(3) {
                true => (format!("{}[{}]", of.text, self.index()), dtype),
                false => (format!("{}.{}", of.text, ["x", "y", "z", "w"][self.chance.below(size)]), dtype),
            },
            Ty::Array(length, dtype) => match self.chance.one_in(3) {
                true => (format!("{}[{}]", of.text, self.chance.below(length)), dtype),
                false => (format!("{}[{}]", of.text, self.index()), dtype),
            },
            Ty::Matrix(dtype) => match self.chance.one_in(2) {
                true => (format!("{}[{}].y", of.text, self.index()), dtype),
                false => (format!("{}[1].x", of.text), dtype),
            },
            Ty::Struct => {
                let (p, q) = self.fields_of_struct();
                match self.chance.below(3) {
                    0 => (format!("{}.p", of.text), p),
                    1 => (format!("{}.q.y", of.text), q),
                    _ => (format!("{}.r[{}]", of.text, self.index()), p),
                }
            }
        }
    }

    fn index(&mut self) -> String {
        let dtype = self.chance.of(&[DType::U32, DType::I32]);
        let value = self.scalar(dtype, 1);
        // Mostly within bounds, not always.
        if self.chance.one_in(4) { value } else { format!("({value} & {})", literal(dtype, 3)) }
    }

    fn condition(&mut self) -> String {
        self.scalar(DType::Bool, 2)
    }

    fn if_else(&mut self, depth: usize) {
        let condition = self.condition();
        let _ = writeln!(self.text, "if ({condition}) {{");
        self.block(depth + 1, 4);
        match self.chance.below(3) {
            0 => {
                self.text.push_str("} else {\n");
                self.block(depth + 1, 4);
            }
            1 => {
                let condition = self.condition();
                let _ = writeln!(self.text, "}} else if ({condition}) {{");
                self.block(depth + 1, 3);
            }
            _ => {}
        }
        self.text.push_str("}\n");
    }

    fn switch(&mut self, depth: usize) {
        let dtype = self.chance.of(&[DType::I32, DType::U32]);
        let (selector, suffix) = (self.scalar(dtype, 2), if dtype == DType::I32 { "i" } else { "u" });
        let _ = writeln!(self.text, "switch ({selector} & {}) {{", literal(dtype, 7));
        let around = std::mem::replace(&mut self.in_switch, true);
        for case in ["0", "1, 2", "3"].into_iter().take(1 + self.chance.below(3)) {
            let case: Vec<String> = case.split(", ").map(|value| format!("{value}{suffix}")).collect();
            let _ = writeln!(self.text, "case {}: {{", case.join(", "));
            self.block(depth + 1, 3);
            self.text.push_str("}\n");
        }
        let label = self.chance.of(&["default: {\n", "case 5, default: {\n"]);
        self.text.push_str(&label.replace('5', &format!("5{suffix}")));
        self.block(depth + 1, 3);
        self.text.push_str("}\n}\n");
        self.in_switch = around;
    }

    fn limit(&mut self) -> String {
        match self.chance.below(3) {
            0 => format!("{}u", 1 + self.chance.below(5)),
            _ => format!("({} & 7u)", self.scalar(DType::U32, 2)),
        }
    }

    fn in_a_loop(&mut self, body: impl FnOnce(&mut Self)) {
        let around = (self.in_loop, self.in_switch);
        (self.in_loop, self.in_switch) = (true, false);
        self.loops += 1;
        body(self);
        self.loops -= 1;
        (self.in_loop, self.in_switch) = around;
    }

    fn for_loop(&mut self, depth: usize) {
        let (counter, limit) = (self.fresh(), self.limit());
        let _ = writeln!(self.text, "for (var {counter} = 0u; {counter} < {limit}; {counter}++) {{");
        self.scope.push(name(counter, Ty::Scalar(DType::U32), false));
        self.in_a_loop(|writer| writer.block(depth + 1, 4));
        self.scope.pop();
        self.text.push_str("}\n");
    }

    fn endless_loop(&mut self, depth: usize) {
        let (counter, limit) = (self.fresh(), self.limit());
        let _ = writeln!(self.text, "var {counter} = 0u;\nloop {{");
        self.scope.push(name(counter.clone(), Ty::Scalar(DType::U32), false));
        self.in_a_loop(|writer| writer.block(depth + 1, 4));
        match self.chance.below(2) {
            0 => {
                let _ = writeln!(self.text, "continuing {{ {counter}++; break if {counter} > {limit}; }}\n}}");
            }
            _ => {
                let _ = writeln!(self.text, "if ({counter} >= {limit}) {{ break; }}\ncontinuing {{ {counter}++; ");
                self.assign();
                let _ = writeln!(self.text, "break if {counter} > 9u; }}\n}}");
            }
        }
        self.scope.pop();
    }

    fn jump(&mut self) {
        let mut jumps = Vec::new();
        if self.in_loop {
            jumps.extend(["break;", "continue;"]);
        }
        if self.in_switch {
            jumps.push("break;");
        }
        if jumps.is_empty() || self.chance.one_in(4) {
            jumps = vec![""];
        }
        let condition = self.condition();
        let jump = self.chance.of(&jumps);
        let _ = writeln!(self.text, "if ({condition}) {{");
        self.assign_within();
        match jump {
            "" => {
                let result = self.out();
                let _ = writeln!(self.text, "return {result};\n}}");
            }
            jump => {
                let _ = writeln!(self.text, "{jump}\n}}");
            }
        }
    }

    fn assign_within(&mut self) {
        if self.scope.iter().any(|name| name.is_mutable) && self.chance.one_in(2) {
            self.assign();
        }
    }

    /// Calls a helper whose pointers there are variables for.
    fn call(&mut self) {
        if let Some((call, dtype)) = self.helper_call() {
            let text = self.fresh();
            let _ = writeln!(self.text, "let {text} = {call};");
            self.scope.push(name(text, Ty::Scalar(dtype), false));
        }
    }
}

fn name(text: String, ty: Ty, is_mutable: bool) -> Name {
    Name { text, ty, is_mutable, is_pointer: false }
}
