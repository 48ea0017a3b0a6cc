//! Block kernels: their contract, by signatures and by what is refused.

use super::*;
use crate::shape::Shape;

fn typed(text: &str) -> Result<TypedKernel, KernelError> {
    match TypedKernel::compile(source(KernelKind::Block, text, None)) {
        Err(error) if *error.problem() == Problem::TypeNeeded => {
            TypedKernel::compile(source(KernelKind::Block, text, Some(DType::F32)))
        }
        other => other,
    }
}

/// An input, an output, and an entry point of 64 invocations around `body`.
fn around(declared: &str, body: &str) -> String {
    format!(
        "@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
{declared}
@compute @workgroup_size(64) fn f(@builtin(global_invocation_id) id: vec3<u32>) {{ {body} }}"
    )
}

#[test]
fn block_signatures() {
    let copy = around("", "y[id.x] = x[id.x];");
    assert_eq!(typed(&copy).unwrap().to_string(), "f(x: array<f32>) -> (y: array<f32>), by workgroups of 64x1x1");
    let several = "
        @group(0) @binding(3) var<storage> info: BlockInfo;
        @group(0) @binding(2) var<storage, read_write> counts: array<atomic<i32>>;
        @group(0) @binding(1) var<storage, read_write> sums: array<u64>;
        @group(0) @binding(0) var<storage> values: array<f64>;
        var<workgroup> a: array<f32, 5>;
        var<workgroup> b: u32;
        @compute @workgroup_size(8, 4, 2) fn tally() {
            a[0] = 1; b = info.shape[info.rank - 1];
            sums[info.start[0]] = u64(values[info.input[0][1]]);
            atomicAdd(&counts[info.block[7]], 1i);
        }";
    let kernel = typed(several).unwrap();
    let signature = &kernel.block().unwrap().signature;
    assert_eq!(
        signature.to_string(),
        "tally(values: array<f64>, info: BlockInfo) -> (sums: array<u64>, counts: array<i32>), by workgroups of 8x4x2"
    );
    assert_eq!((signature.workgroup_bytes, signature.invocations(), signature.buffers()), (48, 64, 4));
    let globals = kernel.block().unwrap().globals.iter();
    let names: Vec<_> = globals.filter_map(|&handle| kernel.module().global_variables[handle].name.clone()).collect();
    assert_eq!(names, ["values", "sums", "counts", "info"]);
    let needs = kernel.requirements();
    assert!(needs.f64 && needs.int64);
    assert_eq!((needs.workgroup_size, needs.workgroup_bytes, needs.storage_buffers), ([8, 4, 2], 48, 4));
    assert_eq!(needs.names(), ["f64", "i64"]);
    let all = Requirements { f64: true, int64: true, ..Requirements::GUARANTEED };
    assert!(all.meets(needs) && !Requirements { workgroup_bytes: 32, ..all }.meets(needs));
}

#[test]
fn workgroups_just_cover_a_block() {
    let kernel = typed(&around("", "y[0] = x[0];").replace("size(64)", "size(8, 4, 2)")).unwrap();
    let cover = |lengths: &[u64]| kernel.block().unwrap().signature.workgroups(&Shape::new(lengths).unwrap());
    assert_eq!(cover(&[]), [1, 1, 1]);
    assert_eq!(cover(&[17]), [3, 1, 1]);
    assert_eq!(cover(&[5, 16]), [2, 2, 1]);
    assert_eq!(cover(&[3, 5, 16]), [2, 2, 2]);
    assert_eq!(cover(&[3, 3, 5, 16]), [2, 2, 5]);
}

#[test]
fn the_block_info_is_bytes_in_order() {
    let shape = |lengths: &[u64]| Shape::new(lengths).unwrap();
    let inputs = vec![shape(&[3, 4]), shape(&[5, 6])];
    let info = BlockInfo { start: shape(&[70, 80]), block: shape(&[7, 8]), shape: shape(&[10, 20]), inputs };
    let words: Vec<u32> =
        info.bytes().chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(words.len() * 4, BlockInfo::BYTES);
    let row = |at: usize| &words[1 + 8 * at..9 + 8 * at];
    assert_eq!((words[0], row(0), row(1)), (2, &[70, 80, 0, 0, 0, 0, 0, 0][..], &[7, 8, 0, 0, 0, 0, 0, 0][..]));
    assert_eq!((&row(2)[..3], &row(3)[..3], &row(4)[..3]), (&[10, 20, 0][..], &[3, 4, 0][..], &[5, 6, 0][..]));
    // naga lays the struct out alike.
    let kernel = typed(&around("@group(0) @binding(2) var<storage> info: BlockInfo;", "y[0] = x[info.rank];")).unwrap();
    let (_, ty) = kernel.module().types.iter().find(|(_, ty)| ty.name.as_deref() == Some("BlockInfo")).unwrap();
    assert_eq!(ty.inner.try_size(kernel.module().to_ctx()), Some(BlockInfo::BYTES as u32));
}

