//! Walking a workgroup in step, against its invocations run alone.
//!
//! Invocations that share nothing compute the same with and without barriers. Without, the interpreter runs each by
//! itself, as it runs element functions; with them, it walks them together. So any program is its own oracle.

use bytemuck::{cast_slice, cast_slice_mut};
use proptest::prelude::*;

use super::*;

const INVOCATIONS: usize = 5;
/// Where a barrier is, or is not.
const BARRIER: &str = "BARRIER;";

/// A statement with any other inside.
#[derive(Clone, Debug)]
enum Piece {
    Change(u8),
    Barrier,
    If(u8, Vec<Piece>, Vec<Piece>),
    Switch([Vec<Piece>; 3]),
    For(u8, Vec<Piece>),
    Loop(u8, Vec<Piece>),
    Break(u8),
    Continue(u8),
    Return(u8),
    Call,
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    use Piece::*;
    let leaf = prop_oneof![
        3 => any::<u8>().prop_map(Change),
        3 => Just(Barrier),
        1 => any::<u8>().prop_map(Break),
        1 => any::<u8>().prop_map(Continue),
        1 => any::<u8>().prop_map(Return),
        1 => Just(Call),
    ];
    let piece = leaf.prop_recursive(4, 40, 4, |inner| {
        let some = prop::collection::vec(inner, 0..4);
        prop_oneof![
            2 => (any::<u8>(), some.clone(), some.clone()).prop_map(|(die, yes, no)| If(die, yes, no)),
            1 => [some.clone(), some.clone(), some.clone()].prop_map(Switch),
            2 => (any::<u8>(), some.clone()).prop_map(|(die, body)| For(die, body)),
            1 => (any::<u8>(), some).prop_map(|(die, body)| Loop(die, body)),
        ]
    });
    prop::collection::vec(piece, 1..8)
}

/// What the text of a piece depends on.
#[derive(Clone, Copy)]
struct Around {
    /// Conditions are on this: the same for all invocations, or not.
    value: &'static str,
    /// How a function ends early.
    end: &'static str,
    depth: usize,
    in_loop: bool,
    in_switch: bool,
    may_call: bool,
}

impl Around {
    fn condition(self, die: u8) -> String {
        format!("({} + {}u) % {}u == 0u", self.value, die, die % 3 + 2)
    }

    fn block(self, pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| self.piece(piece)).collect()
    }

    fn piece(self, piece: &Piece) -> String {
        let inner = Around { depth: self.depth + 1, ..self };
        let looped = Around { in_loop: true, in_switch: false, ..inner };
        let (n, count) = (format!("n{}", self.depth), |die: &u8| die % 3 + 1);
        match piece {
            Piece::Change(die) => format!("s = s * 31u + {die}u + i; u = u * 5u + {die}u;\n"),
            Piece::Barrier => format!("{BARRIER}\n"),
            Piece::If(die, yes, no) => {
                format!("if {} {{\n{}}} else {{\n{}}}\n", self.condition(*die), inner.block(yes), inner.block(no))
            }
            Piece::Switch([one, two, other]) => {
                let inner = Around { in_switch: true, ..inner };
                let (one, two, other) = (inner.block(one), inner.block(two), inner.block(other));
                let value = self.value;
                format!(
                    "switch ({value}) % 4u {{ case 1u: {{\n{one}}} case 0u, 3u: {{\n{two}}} default: {{\n{other}}} }}\n"
                )
            }
            Piece::For(die, body) => {
                format!("for (var {n} = 0u; {n} < {}u; {n}++) {{\n{}}}\n", count(die), looped.block(body))
            }
            Piece::Loop(die, body) => {
                let (body, count) = (looped.block(body), count(die));
                let continuing = format!("continuing {{ {n}++; {BARRIER} break if {n} > {count}u; }}");
                format!("{{ var {n} = 0u;\nloop {{\n{body}{continuing} }} }}\n")
            }
            Piece::Break(die) if self.in_loop || self.in_switch => {
                format!("if {} {{ break; }}\n", self.condition(*die))
            }
            Piece::Continue(die) if self.in_loop => format!("if {} {{ continue; }}\n", self.condition(*die)),
            Piece::Return(die) => format!("if {} {{ {} }}\n", self.condition(*die), self.end),
            Piece::Call if self.may_call => "s += g(s, u, i);\n".to_owned(),
            Piece::Break(_) | Piece::Continue(_) | Piece::Call => String::new(),
        }
    }
}

/// The program, and a helper that it calls. `value` is what conditions are on.
fn text(value: &'static str, helper: &[Piece], body: &[Piece]) -> String {
    let outside = Around { value, end: "return s;", depth: 0, in_loop: false, in_switch: false, may_call: false };
    let entry = Around { end: "y[i] = s; return;", may_call: true, ..outside };
    let (helper, body) = (outside.block(helper), entry.block(body));
    format!(
        "@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
fn g(first: u32, same: u32, i: u32) -> u32 {{ var s = first; var u = same;\n{helper}return s; }}
@compute @workgroup_size({INVOCATIONS}) fn f(@builtin(local_invocation_index) i: u32) {{
var s = i; var u = x[1];\n{body}y[i] = s; }}"
    )
}

fn run(text: &str) -> Result<[u32; INVOCATIONS], BlockError> {
    let block = BlockInterpreter::new(&validated(text), 0).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut y = [0u32; INVOCATIONS];
    let outputs = &mut [cast_slice_mut(&mut y)];
    block.run([1; 3], &[cast_slice(&[0u32, 3])], outputs, &[], &StopFlag::new()).map(|()| y)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn barriers_change_nothing_where_all_go_the_same_way(helper in pieces(), body in pieces()) {
        let text = text("u", &helper, &body);
        let alone = run(&text.replace(BARRIER, "")).unwrap();
        prop_assert_eq!(run(&text.replace(BARRIER, "workgroupBarrier();")), Ok(alone), "{}", text);
    }

    #[test]
    fn invocations_part_and_meet_around_barriers_that_none_reaches(helper in pieces(), body in pieces()) {
        let text = text("s", &helper, &body);
        let alone = run(&text.replace(BARRIER, "")).unwrap();
        let never = "if x[0] == 1u { workgroupBarrier(); }";
        prop_assert_eq!(run(&text.replace(BARRIER, never)), Ok(alone), "{}", text);
    }
}

/// A helper in a helper, each some `if`s deep, with a barrier at the end: nearly as deep as it may be.
#[test]
fn deep_walks_fit_a_threads_stack() {
    let depth = 50;
    let ifs = |body: String| format!("{}{body}{}", "if x[0] == 0u { ".repeat(7), " }".repeat(7));
    let mut text = "@group(0) @binding(0) var<storage, read> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        fn g0(i: u32) { workgroupBarrier(); y[i] += i; }\n"
        .to_owned();
    for at in 1..depth {
        text += &format!("fn g{at}(i: u32) {{ {} }}\n", ifs(format!("g{}(i);", at - 1)));
    }
    text += &format!(
        "@compute @workgroup_size({INVOCATIONS}) fn f(@builtin(local_invocation_index) i: u32) {{ g{}(i); }}",
        depth - 1
    );
    let run = move || run(&text).unwrap();
    let walked = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
    assert_eq!(walked, [0, 1, 2, 3, 4]);
}
