//! A kernel with all its types known: validated, contracted, hashed.

use std::fmt;

use naga::valid::ModuleInfo;
use naga::{Function, Handle, Module};

use super::text::Text;
use super::{
    Field, KernelError, KernelSource, Parameter, ReductionSignature, Requirements, Signature, Warning, allowed,
    contract, extract, warn,
};
use crate::ids::KernelHash;

/// A validated kernel. Valid by construction: its module has passed naga's validator, and nothing but scalars goes in
/// or comes out.
#[derive(Debug)]
pub struct TypedKernel {
    source: KernelSource,
    hash: KernelHash,
    module: Module,
    info: ModuleInfo,
    functions: Functions,
    requirements: Requirements,
    warnings: Vec<Warning>,
}

/// The functions that are called from outside.
#[derive(Clone, Debug)]
pub enum Functions {
    /// Of an element kernel.
    Element(ElementFunction),
    /// Of a reduction kernel.
    Reduction(ReductionFunctions),
}

/// The function of an element kernel.
#[derive(Clone, Debug)]
pub struct ElementFunction {
    /// In the kernel's module.
    pub function: Handle<Function>,
    /// What it takes and returns.
    pub signature: Signature,
}

/// The functions of a reduction kernel, in its module.
#[derive(Clone, Debug)]
pub struct ReductionFunctions {
    /// `() -> A`.
    pub identity: Handle<Function>,
    /// `(x: T, ...) -> A`.
    pub lift: Handle<Function>,
    /// `(A, A) -> A`, associative and commutative.
    pub combine: Handle<Function>,
    /// `(A) -> R`.
    pub finish: Handle<Function>,
    /// The type `A`.
    pub accumulator: Handle<naga::Type>,
    /// What goes in and comes out.
    pub signature: ReductionSignature,
}

impl TypedKernel {
    /// Parses, validates, types and contracts a kernel: what a worker does with text off the wire.
    pub fn compile(source: KernelSource) -> Result<TypedKernel, KernelError> {
        TypedKernel::compile_in("kernel", source)
    }

    /// The same, with errors that call the text `path`.
    pub fn compile_in(path: &str, source: KernelSource) -> Result<TypedKernel, KernelError> {
        let text = Text::new(path, &source)?;
        let located = |(problem, span)| text.error(problem, span);
        let mut module = text.parse()?;
        allowed::check(&module).map_err(located)?;
        let written = text.validate(&module)?;
        let warnings = warn::warnings(&text, &module);
        contract::contract(&mut module, &written);
        naga::compact::compact(&mut module, naga::compact::KeepUnused::Yes);
        let info = text.validate(&module)?;
        let functions = extract::functions(&module, &source, text.has_at()).map_err(located)?;
        let requirements = Requirements::of(&module, &info);
        Ok(TypedKernel { hash: source.hash(), source, module, info, functions, requirements, warnings })
    }

    /// Where it came from.
    pub fn source(&self) -> &KernelSource {
        &self.source
    }

    /// Its name everywhere.
    pub fn hash(&self) -> KernelHash {
        self.hash
    }

    /// naga's module: the kernel's functions, contracted, and what they use.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The proof that the module is valid, with the type of every expression.
    pub fn info(&self) -> &ModuleInfo {
        &self.info
    }

    /// What can be called.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The function of an element kernel.
    pub fn element(&self) -> Option<&ElementFunction> {
        match &self.functions {
            Functions::Element(element) => Some(element),
            Functions::Reduction(_) => None,
        }
    }

    /// The functions of a reduction kernel.
    pub fn reduction(&self) -> Option<&ReductionFunctions> {
        match &self.functions {
            Functions::Element(_) => None,
            Functions::Reduction(reduction) => Some(reduction),
        }
    }

    /// The element function's name, or `lift`.
    pub fn name(&self) -> &str {
        match &self.functions {
            Functions::Element(element) => &element.signature.name,
            Functions::Reduction(_) => "lift",
        }
    }

