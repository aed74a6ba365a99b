"""The vendors' images: their Dockerfiles by hadolint, and, where a container engine answers, real builds and runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common import image
from common.declarations.spec import chip_names, load_chip
from common.engines import container
from tests.conftest import ROOT, copy_of_project, project_files

HADOLINT = Path(sys.executable).parent / "hadolint"
DOCKERFILES = project_files("*Dockerfile")
FOLDERS = sorted(path.name for path in (ROOT / "vendors").iterdir() if (path / "chip.yaml").is_file())
LOCAL = {load_chip(name).folder.name: name for name in reversed(chip_names()) if load_chip(name).local}
FLOATS = {"ncnn": "fp32", "rk3588": "fp16", "bm1684": "fp32", "bm1684x": "fp32"}
CELLS = [(load_chip(chip).folder.name, chip, name) for chip, float_ in FLOATS.items() for name in (float_, "int8")]
FAST = ("ncnn", "fp32")  # its image is built in a minute; the others' take up to ten, and gigabytes of the disk
STRANGER = 54321  # a user id that no passwd file has
PINNED = re.compile(r"[\w./-]+(:[\w.-]+)?@sha256:[0-9a-f]{64}")
PROBE = """
import json, os, pathlib, socket

def refused(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return None

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
own = pathlib.Path(__import__("sys").prefix)
found = {
    "user": [os.getuid(), os.getgid()],
    "home": os.path.expanduser("~"),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "network": refused(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2).close()),
    "names": refused(lambda: socket.getaddrinfo("example.org", 443)),
    "written": [place for place in ("/", "/etc", "/npumake", "/common", str(own)) if
                refused(lambda: open(os.path.join(place, "probe"), "w")) is None],
    "common": [os.path.isfile("/common/__init__.py"), bool(os.statvfs("/common").f_flag & os.ST_RDONLY)],
    "capabilities": int(status["CapBnd"], 16),
    "no_new_privileges": int(status["NoNewPrivs"]),
    "memory": next(open(path).read().strip() for path in limits if os.path.exists(path)),
}
json.dump(found, open("/job/probe.json", "w"))
"""


def engine_answers() -> bool:
    return bool(shutil.which("docker")) and not subprocess.run(["docker", "info"], capture_output=True).returncode


def local_base(folder: str) -> str:
    """The image of the Dockerfile's tag, where this machine has one under that name; skips where it has none."""
    if not engine_answers():
        pytest.skip("no docker engine answers here: `docker info` says why")
    tag = re.search(r"^ARG BASE=([^@\s]+)", (ROOT / "vendors" / folder / "Dockerfile").read_text(), re.MULTILINE)[1]
    done = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this machine has no image {tag}: `docker pull {tag}` gets it")
    return tag


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy in which images and cells are built once."""
    return copy_of_project(tmp_path_factory.mktemp("images") / "project")


@pytest.fixture(scope="module")
def built(project):
    """built(folder) gives the name of the folder's image, which `make image` made, and the base that it stands on."""
    names: dict[str, tuple[str, str]] = {}

    def build(folder: str) -> tuple[str, str]:
        if folder not in names:
            base = local_base(folder)
            result = project.make("image", f"CHIP={LOCAL[folder]}", f"BASE={base}")
            assert result.returncode == 0, result.stdout + result.stderr
            name = re.search(rf"npumake-{folder}:[0-9a-f]{{12}}", result.stdout)[0]
            assert f"{name} is ready" in result.stdout
            names[folder] = name, base
        return names[folder]

    return build


