//! A disk that has no more room for an output: one line that says so, and nothing is left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::harness::{REQUIRE_NAMESPACES, Scheduler, complaint, gridloom, skip, within};

/// An output of 800,128 bytes, and one of 80,128.
const COMMANDS: [&str; 2] =
    ["map inc.wgsl random:100000 --chunks 1000 -o out.npy", "reduce sum random:10000x10 --axis 1 -o out.npy"];

fn inputs(folder: &Path) {
    fs::write(folder.join("inc.wgsl"), "fn inc(x: f64) -> f64 { return x + 1; }").unwrap();
    fs::write(folder.join("out.npy"), "what was there").unwrap();
}

/// It fails with one line on standard error, and exit code 2.
#[track_caller]
fn refuses(command: &mut Command, why: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(2), format!("error: cannot write out.npy: {why}\n").as_str())
    );
    assert_eq!(output.stdout, b"");
}

#[track_caller]
fn nothing_is_left_in(folder: &Path) {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "token")
        .collect();
    names.sort();
    assert_eq!(names, ["inc.wgsl", "out.npy"]);
    assert_eq!(fs::read(folder.join("out.npy")).unwrap(), b"what was there");
}

/// The system's limit of a file's size stands for the disk: its signal must not end the program.
#[test]
fn an_output_that_may_not_grow_is_an_error() {
    let scheduler = Scheduler::start();
    let _worker = scheduler.worker("computes", &[]);
    let address = scheduler.address();
    inputs(scheduler.folder());
    for line in COMMANDS {
        for more in [&[][..], &["--scheduler", &address]] {
            let command = scheduler.command(&[&line.split(' ').collect::<Vec<&str>>(), more].concat());
            // In units of 512 bytes.
            refuses(&mut within("ulimit -f 100; exec \"$@\"", &command), "File too large (os error 27)");
            nothing_is_left_in(scheduler.folder());
        }
    }
    assert_eq!(scheduler.status().scheduler.clients, 0, "those that failed have said goodbye");
}

/// A small file system in a namespace of its own, which ends with the command.
#[test]
fn a_full_file_system_is_an_error() {
    let alone = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command
    };
    let may_mount = alone("mount -t tmpfs -o size=64k none /mnt").output();
    if let Some(why) = complaint(may_mount) {
        return skip(REQUIRE_NAMESPACES, &format!("there is no file system of our own: {why}"));
    }
    let folder = tempfile::tempdir().unwrap();
    inputs(folder.path());
    for line in COMMANDS {
        let script =
            "mount -t tmpfs -o size=64k none /mnt && cp * /mnt && cd /mnt && \"$@\"; code=$?; ls -A /mnt; exit $code";
        let command = gridloom(&line.split(' ').collect::<Vec<&str>>());
        let output =
            alone(script).arg(command.get_program()).args(command.get_args()).current_dir(folder.path()).output();
        let output = output.unwrap();
        let (said, left) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
        assert_eq!(said, "error: cannot write out.npy: No space left on device (os error 28)\n");
        assert_eq!((output.status.code(), left.as_str()), (Some(2), "inc.wgsl\nout.npy\n"));
    }
}
