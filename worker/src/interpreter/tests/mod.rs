//! WGSL and words in, words out. What is expected is written down or computed by Rust's own operators, never by the
//! interpreter's parts.

mod arithmetic;
mod blocks;
mod builtins;
mod conversions;
mod expressions;
mod refusals;
mod statements;
mod trees;
mod walks;

use super::*;

/// A scalar as the word that the interpreter takes, written here once more on purpose.
trait Bits: Copy {
    fn bits(self) -> u64;
}

macro_rules! bits {
    ($($type:ident => |$value:ident| $bits:expr),*) => {$(
        impl Bits for $type {
            fn bits(self) -> u64 {
                let $value = self;
                $bits
            }
        }
    )*};
}
bits!(f32 => |x| x.to_bits().into(), f64 => |x| x.to_bits(), i32 => |x| (x as u32).into(), u32 => |x| x.into(),
    i64 => |x| x as u64, u64 => |x| x, bool => |x| x.into());

/// Words of scalars of any kinds.
macro_rules! words {
    ($($value:expr),* $(,)?) => { &[$(Bits::bits($value)),*] };
}
use words;

fn validated(text: &str) -> Arc<Module> {
    Arc::new(validated_with_info(text).0)
}

fn validated_with_info(text: &str) -> (Module, naga::valid::ModuleInfo) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
    let capabilities = naga::valid::Capabilities::all();
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(text)));
    (module, info)
}

/// The function named `f`.
fn interpreter(text: &str) -> Result<Interpreter, InterpretError> {
    let module = validated(text);
    let (function, _) =
        module.functions.iter().find(|(_, function)| function.name.as_deref() == Some("f")).expect("a function `f`");
    Interpreter::new(module.clone(), function)
}

fn run(text: &str, arguments: &[u64]) -> Vec<u64> {
    let mut interpreter = interpreter(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut results = vec![0; interpreter.result_words()];
    interpreter.call(arguments, &StopFlag::new(), &mut results).unwrap();
    results
}

#[track_caller]
fn check(text: &str, arguments: &[u64], expected: &[u64]) {
    let results = run(text, arguments);
    assert_eq!(results, expected, "{arguments:x?} -> {results:x?}, expected {expected:x?} by\n{text}");
}

/// One function on many inputs.
#[track_caller]
fn check_all<const N: usize, const M: usize>(text: &str, cases: &[([u64; N], [u64; M])]) {
    let mut interpreter = interpreter(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for (arguments, expected) in cases {
        let mut results = [0; M];
        interpreter.call(arguments, &StopFlag::new(), &mut results).unwrap();
        assert_eq!(results, *expected, "{arguments:x?} -> {results:x?}, expected {expected:x?} by\n{text}");
    }
}
