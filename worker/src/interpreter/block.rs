//! Block kernels: an entry point run over workgroups.

use std::sync::Arc;

use naga::{Binding, BuiltIn, Module, TypeInner};

use super::code::Program;
use super::digest;
use super::globals::{Spaces, share};
use super::group::Group;
use super::memory::{Buffer, Bytes, Outside};
use super::run::Flow;
use super::stop::{StopFlag, Stopped};
use super::{InterpretError, STACK_BYTES_MAX};
use crate::dtype::DType;

/// The most memory that the variables and values of all invocations of one workgroup may take.
pub const GROUP_BYTES_MAX: u64 = 16 * STACK_BYTES_MAX;

/// An entry point of a module, ready to run over blocks. A clone shares the code.
#[derive(Clone)]
pub struct BlockInterpreter {
    entry: Arc<Entry>,
}

/// Why a block kernel did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It was stopped.
    #[error("stopped")]
    Stopped,
    /// A barrier in control flow that is not uniform.
    #[error("{0}")]
    Barrier(BarrierMissed),
}

/// A barrier that some invocations of a workgroup reached, and others did not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{reached} of a workgroup's {invocations} invocations reach a {name}: control flow around a barrier is uniform"
)]
pub struct BarrierMissed {
    /// As WGSL calls it.
    pub name: &'static str,
    /// Where its call begins, as the module's spans tell it: a byte of the text.
    pub offset: usize,
    /// How many reached it together.
    pub reached: usize,
    /// How many there are.
    pub invocations: usize,
}

impl From<Stopped> for BlockError {
    fn from(_: Stopped) -> BlockError {
        BlockError::Stopped
    }
}

impl BlockInterpreter {
    /// Makes ready to run the entry point of this index in a module, which must have been validated, and whose storage
    /// buffers are in group 0 without gaps: runtime-sized arrays of scalars or atomics, or structs of nothing but u32.
    pub fn new(module: &Module, entry: usize) -> Result<BlockInterpreter, InterpretError> {
        let entry = entry_point(module, entry)?;
        let invocations = entry.workgroup.iter().map(|&length| u64::from(length)).product::<u64>();
        match invocations.saturating_mul(entry.program.stack_words as u64 * 8) > GROUP_BYTES_MAX {
            true => Err(InterpretError::GroupTooLarge),
            false => Ok(BlockInterpreter { entry: Arc::new(entry) }),
        }
    }

    /// Runs `groups` workgroups along x, y and z, x fastest. The buffers in binding order are the inputs, the outputs,
    /// and `info` where the module has one buffer more. When it is stopped or fails, the outputs are undefined.
    ///
    /// # Panics
    /// If there are not as many buffers as the module has.
    pub fn run(
        &self,
        groups: [u32; 3],
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        info: &[u8],
        stop: &StopFlag,
    ) -> Result<(), BlockError> {
        let Entry { program, workgroup, buffers, .. } = &*self.entry;
        let own = inputs.len() + outputs.len();
        assert!(buffers.len() == own || buffers.len() == own + 1, "every buffer of the module is bound");
        let (read, written) = (inputs.iter().copied().map(Bytes::Read), outputs.iter_mut());
        let bound = read.chain(written.map(|bytes| Bytes::Written(bytes))).chain([Bytes::Read(info)]);
        let bound = buffers.iter().zip(bound).map(|(&dtype, bytes)| Buffer { dtype, bytes });
        let mut outside = Outside { workgroup: Vec::new(), buffers: bound.collect() };
        let invocations = workgroup.iter().product::<u32>() as usize;
        let mut stacks = vec![self.entry.stack(); invocations];
        let all: Vec<usize> = (0..invocations).collect();
        let base = program.shared.len();
        for id in indices(groups) {
            outside.workgroup.clear();
            outside.workgroup.resize(self.entry.workgroup_words, 0);
            for (stack, local) in stacks.iter_mut().zip(indices(*workgroup)) {
                stack[..program.privates.len()].copy_from_slice(&program.privates);
                self.entry.write_arguments(&mut stack[base..], &Invocation { local, group: id, groups });
            }
            let left = vec![Flow::Next; invocations];
            let mut group = Group { program, stacks: &mut stacks, outside: &mut outside, stop, left };
            group.call(&program.functions[program.entry], base, &all)?;
        }
        Ok(())
    }
}

