//! Block kernels as machine code: one function that goes through a row of workgroups.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::mem::offset_of;

use naga::Module;
use naga::valid::ModuleInfo;

use super::code::{Common, Machine};
use super::divergence::Divergence;
use super::flat::{Barrier, Base, FrameId, Op, Place, Program, Statement};
use super::invocations::Invocations;
use super::lower::{LoweredBlock, lower_block};
use super::phases::Phases;
use super::{CompileError, LANES_MIN, flatten};
use crate::dtype::DType;
use crate::interpreter::{BarrierMissed, BlockError, GROUP_BYTES_MAX, InterpretError, StopFlag};

/// Lanes of a gang where all values have 32 bits: four vectors, or two where loops keep masks and words in registers.
const LANES: usize = 16;
const LANES_LOOPED: usize = 8;

/// What one call of the code is given.
#[repr(C)]
struct Context {
    common: Common,
    buffers: *const Buffer,
    workgroup: *mut u8,
    frame_bytes: u64,
    /// The row's place along y and z.
    group: [u32; 3],
    groups: [u32; 3],
}

/// A storage buffer.
#[repr(C)]
struct Buffer {
    start: *mut u8,
    /// Elements.
    length: u64,
}

/// Where the fields of a [`Context`] are.
pub(super) mod field {
    use super::{Buffer, Context, offset_of};

    pub(in super::super) const BUFFERS: i32 = offset_of!(Context, buffers) as i32;
    pub(in super::super) const WORKGROUP: i32 = offset_of!(Context, workgroup) as i32;
    pub(in super::super) const FRAME_BYTES: i32 = offset_of!(Context, frame_bytes) as i32;
    pub(in super::super) const GROUP: i32 = offset_of!(Context, group) as i32;
    pub(in super::super) const GROUPS: i32 = offset_of!(Context, groups) as i32;
    pub(in super::super) const START: i32 = offset_of!(Buffer, start) as i32;
    pub(in super::super) const LENGTH: i32 = offset_of!(Buffer, length) as i32;
    pub(in super::super) const BUFFER_BYTES: i32 = size_of::<Buffer>() as i32;
    /// The status that says that the first barrier was missed; the others follow.
    pub(in super::super) const MISSED: i64 = 2;
}

type Entry = unsafe extern "C" fn(*const Context) -> u32;

/// The machine code of a block kernel.
pub(crate) struct BlockCode {
    entry: Entry,
    /// Owns the code.
    _machine: Machine,
    invocations: Invocations,
    lowered: LoweredBlock,
    workgroup_bytes: u64,
    buffers: Vec<DType>,
    barriers: Vec<Barrier>,
}

/// Compiles the entry point of this index in a validated module.
pub(crate) fn compile_block(module: &Module, info: &ModuleInfo, entry: usize) -> Result<BlockCode, CompileError> {
    let program = flatten::flatten_block(module, info, entry)?;
    let phases = Phases::new(&program);
    let wide_values = program.values.iter().filter(|value| value.dtype.bytes() == 8).count();
    let lanes_max = if holds_loop(&program.body) { LANES_LOOPED } else { LANES };
    let lanes_max = if wide_values == 0 { lanes_max } else { lanes_max / 2 };
    let mask_width = if 2 * wide_values > program.values.len() { 8 } else { 4 };
    let invocations = Invocations::new(module.entry_points[entry].workgroup_size, lanes_max, LANES_MIN);
    let divergence = divergence(&program, &phases, invocations);

    let tables = program.tables.iter().map(|(dtype, words)| (*dtype, words.clone().into_boxed_slice())).collect();
    let mut lowered = None;
    let machine = Machine::new((invocations.lanes, mask_width), tables, |mut emitter| {
        let groups = emitter.begin_groups(invocations, program.workgroup_bytes);
        let cell = RefCell::new(emitter);
        lowered = Some(lower_block(&program, &divergence, &phases, &cell));
        let mut emitter = cell.into_inner();
        emitter.end_groups(groups);
        emitter
    })?;
    // SAFETY: the code was just made with this signature, and lives as long as the machine, which `BlockCode` owns.
    let entry = unsafe { std::mem::transmute::<*const u8, Entry>(machine.entry) };
    let lowered = lowered.expect("lowered above");
    if lowered.frame_bytes.saturating_mul(invocations.gangs() as u64) > GROUP_BYTES_MAX {
        return Err(InterpretError::GroupTooLarge.into());
    }
    Ok(BlockCode {
        entry,
        _machine: machine,
        invocations,
        lowered,
        workgroup_bytes: program.workgroup_bytes,
        buffers: program.buffers.iter().map(|buffer| buffer.dtype).collect(),
        barriers: program.barriers,
    })
}

fn holds_loop(block: &[Statement]) -> bool {
    block.iter().any(|statement| match statement {
        Statement::Loop { .. } => true,
        Statement::If { accept, reject, .. } => holds_loop(accept) || holds_loop(reject),
        Statement::Once { body, .. } | Statement::Call { body, .. } => holds_loop(body),
        _ => false,
    })
}

