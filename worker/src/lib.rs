//! Gridloom's engine room: all that happens where blocks are.
//!
//! Reading order: [`dtype`] and [`shape`] (what a number and a box are) -> [`grid`] (how an array is cut) ->
//! [`view`] (how one array reads another) -> [`block`] (bytes with a shape) -> [`kernel`] (WGSL, typed and
//! composed) -> [`stage`] (what a worker is asked to do) -> [`executor`] (the door to who does it) -> [`source`],
//! [`interpreter`] and [`reduce`] (what a block goes through) -> [`cpu`] and [`gpu`] (the executors) -> [`store`],
//! [`agent`] and [`wire`] (what a worker is) -> [`net`] (what carries messages and blocks between processes) ->
//! [`serve`] (where they meet, and nowhere else).
//!
//! This crate knows nothing of arrays as users see them, of how plans are made, or of clients.

pub mod agent;
#[cfg(test)]
mod allocated;
pub mod awake;
pub mod block;
pub mod cpu;
pub mod dtype;
pub mod executor;
#[cfg(test)]
mod fuzz;
pub mod gpu;
pub mod grid;
pub mod ids;
pub mod interpreter;
pub mod intervals;
pub mod kernel;
pub mod math;
pub mod net;
pub mod reduce;
pub mod serve;
pub mod shape;
mod slots;
pub mod source;
pub mod stage;
pub mod store;
pub mod view;
pub mod wire;