# --- The files ------------------------------------------------------------
@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_has_nothing_to_say(name):
    done = subprocess.run([HADOLINT, "--no-color", ROOT / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_is_listening(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp && pip install numpy\n")
    done = subprocess.run([HADOLINT, "--no-color", bad], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert {"DL3006", "DL3003", "DL3013"} <= set(re.findall(r"DL\d+", done.stdout))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_base_is_known_by_its_digest_or_the_file_says_how_to_get_it(folder):
    text = (ROOT / "vendors" / folder / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    head = text[: text.index("ARG BASE=")]
    assert image.declared_base(load_chip(next(chip for chip in chip_names() if load_chip(chip).folder.name == folder)))
    assert ":latest" not in base
    assert "docker buildx imagetools inspect" in head
    if not PINNED.fullmatch(base):
        assert re.fullmatch(r"[\w./-]+:[\w.-]+", base), base
        assert "digest" in head
    assert re.search(r"^FROM \$\{BASE\}", text, re.MULTILINE)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_no_secret_is_an_argument(name):
    text = (ROOT / name).read_text()
    declared = re.findall(r"^\s*(?:ARG|ENV)\s+(\w+)", text, re.MULTILINE)
    assert not [word for word in declared if re.search("TOKEN|SECRET|PASS|CREDENTIAL|_KEY", word, re.IGNORECASE)]


@pytest.mark.parametrize("folder", LOCAL)
def test_the_build_context_is_what_the_scripts_need_and_no_more(folder):
    text = (ROOT / "vendors" / folder / ".dockerignore").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {
        path.name for pattern in lines[1:] for path in (ROOT / "vendors" / folder).glob(pattern.removeprefix("!"))
    }
    copied = re.findall(r"^COPY (.+) \./$", (ROOT / "vendors" / folder / "Dockerfile").read_text(), re.MULTILINE)
    wanted = {
        path.name for words in copied for word in words.split() for path in (ROOT / "vendors" / folder).glob(word)
    }
    assert wanted == let_in
    assert {"compile.py", "infer.py", "chip.yaml", "job.schema.json", "requirements.txt"} <= let_in
    assert not {"README.md", "Dockerfile"} & let_in


# --- Real containers ------------------------------------------------------------
def slow_unless_fast(folder, precision):
    if (folder, precision) != FAST and os.environ.get("SLOW") != "1":
        pytest.skip("builds a large image, or takes minutes: SLOW=1 make test runs it")


@pytest.mark.parametrize(("folder", "chip", "precision"), CELLS)
def test_a_cell_of_a_container_is_the_local_one_to_the_byte(project, built, folder, chip, precision):
    slow_unless_fast(folder, precision)
    if not (ROOT / ".venv" / folder / "ready").exists():
        pytest.skip(f"no .venv/{folder}: `make .venv/{folder}/ready` says why")
    name, base = built(folder)
    cell = project.path("out/hrnet_tiny", chip, precision)
    asked = (chip, "MODEL=hrnet_tiny", f"PRECISION={precision}", "LIMIT=4", "RUNG=1")
    sums, arrays = {}, {}
    for engine in ("local", "docker"):
        result = project.make(*asked, f"ENGINE={engine}", f"BASE={base}")
        assert (cell / "compile.json").is_file(), result.stdout + result.stderr
        compiled = json.loads((cell / "compile.json").read_text())
        assert compiled["engine"].startswith("local" if engine == "local" else f"docker {name} sha256:")
        # A .rknn holds addresses of the process that made it; the hash of its network's outputs stands for it.
        proof = compiled.get("probe_sha256")
        sums[engine] = [proof] if proof else [compiled["files"][file]["sha256"] for file in compiled["artifact"]]
        with np.load(cell / "outputs.npz") as outputs:
            arrays[engine] = {key: outputs[key].tobytes() for key in outputs.files}
        assert sums[engine] and arrays[engine]
        assert {path.stat().st_uid for path in cell.rglob("*")} == {os.getuid()}
    assert sums["local"] == sums["docker"]
    assert arrays["local"] == arrays["docker"]


def test_an_image_is_built_again_only_when_a_file_of_its_folder_changed(project, built):
    name, base = built("ncnn")
    again = project.make("image", "CHIP=ncnn", f"BASE={base}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{name} is ready" in again.stdout
    assert "(once;" not in again.stdout
    readme, script = project.path("vendors/ncnn/README.md"), project.path("vendors/ncnn/infer.py")
    before = {path: path.read_text() for path in (readme, script)}
    other = None
    try:
        readme.write_text("another text")
        assert f"{name} is ready" in project.make("image", "CHIP=ncnn", f"BASE={base}").stdout
        script.write_text(before[script] + "# a line more\n")
        changed = project.make("image", "CHIP=ncnn", f"BASE={base}")
        assert changed.returncode == 0, changed.stdout + changed.stderr
        other = re.search(r"npumake-ncnn:[0-9a-f]{12}", changed.stdout)[0]
        assert other != name
        assert "(once;" in changed.stdout
    finally:
        for path, text in before.items():
            path.write_text(text)
        if other:
            subprocess.run(["docker", "rmi", other], capture_output=True, check=False)


@pytest.fixture
def as_stranger(tmp_path, project, built, monkeypatch):
    """as_stranger(script) runs a Python script in the ncnn image under npumake's own options, as a user that no passwd
    file knows (where root calls; else as the caller). Gives the finished process, the job folder and the user's id."""
    name, _ = built("ncnn")
    monkeypatch.chdir(project.folder)
    user = STRANGER if os.getuid() == 0 else os.getuid()

    def run(script: str):
        job = tmp_path / "job"
        if os.getuid() == 0:
            for path in (job, *job.rglob("*")):
                os.chown(path, user, user)
        with monkeypatch.context() as patched:
            patched.setattr(os, "getuid", lambda: user)
            patched.setattr(os, "getgid", lambda: user if user == STRANGER else os.getegid())
            command = container.run_command(load_chip("ncnn"), "docker", name, job, script, [], False)
        return subprocess.run(command, capture_output=True, text=True, check=False), job, user

    (tmp_path / "job").mkdir()
    return run


def test_a_container_may_write_its_job_and_nothing_else(tmp_path, as_stranger):
    (tmp_path / "job" / "probe.py").write_text(PROBE)
    done, job, user = as_stranger("/job/probe.py")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((job / "probe.json").read_text())
    assert found["user"][0] == user
    assert found["home"] == "/tmp"
    assert found["interfaces"] == ["lo"]
    assert found["network"] and found["names"]
    assert found["written"] == []
    assert found["common"] == [True, True]
    assert (found["capabilities"], found["no_new_privileges"]) == (0, 1)
    assert 1e9 < int(found["memory"]) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert (job / "probe.json").stat().st_uid == user


def test_the_probe_notices_a_container_that_may_too_much(tmp_path, built):
    name, _ = built("ncnn")
    (tmp_path / "probe.py").write_text(PROBE)
    common = tmp_path / "common"
    common.mkdir()
    (common / "__init__.py").touch()
    loose = ["docker", "run", "--rm", "--volume", f"{tmp_path}:/job", "--volume", f"{common}:/common", name]
    subprocess.run([*loose, "/job/probe.py"], check=True)
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["user"] == [0, 0]
    assert len(found["interfaces"]) > 1
    assert {"/common", "/npumake"} <= set(found["written"])
    assert found["capabilities"] > 0
    assert found["no_new_privileges"] == 0


def test_a_user_without_a_name_compiles_and_owns_what_came_out(tmp_path, project, built, as_stranger):
    base = built("ncnn")[1]
    packed = project.make("job", "CHIP=ncnn", "MODEL=hrnet_tiny", "PRECISION=fp32", "LIMIT=4", f"BASE={base}")
    assert packed.returncode == 0, packed.stdout + packed.stderr
    for name in ("job.json", "model.onnx", "samples.npz"):
        shutil.copy(project.path("out/hrnet_tiny/ncnn/fp32", name), tmp_path / "job" / name)
    for script in ("compile.py", "infer.py"):
        done, job, user = as_stranger(script)
        assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name: path.stat().st_uid for path in job.iterdir()}
    assert {"compile.json", "infer.json", "outputs.npz"} <= set(made)
    assert set(made.values()) == {user}
    (job / "job.json").write_text("{}")
    done, _, _ = as_stranger("compile.py")
    assert done.returncode == 1
    assert "ERROR: " in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_make_as_another_user_leaves_nothing_of_roots(tmp_path, project, built):
    """The whole cell as a user without a name, in a folder of his own; he may use docker, and read what root keeps."""
    base = built("ncnn")[1]
    asked = ["ncnn", "MODEL=hrnet_tiny", "PRECISION=fp32", "LIMIT=4", "ENGINE=docker", f"BASE={base}"]
    assert project.make(*asked).returncode == 0  # the float network: it need not be exported twice
    theirs = tmp_path / "project"
    shutil.copytree(project.folder, theirs, symlinks=True)
    shutil.rmtree(theirs / "out" / "hrnet_tiny" / "ncnn")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.lchown(path, STRANGER, STRANGER)
    words = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}",
             f"--groups={Path('/var/run/docker.sock').stat().st_gid}",
             "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # fmt: skip
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    kept["HOME"] = str(tmp_path)
    done = subprocess.run([*words, "make", *asked], cwd=theirs, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.lstat().st_uid for path in theirs.rglob("*")} == {STRANGER}
    assert (theirs / "out/hrnet_tiny/ncnn/fp32/compile.json").is_file()
