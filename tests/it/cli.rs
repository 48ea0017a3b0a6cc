//! The binary from the outside: exit codes, standard output and error, and what is left in the folder.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

const POLY: &str = "fn f(x: T) -> T { return 2*x*x + 3*x + 1; }";
const ENDLESS: &str = "fn f(x: f64) -> f64 { var y = x; while y >= 0 { y += 1; if y > 10 { y = 1; } } return y; }";

/// A folder with kernels and arrays in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("poly.wgsl", POLY);
        folder.write("endless.wgsl", ENDLESS);
        for name in ["f64", "i32", "fortran", "truncated", "foreign", "header_cut", "structured", "overflow"] {
            let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/npy/{name}.npy"));
            fs::copy(fixture, folder.path().join(format!("{name}.npy"))).unwrap();
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridloom"));
        command.args(line.split_whitespace()).current_dir(self.path());
        command.env_remove("GRIDLOOM_LOG").env_remove("XDG_RUNTIME_DIR");
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).stdin(Stdio::null()).output().unwrap()
    }

    /// The names of all files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Standard output of a command that succeeds and says nothing else.
    #[track_caller]
    fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{line}");
        text(&output.stdout)
    }

    /// Standard output as the one JSON object that it is.
    #[track_caller]
    fn json(&self, line: &str) -> Json {
        serde_json::from_str(&self.succeeds(line)).unwrap()
    }

    /// One clear error that contains `expected`, exit code 2, nothing on standard output, nothing left.
    #[track_caller]
    fn refuses(&self, line: &str, expected: &str) {
        let before = self.names();
        let output = self.run(line);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}\n{stderr}");
        assert_eq!(text(&output.stdout), "", "{line}");
        let first = stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: ") && first.contains(expected), "{line}\n{stderr}");
        let snippet = first.contains(".wgsl:");
        assert!(stderr.lines().count() == 1 || snippet, "{line}: more than one line\n{stderr}");
        assert_eq!(self.names(), before, "{line} left something");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_map_writes_what_numpy_would() {
    let folder = Folder::new();
    let report = folder.json("map poly.wgsl i32.npy -o out.npy --json");
    assert_eq!((&report["dtype"], &report["shape"]), (&"i32".into(), &serde_json::json!([2, 3])));
    let poly = |x: i32| x.wrapping_mul(x).wrapping_mul(2).wrapping_add(x.wrapping_mul(3)).wrapping_add(1);
    let expected = [0, 1, i32::MAX, i32::MIN, 7, 100].map(poly);
    assert_eq!(report["values"], serde_json::json!(expected));
    let written = fs::read(folder.path().join("out.npy")).unwrap();
    let bytes: Vec<u8> = expected.into_iter().flat_map(i32::to_le_bytes).collect();
    assert!(written.starts_with(b"\x93NUMPY") && written.ends_with(&bytes));
    assert_eq!(report["output"], "out.npy");
    // What was written can be read again.
    assert_eq!(folder.json("reduce max out.npy --json")["values"], serde_json::json!([expected.iter().max()]));
}

const REVERSE: &str = "@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@compute @workgroup_size(4) fn reverse(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x + 3 * id.y] = x[5 - id.x - 3 * id.y];
}";

