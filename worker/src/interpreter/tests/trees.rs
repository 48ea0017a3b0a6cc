//! Random expression trees, evaluated by the interpreter and by Rust.

use proptest::prelude::*;

use super::*;

/// An expression over three variables of one type.
#[derive(Clone, Debug)]
enum Tree {
    Variable(usize),
    Literal(u8),
    Binary(usize, Box<Tree>, Box<Tree>),
    Select(Box<Tree>, Box<Tree>, Box<Tree>, Box<Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![(0..3usize).prop_map(Tree::Variable), any::<u8>().prop_map(Tree::Literal)];
    leaf.prop_recursive(6, 60, 4, |tree| {
        let boxed = || tree.clone().prop_map(Box::new);
        prop_oneof![
            4 => (0..8usize, boxed(), boxed()).prop_map(|(op, a, b)| Tree::Binary(op, a, b)),
            1 => (boxed(), boxed(), boxed(), boxed()).prop_map(|(a, b, c, d)| Tree::Select(a, b, c, d)),
        ]
    })
}

/// WGSL text for an operator of `operators`, and what Rust makes of it.
type Operators<T> = [(&'static str, fn(T, T) -> T); 8];

impl Tree {
    /// Constants are variables in disguise, lest naga folds them and finds fault.
    fn text<T>(&self, operators: &Operators<T>) -> String {
        match self {
            Tree::Variable(index) => ["x", "y", "z"][*index].to_owned(),
            Tree::Literal(value) => format!("(zero + T({value}))"),
            Tree::Binary(op, a, b) => {
                let (a, b) = (a.text(operators), b.text(operators));
                match operators[*op].0 {
                    name if name.starts_with(char::is_alphabetic) => format!("{name}({a}, {b})"),
                    name => format!("({a} {name} {b})"),
                }
            }
            Tree::Select(a, b, c, d) => {
                let [a, b, c, d] = [a, b, c, d].map(|tree| tree.text(operators));
                format!("select({a}, {b}, {c} < {d})")
            }
        }
    }

    fn value<T: Copy + PartialOrd + From<u8>>(&self, operators: &Operators<T>, variables: [T; 3]) -> T {
        let value = |tree: &Tree| tree.value(operators, variables);
        match self {
            Tree::Variable(index) => variables[*index],
            Tree::Literal(value) => T::from(*value),
            Tree::Binary(op, a, b) => operators[*op].1(value(a), value(b)),
            Tree::Select(a, b, c, d) => {
                if value(c) < value(d) {
                    value(b)
                } else {
                    value(a)
                }
            }
        }
    }
}

fn check_tree<T: Bits + PartialOrd + From<u8> + std::fmt::Debug>(
    dtype: &str,
    tree: &Tree,
    operators: &Operators<T>,
    variables: [T; 3],
    canonical: fn(T) -> u64,
) -> Result<(), TestCaseError> {
    let body = tree.text(operators);
    let text = format!("alias T = {dtype}; fn f(x: T, y: T, z: T) -> T {{ var zero: T; return {body}; }}");
    let result = run(&text, &variables.map(Bits::bits));
    prop_assert_eq!(result[0], canonical(tree.value(operators, variables)), "{} {:?}", body, variables);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn unsigned_trees(tree in trees(), x: u32, y in 0..9u32, z: u32) {
        let operators: Operators<u32> = [
            ("+", u32::wrapping_add), ("-", u32::wrapping_sub), ("*", u32::wrapping_mul),
            ("/", |a, b| a.checked_div(b).unwrap_or(a)), ("%", |a, b| a.checked_rem(b).unwrap_or(0)),
            ("<<", |a, b| a << (b & 31)), (">>", |a, b| a >> (b & 31)), ("max", u32::max),
        ];
        check_tree("u32", &tree, &operators, [x, y, z], Bits::bits)?;
    }

    #[test]
    fn signed_trees(tree in trees(), x: i64, y in -5..5i64, z: i64) {
        let operators: Operators<i64> = [
            ("+", i64::wrapping_add), ("-", i64::wrapping_sub), ("*", i64::wrapping_mul),
            ("/", |a, b| if b == 0 { a } else { a.wrapping_div(b) }), ("%", |a, b| if b == 0 { 0 } else { a.wrapping_rem(b) }),
            ("&", |a, b| a & b), ("^", |a, b| a ^ b), ("min", i64::min),
        ];
        check_tree("i64", &tree, &operators, [x, y, z], Bits::bits)?;
    }

    #[test]
    fn single_trees(tree in trees(), x: f32, y in -2.0..2.0f32, z: f32) {
        let operators: Operators<f32> = [
            ("+", |a, b| a + b), ("-", |a, b| a - b), ("*", |a, b| a * b), ("/", |a, b| a / b), ("%", |a, b| a % b),
            ("min", |a, b| if b < a { b } else { a }), ("max", |a, b| if a < b { b } else { a }),
            ("step", |a, b| if a <= b { 1.0 } else { 0.0 }),
        ];
        check_tree("f32", &tree, &operators, [x, y, z], |x| if x.is_nan() { 0x7fc0_0000 } else { x.bits() })?;
    }

    #[test]
    fn double_trees(tree in trees(), x: f64, y in -2.0..2.0f64, z: f64) {
        let operators: Operators<f64> = [
            ("+", |a, b| a + b), ("-", |a, b| a - b), ("*", |a, b| a * b), ("/", |a, b| a / b), ("%", |a, b| a % b),
            ("min", |a, b| if b < a { b } else { a }), ("max", |a, b| if a < b { b } else { a }),
            ("step", |a, b| if a <= b { 1.0 } else { 0.0 }),
        ];
        check_tree("f64", &tree, &operators, [x, y, z], |x| if x.is_nan() { 0x7ff8 << 48 } else { x.bits() })?;
    }
}
