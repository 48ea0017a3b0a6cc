//! Holds the lines of the house by reading its sources: who may use whom, what pure rooms may not touch, where
//! `unsafe` may stand, and who may print.
//!
//! The tables below *are* the rules, written once. A new module, or a new use between two, is a change here first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path as FilePath, PathBuf};

mod scan;

use scan::{Path, Token, paths, tokens, without_tests};

/// A module and the modules of its own crate that it may use. Each stands above all that use it, so there is no cycle.
type Graph = &'static [(&'static str, &'static [&'static str])];

/// The engine room, in reading order.
const WORKER: Graph = &[
    ("dtype", &[]),
    ("shape", &[]),
    ("ids", &[]),
    ("awake", &[]),
    ("math", &[]),
    ("grid", &["shape"]),
    ("intervals", &[]),
    ("view", &["grid", "shape"]),
    ("block", &["dtype", "shape"]),
    ("stage", &["block", "dtype", "grid", "ids", "shape", "view"]),
    ("kernel", &["dtype", "ids", "shape", "stage"]),
    ("executor", &["block", "ids", "kernel", "shape", "stage"]),
    ("source", &["block", "dtype", "executor", "math", "shape", "stage", "view"]),
    ("interpreter", &["dtype", "math"]),
    ("reduce", &["block", "dtype", "executor", "ids", "interpreter", "kernel", "shape", "stage"]),
    ("slots", &["awake", "block", "executor", "ids", "interpreter"]),
    (
        "cpu",
        &[
            "block",
            "dtype",
            "executor",
            "ids",
            "interpreter",
            "kernel",
            "math",
            "reduce",
            "shape",
            "slots",
            "source",
            "stage",
        ],
    ),
    (
        "gpu",
        &[
            "block",
            "cpu",
            "dtype",
            "executor",
            "ids",
            "interpreter",
            "kernel",
            "reduce",
            "shape",
            "slots",
            "source",
            "stage",
        ],
    ),
    ("store", &["block", "ids", "intervals", "shape"]),
    ("wire", &["block", "executor", "ids", "intervals", "kernel", "shape", "stage"]),
    ("agent", &["block", "dtype", "executor", "grid", "ids", "intervals", "shape", "stage", "store", "view", "wire"]),
    ("net", &["agent", "block", "ids", "shape", "wire"]),
    ("serve", &["agent", "block", "cpu", "executor", "gpu", "ids", "kernel", "net", "shape", "stage", "wire"]),
];

/// What decides.
const ROOT: Graph = &[
    ("host", &[]),
    ("array", &[]),
    ("plan", &["array"]),
    ("scheduler", &[]),
    ("client", &["array", "plan", "scheduler"]),
    ("cluster", &["client", "host", "scheduler"]),
    ("cli", &["array", "client", "cluster", "host", "plan", "scheduler"]),
];

/// The rooms of the worker where things are done, and who in the root crate may open them: all others decide only.
const OPEN_TO: &[(&str, &[&str])] = &[
    ("agent", &["cluster"]),
    ("cpu", &["cluster"]),
    // What a machine offers.
    ("gpu", &["cli", "cluster"]),
    ("interpreter", &[]),
    // What reductions return, how wide an accumulator is, and the root of the tree.
    ("reduce", &["array", "client", "plan"]),
    // Who joins and connects; how, is its own affair.
    ("net", &["cli", "client", "cluster"]),
    // How long a worker may run, which files it opens, and why it ended.
    ("serve", &["cli", "cluster"]),
    ("store", &[]),
];

/// Macros that modules share: the language puts them at the crate's root.
const SHARED_MACROS: &[&str] = &["with_element"];

/// Modules that are functions of their arguments alone.
const PURE: &[&str] =
    &["array", "plan", "scheduler", "kernel", "view", "stage", "agent", "wire", "grid", "shape", "dtype", "intervals"];

/// What a pure module may not name: time, threads, chance, devices and networks come in as arguments or not at all.
const IMPURE: &[&str] =
    &["tokio", "quinn", "wgpu", "rand", "std::thread", "std::time::Instant", "std::time::SystemTime"];

