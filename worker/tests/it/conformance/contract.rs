//! The executor's contract on GPUs: one event per task however it ends, typed refusals, and a process that lives on.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gridloom_worker::block::Block;
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::{Event, ExecuteError, Executor};
use gridloom_worker::gpu::{GpuExecutor, GpuOptions};
use gridloom_worker::grid::Grid;
use gridloom_worker::serve::{DataRoot, Device, Worker, WorkerOptions};
use gridloom_worker::shape::Region;
use gridloom_worker::view::{AxisRead, View};
use gridloom_worker::wire::DeviceClass;

use super::executors::{adapter, gpu, gpu_options};
use super::harness::{Array, Machine, Work, element, map, shape};
use super::maps::{self, small};
use super::{blocks, reductions, sources};

/// A GPU of its own: what is done to it must not be felt by the others.
fn own_gpu(options: &GpuOptions) -> Option<Machine> {
    let adapter = adapter()?;
    Some(Machine::new(|sink| Box::new(GpuExecutor::new(&adapter, options, sink).unwrap())))
}

fn doubled(length: u64, chunk: u64) -> Work {
    let grid = Grid::regular(&shape(&[length]), &[chunk]);
    let array = Array::new(1, DType::U32, grid.clone(), small(DType::U32));
    map(grid, vec![array.leaf()], Some(element("fn f(x: u32) -> u32 { return x + x; }", DType::U32)), vec![array])
}

#[test]
fn functions_that_shader_languages_lack_are_refused_by_name() {
    let Some(mut gpu) = gpu() else { return };
    let cases = [
        ("fn f(x: f64) -> f64 { return sin(x); }", DType::F64, "f64 math"),
        ("fn f(x: f64) -> f64 { return pow(x, x); }", DType::F64, "f64 math"),
        ("fn f(x: u64) -> u64 { return firstLeadingBit(x); }", DType::U64, "i64 math"),
        ("fn f(x: u64) -> u64 { return countLeadingZeros(x); }", DType::U64, "i64 math"),
    ];
    for (text, dtype, lacking) in cases {
        let grid = Grid::regular(&shape(&[5]), &[5]);
        let array = Array::new(1, dtype, grid.clone(), small(dtype));
        let error = gpu.run(&map(grid, vec![array.leaf()], Some(element(text, dtype)), vec![array])).unwrap_err();
        let ExecuteError::Unsupported { executor, what } = &error else { panic!("{text}: {error:?}") };
        assert!(executor.starts_with("gpu "), "{executor}");
        assert!(what.contains(lacking), "{text}: {what}");
    }
    assert!(gpu.run(&doubled(100, 50)).is_ok(), "it goes on");
}

#[test]
fn blocks_larger_than_a_binding_are_refused_by_their_size() {
    let Some(mut gpu) = gpu() else { return };
    let max = adapter().unwrap().info().limits.binding_bytes;
    if max >= 1 << 30 {
        return eprintln!("skipped: this GPU sees {max} bytes at once, too many for a test");
    }
    let length = max / 8 + 1;
    let grid = Grid::regular(&shape(&[length]), &[length]);
    let one = gridloom_worker::dtype::Scalar::F64(1.0);
    let leaf = super::sources::leaf(DType::F64, gridloom_worker::stage::Source::Constant(one), &grid.shape());
    let error = gpu.run(&map(grid, vec![leaf], None, Vec::new())).unwrap_err();
    assert!(error.to_string().contains(&max.to_string()), "{error}");
}

#[test]
fn memory_that_could_never_be_had_is_refused() {
    let Some(mut machine) = own_gpu(&GpuOptions { memory_bytes: 1 << 20, ..gpu_options() }) else { return };
    let error = machine.run(&doubled(1 << 20, 1 << 20)).unwrap_err();
    assert!(matches!(error, ExecuteError::Memory { bytes } if bytes > 1 << 22), "{error:?}");
    // What fits runs, more of it than fits at once too: blocks wait for each other.
    assert!(machine.run(&doubled(1 << 18, 1 << 14)).is_ok());
}

#[test]
fn a_kernel_that_takes_too_long_loses_the_device_and_not_the_process() {
    let timeout = Duration::from_millis(400);
    let Some(mut machine) = own_gpu(&GpuOptions { block_timeout: timeout, ..gpu_options() }) else { return };
    assert!(machine.run(&doubled(1000, 1000)).is_ok());
    // Software Vulkan stops a loop after 65,535 iterations: slow is as near as it comes to endless.
    let text = "fn f(x: u32) -> u32 {
        var y = x;
        for (var i = 0u; i < 60000u; i += 1u) { y = y * 1664525u + (1013904223u ^ (y >> 7u)); y = y / (1u + (y & 3u)); }
        return y;
    }";
    let grid = Grid::regular(&shape(&[1 << 20]), &[1 << 20]);
    let array = Array::new(1, DType::U32, grid.clone(), small(DType::U32));
    let error = machine.run(&map(grid, vec![array.leaf()], Some(element(text, DType::U32)), vec![array])).unwrap_err();
    if !adapter().unwrap().info().is_software() && !matches!(error, ExecuteError::Deadline { .. }) {
        return eprintln!("skipped: this GPU is too fast");
    }
    assert_eq!(error, ExecuteError::Deadline { limit_ms: 400 });
    let later = machine.run(&doubled(1000, 1000)).unwrap_err();
    assert!(matches!(&later, ExecuteError::DeviceLost { why, .. } if why.contains("400 ms")), "{later:?}");
}

