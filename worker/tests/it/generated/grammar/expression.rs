//! Expressions of a wanted type: over what is in scope, and literals where nothing is.

use gridloom_worker::dtype::DType;

use super::{Name, Numbers, Ty, Writer};

impl Writer<'_> {
    pub(super) fn helper_call(&mut self) -> Option<(String, DType)> {
        if self.helpers.is_empty() {
            return None;
        }
        let at = self.chance.below(self.helpers.len());
        let parameters = self.helpers[at].parameters.clone();
        let mut arguments = Vec::new();
        let mut taken: Vec<String> = Vec::new();
        for (ty, is_pointer) in parameters {
            if !is_pointer {
                arguments.push(self.value(ty, 1));
                continue;
            }
            let fits = |name: &&Name| name.is_mutable && name.ty == ty && !taken.contains(&name.text);
            let target = self.scope.iter().find(fits)?.clone();
            taken.push(target.text.clone());
            let pointer = target.text.trim_start_matches("(*").trim_end_matches(')').to_owned();
            arguments.push(if target.is_pointer { pointer } else { format!("&{}", target.text) });
        }
        // A variable that a pointer names may not be read beside it.
        let is_read_too = arguments.iter().any(|argument| {
            taken.iter().any(|name| {
                !argument.starts_with('&')
                    && argument != name
                    && argument.contains(name.trim_start_matches("(*").trim_end_matches(')'))
            }) && !argument.starts_with("p")
        });
        if is_read_too {
            return None;
        }
        Some((format!("{}({})", self.helpers[at].name, arguments.join(", ")), self.helpers[at].result))
    }

    pub(super) fn value(&mut self, ty: Ty, depth: usize) -> String {
        let known: Vec<String> = self.scope.iter().filter(|name| name.ty == ty).map(|name| name.text.clone()).collect();
        if !known.is_empty() && self.chance.one_in(3) {
            return self.chance.of(&known);
        }
        let parts = |writer: &mut Self, count: usize, dtype| {
            let parts: Vec<String> = (0..count).map(|_| writer.scalar(dtype, depth.saturating_sub(1))).collect();
            parts.join(", ")
        };
        match ty {
            Ty::Scalar(dtype) => self.scalar(dtype, depth),
            Ty::Vector(size, dtype) => {
                if depth > 0 && dtype != DType::Bool && self.chance.one_in(3) {
                    let (a, b) = (self.value(ty, depth - 1), self.value(ty, depth - 1));
                    return format!("({a} {} {b})", self.chance.of(&["+", "-", "*"]));
                }
                format!("{}({})", ty.name(), parts(self, size, dtype))
            }
            Ty::Array(length, dtype) => format!("{}({})", ty.name(), parts(self, length, dtype)),
            Ty::Matrix(dtype) => {
                if depth > 0 && self.chance.one_in(3) {
                    return format!("({} * {})", self.value(ty, depth - 1), self.value(ty, depth - 1));
                }
                format!("{}({})", ty.name(), parts(self, 4, dtype))
            }
            Ty::Struct => {
                let (p, q) = self.fields_of_struct();
                let (x, y, z) = (parts(self, 1, p), parts(self, 2, q), parts(self, 3, p));
                format!("S({x}, vec2<{q}>({y}), array<{p}, 3>({z}))")
            }
        }
    }

    pub(super) fn scalar(&mut self, dtype: DType, depth: usize) -> String {
        if depth == 0 || self.chance.one_in(4) {
            return self.leaf(dtype);
        }
        let (is_float, is_bool) = (dtype.is_float(), dtype == DType::Bool);
        let next = depth - 1;
        if self.numbers == Numbers::Exact && self.chance.one_in(8) {
            return self.by_way_of_floats(dtype, next);
        }
        if is_bool {
            let of = self.dtype();
            return match self.chance.below(5) {
                0 => format!(
                    "({} {} {})",
                    self.scalar(dtype, next),
                    self.chance.of(&["&&", "||", "==", "!=", "&", "|"]),
                    self.scalar(dtype, next)
                ),
                1 => format!("!{}", self.scalar(dtype, next)),
                _ if of != DType::Bool => {
                    let op = self.chance.of(&["<", "<=", ">", ">=", "==", "!="]);
                    format!("({} {op} {})", self.scalar(of, next), self.scalar(of, next))
                }
                _ => self.leaf(dtype),
            };
        }
        let a = self.scalar(dtype, next);
        match self.chance.below(16) {
            0..=4 => {
                format!("({a} {} {})", self.chance.of(&["+", "-", "*", "*", "+", "/", "%"]), self.scalar(dtype, next))
            }
            5 => format!("{}({a}, {})", self.chance.of(&["min", "max"]), self.scalar(dtype, next)),
            6 => format!("select({a}, {}, {})", self.scalar(dtype, next), self.scalar(DType::Bool, next)),
            7 => {
                let from = self.dtype();
                format!("{dtype}({})", self.scalar(from, next))
            }
            8 if is_float => {
                let function = self.chance.of(&[
                    "sin", "exp", "sqrt", "floor", "abs", "fract", "log", "atan", "cos", "exp2", "trunc", "ceil",
                    "round", "tanh", "sign",
                ]);
                format!("{function}({a})")
            }
            9 if is_float => {
                format!("{}({a}, {})", self.chance.of(&["pow", "atan2", "step"]), self.scalar(dtype, next))
            }
            10 if is_float => format!("fma({a}, {}, {})", self.scalar(dtype, next), self.scalar(dtype, next)),
            8 | 9 if !is_float => format!("({a} {} {})", self.chance.of(&["&", "|", "^"]), self.scalar(dtype, next)),
            10 if !is_float => {
                format!("({a} {} ({} & 31u))", self.chance.of(&["<<", ">>"]), self.scalar(DType::U32, next))
            }
            11 if matches!(dtype, DType::I32 | DType::U32) => {
                let function = self.chance.of(&[
                    "countOneBits",
                    "countLeadingZeros",
                    "reverseBits",
                    "firstLeadingBit",
                    "firstTrailingBit",
                ]);
                format!("{function}({a})")
            }
            12 if dtype == DType::U32 => format!("bitcast<u32>({})", self.scalar(DType::I32, next)),
            12 if dtype == DType::F32 => format!("bitcast<f32>({})", self.scalar(DType::U32, next)),
            12 if dtype == DType::I32 => format!("bitcast<i32>({})", self.scalar(DType::U32, next)),
            13 if is_float => {
                let vector = Ty::Vector(2 + self.chance.below(3), dtype);
                let (a, b) = (self.value(vector, next), self.value(vector, next));
                format!("dot({a}, {b})")
            }
            14 => {
                let count = 3 + self.chance.below(5);
                let values: Vec<String> = (0..count).map(|_| literal(dtype, self.chance.below(50) as u64)).collect();
                format!("array<{dtype}, {count}>({})[{}]", values.join(", "), self.index())
            }
            15 if !matches!(dtype, DType::U32 | DType::U64) => format!("(-{a})"),
            _ => format!("({a} + {})", self.scalar(dtype, next)),
        }
    }

    /// Small whole numbers, computed with as floats and converted back: no step of it is rounded.
    fn by_way_of_floats(&mut self, dtype: DType, depth: usize) -> String {
        let float = self.chance.of(&[DType::F32, DType::F64]);
        let mut small = || {
            let from = self.chance.of(&[DType::I32, DType::U32]);
            let mask = literal(from, 63);
            format!("{float}({} & {mask})", self.scalar(from, depth))
        };
        let [a, b, c] = [small(), small(), small()];
        let value = match self.chance.below(6) {
            0 => format!("({a} + {b}) * {c}"),
            1 => format!("{a} * {b} - {c}"),
            2 => format!("fma({a}, {b}, {c})"),
            3 => format!("abs({a} - {b}) + floor({c} * 0.25)"),
            4 => format!("min({a}, {b}) * max({b}, {c})"),
            _ => format!("select({a} - {c}, {b}, {a} < {b})"),
        };
        // Unsigned numbers are made of what is not negative.
        if dtype == DType::Bool { format!("({value} > 100.0)") } else { format!("{dtype}(abs({value}))") }
    }

    /// A variable's scalar, or rarely a literal.
    fn leaf(&mut self, dtype: DType) -> String {
        let names = self.scope.clone();
        let mut places = Vec::new();
        for of in &names {
            let (text, found) = match of.ty {
                Ty::Scalar(found) => (of.text.clone(), found),
                Ty::Vector(_, found) => (format!("{}.y", of.text), found),
                Ty::Array(length, found) => (format!("{}[{}]", of.text, self.chance.below(length)), found),
                Ty::Matrix(found) => (format!("{}[0].y", of.text), found),
                Ty::Struct => (format!("{}.p", of.text), self.fields_of_struct().0),
            };
            if found == dtype {
                places.push(text);
            }
        }
        if places.is_empty() || self.chance.one_in(16) {
            let value = self.chance.of(&[0, 1, 2, 3, 5, 7, 10, 31, 100, 255]);
            return literal(dtype, value);
        }
        self.chance.of(&places)
    }
}

pub(super) fn literal(dtype: DType, value: u64) -> String {
    match dtype {
        DType::F32 => format!("{value}.25f"),
        DType::F64 => format!("{value}.125lf"),
        DType::I32 => format!("{value}i"),
        DType::U32 => format!("{value}u"),
        DType::I64 => format!("{value}li"),
        DType::U64 => format!("{value}lu"),
        DType::Bool => if value.is_multiple_of(2) { "false" } else { "true" }.to_owned(),
    }
}