#[test]
fn a_block_kernel_is_told_by_its_entry_point() {
    let folder = Folder::new();
    folder.write("reverse.wgsl", REVERSE);
    let report = folder.json("map reverse.wgsl i32.npy -o out.npy --json");
    assert_eq!((&report["dtype"], &report["shape"]), (&"i32".into(), &serde_json::json!([2, 3])));
    assert_eq!(report["values"], serde_json::json!([100, 7, i32::MIN, i32::MAX, 1, 0]));
    let checked = folder.succeeds("kernel check reverse.wgsl");
    assert!(checked.starts_with("reverse.wgsl: a valid block kernel\n"), "{checked}");
    let signature = "T = f32: reverse(x: array<f32>) -> (y: array<f32>), by workgroups of 4x1x1\n";
    assert!(checked.contains(signature), "{checked}");
    assert!(folder.succeeds("explain map reverse.wgsl f64.npy").contains("block kernel reverse"));
    folder.write("parted.wgsl", &REVERSE.replace("    y[", "    if id.x == 1 { workgroupBarrier(); }\n    y["));
    let parted = "1 of a workgroup's 4 invocations reach the workgroupBarrier in line 4 of `reverse`";
    folder.refuses("map parted.wgsl i32.npy -o out2.npy", parted);
    folder.write("wrong.wgsl", &REVERSE.replace("x[5", "z[5"));
    folder.refuses("map wrong.wgsl i32.npy -o out2.npy", "wrong.wgsl:4:26: no definition in scope for identifier: `z`");
}

#[test]
fn devices_are_chosen_and_named() {
    let folder = Folder::new();
    let devices = |report: &Json| report["devices"].as_array().unwrap().iter().map(Json::to_string).collect::<String>();
    for device in ["auto", "cpu"] {
        let report = folder.json(&format!("reduce sum i32.npy --device {device} --workers 2 --threads 1 --json"));
        let devices = devices(&report);
        assert!(devices.contains("cpu ") && devices.contains("2 workers, 2 slots"), "{devices}");
    }
    let mut hidden = folder.command("reduce sum i32.npy --device gpu");
    let refused = hidden.env("GRIDLOOM_GPUS", "").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).starts_with("error: no GPU that may be used is here"), "{refused:?}");
    let mut unknown = folder.command("reduce sum i32.npy --device gpu");
    let refused = unknown.env("GRIDLOOM_GPUS", "99").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).starts_with("error: GRIDLOOM_GPUS: no GPU `99` here"), "{refused:?}");
}

/// A GPU gives what the CPU gives: exactly for integers and uniform numbers.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn a_gpu_computes_what_the_cpu_does() {
    let folder = Folder::new();
    let doctor = folder.json("doctor --json");
    let gpus = doctor["gpus"].as_array().unwrap();
    if gpus.is_empty() {
        assert!(std::env::var_os("GRIDLOOM_REQUIRE_GPU").is_none(), "GRIDLOOM_REQUIRE_GPU is set, and there is no GPU");
        return eprintln!("skipped: no GPU here; `gridloom doctor` says what is missing");
    }
    let warning = match gpus.iter().all(|gpu| gpu["kind"] == "software") {
        true => "warning: there is no real GPU: a software one computes, rightly and slowly\n",
        false => "",
    };
    folder.write("mix.wgsl", "fn mix(x: u32) -> u32 { return (x ^ (x >> 7u)) * 2654435761u; }");
    for work in [
        "map mix.wgsl random:300x70:u32?seed=3 --chunks 64,33 -o out.npy",
        "reduce max random:50x60x70:f32 --axis 1",
        "reduce sum random:1000x33:u32 --axis 0 --map mix.wgsl --chunks 100,33",
        "reduce argmin random:12345:f32",
    ] {
        let on = |device: &str, warning: &str| -> Json {
            let output = folder.run(&format!("{work} --device {device} --json"));
            assert_eq!((output.status.code(), &text(&output.stderr)[..]), (Some(0), warning), "{work}");
            serde_json::from_str(&text(&output.stdout)).unwrap()
        };
        let (cpu, gpu) = (on("cpu", ""), on("gpu", warning));
        assert!(gpu["devices"][0].as_str().unwrap().starts_with("gpu "), "{work}: {gpu}");
        assert_eq!((&cpu["values"], &cpu["summary"]), (&gpu["values"], &gpu["summary"]), "{work}");
    }
}