/// Crates that one room alone may know.
const ROOM_OF_CRATE: &[(&str, &str)] = &[
    ("quinn", "net"),
    ("rustls", "net"),
    ("wgpu", "gpu"),
    ("cranelift_codegen", "cpu"),
    ("cranelift_frontend", "cpu"),
    ("cranelift_jit", "cpu"),
    ("cranelift_module", "cpu"),
    ("cranelift_native", "cpu"),
];

/// Files that may contain `unsafe`.
const UNSAFE: &[&str] = &[
    "src/main.rs",
    "worker/src/block/memory.rs",
    "worker/src/cpu/compiled/block.rs",
    "worker/src/cpu/compiled/code.rs",
    "worker/src/cpu/compiled/helper.rs",
    "worker/src/cpu/compiled/prefetch.rs",
    "worker/src/gpu/memory.rs",
    "worker/src/reduce/vector.rs",
    "worker/src/source/normal.rs",
    "worker/src/source/philox_x86.rs",
];

/// Macros that a library never calls, and that tests and the command line may.
const PRINTING: &[&str] = &["println", "eprintln", "print", "eprint"];
/// Who may print.
const PRINTERS: &[&str] = &["src/main.rs", "src/cli/"];
/// Macros that nothing finished calls.
const UNFINISHED: &[&str] = &["dbg", "todo", "unimplemented"];

/// One crate of the workspace.
struct Krate {
    /// Its sources, from the repository's root.
    sources: &'static str,
    graph: Graph,
}

const KRATES: &[Krate] = &[Krate { sources: "worker/src", graph: WORKER }, Krate { sources: "src", graph: ROOT }];

/// A source file, read.
struct Source {
    /// From the repository's root, with `/`.
    file: String,
    /// Its module within its crate: `["kernel", "parse"]`; empty for `lib.rs` and `main.rs`.
    module: Vec<String>,
    /// Without tests.
    tokens: Vec<Token>,
}

impl Source {
    fn new(file: &str, sources: &str, text: &str) -> (Source, Vec<String>) {
        let (tokens, test_modules) = without_tests(&tokens(text));
        let source = Source { file: file.to_owned(), module: module_of(file, sources), tokens };
        let test_modules = test_modules.into_iter().map(|name| [&source.module[..], &[name]].concat().join("::"));
        let test_modules = test_modules.collect();
        (source, test_modules)
    }

    /// The module right below the crate's root; empty for the root itself.
    fn room(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.file == *place || place.ends_with('/') && self.file.starts_with(place))
    }
}

/// `worker/src/kernel/parse.rs` in `worker/src` is `["kernel", "parse"]`.
fn module_of(file: &str, sources: &str) -> Vec<String> {
    let inside = file.strip_prefix(sources).unwrap_or(file).trim_start_matches('/').trim_end_matches(".rs");
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// Every broken rule of one file, as `file:line: what`.
fn violations(source: &Source, graph: Graph) -> Vec<String> {
    let mut found = Vec::new();
    let mut report = |line: usize, what: String| found.push(format!("{}:{line}: {what}", source.file));
    for path in paths(&source.tokens, &source.module) {
        use_of_own_crate(source, graph, &path).into_iter().for_each(|what| report(path.line, what));
        use_of_others(source, &path).into_iter().for_each(|what| report(path.line, what));
    }
    for (at, token) in source.tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        if word == "unsafe" && !source.is_in(UNSAFE) {
            report(token.line, "`unsafe` stands only where tests/it/house.rs lists it".to_owned());
        }
        let is_macro = source.tokens.get(at + 1).is_some_and(|next| next.kind == scan::Kind::Sign('!'));
        if is_macro && (UNFINISHED.contains(&word) || PRINTING.contains(&word) && !source.is_in(PRINTERS)) {
            report(token.line, format!("`{word}!` has no place here"));
        }
    }
    found
}

