//! Kernels as users hold them: `T`, hashes, arguments, reports.

use super::*;

const POLY: &str = "fn f(x: T) -> T { return 2*x*x + 3*x + 1; }";

#[test]
fn one_text_serves_all_number_types() {
    let poly = Kernel::element(POLY).unwrap();
    let numbers = [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64];
    assert_eq!(poly.valid_types(), numbers);
    assert!(poly.uses_t());
    let f64s = poly.instantiate(Some(DType::F64)).unwrap();
    assert_eq!(f64s.to_string(), "f(x: f64) -> f64");
    assert!(Arc::ptr_eq(&f64s, &poly.clone().instantiate(Some(DType::F64)).unwrap()));
    assert_eq!(*poly.instantiate(None).unwrap_err().problem(), Problem::TypeNeeded);
    let refused = poly.instantiate(Some(DType::Bool)).unwrap_err();
    assert_eq!((refused.t(), refused.location()), (Some(DType::Bool), Some(Location { line: 1, column: 26 })));
}

#[test]
fn hashes_name_what_is_computed() {
    let hash = |text, t| Kernel::element(text).unwrap().instantiate(t).unwrap().hash();
    let closed = "fn f(x: f32) -> f32 { return x; }";
    assert_eq!(hash(closed, None), hash(closed, Some(DType::I32)));
    assert_ne!(hash(POLY, Some(DType::F32)), hash(POLY, Some(DType::F64)));
    let kernel = Kernel::element(POLY).unwrap().instantiate(Some(DType::U64)).unwrap();
    let bytes = postcard::to_stdvec(kernel.source()).unwrap();
    let received: KernelSource = postcard::from_bytes(&bytes).unwrap();
    let again = TypedKernel::compile(received).unwrap();
    assert_eq!(again.hash(), kernel.hash());
    let sha256 = "c4e7dc5f";
    assert_eq!(hash(closed, None).to_string(), sha256, "a hash that changes changes what is cached and sent");
}

#[test]
fn errors_name_t_only_where_it_matters() {
    let message = |text| Kernel::element(text).unwrap_err().to_string();
    assert_eq!(message("fn f(x: T) -> T { return y; }"), "kernel:1:26: no definition in scope for identifier: `y`");
    insta::assert_snapshot!(message("fn f(x: T) -> vec2<T> { return x; }"));
    let error = Kernel::element_in("scale.wgsl", "fn f(x: T) -> f32 { return dot(x, x); }", None).unwrap_err();
    let bytes = postcard::to_stdvec(&error).unwrap();
    assert_eq!(postcard::from_bytes::<KernelError>(&bytes).unwrap(), error);
}

#[test]
fn arguments_choose_t() {
    use DType::*;
    let chosen = |text, arguments: &[DType]| {
        Kernel::element(text).unwrap().for_arguments(arguments).map(|kernel| kernel.to_string())
    };
    assert_eq!(chosen(POLY, &[F32]).unwrap(), "f(x: f32) -> f32");
    let mixed = "fn f(x: T, n: i64, y: T) -> T { return x + y; }";
    assert_eq!(chosen(mixed, &[I32, U32, F32]).unwrap(), "f(x: f64, n: i64, y: f64) -> f64");
    assert_eq!(
        chosen(mixed, &[I32, U64, F32]).unwrap_err().to_string(),
        "kernel: `f` takes (f64, i64, f64), and was given (i32, u64, f32)"
    );
    assert_eq!(
        chosen(mixed, &[I32]).unwrap_err().to_string(),
        "kernel: `f` takes (f32, i64, f32), and was given (i32)"
    );
    assert_eq!(chosen(POLY, &[Bool]).unwrap_err().t(), Some(Bool));
    assert_eq!(chosen("fn f(x: f64) -> f64 { return x; }", &[I64]).unwrap(), "f(x: f64) -> f64");
    assert!(chosen("fn f(x: f32) -> f32 { return x; }", &[F64]).is_err());
    assert_eq!(*chosen("fn f() -> T { return T(1); }", &[]).unwrap_err().problem(), Problem::TypeNeeded);
    assert_eq!(
        chosen("fn f(x: T) -> u32 { return bitcast<u32>(x) + 1u * u32(firstLeadingBit(u32(x))); }", &[I32]).unwrap(),
        "f(x: i32) -> u32"
    );
}

#[test]
fn reports_and_warnings() {
    let text = "fn f(x: T) -> T {\n    let k = 0.1;\n    let half = 0.5;\n    return x * T(k) + T(half) + T(0.1);\n}";
    let kernel = Kernel::element_in("scale.wgsl", text, None).unwrap();
    insta::assert_snapshot!(Report::new(&kernel));
    let sine = Kernel::element("fn f(x: f64, n: u64) -> f64 { return sin(x) + f64(countOneBits(n)); }").unwrap();
    insta::assert_snapshot!(Report::new(&sine));
}
