//! The executors of this machine, each made once and shared by the tests, and how each is compared with the definition.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gridloom_worker::block::Block;
use gridloom_worker::cpu::{CodeGenerator, CpuExecutor, CpuOptions};
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::gpu::{Adapter, GpuExecutor, GpuOptions, adapters};
use gridloom_worker::kernel::Requirements;

use super::harness::{Machine, Work};
use super::tolerance::{SOFTWARE_EXCEPTIONS, Tolerance, compare};

/// Set where a machine without a GPU is a failure.
const REQUIRE_GPU: &str = "GRIDLOOM_REQUIRE_GPU";

const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);

type Shared = LazyLock<Option<Mutex<Machine>>>;

static DEFINITION: LazyLock<Mutex<Machine>> = LazyLock::new(|| cpu(CodeGenerator::Interpreter, "cpu interpreter"));
static CRANELIFT: LazyLock<Mutex<Machine>> = LazyLock::new(|| cpu(CodeGenerator::Cranelift, "cpu cranelift"));
static GPU: Shared = LazyLock::new(|| {
    let adapter = adapter()?;
    let machine = of_gpu(&adapter);
    eprintln!("conformance on {}", machine.executor.name());
    if adapter.info().is_software() {
        SOFTWARE_EXCEPTIONS.iter().for_each(|(what, why)| eprintln!("  not asked of it: {what} ({why})"));
    }
    Some(Mutex::new(machine))
});
/// The same GPU as if it had no numbers of 64 bits; and as if it had no f64 alone, as Metal's have none.
static LESSER_GPUS: [Shared; 2] = [
    LazyLock::new(|| Some(Mutex::new(of_gpu(&adapter()?.limited(false, false))))),
    LazyLock::new(|| Some(Mutex::new(of_gpu(&adapter()?.limited(false, true))))),
];

fn of_gpu(adapter: &Adapter) -> Machine {
    Machine::new(|sink| Box::new(GpuExecutor::new(adapter, &gpu_options(), sink).unwrap()))
}

/// The CPU's executor with one code generator, which its name tells.
fn cpu(code_generator: CodeGenerator, name: &str) -> Mutex<Machine> {
    let options = CpuOptions { slots: 2, block_timeout: BLOCK_TIMEOUT, code_generator };
    let machine = Machine::new(|sink| Box::new(CpuExecutor::new(&options, sink).unwrap()));
    assert_eq!(machine.executor.name(), name);
    Mutex::new(machine)
}

pub(crate) fn gpu_options() -> GpuOptions {
    GpuOptions { slots: 3, block_timeout: BLOCK_TIMEOUT, memory_bytes: 1 << 30 }
}

/// The GPU of this machine: a real one if there is one. Without any, says so, or fails where one is required.
pub(crate) fn adapter() -> Option<Adapter> {
    let mut found = adapters();
    found.sort_by_key(|adapter| adapter.info().is_software());
    let adapter = found.into_iter().next();
    if adapter.is_none() {
        assert!(std::env::var_os(REQUIRE_GPU).is_none(), "{REQUIRE_GPU} is set, and there is no GPU");
        eprintln!("skipped: no GPU here; `gridloom doctor` says what is missing");
    }
    adapter
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The GPU, if there is one.
pub(crate) fn gpu() -> Option<MutexGuard<'static, Machine>> {
    GPU.as_ref().map(lock)
}

/// What the definition gives.
pub(crate) fn defined(work: &Work) -> Vec<Vec<Block>> {
    lock(&DEFINITION).run(work).unwrap()
}

/// Every executor gives what the definition gives: those of CPUs bit for bit, GPUs within `tolerance`.
#[track_caller]
pub(crate) fn check(name: &str, work: &Work, tolerance: Tolerance) {
    let expected = defined(work);
    check_on(&mut lock(&CRANELIFT), name, work, &expected, Tolerance::Bits);
    if let Some(mut gpu) = gpu() {
        check_on(&mut gpu, name, work, &expected, tolerance);
    }
    check_lesser_gpus(name, work, &expected, tolerance);
}

/// GPUs that lack numbers of 64 bits refuse by name the values that they lack, up to the first that has them: it gives
/// what is `expected`.
#[track_caller]
pub(crate) fn check_lesser_gpus(name: &str, work: &Work, expected: &[Vec<Block>], tolerance: Tolerance) {
    let known = |hash| work.kernels.iter().find(|kernel| kernel.hash() == hash).unwrap().requirements();
    let needed = Requirements::of_stage(&work.stage, &known);
    for mut gpu in LESSER_GPUS.iter().filter_map(|gpu| gpu.as_ref()).map(lock) {
        if gpu.executor.offers().meets(needed) {
            return check_on(&mut gpu, name, work, expected, tolerance);
        }
        let error = gpu.run(work).unwrap_err();
        let ExecuteError::Unsupported { what, .. } = &error else { panic!("{name}: {error:?}") };
        assert!(what.contains(&format!("needs {needed}")), "{name}: {what}");
    }
}

#[track_caller]
fn check_on(machine: &mut Machine, name: &str, work: &Work, expected: &[Vec<Block>], tolerance: Tolerance) {
    let name = format!("{name} on {}", machine.executor.name());
    let found = machine.run(work).unwrap_or_else(|error| panic!("{name}: {error}"));
    compare(&name, &found, expected, tolerance);
}