#[test]
fn a_lost_device_fails_its_work() {
    let Some(adapter) = adapter() else { return };
    let (sender, events) = channel();
    let sink = Box::new(move |event| drop(sender.send(event)));
    let mut executor = GpuExecutor::new(&adapter, &gpu_options(), sink).unwrap();
    let work = doubled(100, 10);
    work.kernels.iter().for_each(|kernel| executor.add_kernel(kernel.clone()));
    executor.prepare(work.stage.clone());
    executor.submit(work.task(0));
    let there = events.recv().unwrap().result.unwrap();
    assert_eq!(executor.check(), Ok(()));
    executor.lose("unplugged");
    let lost = executor.check().unwrap_err();
    assert!(matches!(&lost, ExecuteError::DeviceLost { why, .. } if why == "unplugged"), "{lost:?}");
    assert!(there[0].buffer.fetch().unwrap_err().why.contains("unplugged"));
    (0..10).for_each(|block| executor.submit(work.task(block)));
    for _ in 0..10 {
        let error = events.recv().unwrap().result.unwrap_err();
        assert!(matches!(&error, ExecuteError::DeviceLost { why, .. } if why == "unplugged"), "{error:?}");
    }
}

/// Results stay on the device: the next stage reads them there, through a view, and looking at them brings them.
#[test]
fn results_are_read_where_they_are() {
    let Some(mut gpu) = gpu() else { return };
    let first = doubled(10_000, 3000);
    let blocks: Vec<_> = gpu.run(&first).unwrap().into_iter().map(|fields| fields[0].clone()).collect();
    let grid = Grid::regular(&shape(&[10_000]), &[3000]);
    let held = Array { id: super::harness::id(7), grid, dtype: DType::U32, blocks };
    let seen = Grid::regular(&shape(&[1500]), &[1500]);
    let axes = vec![AxisRead::Along { axis: 0, start: 5999, step: -2 }];
    let view = View { domain: Region::whole(&seen.shape()), axes };
    // The second block alone, every second element from its end; then a block that two make up.
    let kernel = element("fn f(x: u32) -> u32 { return x + 1u; }", DType::U32);
    let second = map(seen, vec![held.seen(view)], Some(kernel), vec![held.clone()]);
    let found = gpu.run(&second).unwrap();
    let value = |index: u64| 2 * small(DType::U32)(index) as u32;
    let expected: Vec<u32> = (0..1500).map(|at| value(5999 - 2 * at) + 1).collect();
    assert_eq!(found[0][0].elements::<u32>(), expected);
    let whole = Grid::regular(&shape(&[10_000]), &[10_000]);
    let copy = gpu.run(&map(whole, vec![held.leaf()], None, vec![held.clone()])).unwrap();
    assert!(copy[0][0].elements::<u32>().iter().zip(0..).all(|(&found, at)| found == value(at)));
}

/// More results than may stay are brought at once; those that stay are freed with their blocks.
#[test]
fn results_leave_memory_to_others() {
    let Some(mut machine) = own_gpu(&GpuOptions { memory_bytes: 4 << 20, ..gpu_options() }) else { return };
    for _ in 0..4 {
        let blocks = machine.run(&doubled(1 << 20, 1 << 16)).unwrap();
        let words = blocks.iter().flat_map(|fields| fields[0].elements::<u32>());
        assert!(words.zip(0..).all(|(&found, at)| found == 2 * small(DType::U32)(at) as u32));
    }
}

#[test]
fn cancelled_tasks_yield_one_event_each() {
    let Some(adapter) = adapter() else { return };
    let (sender, events) = channel();
    let sink = Box::new(move |event| drop(sender.send(event)));
    let mut executor = GpuExecutor::new(&adapter, &gpu_options(), sink).unwrap();
    let work = doubled(1 << 20, 1 << 14);
    work.kernels.iter().for_each(|kernel| executor.add_kernel(kernel.clone()));
    executor.prepare(work.stage.clone());
    (0..64).for_each(|block| executor.submit(work.task(block)));
    executor.cancel(work.stage.array);
    let mut seen = [false; 64];
    for _ in 0..64 {
        let event = events.recv().unwrap();
        assert!(!std::mem::replace(&mut seen[event.token.0 as usize], true));
        assert!(matches!(event.result, Ok(_) | Err(ExecuteError::Cancelled)), "{:?}", event.result);
    }
    drop(executor);
    assert!(events.try_recv().is_err());
}