/// A path into another module of the same crate that the graph does not allow.
fn use_of_own_crate(source: &Source, graph: Graph, path: &Path) -> Option<String> {
    let [root, target, ..] = &path.segments[..] else { return None };
    let room = source.room();
    if root != "crate" || room.is_empty() || target == room || SHARED_MACROS.contains(&target.as_str()) {
        return None;
    }
    if !graph.iter().any(|(name, _)| name == target) {
        return Some(format!("`crate::{target}` is no module of the graph: name the module it lives in"));
    }
    let allowed = graph.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, allowed)| allowed);
    (!allowed.contains(&target.as_str())).then(|| format!("`{room}` may not use `{target}`"))
}

/// A path into another crate that this module must not know.
fn use_of_others(source: &Source, path: &Path) -> Option<String> {
    let room = source.room();
    let text = path.segments.join("::");
    let starts = |with: &str| text == with || text.strip_prefix(with).is_some_and(|rest| rest.starts_with("::"));
    if let Some((krate, home)) = ROOM_OF_CRATE.iter().find(|(krate, home)| starts(krate) && *home != room) {
        return Some(format!("`{krate}` is known to `{home}` alone"));
    }
    if PURE.contains(&room)
        && let Some(impure) = IMPURE.iter().find(|impure| starts(impure) || brings_in(&path.segments, impure))
    {
        return Some(format!("`{room}` is pure and may not use `{impure}`"));
    }
    let (inside, users) = OPEN_TO.iter().find(|(inside, _)| starts(&format!("gridloom_worker::{inside}")))?;
    let open = room.is_empty() || users.contains(&room);
    (!open).then(|| format!("`{room}` may not open the worker's `{inside}`"))
}

/// Whether this path ends above `name`, as `use std::time;` and `use std::time::*;` do above `std::time::Instant`.
fn brings_in(segments: &[String], name: &str) -> bool {
    let segments = segments.strip_suffix(&["*".to_owned()]).unwrap_or(segments);
    segments.len() > 1 && name.starts_with(&format!("{}::", segments.join("::")))
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `folder`, from the repository's root, sorted.
fn rust_files(folder: &str) -> Vec<String> {
    fn walk(folder: &FilePath, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&repository().join(folder), &mut files);
    let relative = |path: PathBuf| path.strip_prefix(repository()).unwrap().to_string_lossy().replace('\\', "/");
    let mut files: Vec<String> = files.into_iter().map(relative).collect();
    files.sort();
    files
}

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

/// The files of a crate, without those that are modules of its tests.
fn sources(krate: &Krate) -> Vec<Source> {
    let read = rust_files(krate.sources).into_iter().map(|file| Source::new(&file, krate.sources, &read(&file)));
    let (sources, test_modules): (Vec<Source>, Vec<Vec<String>>) = read.unzip();
    let test_modules: BTreeSet<String> = test_modules.into_iter().flatten().collect();
    let is_test = |source: &Source| {
        (1..=source.module.len()).any(|length| test_modules.contains(&source.module[..length].join("::")))
    };
    sources.into_iter().filter(|source| !is_test(source)).collect()
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "the house's lines are crossed:\n  {}\n", violations.join("\n  "));
}

#[test]
fn every_module_keeps_to_its_lines() {
    let all = KRATES.iter().flat_map(|krate| sources(krate).into_iter().map(|source| (source, krate.graph)));
    let found: Vec<String> = all.flat_map(|(source, graph)| violations(&source, graph)).collect();
    assert_none(&found);
}

#[test]
fn graphs_name_every_module_once_and_have_no_cycle() {
    for krate in KRATES {
        let named: Vec<&str> = krate.graph.iter().map(|(name, _)| *name).collect();
        for (at, (name, allowed)) in krate.graph.iter().enumerate() {
            let below: Vec<_> = allowed.iter().filter(|user| !named[..at].contains(user)).collect();
            assert!(below.is_empty(), "{}: `{name}` may use only what stands above it, not {below:?}", krate.sources);
        }
        let mut sources_of: BTreeMap<String, usize> = BTreeMap::new();
        for source in sources(krate).iter().filter(|source| !source.room().is_empty()) {
            *sources_of.entry(source.room().to_owned()).or_default() += 1;
        }
        let there: BTreeSet<&str> = sources_of.keys().map(String::as_str).collect();
        assert_eq!(there, named.iter().copied().collect(), "{}: the graph against the files", krate.sources);
    }
}