/// What differs within a gang; but a frame in step parts lanes if it does so anywhere in a workgroup.
fn divergence(program: &Program, phases: &Phases, invocations: Invocations) -> Divergence {
    let entry = match program.body.first() {
        Some(Statement::Call { frame, .. }) => Some(*frame),
        _ => None,
    };
    let is_ragged = |frame: FrameId| Some(frame) == entry && !invocations.are_whole();
    let in_step = |frame: FrameId| phases.is_in_step(frame);
    // An atomic may have changed between the loads of two gangs, and of no two lanes of one.
    let in_workgroup = |op| match op {
        Op::Told(told) => invocations.differ(told),
        Op::Load(place) => holds_atomics(program, place),
        Op::Atomic(..) => true,
        _ => false,
    };
    let workgroup = Divergence::new(program, &in_workgroup, &is_ragged, &in_step);
    let in_gang = |op| match op {
        Op::Told(told) => invocations.differ_in_gang(told),
        Op::Atomic(..) => true,
        _ => false,
    };
    let is_parted = |frame: FrameId| is_ragged(frame) || in_step(frame) && workgroup.frame(frame).is_divergent;
    Divergence::new(program, &in_gang, &is_parted, &in_step)
}

fn holds_atomics(program: &Program, place: Place) -> bool {
    match place.base {
        Base::Buffer(buffer) => program.buffers[buffer as usize].is_atomic,
        Base::Workgroup(shared) => program.workgroup[shared as usize].holds_atomics,
        Base::Variable(_) | Base::Table(_) => false,
    }
}

impl BlockCode {
    /// Bytes of memory that a run scribbles in.
    pub(crate) fn scratch_bytes(&self) -> u64 {
        self.frames_bytes() + self.workgroup_bytes + SPARE
    }

    fn frames_bytes(&self) -> u64 {
        self.lowered.frame_bytes * self.invocations.gangs() as u64
    }

    /// Runs `groups` workgroups along x, y and z, x fastest. The buffers in binding order are the inputs, the outputs,
    /// and `info` where the kernel has one buffer more. When it is stopped or fails, the outputs are undefined.
    ///
    /// # Panics
    /// If there are not as many buffers as the kernel has, or there is less room to scribble in than it needs.
    pub(crate) fn run(
        &self,
        groups: [u32; 3],
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        info: &[u8],
        scratch: &mut [u8],
        stop: &StopFlag,
    ) -> Result<(), BlockError> {
        let own = inputs.len() + outputs.len();
        assert!(self.buffers.len() == own || self.buffers.len() == own + 1, "every buffer of the kernel is bound");
        let read = |bytes: &&[u8]| (bytes.as_ptr().cast_mut(), bytes.len());
        let written = outputs.iter_mut().map(|bytes| (bytes.as_mut_ptr(), bytes.len()));
        let bound = inputs.iter().map(read).chain(written).chain([read(&info)]);
        let buffer = |((start, bytes), dtype): ((*mut u8, usize), &DType)| Buffer {
            start,
            length: bytes as u64 / dtype.bytes(),
        };
        let buffers: Vec<Buffer> = bound.zip(&self.buffers).map(buffer).collect();
        assert!(scratch.len() as u64 >= self.scratch_bytes(), "room to scribble in");
        let start = scratch.as_mut_ptr();
        let mut context = Context {
            common: Common { scratch: start, stop: stop.shared().as_ptr().cast() },
            buffers: buffers.as_ptr(),
            workgroup: start.wrapping_add(self.frames_bytes() as usize),
            frame_bytes: self.lowered.frame_bytes,
            group: [0; 3],
            groups,
        };
        for (z, y) in (0..groups[2]).flat_map(|z| (0..groups[1]).map(move |y| (z, y))) {
            context.group = [0, y, z];
            // SAFETY: every load and store of a buffer is of an element below its length, those of buffers that are
            // only read are loads (the module was validated), and none that is written is shared; indices into
            // variables and tables are clamped; the frames of all gangs and the workgroup's memory are in `scratch`, with
            // room for a whole gang beyond it; no access needs alignment. The flag is an atomic byte that is only read.
            let status = unsafe { (self.entry)(&context) };
            match status {
                0 => {}
                1 => return Err(BlockError::Stopped),
                missed => return Err(self.missed(i64::from(missed) - field::MISSED, scratch)),
            }
        }
        Ok(())
    }

    /// Tells of a barrier from the masks of those that reached it.
    fn missed(&self, barrier: i64, scratch: &[u8]) -> BlockError {
        let Barrier { name, offset } = self.barriers[barrier as usize];
        let at = self.lowered.reached[barrier as usize].expect("only such barriers are missed") as usize;
        let frames = scratch.chunks_exact(self.lowered.frame_bytes as usize).take(self.invocations.gangs());
        let masks = frames.flat_map(|frame| frame[at..][..4 * self.invocations.lanes].chunks_exact(4));
        let reached = masks.filter(|mask| mask.iter().any(|&byte| byte != 0)).count();
        BlockError::Barrier(BarrierMissed { name, offset, reached, invocations: self.invocations.count() })
    }
}

/// Bytes after the workgroup's memory: vectors may begin inside and end outside.
const SPARE: u64 = 256;
