//! Clusters of real processes: the binary itself as scheduler, worker and client, killed, stopped and refused. Every
//! answer is compared with the embedded cluster's, bit for bit, and every fault is seen to have struck.

mod batch;
mod closing;
mod command;
mod disk;
mod failure;
mod gpu;
mod harness;
mod local;
mod memory;
mod network;
mod scenario;
mod suspect;