#[test]
fn every_file_begins_with_what_it_is() {
    let folders = ["src", "worker/src", "tests", "benches", "examples"];
    let files = folders.iter().flat_map(|folder| rust_files(folder));
    let bare = files.filter(|file| !read(file).starts_with("//! ")).map(|file| format!("{file}:1: no `//!` head"));
    assert_none(&bare.collect::<Vec<_>>());
}

/// The rules must be able to fail: one bad snippet per rule.
mod can_fail {
    use super::*;

    #[track_caller]
    fn check(file: &str, text: &str, expected: &[&str]) {
        let krate = KRATES.iter().find(|krate| file.starts_with(krate.sources)).unwrap();
        let (source, _) = Source::new(file, krate.sources, text);
        assert_eq!(violations(&source, krate.graph), expected);
    }

    #[test]
    fn on_a_use_against_the_graph() {
        check(
            "worker/src/shape.rs",
            "//! x\nuse crate::grid::Grid;",
            &["worker/src/shape.rs:2: `shape` may not use `grid`"],
        );
        check(
            "worker/src/kernel/parse.rs",
            "fn f() { super::super::cpu::run() }",
            &["worker/src/kernel/parse.rs:1: `kernel` may not use `cpu`"],
        );
        check(
            "src/plan/mod.rs",
            "use crate::{array::Array,\n client::Client};",
            &["src/plan/mod.rs:2: `plan` may not use `client`"],
        );
        check(
            "src/plan/mod.rs",
            "use crate::Client;",
            &["src/plan/mod.rs:1: `crate::Client` is no module of the graph: name the module it lives in"],
        );
        check(
            "src/scheduler/mod.rs",
            "use gridloom_worker::{ids::JobId, cpu::Cpu};",
            &["src/scheduler/mod.rs:1: `scheduler` may not open the worker's `cpu`"],
        );
    }

    #[test]
    fn on_an_impure_room() {
        check(
            "src/scheduler/state.rs",
            "use std::time::{Duration, Instant};",
            &["src/scheduler/state.rs:1: `scheduler` is pure and may not use `std::time::Instant`"],
        );
        check(
            "worker/src/agent/mod.rs",
            "fn f() { std::thread::yield_now() }",
            &["worker/src/agent/mod.rs:1: `agent` is pure and may not use `std::thread`"],
        );
        check(
            "worker/src/serve/remote.rs",
            "use quinn::Endpoint;",
            &["worker/src/serve/remote.rs:1: `quinn` is known to `net` alone"],
        );
    }

    #[test]
    fn on_unsafe_printing_and_unfinished_code() {
        check(
            "worker/src/store.rs",
            "fn f() { unsafe { g() } }",
            &["worker/src/store.rs:1: `unsafe` stands only where tests/it/house.rs lists it"],
        );
        check(
            "worker/src/store.rs",
            "fn f() {\n println!(\"x\") }",
            &["worker/src/store.rs:2: `println!` has no place here"],
        );
        check(
            "src/cli/mod.rs",
            "fn f() { println!(\"x\"); todo!() }",
            &["src/cli/mod.rs:1: `todo!` has no place here"],
        );
    }

    #[test]
    fn and_only_then() {
        let good = "use crate::shape::Shape; // crate::cpu\nfn f() -> &str { \"unsafe println!\" }\n#[cfg(test)] mod tests { use crate::cpu::X; }";
        check("worker/src/grid.rs", good, &[]);
        check("worker/src/block/memory.rs", "use crate::dtype::DType; fn f() { unsafe { g() } }", &[]);
        check("src/cli/mod.rs", "use crate::client::Client; fn f() { println!(\"x\") }", &[]);
    }
}