    /// The data parameters of the element function, or of `lift`.
    pub fn parameters(&self) -> &[Parameter] {
        match &self.functions {
            Functions::Element(element) => &element.signature.parameters,
            Functions::Reduction(reduction) => &reduction.signature.parameters,
        }
    }

    /// What the element function, or `finish`, returns.
    pub fn results(&self) -> &[Field] {
        match &self.functions {
            Functions::Element(element) => &element.signature.results,
            Functions::Reduction(reduction) => &reduction.signature.results,
        }
    }

    /// Legal things in its text that are probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What a device must have to run it.
    pub fn requirements(&self) -> Requirements {
        self.requirements
    }
}

impl fmt::Display for TypedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.functions {
            Functions::Element(element) => write!(f, "{}", element.signature),
            Functions::Reduction(reduction) => write!(f, "{}", reduction.signature),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::dtype::DType;
    use crate::kernel::{Kernel, KernelError, KernelKind, KernelSource, TypedKernel};

    fn element(text: &str) -> Result<TypedKernel, KernelError> {
        let t = text.contains('T').then_some(DType::F32);
        TypedKernel::compile(KernelSource { kind: KernelKind::Element, text: text.to_owned(), entry: None, t })
    }

    #[track_caller]
    fn check(text: &str, signature: &str) {
        assert_eq!(
            element(text).map(|kernel| kernel.to_string()).map_err(|error| error.rendered()),
            Ok(signature.to_owned())
        );
    }