/// An entry point, made ready to run over workgroups.
struct Entry {
    program: Program,
    /// Invocations along x, y and z.
    workgroup: [u32; 3],
    /// What the words of the arguments are, in order.
    arguments: Vec<Argument>,
    /// Words of workgroup memory.
    workgroup_words: usize,
    /// What the elements of each storage buffer are, in binding order.
    buffers: Vec<DType>,
}

impl Entry {
    fn stack(&self) -> Vec<u64> {
        let mut stack = self.program.shared.clone();
        stack.resize(self.program.stack_words, 0);
        stack
    }

    fn write_arguments(&self, frame: &mut [u64], invocation: &Invocation) {
        let Invocation { local, group, groups } = *invocation;
        let [width, height, _] = self.workgroup;
        let first = |axis: usize| group[axis].wrapping_mul(self.workgroup[axis]);
        let global = [0, 1, 2].map(|axis| first(axis).wrapping_add(local[axis]));
        let mut words = frame.iter_mut();
        let mut write = |values: &[u32]| values.iter().zip(&mut words).for_each(|(&value, to)| *to = value.into());
        for builtin in &self.arguments {
            match builtin {
                Argument::GlobalId => write(&global),
                Argument::LocalId => write(&local),
                Argument::LocalIndex => write(&[local[0] + width * (local[1] + height * local[2])]),
                Argument::GroupId => write(&group),
                Argument::Groups => write(&groups),
            }
        }
    }
}

/// What an entry point is told of an invocation: three words, or one for the local index.
enum Argument {
    GlobalId,
    LocalId,
    LocalIndex,
    GroupId,
    Groups,
}

/// Makes an entry point of a validated module ready to run over workgroups.
fn entry_point(module: &Module, index: usize) -> Result<Entry, InterpretError> {
    let entry = module.entry_points.get(index).ok_or(InterpretError::Invalid("no such entry point"))?;
    let mut arguments = Vec::new();
    for argument in &entry.function.arguments {
        match &module.types[argument.ty].inner {
            TypeInner::Struct { members, .. } => {
                for member in members {
                    arguments.push(builtin_argument(member.binding.as_ref())?);
                }
            }
            _ => arguments.push(builtin_argument(argument.binding.as_ref())?),
        }
    }
    let mut spaces = Spaces::default();
    let shared = share(module, Some(&mut spaces))?;
    let program = digest::program(shared, module.functions.len(), &entry.function, Vec::new())?;
    let (workgroup, buffers) = (entry.workgroup_size, spaces.buffers()?);
    Ok(Entry { program, workgroup, arguments, workgroup_words: spaces.workgroup_words, buffers })
}

fn builtin_argument(binding: Option<&Binding>) -> Result<Argument, InterpretError> {
    match binding {
        Some(Binding::BuiltIn(BuiltIn::GlobalInvocationId)) => Ok(Argument::GlobalId),
        Some(Binding::BuiltIn(BuiltIn::LocalInvocationId)) => Ok(Argument::LocalId),
        Some(Binding::BuiltIn(BuiltIn::LocalInvocationIndex)) => Ok(Argument::LocalIndex),
        Some(Binding::BuiltIn(BuiltIn::WorkGroupId)) => Ok(Argument::GroupId),
        Some(Binding::BuiltIn(BuiltIn::NumWorkGroups)) => Ok(Argument::Groups),
        _ => Err(InterpretError::Operation("this argument of an entry point")),
    }
}

/// Every index below `lengths`, x fastest.
fn indices([x, y, z]: [u32; 3]) -> impl Iterator<Item = [u32; 3]> {
    (0..z).flat_map(move |z| (0..y).flat_map(move |y| (0..x).map(move |x| [x, y, z])))
}

/// Where an invocation stands.
struct Invocation {
    local: [u32; 3],
    group: [u32; 3],
    groups: [u32; 3],
}