#[test]
fn a_large_result_goes_to_its_file_as_it_is_computed() {
    let folder = Folder::new();
    let report = folder.json("map poly.wgsl random:4096x4096 --chunks 16,4096 -o out.npy --json");
    let bytes = 128 << 20;
    let written = fs::metadata(folder.path().join("out.npy")).unwrap().len();
    assert!((bytes..bytes + 1000).contains(&written), "{written}");
    let peak = report["memory_peak_bytes"].as_u64().unwrap();
    assert!(peak < bytes, "{peak} bytes of memory for a result of {bytes}");
    // It is what a plain sum says of the same numbers: 2 * n / 3 + 3 * n / 2 + n, nearly.
    let mean = folder.json("reduce mean out.npy --json")["values"][0].as_f64().unwrap();
    assert!((mean - (2.0 / 3.0 + 1.5 + 1.0)).abs() < 1e-3, "{mean}");
}

#[test]
fn reductions_answer_the_same_for_any_workers_and_chunks() {
    let folder = Folder::new();
    let whole = folder.json("reduce mean random:200x300?seed=7 --axis -1 --json");
    assert_eq!((&whole["shape"], &whole["dtype"]), (&serde_json::json!([200]), &"f64".into()));
    let several = folder.json("reduce mean random:200x300?seed=7 --axis -1 --json --workers 3 --threads 1");
    assert_eq!(whole["values"], several["values"]);
    let count = "reduce count_nonzero random:200x300:u32 --json";
    assert_eq!(folder.json(count)["values"], folder.json(&format!("{count} --chunks 7,1000"))["values"]);
    let kept = folder.json("reduce argmax i32.npy --axis 1 --keepdims --json");
    assert_eq!((&kept["shape"], &kept["values"]), (&serde_json::json!([2, 1]), &serde_json::json!([2, 2])));
    let mapped = folder.json("reduce sum i32.npy --axis 0 --map poly.wgsl --json");
    assert_eq!(mapped["dtype"], "i64");
}

#[test]
fn people_get_the_array_and_how_it_went() {
    let folder = Folder::new();
    let said = folder.succeeds("reduce sum fortran.npy --axis 0 --axis 2");
    assert!(said.starts_with("[ 60  92 124]\n\nshape    (3,)\ndtype    i64\n"), "{said}");
    assert!(["time ", "rate ", "devices "].iter().all(|word| said.contains(word)), "{said}");
    let plan = folder.succeeds("explain reduce mean random:1000x1000x100 --axis -1 --map poly.wgsl");
    assert!(plan.contains("mean"), "{plan}");
    assert!(folder.json("explain map poly.wgsl f64.npy --json")["plan"].is_string());
    assert!(folder.succeeds("kernel check poly.wgsl").contains("element kernel"));
    assert!(folder.json("doctor --json")["executors"].is_array());
    for help in ["--help", "map --help", "reduce --help", "explain --help", "kernel check --help"] {
        assert!(folder.succeeds(help).contains("Example"), "{help}");
    }
    let bare = folder.run("");
    assert_eq!(bare.status.code(), Some(2));
    assert!(text(&bare.stderr).contains("Usage: gridloom"), "{bare:?}");
}