    #[track_caller]
    fn check_error(text: &str, message: &str) {
        let error = element(text).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(message));
    }

    #[test]
    fn signatures() {
        check("fn f(x: f32) -> f32 { return x; }", "f(x: f32) -> f32");
        check("fn f() -> bool { return true; }", "f() -> bool");
        check(
            "fn f(a: f64, b: i64, c: u64, d: u32, e: i32, f: bool) -> i64 { return b; }",
            "f(a: f64, b: i64, c: u64, d: u32, e: i32, f: bool) -> i64",
        );
        check("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }", "f(x: f32) -> f32");
        check("alias T = i32; fn f(x: T) -> T { return x; }", "f(x: i32) -> i32");
        check("fn g(x: f32) -> f32 { return h(x); } fn h(x: f32) -> f32 { return x; }", "g(x: f32) -> f32");
        check(
            "struct Pair { low: f32, high: u32 } fn f(x: f32) -> Pair { return Pair(x, 1u); }",
            "f(x: f32) -> (low: f32, high: u32)",
        );
        check("struct One { low: f32 } fn f(x: f32) -> One { return One(x); }", "f(x: f32) -> (low: f32)");
        check("fn f(x: u32, at: At) -> u32 { return x + at.index[0]; }", "f(x: u32, at: At) -> u32");
        check("fn f(where: At) -> u32 { return where.shape[where.rank - 1u]; }", "f(at: At) -> u32");
        check(
            "fn deep(at: At) -> u32 { return at.rank; } fn f(x: u32, at: At) -> u32 { return x * deep(at); }",
            "f(x: u32, at: At) -> u32",
        );
        check("@must_use fn f(x: f32) -> f32 { return x; }", "f(x: f32) -> f32");
    }

    #[test]
    fn all_of_the_language_that_makes_sense() {
        check(
            "const N = 4u;
             const WEIGHTS = array<f32, 4>(0.1, 0.2, 0.3, 0.4);
             struct Point { position: vec3<f32>, rotation: mat2x2<f32> }
             fn bump(p: ptr<function, f32>) { *p += 1.0; }
             fn f(x: f32, n: i32) -> f32 {
                 var kept: array<f32, N>;
                 var point = Point(vec3(x), mat2x2(1.0, 0.0, 0.0, 1.0));
                 for (var i = 0u; i < N; i++) { kept[i] = WEIGHTS[i] * x; if (kept[i] > 2.0) { continue; } bump(&kept[i]); }
                 var k = 0;
                 while (k < n) { k++; }
                 loop { k--; if (k == 3) { break; } continuing { break if k < 0; } }
                 switch k { case 1, 2: { point.position.x = modf(x).fract; } case 3 { return frexp(x).fract; } default: {} }
                 let turned = point.rotation * point.position.xy;
                 return select(turned.x, dot(turned, vec2(kept[0], kept[k & 3])), any(vec2(x) < turned));
             }",
            "f(x: f32, n: i32) -> f32",
        );
    }

    #[test]
    fn errors_show_the_users_own_place() {
        check_error(
            "fn f(x: f32) -> f32 {\n    return y;\n}",
            "kernel:2:12: no definition in scope for identifier: `y`",
        );
        check_error("fn f(x: f32) -> f32 {\n  return x", "");
        check_error("fn f(x: T) -> T {\n  return x;\n", "");
        check_error("fn f(x: f32) -> i32 {\n  return x; }", "");
        check_error("fn f(x: f32) -> f32 {\n  let größe = x; return größe + 1i; }", "");
        check_error("fn f(x: f32) -> f32 { return f(x); }", "");
        check_error("fn f(x: T) -> T /* open", "");
        check_error("", "");
        check_error("const A = 1;", "");
        check_error("fn f(x: f32) -> f32 { return 1.0 / 0.0; }", "");
    }

    #[test]
    fn what_no_element_kernel_may_have() {
        check_error("@compute @workgroup_size(64) fn main() { return; }", "");
        check_error("@group(0) @binding(0) var<storage, read> a: array<f32>; fn f(x: u32) -> f32 { return a[x]; }", "");
        check_error("var<private> a: f32; fn f(x: f32) -> f32 { return a; }", "");
        check_error("var<workgroup> a: f32; fn f(x: f32) -> f32 { return a; }", "");
        check_error("override a: f32; fn f(x: f32) -> f32 { return a; }", "");
        check_error("enable f16; fn f(x: f16) -> f16 { return x; }", "");
        check_error("fn f(x: f32) -> f32 { workgroupBarrier(); return x; }", "");
        check_error("fn f(x: f32) -> f32 { return dpdx(x); }", "");
        check_error("fn f(x: f32) -> f32 { if (x > 1.0) { discard; } return x; }", "");
        check_error("fn g(t: texture_2d<f32>) -> u32 { return 1u; } fn f(x: u32) -> u32 { return x; }", "");
        check_error("fn f(x: u32) -> u32 { return subgroupAdd(x); }", "");
        check_error("fn g(a: ptr<workgroup, atomic<u32>>) {} fn f(x: u32) -> u32 { return x; }", "");
        check_error("fn f(x: f32) -> f32 { var a: array<f32, 100000>; return a[u32(x)]; }", "");
        check_error(
            "fn f(x: f32) -> f32 { var a: array<f32, 10000>; var b: array<f32, 10000>; return a[0] + b[0]; }",
            "",
        );
    }

    #[test]
    fn signatures_that_do_not_fit() {
        check_error("fn f(x: vec2<f32>) -> f32 { return x.x; }", "");
        check_error("fn f(x: array<f32, 4>) -> f32 { return x[0]; }", "");
        check_error("fn f(x: ptr<function, f32>) -> f32 { return *x; }", "");
        check_error("fn f(x: f32) { }", "");
        check_error("fn f(x: f32) -> vec2<f32> { return vec2(x); }", "");
        check_error("struct R { a: f32, b: vec2<f32> } fn f(x: f32) -> R { return R(x, vec2(x)); }", "");
        check_error("fn f(at: At, x: f32) -> f32 { return x; }", "");
        check_error("fn f(x: f32) -> At { var at: At; return at; }", "");
        check_error("struct At { index: u32 } fn f(x: f32, at: At) -> f32 { return x; }", "");
        check_error("fn f(x: f32) -> f32 { return x; } fn g(x: f32) -> f32 { return x; }", "");
    }

    #[test]
    fn reductions() {
        let _ = Kernel::reduction;
    }
}
