//! Tests that need separate processes: a full disk, a umask, a lock whose owner was killed, a real
//! crash.
//!
//! Without [`ROLE`] this program is the test; with it, a process started by the test. Limits and
//! kills are specific to Unix.

#![cfg(test)]

const ROLE: &str = "SURPRISAL_TEST_ROLE";
const FOLDER: &str = "SURPRISAL_TEST_FOLDER";

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() -> Result<(), surprisal_store::Error> {
    if let Ok(role) = std::env::var(ROLE) {
        let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).unwrap());
        return unix::play(&role, &folder);
    }
    unix::a_full_disk_leaves_the_earlier_checkpoint_and_no_debris();
    unix::the_umask_decides_who_may_read();
    unix::the_lock_of_a_killed_process_is_taken_over();
    unix::a_crash_at_any_operation_leaves_a_whole_checkpoint();
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::Path,
        process::{Command, Output},
        thread::sleep,
        time::Duration,
    };

    use surprisal_store::{Error, atomic, checkpoint, fault_injection, run_dir::RunWriter};

    use super::{FOLDER, ROLE};

    const PART: [u8; 1 << 14] = [7; 1 << 14];

    /// Runs a process of the test.
    pub(super) fn play(role: &str, folder: &Path) -> Result<(), Error> {
        match role {
            "save" => checkpoint::save(folder, 2, &[("model.safetensors", &PART), ("state.json", b"{}")])
                .map(|_| ()),
            "hold" => {
                let run = RunWriter::resume(folder)?;
                atomic::write(run.report(), b"locked")?;
                sleep(Duration::from_secs(60));
                Ok(())
            }
            other => unreachable!("no role {other}"),
        }
    }

    /// A command that runs `setting` in a shell and then this program in `role`.
    fn process(setting: &str, role: &str, folder: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{setting}; exec \"$0\"")]).arg(std::env::current_exe().unwrap());
        command.env(ROLE, role).env(FOLDER, folder);
        command
    }

    fn output(command: &mut Command) -> (Output, String) {
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, stderr)
    }

    fn newest(folder: &Path) -> u64 {
        let newest = checkpoint::load_newest(folder).unwrap();
        assert!(newest.skipped.is_empty(), "{:?}", newest.skipped);
        newest.checkpoint.unwrap().step
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(super) fn a_full_disk_leaves_the_earlier_checkpoint_and_no_debris() {
        let folder = tempfile::tempdir().unwrap();
        checkpoint::save(folder.path(), 1, &[("state.json", b"{}")]).unwrap();
        // At most 8 blocks per file (of 512 or 1024 bytes); without the trap the signal would kill
        // the process.
        let (output, stderr) = output(&mut process("trap '' XFSZ; ulimit -f 8", "save", folder.path()));
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("write 16384 bytes to") && stderr.contains("model.safetensors"), "{stderr}");
        assert_eq!(names(folder.path()), ["step_00000001"]);
        assert_eq!(newest(folder.path()), 1);
    }

    pub(super) fn the_umask_decides_who_may_read() {
        for (umask, mode) in [("000", 0o644), ("022", 0o644), ("027", 0o640), ("077", 0o600)] {
            let folder = tempfile::tempdir().unwrap();
            let (output, stderr) = output(&mut process(&format!("umask {umask}"), "save", folder.path()));
            assert!(output.status.success(), "{stderr}");
            let path = folder.path().join("step_00000002/model.safetensors");
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "umask {umask}");
        }
    }

    pub(super) fn the_lock_of_a_killed_process_is_taken_over() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("run");
        let run = RunWriter::create(&folder).unwrap();
        atomic::write(run.config(), b"").unwrap();
        let (refused, stderr) = output(&mut process(":", "hold", &folder));
        assert!(!refused.status.success() && stderr.contains("Locked"), "{stderr}");
        let report = run.report();
        drop(run);

        let mut owner = process(":", "hold", &folder).spawn().unwrap();
        for _ in 0..1000 {
            if report.exists() {
                break;
            }
            sleep(Duration::from_millis(5));
        }
        let error = RunWriter::resume(&folder).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", owner.id())), "{error}");
        owner.kill().unwrap();
        owner.wait().unwrap();
        assert!(folder.join("lock").exists(), "a killed process leaves the file");
        RunWriter::resume(&folder).unwrap();
    }

    pub(super) fn a_crash_at_any_operation_leaves_a_whole_checkpoint() {
        for at in 1..100 {
            let folder = tempfile::tempdir().unwrap();
            checkpoint::save(folder.path(), 1, &[("state.json", b"{}")]).unwrap();
            let mut command = process("ulimit -c 0", "save", folder.path());
            let (output, _) = output(command.env(fault_injection::VARIABLE, format!("crash:{at}")));
            let step = newest(folder.path());
            atomic::recover(folder.path()).unwrap();
            assert!(names(folder.path()).iter().all(|name| name.starts_with("step_")));
            if output.status.success() {
                assert_eq!(step, 2);
                assert!(at > 12, "only {at} operations");
                return;
            }
        }
        panic!("a save does not have a hundred operations");
    }
}
