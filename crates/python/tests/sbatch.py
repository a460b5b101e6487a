"""Stands in for Slurm's sbatch: runs a job's script as processes, at most two tasks of its array at a time.
The first try of task 2 is killed while it writes its file, and it is run again, as jobs with --requeue are."""

import os
import resource
import subprocess
import sys
import time

WRITTEN = 100  # bytes after which it is killed


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))


def run(arguments: list[str]) -> None:
    options = {}
    while arguments[0].startswith("--"):
        name, _, value = arguments.pop(0).partition("=")
        options[name] = value
    command = ["bash", *arguments]
    if "--array" not in options:
        assert options["--dependency"] == "afterok:17", options
        subprocess.run(command, check=True)
        return
    first, last = map(int, options["--array"].split("-"))
    waiting, running = list(range(first, last + 1)), {}
    is_killed = False
    while waiting or running:
        while waiting and len(running) < 2:
            task = waiting.pop(0)
            environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}
            killed = limit if task == 2 and not is_killed else None
            running[task] = subprocess.Popen(command, env=environment, preexec_fn=killed)
        for task, process in list(running.items()):
            if process.poll() is None:
                continue
            del running[task]
            if process.returncode and task == 2 and not is_killed:
                is_killed = True
                print(f"killed part {task}, run again", file=sys.stderr)
                waiting.append(task)
            else:
                assert process.returncode == 0, task
        time.sleep(0.005)
    print("17")


run(sys.argv[1:])
