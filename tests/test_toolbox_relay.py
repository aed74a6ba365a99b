"""The toolbox's way out to the engine: what it may ask for, and how the answers come back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from common import image
from common.declarations.spec import chip_names, load_chip
from common.engines import container
from tests.conftest import ROOT
from tests.toolbox_fixture import FOLDERS, OWN, asked_run, asks, toolbox

__all__ = ["asked_run", "toolbox"]  # fixtures


def judge(project: Path, commands: list[list[str]], **variables: str) -> list[str]:
    """What allowed.sh says of each command (its words after "docker"): "" for allowed, else why not."""
    script = (
        'project=$1 engine=${ENGINE_NAME:-docker}; source "$2/common/toolbox/allowed.sh"; shift 2\n'
        'while [[ $# -gt 0 ]]; do count=$1; words=("${@:2:count}"); shift $((count + 1))\n'
        'if allowed ${words[@]+"${words[@]}"}; then\n'
        '[[ ${command[*]} == "$engine ${words[*]-}" ]] && echo || echo "other words: ${command[*]}"\n'
        'else echo "${reason:-no reason}"; fi; done'
    )
    words = [word for command in commands for word in (str(len(command)), *command)]
    environment = {"PATH": "/usr/bin:/bin"} | variables
    done = subprocess.run(["bash", "-eu", "-c", script, "judge", str(project), str(ROOT), *words],
                          env=environment, capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("program", container.PROGRAMS)
@pytest.mark.parametrize("full", [False, True])
def test_what_the_stages_ask_for_is_allowed(project, monkeypatch, program, full):
    """The words come from common/engines/container.py and common/image.py: what they change has to be allowed."""
    asked: list[list[str]] = []

    class Process:
        returncode, stderr = 0, ""

        def __init__(self, words, **options):
            asked.append(words[1:])
            self.stdout = Path(os.devnull).open("rb")  # noqa: SIM115 - as a process has one
            if "capture_output" in options:  # a digest of the base that was asked for
                self.stdout = f"{words[-1].rpartition(':')[0]}@sha256:12 base"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(container, "machine_of", lambda program: (4, 16_000_000_000))
    monkeypatch.setattr(container, "emulated", lambda chip: full)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("NO_COLOR", "1" if full else "")
    monkeypatch.setattr(image.subprocess, "run", Process)
    monkeypatch.setattr(image.subprocess, "Popen", Process)
    monkeypatch.chdir(project.folder)
    job = project.path("out", "net", "chip", "int8")
    job.mkdir(parents=True)
    for chip in {load_chip(name).folder: load_chip(name) for name in chip_names()}.values():
        chip = chip.model_copy(update={"platform": "linux/amd64"})
        tag, base = image.image_name(chip), image.declared_base(chip)
        asked.append(container.run_command(chip, program, tag, job, "infer.py", [str(job / "x.npz")], full)[1:])
        image.find_image(program, tag)
        image.build(chip, program, tag, base, fresh=full)
    monkeypatch.undo()
    kinds = {words[0] for words in asked}
    assert kinds >= {"run", "build", "image"}
    asked += [["info"], ["info", "--format", container.SIZE_OF[program]], ["version"]]
    verdicts = judge(project.folder, asked, ENGINE_NAME=program)
    assert [(words, verdict) for words, verdict in zip(asked, verdicts, strict=True) if verdict] == []


def test_anything_else_in_a_run_is_refused(toolbox, asked_run):
    out = toolbox.project / "out"
    (out / "link").symlink_to("/etc")
    (out / "inner").symlink_to(out / "net")
    assert judge(toolbox.project, [asked_run]) == [""]

    def changed(old: str, *new: str) -> list[str]:
        assert old in asked_run
        return [one for word in asked_run for one in (new if word == old else (word,))]

    job, image_word = f"{out}/net/chip/int8:/job", asked_run[-5]
    mutations = [asked_run[:end] for end in range(len(asked_run) - 2)]
    needed = ["--network", "--user", "--cap-drop", "--security-opt", "--memory", "--cpus"]
    for name in needed:
        place = asked_run.index(name)
        mutations += [asked_run[:place] + asked_run[place + 2 :], changed(name, name, asked_run[place + 1], name)]
    mutations += [changed("--rm"), changed("--init"), changed("--rm", "--rm", "--rm")]
    mutations += [changed("none", value) for value in ("host", "bridge", "", "container:x")]
    mutations += [changed(OWN, value) for value in ("0", "1:1", "12345:0", f"{OWN} ", f"+{OWN}", "")]
    mutations += [changed("ALL", value) for value in ("NONE", "SYS_ADMIN", "")]
    mutations += [changed("no-new-privileges", value) for value in ("seccomp=unconfined", "apparmor=unconfined", "")]
    mutations += [changed("7000000000", value) for value in ("-1", "0", "1", "7g", "", "1e12", "9" * 30)]
    mutations += [changed("2", value) for value in ("0", "-1", "two", "", "100000")]
    mutations += [changed("linux/amd64", value) for value in ("windows/amd64", "", "linux/amd64 --privileged")]
    mutations += [
        changed("PROGRESS=1", value) for value in ("PROGRESS=2", "NO_COLOR=2", "LD_PRELOAD=/job/x.so", "PATH", "")
    ]
    mutations += [changed("PROGRESS=1", "PROGRESS=1", "--env", "LD_PRELOAD=/job/x.so")]
    flags = ["--privileged", "-v", "--mount=type=bind,source=/,target=/x", "--cap-add", "--device", "--pid", "--name"]
    flags += ["--entrypoint", "--user=0", "--network=host", "--volumes-from", "-it", "--", "--group-add", "--ipc"]
    mutations += [changed("--rm", "--rm", flag) for flag in flags]
    mutations += [changed("--rm", "--rm", flag, "x") for flag in flags]
    sources = ["/", "/etc", str(out), f"{out}/", f"{out}/net/../..", f"{out}/link", f"{out}/inner/chip", "out/net", ""]
    sources += [str(toolbox.project), f"{toolbox.project}/vendors", f"{out}/missing", f"{out}-other"]
    mutations += [changed(job, f"{source}:/job") for source in sources]
    mutations += [changed(job, value) for value in (f"{out}/net:/npumake", f"{out}/net:/job:ro", f"{out}/net", "/job")]
    mutations += [changed(job, job, "--volume", job), changed(job, job, "--volume", "/:/host")]
    mutations += [changed(job, job, "--userns", "keep-id"), changed(job, job, "--userns", "host")]
    place = asked_run.index(job)
    mutations.append(asked_run[: place - 1] + asked_run[place + 1 :])
    common = f"{toolbox.project}/common:/common:ro"
    mutations += [
        changed(common, value) for value in (common[:-3], f"{common[:-3]}:rw", "/etc:/common:ro", f"{common},z")
    ]
    mutations += [changed(common, common, "--volume", common)]
    images = ("ubuntu", "npumake-ncnn", "npumake-none:0123456789ab", "npumake-../x:0123456789ab", f"evil/{image_word}",
              f"{image_word}0", image_word.upper(), "npumake-toolbox:0123456789ab", "")  # fmt: skip
    mutations += [changed(image_word, value) for value in images]
    scripts = ("-c", "/job/x.py", "sh", "../x.py", "infer.py.sh", "", "infer.py ")
    mutations += [changed("infer.py", value) for value in scripts]
    mutations += [changed("/job", value) for value in ("/", "/jobs", "job", "--help", "")]
    mutations += [changed("/job/samples.npz", value) for value in ("/etc/passwd", "/job/../etc", "/job/..", "-x", "")]
    verdicts = judge(toolbox.project, mutations)
    assert [mutation for mutation, verdict in zip(mutations, verdicts, strict=True) if not verdict] == []
    assert len(mutations) > 130


def test_anything_else_of_the_engine_is_refused(toolbox):
    (toolbox.project / "vendors" / FOLDERS[0] / "Dockerfile").write_text("ARG BASE=maker/tools:1.0\nFROM ${BASE}\n")
    tag, folder = f"npumake-{FOLDERS[0]}:0123456789ab", f"vendors/{FOLDERS[0]}"
    base = ["--label", "npumake.base=maker/tools:1.0", "--build-arg", "BASE=maker/tools@sha256:12"]
    good = [
        ["build", "--tag", tag, *base, folder],
        ["build", "--tag", tag, *base, "--platform", "linux/amd64", "--no-cache", f"{toolbox.project}/{folder}"],
        ["build", "--tag", tag, "--build-arg", "BASE=registry:5000/mine@sha256:12", folder],
        ["pull", "--quiet", "maker/tools:1.0"],
        ["image", "inspect", "--format", "{{.Id}}", tag],
        ["image", "inspect", "maker/tools:2.0"],
    ]
    assert judge(toolbox.project, good, BASE="registry:5000/mine:7") == [""] * len(good)
    bad = [
        [],
        [""],
        *([word] for word in ("ps", "exec", "cp", "rm", "kill", "login", "compose", "--help", "--host=x")),
        *([word] for word in ("build", "pull", "run")),
        ["image", "ls"],
        ["image"],
        ["system", "prune"],
        ["info", "--format"],
        ["info", "-f", "x"],
        ["image", "inspect", "alpine"],
        ["image", "inspect", tag, tag],
        ["image", "inspect", "--format"],
        ["image", "inspect", tag, "--format"],
        ["image", "inspect", "--type=container", tag],
        ["image", "inspect"],
        ["pull", "maker/tools:1.0"],
        ["pull", "--quiet", "other/tools:1.0"],
        ["pull", "--quiet", "maker/tools:1.0", "--all-tags"],
        ["build", "--tag", tag, *base, "/"],
        ["build", "--tag", tag, *base, "."],
        ["build", "--tag", tag, *base, "-"],
        ["build", "--tag", tag, *base, f"vendors/{FOLDERS[1]}"],
        ["build", "--tag", tag, *base, f"{folder}/../.."],
        ["build", "--tag", tag, *base, folder, "x"],
        ["build", "--tag", tag, *base],
        ["build", "--tag", tag, "--tag", tag, *base, folder],
        ["build", "--tag", "python:3.11-slim-bookworm", *base, folder],
        ["build", "--tag", "python:3.11-slim-bookworm", *base, "vendors/"],
        ["build", "--tag", tag, "--label", "npumake.base=other/tools", *base[2:], folder],
        ["build", *base, folder],
        ["build", "--tag", tag, folder],
        ["build", "--tag", tag, *base, "--build-arg", "BASE=maker/tools:1.0", folder],
        ["build", "--tag", tag, "--build-arg", "BASE=other/tools", folder],
        ["build", "--tag", tag, "--build-arg", "BASE=-v", folder],
        ["build", "--tag", tag, "--build-arg", "SECRET=maker/tools", folder],
        ["build", "--tag", tag, *base[2:], "--label", "other=maker/tools", folder],
        *(["build", "--tag", tag, *base, *flag, folder] for flag in (
            ["--file", "x"], ["--secret", "id=x,src=/etc/passwd"], ["--ssh", "default"], ["--output", "/x"],
            ["-v", "/:/x"], ["--network", "host"], ["--platform", "x"], ["--iidfile", "/x"], ["--allow", "x"])),
        ["build", "--tag", "npumake-toolbox:0123456789ab", *base, "common"],
    ]  # fmt: skip
    verdicts = judge(toolbox.project, bad, BASE="registry:5000/mine:7")
    assert [words for words, verdict in zip(bad, verdicts, strict=True) if not verdict] == []


def test_output_and_exit_code_come_back(toolbox, asked_run):
    words = [word.replace("infer.py", "compile.py") for word in asked_run]
    done = toolbox.run(*asks(*words))
    assert (done.returncode, done.stdout) == (7, "the vendor's script begins\n")
    assert "and speaks of an error\n" in done.stderr
    assert toolbox.calls("run")[-1] == words
    assert list((toolbox.project / ".venv" / "toolbox").glob("relay.*")) == []


def test_what_is_refused_is_said_and_not_run(toolbox, asked_run):
    done = toolbox.run(*asks("run", "--privileged", *asked_run[1:]))
    assert done.returncode == 126
    assert (
        "ERROR: the toolbox may not ask for this: docker run --privileged\nHINT: common/toolbox/allowed.sh"
        in done.stderr
    )
    assert len(toolbox.calls("run")) == 1  # the toolbox itself


def test_several_at_once_are_answered_each_for_itself(toolbox):
    script = (
        "import subprocess\n"
        "ran = [subprocess.Popen(['docker', 'info', '--format', str(n)], stdout=subprocess.PIPE) for n in range(5)]\n"
        "print(*[process.communicate()[0].decode().split()[-1] for process in ran])"
    )
    assert toolbox.run("run", "python", "-c", script).stdout == "0 1 2 3 4\n"


def test_a_request_that_is_a_link_or_too_long_is_not_read(toolbox, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret\0")
    script = (
        "import os, pathlib, sys, time\n"
        "relay = pathlib.Path(os.environ['NPUMAKE_RELAY'])\n"
        f"(relay / 'requests' / '1.words').symlink_to({str(secret)!r})\n"
        "os.mkfifo(relay / 'requests' / '2.words')\n"
        "(relay / 'requests' / '3.new').write_bytes(b'x' * 70000 + bytes(1))\n"
        "os.replace(relay / 'requests' / '3.new', relay / 'requests' / '3.words')\n"
        "(relay / 'requests' / '..x.words').mkdir()\n"
        "(relay / 'requests' / '4 5.words').write_bytes(b'info' + bytes(1))\n"
        "while not all((relay / 'replies' / f'{n}.code').exists() for n in (1, 2, 3)): time.sleep(0.05)\n"
        "print(*[(relay / 'replies' / f'{n}.err').read_text() for n in (1, 2, 3)])"
    )
    done = toolbox.run("run", "python", "-c", script)
    assert done.stdout.count("a request that is no plain, short file") == 3
    assert "secret" not in done.stdout + done.stderr
    assert toolbox.calls("info") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_reaches_the_vendors_container(toolbox, asked_run, number):
    words = [word.replace("infer.py", "compile.py") for word in asked_run]
    process = subprocess.Popen(
        toolbox.command(*asks(*words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=toolbox.environment | {"FAKE_SECONDS": "60"},
    )  # fmt: skip
    assert process.stdout.readline() == "the vendor's script begins\n"
    os.killpg(process.pid, number)  # as a terminal's Ctrl-C: everything in the group
    process.communicate(timeout=30)
    assert toolbox.calls("ended") == [["ended"]]
    assert process.returncode not in (0, 7)
    assert list((toolbox.project / ".venv" / "toolbox").glob("relay.*")) == []


def test_an_interruption_while_the_toolbox_starts(toolbox):
    command = toolbox.command("run", "python", "-c", "import time; time.sleep(60)")
    environment = toolbox.environment | {"FAKE_START_SECONDS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not toolbox.calls("run"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0


def test_nothing_goes_on_when_the_script_itself_is_killed(toolbox):
    command = toolbox.command("run", "python", "-c", "import time; time.sleep(5)")
    process = subprocess.Popen(command, env=toolbox.environment, start_new_session=True, stderr=subprocess.DEVNULL)
    while not toolbox.calls("run"):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    while list((toolbox.project / ".venv" / "toolbox").glob("relay.*")):
        assert time.monotonic() < end
        time.sleep(0.1)
