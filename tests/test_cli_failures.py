"""The command line on a full disk, in a broken pipe, under a signal: what it says, and with which exit code it ends."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ig65m
from ig65m.zoo.cards import EMBEDDED
from tests.conftest import PROGRAM
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.npy"), 1, "x.npy: No space left on device; free some space"),
        (OSError(errno.EIO, "Input/output error", "x.npy"), 1, "the disk may be full or faulty"),
        (PermissionError(errno.EACCES, "Permission denied", "x.npy"), 2, "x.npy: Permission denied; check its permissions"),
        (OSError(errno.EROFS, "Read-only file system", "x.npy"), 2, "choose a writable place"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "a fault of the machine"),
        (MemoryError("Unable to allocate 8 PiB"), 1, "not enough memory: lower --batch-size or --frames"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "lower --batch-size"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, "lower --batch-size"),
        (RuntimeError("first line\n\x1b[31msecond"), 1, "please report it (RuntimeError: first line\\n\\x1b[31msecond)"),
    ],
)
def test_errors_of_the_machine(run, tiny_model, bigbuckbunny, monkeypatch, error, code, message):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("ig65m.tasks.classify.classify_many", failing)
    got, out, err = run("classify", bigbuckbunny, "--model", tiny_model)
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_full_disk_is_reported(run, tiny_model, bigbuckbunny, tmp_path, monkeypatch):
    def full(features, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("ig65m.store.features.save", full)
    code, out, err = run("extract", bigbuckbunny, "--model", tiny_model, "--end", 0.3, "--json", "-o", tmp_path / "b.npy")
    assert (code, out) == (1, "")
    assert "b.npy: No space left on device; free some space" in err


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("| true", 141, ""),
        ("> /dev/full", 1, "ig65m: the output: No space left on device; free some space"),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("2> /dev/full", 0, ""),
    ],
)
def test_outputs_that_nobody_reads(redirection, code, message):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{PROGRAM} --help {redirection}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == (1 if message else 0)


@pytest.mark.slow
def test_a_terminal_of_another_encoding(tiny_model, bigbuckbunny, tmp_path):
    video = tmp_path / "ü\udcff.mp4"
    video.symlink_to(bigbuckbunny)
    done = subprocess.run(
        [PROGRAM, "classify", video, "--model", tiny_model, "--end", "0.3"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert b"\\xfc\\udcff.mp4" in done.stdout
    assert done.stderr.count(b"\n") == 1  # which engine runs


def catches(process, number):
    """Whether a process has a handler for a signal."""
    caught = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return int(caught, 16) >> (number - 1) & 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_stopped_at_any_moment_it_says_so_in_a_line(number, said, seconds, tiny, tmp_path):
    with subprocess.Popen([PROGRAM, "convert", tiny, tmp_path / "x"], stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: catches(process, signal.SIGTERM))  # Python itself has one for SIGINT
        time.sleep(seconds)
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number
    assert err == f"ig65m: stopped by {said}; finished files stay\n"
    assert list(tmp_path.iterdir()) == []


FINALISED = """
import signal, time
from ig65m.cli.signals import stopped_by

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

with stopped_by(signal.SIGTERM) as came:
    try:
        Finalised()
        time.sleep(10)
        print("not stopped")
    except KeyboardInterrupt:
        print(*came)
"""


def test_a_signal_that_falls_into_a_finaliser_stops_all_the_same():
    done = subprocess.run([sys.executable, "-c", FINALISED], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{signal.SIGTERM}\n", "")


@pytest.mark.slow
def test_a_stop_while_files_are_written_leaves_no_temporary_one(tiny, tmp_path):
    with subprocess.Popen([PROGRAM, "convert", tiny, tmp_path / "x"], stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_limit_on_file_sizes(bigbuckbunny, tmp_path):
    options = f"--model {EMBEDDED} --end 4 --in-process --pool-spatial none --pool-temporal none"
    command = f"ulimit -f 8; exec {PROGRAM} extract {bigbuckbunny} {options} -o {tmp_path}/out/bunny.npy"
    new_cache = {**os.environ, "IG65M_CACHE": str(tmp_path / "none")}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=new_cache)
    assert (done.returncode, done.stdout) == (1, "")
    assert "weights.bin: File too large; choose another disk, or raise the limit" in done.stderr
    assert list(tmp_path.iterdir()) == []
    subprocess.run(["bash", "-c", command.partition(";")[2].replace("out/", "first/")], check=True, capture_output=True)
    shutil.rmtree(tmp_path / "first")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "bunny.npy: File too large; choose another disk, or raise the limit" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_program_exits_with_1(run, tiny_model, bigbuckbunny, monkeypatch):
    def faulty(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("ig65m.tasks.classify.classify_many", faulty)
    code, _, err = run("classify", bigbuckbunny, "--model", tiny_model)
    assert code == 1
    assert "a bug" in err
    assert "Traceback" not in err


def test_the_installed_program_runs():
    done = subprocess.run(
        [PROGRAM, "--version"], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"}
    )
    assert done.stdout.strip() == ig65m.__version__
