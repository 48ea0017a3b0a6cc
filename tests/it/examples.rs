//! The examples, as they stand, at small size. They check their own results.

#[allow(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../examples/futures.rs"]
mod futures;
#[allow(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../examples/map_blocks.rs"]
mod map_blocks;

#[test]
fn the_tutorial_runs() {
    map_blocks::run(120).unwrap();
}

#[test]
fn the_lesson_runs() {
    futures::run(30).unwrap();
}
