//! The contraction rule, by golden texts and against the rule applied to the source text.

use proptest::prelude::*;

use super::*;

/// The body of the contracted kernel, by naga's writer.
fn contracted(expression: &str) -> String {
    let text = format!(
        "fn f(a: f32, b: f32, c: f32, d: f32, v: vec2<f32>, m: mat2x2<f32>, n: i32, e: f64) -> f32 {{ {expression} }}
         fn g(x: f32) -> f32 {{ return f(x, x, x, x, vec2(x), mat2x2(x, x, x, x), 1, 1.0); }}"
    );
    let kernel = compiled(&text);
    let flags = naga::back::wgsl::WriterFlags::empty();
    let text = naga::back::wgsl::write_string(kernel.module(), kernel.info(), flags).unwrap();
    let body = text.split("e: f64) -> f32 {\n").nth(1).and_then(|rest| rest.split("\n}").next());
    body.unwrap_or(&text).replace("    ", " ")
}

#[test]
fn the_rule() {
    let mut listed = String::new();
    for expression in [
        "return a * b + c;",
        "return c + a * b;",
        "return a * b - c;",
        "return c - a * b;",
        "return a * b + c * d;",
        "return a * b - c * d;",
        "return a * b + c + d;",
        "return a * b * c + d;",
        "return a + b * c + d;",
        "return (a + b) * (c + d);",
        "return -a * b + c;",
        "return -(a * b) + c;",
        "let p = a * b; return p + c;",
        "let p = a * b; return (p + c) * p;",
        "var p = a * b; return p + c;",
        "var s = 0.0; s += a * b; return s;",
        "var s = 0.0; for (var i = 0; i < n; i++) { s = s * a + b; } return s;",
        "var s = c; if (a > b) { s -= a * b; } return s;",
        "return (v * a + v).x;",
        "return (a * v - v).x;",
        "return (v - a * v).x;",
        "return (v * v + 1.0).x;",
        "return (m * v + v).x;",
        "return (m * a + m)[0].x;",
        "return f32(n * n + n);",
        "return f32(e * e + 1.0);",
        "return 2 * a * a + 3 * a + 1;",
        "return f32(e * e) + 1.0;",
    ] {
        writeln!(listed, "{expression}\n{}\n", contracted(expression)).unwrap();
    }
    insta::assert_snapshot!(listed);
}

/// Sums and products of variables, without sharing.
#[derive(Clone, Debug)]
enum Tree {
    Variable(usize),
    Negate(Box<Tree>),
    Add(Box<Tree>, Box<Tree>),
    Subtract(Box<Tree>, Box<Tree>),
    Multiply(Box<Tree>, Box<Tree>),
}

impl Tree {
    fn any() -> impl Strategy<Value = Tree> {
        let leaf = (0usize..4).prop_map(Tree::Variable);
        leaf.prop_recursive(5, 40, 2, |inner| {
            let two = (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
            prop_oneof![
                inner.prop_map(|tree| Tree::Negate(Box::new(tree))),
                two.clone().prop_map(|(a, b)| Tree::Add(a, b)),
                two.clone().prop_map(|(a, b)| Tree::Subtract(a, b)),
                two.prop_map(|(a, b)| Tree::Multiply(a, b)),
            ]
        })
    }

    fn text(&self) -> String {
        match self {
            Tree::Variable(index) => ["a", "b", "c", "d"][*index].to_owned(),
            Tree::Negate(a) => format!("(-{})", a.text()),
            Tree::Add(a, b) => format!("({} + {})", a.text(), b.text()),
            Tree::Subtract(a, b) => format!("({} - {})", a.text(), b.text()),
            Tree::Multiply(a, b) => format!("({} * {})", a.text(), b.text()),
        }
    }

    /// The text of what the rule makes of it, written from the rule's prose.
    fn contracted(&self) -> String {
        use Tree::*;
        let both = |a: &Tree, b: &Tree| (a.contracted(), b.contracted());
        match self {
            Variable(_) => self.text(),
            Negate(a) => format!("(-{})", a.contracted()),
            Multiply(a, b) => format!("({} * {})", a.contracted(), b.contracted()),
            Add(left, right) => match (&**left, &**right) {
                (Multiply(a, b), c) | (c, Multiply(a, b)) => {
                    let (a, b) = both(a, b);
                    format!("fma({a}, {b}, {})", c.contracted())
                }
                (a, b) => format!("({} + {})", a.contracted(), b.contracted()),
            },
            Subtract(left, right) => match (&**left, &**right) {
                (Multiply(a, b), c) => {
                    let (a, b) = both(a, b);
                    format!("fma({a}, {b}, -({}))", c.contracted())
                }
                (c, Multiply(a, b)) => {
                    let (a, b) = both(a, b);
                    format!("fma(-({a}), {b}, {})", c.contracted())
                }
                (a, b) => format!("({} - {})", a.contracted(), b.contracted()),
            },
        }
    }
}

proptest! {
    #[test]
    fn any_expression_is_contracted_by_the_rule(tree in Tree::any(), dtype in prop::sample::select(vec!["f32", "f64", "vec3<f64>"])) {
        let wgsl = |expression: &str| {
            let text = format!(
                "fn g(a: {dtype}, b: {dtype}, c: {dtype}, d: {dtype}) -> {dtype} {{ return {expression}; }}
                 fn f(x: bool) -> bool {{ let y = {dtype}(); return all(g(y, y, y, y) == y); }}"
            );
            let kernel = compiled(&text);
            let flags = naga::back::wgsl::WriterFlags::empty();
            naga::back::wgsl::write_string(kernel.module(), kernel.info(), flags).unwrap()
        };
        prop_assert_eq!(wgsl(&tree.text()), wgsl(&tree.contracted()));
    }
}

#[test]
fn calls_keep_functions_apart() {
    let text =
        "fn product(a: f32, b: f32) -> f32 { return a * b; } fn f(a: f32, b: f32) -> f32 { return product(a, b) + b; }";
    let kernel = compiled(text);
    let flags = naga::back::wgsl::WriterFlags::empty();
    let text = naga::back::wgsl::write_string(kernel.module(), kernel.info(), flags).unwrap();
    assert!(!text.contains("fma"), "{text}");
}