#[test]
fn bad_kernels_are_refused_with_the_users_own_lines() {
    let folder = Folder::new();
    folder.write("no_parse.wgsl", "fn f(x: f32) -> f32 {\n  return x +;\n}");
    folder.write("no_type.wgsl", "fn f(x: f32) -> f32 {\n  return x + 1u;\n}");
    folder.write("two.wgsl", "fn f(x: f32) -> f32 { return x; }\nfn g(x: f32) -> f32 { return x; }");
    folder.write("int.wgsl", "fn f(x: i32) -> i32 { return x; }");
    let output = folder.run("map no_parse.wgsl f64.npy -o out.npy");
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("error: no_parse.wgsl:2:13: ") && stderr.contains("  return x +;"), "{stderr}");
    folder.refuses("map no_parse.wgsl f64.npy -o out.npy", "no_parse.wgsl:2:13: ");
    folder.refuses("map no_type.wgsl f64.npy -o out.npy", "no_type.wgsl:2:");
    folder.refuses("kernel check no_type.wgsl", "no_type.wgsl:2:");
    folder.refuses("map two.wgsl f64.npy -o out.npy", "several functions");
    folder.refuses("map two.wgsl#h f64.npy -o out.npy", "no function `h`");
    folder.refuses("map int.wgsl f64.npy -o out.npy", "takes (i32)");
    folder.refuses("map poly.wgsl f64.npy f64.npy -o out.npy", "takes (");
    folder.refuses("reduce sum f64.npy --map int.wgsl", "takes (i32)");
    folder.refuses("map missing.wgsl f64.npy -o out.npy", "missing.wgsl: ");
    folder.refuses("map endless.wgsl f64.npy -o out.npy --block-timeout 200ms", "200 ms");
}

#[test]
fn bad_arguments_are_refused() {
    let folder = Folder::new();
    folder.write("add.wgsl", "fn f(x: T, y: T) -> T { return x + y; }");
    folder.refuses("map add.wgsl random:3 random:4 -o out.npy", "(3,), (4,) do not broadcast");
    folder.refuses("reduce sum f64.npy --axis 2", "axis 2 of an array of 2 axes");
    folder.refuses("reduce sum f64.npy --axis 0 --axis -2", "named twice");
    folder.refuses("reduce sum f64.npy --axis x", "--axis");
    folder.refuses("reduce sum random:3x3:f16", "unknown dtype `f16`");
    folder.refuses("reduce median f64.npy", "'median'");
    folder.refuses("reduce min random:0x3", "min of no elements");
    folder.refuses("reduce sum random:4294967296x4294967296", "overflows");
    folder.refuses("reduce sum random:99999999999999999999", "overflows");
    folder.refuses("reduce sum random:1x1x1x1x1x1x1x1x1", "at most 8");
    folder.refuses("reduce sum random:100000x100000 --chunks 100000,100000", "bytes");
    folder.refuses("reduce sum f64.npy --chunks 1,1,1", "3 entries for 2 axes");
    folder.refuses("map poly.wgsl f64.npy -o out.npy --chunks 1", "1 entries for 2 axes");
    folder.refuses("reduce sum f64.npy --workers 0", "--workers");
    folder.refuses("reduce sum", "required arguments");
}

#[test]
fn bad_files_are_refused() {
    let folder = Folder::new();
    folder.refuses("reduce sum missing.npy", "missing.npy: ");
    folder.refuses("reduce sum truncated.npy", "truncated.npy: ");
    folder.refuses("reduce sum foreign.npy", "foreign.npy: ");
    folder.refuses("reduce sum header_cut.npy", "header_cut.npy: ");
    folder.refuses("reduce sum structured.npy", "structured.npy: ");
    folder.refuses("reduce sum overflow.npy", "overflow");
    folder.refuses("map poly.wgsl f64.npy -o no/such/folder/out.npy", "cannot write no/such/folder/out.npy");
    folder.refuses("map poly.wgsl f64.npy -o .", "cannot write .");
    folder.refuses("map poly.wgsl f64.npy -o /dev/null", "cannot write /dev/null");
}

/// The kernel never ends, so the press always comes in time.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    let folder = Folder::new();
    let before = folder.names();
    let mut child = folder.command("map endless.wgsl random:64 -o out.npy").stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while folder.names() == before {
        assert!(Instant::now() < deadline, "the temporary file never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The shell's own `kill`: a bare system may have no other.
    let pid = child.id().to_string();
    let kill = Command::new("sh").args([OsStr::new("-c"), OsStr::new(&format!("kill -INT {pid}"))]).status();
    assert!(kill.unwrap().success());
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(130));
    assert!(Instant::now() < deadline, "it took too long to end");
    assert_eq!(folder.names(), before);
}
