//! Pipelines, made once for each structure.

use std::sync::{Mutex, PoisonError};

use naga::{Function, Handle, Module};

use crate::executor::ExecuteError;
use crate::kernel::splice;

use super::bounded::Bounded;
use super::device::{Gpu, Refused};
use super::shader::ENTRY;

/// What a pipeline runs.
pub(super) enum Code<'a> {
    /// The engine's own shader.
    Engine {
        /// The structure: what the pipeline is known by, together with `kernels`.
        text: String,
        /// The hash of each kernel that is spliced in.
        kernels: Vec<[u8; 32]>,
        /// Stub, module, function that stands in for it.
        splices: Vec<(&'static str, &'a Module, Handle<Function>)>,
    },
    /// A block kernel, as its user wrote it.
    Block {
        /// Its module.
        module: &'a Module,
        /// The entry point's name.
        entry: &'a str,
        /// The kernel's hash.
        hash: [u8; 32],
    },
}

/// A compiled pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// A part of a buffer that a kernel sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// The engine's text, and the kernels that are spliced in; no text, and a block kernel.
type Key = (String, Vec<[u8; 32]>);

/// Pipelines that are kept: more than the structures and kernels that are in use at a time.
const PIPELINES_MAX: usize = 1024;

/// A device's, the latest of them.
#[derive(Default)]
pub(super) struct Pipelines(Mutex<Bounded<Key, Result<Pipeline, ExecuteError>, PIPELINES_MAX>>);

impl Pipelines {
    /// The pipeline of this code, whose bindings are buffers that it only reads, or not. Others that want one wait
    /// meanwhile: it is most likely the same.
    pub(super) fn pipeline(&self, gpu: &Gpu, code: Code<'_>, is_read: &[bool]) -> Result<Pipeline, ExecuteError> {
        let mut pipelines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = code.key();
        if let Some(known) = pipelines.get(&key) {
            return known.clone();
        }
        let made = compile(gpu, &code, is_read);
        // What a lost device refuses says nothing of the code.
        gpu.check()?;
        pipelines.insert(key, made.clone());
        made
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Pipeline {
    /// A bind group of these buffers, in order of binding.
    pub(super) fn bind(&self, gpu: &Gpu, bound: &[Bound]) -> Result<wgpu::BindGroup, ExecuteError> {
        let entries: Vec<_> = bound.iter().enumerate().map(|(at, bound)| bound.entry(at)).collect();
        let description = wgpu::BindGroupDescriptor { label: None, layout: &self.layout, entries: &entries };
        gpu.guarded(|| gpu.device.create_bind_group(&description)).map_err(internal)
    }
}

impl Bound {
    fn entry(&self, at: usize) -> wgpu::BindGroupEntry<'_> {
        let Bound { buffer, offset, bytes } = self;
        let size = wgpu::BufferSize::new(*bytes);
        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: *offset, size });
        wgpu::BindGroupEntry { binding: at as u32, resource }
    }
}

/// A refusal that is a bug of ours.
pub(super) fn internal(refused: Refused) -> ExecuteError {
    ExecuteError::Internal { what: refused.to_string() }
}

impl Code<'_> {
    fn key(&self) -> Key {
        match self {
            Code::Engine { text, kernels, .. } => (text.clone(), kernels.clone()),
            Code::Block { hash, .. } => (String::new(), vec![*hash]),
        }
    }

    fn module(&self) -> Result<Module, ExecuteError> {
        match self {
            Code::Engine { text, splices, .. } => {
                let parsed = naga::front::wgsl::parse_str(text);
                let mut module = parsed.map_err(|error| ExecuteError::Internal { what: error.emit_to_string(text) })?;
                splices.iter().for_each(|(stub, source, function)| splice(&mut module, stub, source, *function));
                Ok(module)
            }
            Code::Block { module, .. } => Ok((*module).clone()),
        }
    }

    fn entry(&self) -> &str {
        match self {
            Code::Engine { .. } => ENTRY,
            Code::Block { entry, .. } => entry,
        }
    }
}

fn compile(gpu: &Gpu, code: &Code<'_>, is_read: &[bool]) -> Result<Pipeline, ExecuteError> {
    let module = code.module()?;
    let entries: Vec<_> = is_read.iter().enumerate().map(|(at, &is_read)| layout_entry(at, is_read)).collect();
    let made = gpu.guarded(|| {
        let device = &gpu.device;
        let source = wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(module));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let description = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
        let layout = device.create_bind_group_layout(&description);
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            bind_group_layouts: &[Some(&layout)],
            ..wgpu::PipelineLayoutDescriptor::default()
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(code.entry()),
            compilation_options: wgpu::PipelineCompilationOptions {
                // The engine's own shaders write every lane that they read.
                zero_initialize_workgroup_memory: matches!(code, Code::Block { .. }),
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    });
    made.map_err(|refused| gpu.unsupported(format!("its driver does not compile the kernel: {refused}")))
}

fn layout_entry(at: usize, read_only: bool) -> wgpu::BindGroupLayoutEntry {
    let ty = wgpu::BufferBindingType::Storage { read_only };
    wgpu::BindGroupLayoutEntry {
        binding: at as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