#[test]
fn one_text_serves_all_types_and_one_entry_of_several_is_named() {
    let copy = Kernel::block(&around("", "y[id.x] = x[id.x] * 2;")).unwrap();
    let numbers = [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64];
    assert_eq!((copy.kind(), copy.valid_types()), (KernelKind::Block, numbers.to_vec()));
    let for_i64 = copy.for_arguments(&[DType::I64]).unwrap();
    assert_eq!(for_i64.to_string(), "f(x: array<i64>) -> (y: array<i64>), by workgroups of 64x1x1");
    assert_eq!(
        copy.for_arguments(&[DType::F32; 2]).unwrap_err().to_string(),
        "kernel: `f` takes (f32), and was given (f32, f32)"
    );
    let two = around("@compute @workgroup_size(1) fn g() { y[0] = x[0]; }", "y[id.x] = x[id.x];");
    assert_eq!(
        Kernel::block_named(&two, "g").unwrap().instantiate(Some(DType::F32)).unwrap().module().entry_points.len(),
        1
    );
    insta::assert_snapshot!(Report::new(&Kernel::block_in("pair.wgsl", &two, Some("g")).unwrap()));
    let named = |name| Kernel::block_in("pair.wgsl", &two, name).unwrap_err().to_string();
    assert_eq!(named(Some("h")), "pair.wgsl: there is no function `h`: there is g, f");
    let several = "there are several entry points (g, f): name one, as in `file.wgsl#g`";
    assert!(named(None).ends_with(several), "{}", named(None));
}

#[test]
fn entry_points_of_one_text_have_their_own_buffers_and_memory() {
    let entry = |name: &str, from: &str, to: &str| {
        format!(
            "@group(0) @binding(0) var<storage, read> {from}: array<f32>;
@group(0) @binding(1) var<storage, read_write> {to}: array<f32>;
var<workgroup> {name}_tile: array<f32, 5000>;
@compute @workgroup_size(64) fn {name}() {{ {name}_tile[0] = {from}[0]; {to}[0] = {name}_tile[0]; }}\n"
        )
    };
    let both = entry("sum", "a", "b") + &entry("scale", "c", "d");
    let signature = |name| Kernel::block_named(&both, name).unwrap().instantiate(None).unwrap().to_string();
    assert_eq!(signature("sum"), "sum(a: array<f32>) -> (b: array<f32>), by workgroups of 64x1x1");
    assert_eq!(signature("scale"), "scale(c: array<f32>) -> (d: array<f32>), by workgroups of 64x1x1");
    let unread = around("", "y[id.x] = 1;");
    assert_eq!(typed(&unread).unwrap().parameters().len(), 1, "one alone may leave an input unread");
}

#[test]
fn entry_points_are_contracted_and_warned_of() {
    let kernel = typed(&around("", "let k = 0.1; y[id.x] = x[id.x] * x[0] + x[1] + f32(f64(k));")).unwrap();
    let flags = naga::back::wgsl::WriterFlags::empty();
    let text = naga::back::wgsl::write_string(kernel.module(), kernel.info(), flags).unwrap();
    assert!(text.contains("fma("), "{text}");
    assert_eq!(kernel.warnings().len(), 1);
}