#[test]
fn a_worker_can_be_a_gpu() {
    let Some(adapter) = adapter() else { return };
    let device = Device::Gpu(adapter.clone(), gpu_options());
    let worker =
        Worker::start(WorkerOptions { device, memory_bytes: 1 << 30, data_root: DataRoot::Anywhere }, Box::new(|_| {}))
            .unwrap();
    assert_eq!(worker.register().class, DeviceClass::Gpu(adapter.info().class()));
    assert!(worker.register().slots >= 2 && worker.register().executor.starts_with("gpu "));
}

/// What a stage's first and last blocks run is compiled before they come, whatever they read.
#[test]
fn pipelines_are_compiled_while_a_stage_is_prepared() {
    let Some(adapter) = adapter() else { return };
    let (sender, events) = channel();
    let sink = Box::new(move |event| drop(sender.send(event)));
    let mut executor = GpuExecutor::new(&adapter, &gpu_options(), sink).unwrap();
    for work in [
        doubled(1000, 300),
        maps::views(DType::I32),
        reductions::largest_of_rows(),
        blocks::computed(),
        sources::constant_between_arrays(),
    ] {
        let before = executor.pipelines();
        work.kernels.iter().for_each(|kernel| executor.add_kernel(kernel.clone()));
        executor.prepare(work.stage.clone());
        let prepared = executor.pipelines();
        assert!(prepared > before);
        run(&mut executor, &events, &work).unwrap();
        assert_eq!(executor.pipelines(), prepared);
    }
}

/// All blocks of a stage on an executor.
fn run(executor: &mut GpuExecutor, events: &Receiver<Event>, work: &Work) -> Result<Vec<Vec<Block>>, ExecuteError> {
    work.kernels.iter().for_each(|kernel| executor.add_kernel(kernel.clone()));
    executor.prepare(work.stage.clone());
    let block = |block| {
        executor.submit(work.task(block));
        events.recv().unwrap().result
    };
    let blocks = (0..work.stage.blocks()).map(block).collect();
    executor.cancel(work.stage.array);
    blocks
}

/// However few workgroups are dispatched at once, results are the same bits.
#[test]
fn dispatches_in_parts_give_the_same_bits() {
    let Some(adapter) = adapter() else { return };
    let (sender, events) = channel();
    let sink = Box::new(move |event| drop(sender.send(event)));
    let mut executor = GpuExecutor::new(&adapter, &gpu_options(), sink).unwrap();
    let works = [
        doubled(10_000, 3000),
        maps::views(DType::F32),
        reductions::largest_of_rows(),
        reductions::mean_of_random(&[false, true]),
        reductions::mean_of_random(&[true, false]),
        reductions::mean_of_random(&[true, true]),
        blocks::computed(),
    ];
    for work in works {
        let bytes = |blocks: Vec<Vec<Block>>| -> Vec<Vec<u8>> {
            blocks.iter().flatten().map(|block| block.bytes().to_vec()).collect()
        };
        executor.set_groups_max(u64::MAX);
        let whole = bytes(run(&mut executor, &events, &work).unwrap());
        for groups in [1, 3, 16] {
            executor.set_groups_max(groups);
            assert!(bytes(run(&mut executor, &events, &work).unwrap()) == whole, "{groups} at once");
        }
    }
}

/// A block that takes too long in parts that do not is ended, and the device goes on.
#[test]
fn a_block_is_ended_between_its_dispatches() {
    let Some(adapter) = adapter() else { return };
    let (sender, events) = channel();
    let sink = Box::new(move |event| drop(sender.send(event)));
    let options = GpuOptions { block_timeout: Duration::from_secs(1), ..gpu_options() };
    let mut executor = GpuExecutor::new(&adapter, &options, sink).unwrap();
    executor.set_groups_max(32);
    let text = "fn f(x: u32) -> u32 {
        var y = x;
        for (var i = 0u; i < 5000u; i += 1u) { y = y * 1664525u + (1013904223u ^ (y >> 7u)); y = y / (1u + (y & 3u)); }
        return y;
    }";
    let grid = Grid::regular(&shape(&[1 << 21]), &[1 << 21]);
    let array = Array::new(1, DType::U32, grid.clone(), small(DType::U32));
    let slow = map(grid, vec![array.leaf()], Some(element(text, DType::U32)), vec![array]);
    match run(&mut executor, &events, &slow) {
        Err(error) => assert_eq!(error, ExecuteError::Deadline { limit_ms: 1000 }),
        Ok(_) if !adapter.info().is_software() => return eprintln!("skipped: this GPU is too fast"),
        Ok(_) => panic!("a CPU cannot be so fast"),
    }
    assert!(run(&mut executor, &events, &doubled(1000, 1000)).is_ok());
    // Cancelled, it ends soon.
    executor.prepare(slow.stage.clone());
    executor.submit(slow.task(0));
    std::thread::sleep(Duration::from_millis(100));
    executor.cancel(slow.stage.array);
    let begun = Instant::now();
    assert!(matches!(events.recv().unwrap().result, Err(ExecuteError::Cancelled)));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(run(&mut executor, &events, &doubled(1000, 1000)).is_ok());
}
