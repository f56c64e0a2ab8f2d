//! Ends this process when its parent has ended. Works while the interpreter is stuck: its thread
//! does not need the interpreter's lock.

use polos::thread::Thread;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::process::{Signal, getpgrp, getpid, kill_process_group};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;

/// Kills this process, and every process of its group, when standard input reaches its end.
///
/// The parent holds the other end of that pipe, and the system closes it when the parent ends, for
/// whatever reason. The pipe is duplicated, so standard input may be replaced afterward.
///
/// A process that does not lead its group ends alone: the group is not its own.
#[pyfunction]
pub fn end_with_stdin() -> PyResult<()> {
    let failed = |error: std::io::Error| PyOSError::new_err(error.to_string());
    let lifeline = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let group = Some(getpgrp()).filter(|group| *group == getpid());
    Thread::spawn("polos-lifeline", move || {
        wait_for_end(File::from(lifeline));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        std::process::abort();
    })
    .map_err(failed)?;
    Ok(())
}

fn wait_for_end(mut pipe: File) {
    let mut bytes = [0; 64];
    loop {
        match pipe.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