/// Everything that a block kernel may have beyond an element kernel goes through contraction unharmed.
#[test]
fn all_of_the_language_that_makes_sense_in_a_block() {
    let text = around(
        "var<workgroup> tile: array<atomic<u32>, 4>; var<workgroup> flag: u32; var<private> own: vec2<f32> = vec2(1, 2);
fn bump(p: ptr<private, vec2<f32>>) -> f32 { (*p).x += 1; workgroupBarrier(); return (*p).x; }",
        "let p = &y[id.x];
    *p = x[arrayLength(&x) - 1] * bump(&own) + own.y;
    storageBarrier();
    if workgroupUniformLoad(&flag) > 0 { atomicStore(&tile[0], atomicLoad(&tile[1])); }
    let old = atomicCompareExchangeWeak(&tile[id.y], 1u, atomicMax(&tile[0], 3u));
    if old.exchanged { atomicXor(&tile[3], old.old_value); }",
    );
    let kernel = typed(&text).unwrap_or_else(|error| panic!("{}", error.rendered()));
    let flags = naga::back::wgsl::WriterFlags::empty();
    insta::assert_snapshot!(naga::back::wgsl::write_string(kernel.module(), kernel.info(), flags).unwrap());
}

#[test]
fn what_no_block_kernel_may_have() {
    let x = "@group(0) @binding(0) var<storage, read> x: array<f32>;";
    let y = "@group(0) @binding(1) var<storage, read_write> y: array<f32>;";
    let f = "@compute @workgroup_size(1) fn f() { y[0] = 1; }";
    let texts = [
        "fn f(x: f32) -> f32 { return x; }".to_owned(),
        format!("{x} @compute @workgroup_size(1) fn f() {{ var a = x[0]; }}"),
        format!("{x}\n@group(0) @binding(2) var<storage, read_write> y: array<f32>; {f}"),
        format!("{x}\n@group(1) @binding(1) var<storage, read_write> y: array<f32>; {f}"),
        format!(
            "{x}\n@group(0) @binding(1) var<storage, read_write> y: array<vec2<f32>>; {}",
            f.replace("[0]", "[0].x")
        ),
        format!("{x}\n@group(0) @binding(1) var<storage, read_write> y: array<f32, 4>; {f}"),
        format!("{x} {y}\n@group(0) @binding(2) var<storage, read> z: array<f32>; {f}"),
        format!("{x} {y}\n@group(0) @binding(2) var<storage, read_write> info: BlockInfo; {f}"),
        format!(
            "struct BlockInfo {{ rank: u32 }} {x} {y}\n@group(0) @binding(2) var<storage, read> info: BlockInfo; {f}"
        ),
        format!("@group(0) @binding(0) var<storage, read> info: BlockInfo;\n{y} {f}"),
        format!("@group(0) @binding(0) var<storage, read> at: At;\n{y} {f}"),
        format!("{x} {y} @group(0) @binding(2) var<uniform> u: f32; {f}"),
        format!("{x} {y} @group(0) @binding(2) var t: texture_2d<f32>; {f}"),
        format!("{x} {y} @fragment fn g() {{ }} {f}"),
        format!("{x} {y} override n: u32 = 1; {f}"),
        format!("{x} {y} var<workgroup> w: array<f32, 8193>; {f}"),
        format!("{x} {y} var<private> p: array<f32, 16000>; var<private> q: array<f32, 16000>; {f}"),
        format!("{x} {y} {}", f.replace("size(1)", "size(32, 33)")),
        format!("{x} {y} {}", f.replace("size(1)", "size(1, 1, 65)")),
        format!("{x} {y} {}", f.replace("y[0] = 1;", "y[0] = 1; textureBarrier();")),
        format!("{x} {y} {}", f.replace("y[0] = 1;", "y[0] = subgroupAdd(1.0);")),
        format!("{x} {y} @compute @workgroup_size(1) fn f(@builtin(subgroup_size) n: u32) {{ y[n] = 1; }}"),
        format!("{x} {y} {}", f.replace("y[0] = 1;", "x[0] = 1;")),
        format!("{x} {y}\n@compute @workgroup_size(1) fn f() {{\n    y[0] = 1u;\n}}"),
        format!("{x} {y}\n@compute @workgroup_size(1) fn f() {{\n    y[0] = z[1];\n}}"),
        format!("{x} {y}\n@compute @workgroup_size(1) fn f() {{\n    if x[0] {{ return; }}\n}}"),
        (0..9)
            .map(|at| format!("@group(0) @binding({at}) var<storage, read_write> y{at}: array<f32>;\n"))
            .collect::<String>()
            + &f.replace("y[0]", "y1[0]"),
        format!("{x} {y} @group(0) @binding(2) var<storage, read_write> a: array<atomic<u64>>; {f}"),
    ];
    insta::assert_snapshot!(refusals(|text| typed(text).err(), &texts.each_ref().map(String::as_str)));
}
