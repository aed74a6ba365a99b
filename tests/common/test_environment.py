"""common/environment.py as make calls it, with wheels and interpreters made here: no network, nothing of the machine's
but the Python that runs the tests.
"""

import os
import select
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from common import environment

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "common/environment.py"
HERE = ".".join(map(str, sys.version_info[:2]))
OTHER = "3.99"


def wheel(folder, name="pretend", version="1.0", body="VALUE = 7\n"):
    """A package of one module, as a wheel."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def place(tmp_path):
    """A folder with requirements.txt (one local wheel, no index) and .python-version (the version that runs here)."""
    wheel(tmp_path / "wheels")
    (tmp_path / "requirements.txt").write_text("--no-index\n--find-links wheels\npretend==1.0\n")
    (tmp_path / ".python-version").write_text(f"{HERE}\n")
    return tmp_path


def interpreter(path, says, code=0):
    """A file that is started like a Python and answers the probe with `says`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def bare(place, **more):
    """An environment in which no Python is found but the one that runs the script."""
    return {"HOME": str(place), "PATH": "/nowhere", **more}


def command(*words):
    return [sys.executable, str(SCRIPT), ".venv/x", "requirements.txt", *words]


def run(place, *words, env=None):
    return subprocess.run(command(*words), cwd=place, env=env or {**os.environ, "PIP_CONFIG_FILE": "/dev/null"},
                          capture_output=True, text=True, check=False)  # fmt: skip


def imported(place, text="import pretend; print(pretend.VALUE)"):
    done = subprocess.run([place / ".venv/x/bin/python", "-c", text], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_two_at_once_make_it_once_and_then_nothing_is_done_again(place):
    both = [subprocess.Popen(command("--python-version", ".python-version"), cwd=place, stderr=subprocess.PIPE,
                             text=True) for _ in range(2)]  # fmt: skip
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sorted(text.count("installing") for text in errors) == [0, 1]
    assert sum(text.count("waiting: another make is making .venv/x") for text in errors) == 1
    assert imported(place) == "7"

    before = (place / ".venv/x/ready").stat().st_mtime_ns
    again = run(place, "--python-version", ".python-version")
    assert (again.returncode, again.stderr) == (0, "")
    assert (place / ".venv/x/ready").stat().st_mtime_ns == before

    # Newer requirements are installed into what is there.
    (place / ".venv/x/marker").touch()
    wheel(place / "wheels", version="2.0", body="VALUE = 8\n")
    (place / "requirements.txt").write_text("--no-index\n--find-links wheels\npretend==2.0\n")
    assert run(place).returncode == 0 and imported(place) == "8" and (place / ".venv/x/marker").exists()


@pytest.fixture
def pretended(place, monkeypatch):
    """environment.main() in this process, with an environment whose Python is this one and whose pip does nothing.

    pretended(*words) returns the exit code; .created: how often an environment was begun. The file pip_fails makes pip
    fail.
    """

    def create(folder, python, lock):
        run_main.created += 1
        python = interpreter(folder / "bin/python", "")
        python.write_text(
            f'#!/bin/sh\n[ "$2" = pip ] && {{ test ! -e pip_fails; exit; }}\nexec {sys.executable} "$@"\n'
        )

    def run_main(*words):
        monkeypatch.setattr(sys, "argv", ["environment.py", ".venv/x", "requirements.txt", *words])
        try:
            environment.main()
        except SystemExit as ended:
            return ended.code
        return 0

    run_main.created = 0
    monkeypatch.setattr(environment, "create", create)
    monkeypatch.chdir(place)
    return run_main


def test_only_a_complete_installation_is_ready(place, pretended, capfd):
    (place / "pip_fails").touch()
    assert pretended() == 1 and not (place / ".venv/x/ready").exists()
    said = capfd.readouterr().err
    assert "ERROR: pip could not install -r requirements.txt into .venv/x\nHINT: " in said
    (place / "pip_fails").unlink()
    after = place / "after_install.py"
    after.write_text("import sys\nsys.exit('noise\\nERROR: the wheel is broken\\nHINT: get another')\n")
    assert pretended("--after", "after_install.py") == 1 and not (place / ".venv/x/ready").exists()
    said = capfd.readouterr().err
    assert said.splitlines()[1:] == ["ERROR: the wheel is broken", "HINT: get another"]
    after.write_text("print('moved 3 files away')\n")
    assert pretended("--after", "after_install.py") == 0 and (place / ".venv/x/ready").exists()
    assert "moved 3 files away" in capfd.readouterr().err
    assert pretended.created == 3  # a half-made one is made anew each time
    after.write_text("print('moved 4 files away')\n")  # newer than `ready`: once more, in the same environment
    assert pretended("--after", "after_install.py") == 0 and pretended.created == 3
    assert "moved 4 files away" in capfd.readouterr().err
    assert pretended("--after", "after_install.py") == 0 and capfd.readouterr().err == ""
    interpreter(place / ".venv/x/bin/python", "its Python was removed", 127)
    assert pretended("--after", "after_install.py") == 0 and pretended.created == 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nothing_of_that_name", "exited with 1\n | Traceback"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9"),
    ],
)
def test_a_crash_of_the_script_after_the_installation_is_a_failure(place, capsys, body, said):
    (place / "bin").mkdir()
    (place / "bin/python").symlink_to(sys.executable)
    (place / "after.py").write_text(body)
    with open(place / "lock", "w") as lock, pytest.raises(SystemExit) as ended:
        environment.run_after(place, str(place / "after.py"), lock.fileno())
    error = capsys.readouterr().err
    assert ended.value.code == 1 and f"ERROR: {place}/after.py {said}" in error and "\nHINT: " in error


def test_another_python_version_is_made_anew(place, pretended):
    assert pretended("--python-version", ".python-version") == 0 and pretended.created == 1
    wrapper = place / ".venv/x/bin/python"
    wrapper.write_text(wrapper.read_text().replace("exec", '[ "$1" = -c ] && echo CPython 3 98 1 && exit\nexec'))
    os.utime(place / ".python-version")  # touched: asked again
    assert pretended("--python-version", ".python-version") == 0 and pretended.created == 2


def test_without_that_python_there_is_one_message_and_nothing_is_made(place):
    (place / ".python-version").write_text(OTHER)
    failed = run(place, "--python-version", ".python-version", env=bare(place))
    assert failed.returncode == 1 and failed.stdout == ""
    error, hint = failed.stderr.splitlines()
    assert error == f"ERROR: no CPython {OTHER} on this machine, and .venv/x needs it"
    assert all(word in hint for word in ("HINT: ", f"apt install python{OTHER}", "pyenv install", "uv python install"))
    assert not (place / ".venv/x").exists()
    skipped = run(place, "--python-version", ".python-version", "--optional", env=bare(place))
    assert (skipped.returncode, skipped.stderr) == (0, f"skipped: .venv/x (no CPython {OTHER})\n")
    assert not (place / ".venv/x").exists()


@pytest.mark.parametrize("text", ["", "pypy3.10", "3", "3.10\nnone", "2.7", "system", "3.x"])
def test_a_version_file_that_names_none_is_refused(place, text):
    (place / ".python-version").write_text(text)
    failed = run(place, "--python-version", ".python-version", env=bare(place))
    assert failed.returncode == 1 and "ERROR: .python-version names no Python version\nHINT: " in failed.stderr


def test_a_missing_file_is_named(place):
    failed = run(place, "--after", "gone.py")
    assert failed.returncode == 1 and failed.stderr.startswith("ERROR: gone.py is missing\nHINT: ")


def test_a_python_on_path_that_refuses_is_passed_over(place, monkeypatch):
    interpreter(place / "shims" / f"python{OTHER}", f"pyenv: python{OTHER}: command not found", 127)
    interpreter(place / "liars" / f"python{OTHER}", "CPython 3 9 1")
    interpreter(place / "pypy" / f"python{OTHER}", "PyPy 3 99 4")
    good = interpreter(place / "good" / f"python{OTHER}", "CPython 3 99 4")
    monkeypatch.setenv(
        "PATH", os.pathsep.join(str(place / name) for name in ("none", "shims", "liars", "pypy", "good"))
    )
    monkeypatch.setenv("PYENV_ROOT", str(place / "pyenv"))
    assert environment.find_python(OTHER) == str(good)
    assert environment.find_python(f"{OTHER}.4") == str(good) and environment.find_python(f"{OTHER}.5") is None
    assert environment.find_python(HERE) == sys.executable  # the running one first


def test_pyenvs_newest_and_then_uvs(place, monkeypatch):
    monkeypatch.setenv("PATH", str(place / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(place / "pyenv"))
    uv = interpreter(place / "uv-python/bin/python", "CPython 3 99 0")
    interpreter(place / "bin/uv", uv)
    assert environment.find_python(OTHER) == str(uv)
    interpreter(place / "bin/uv", "error: no interpreter found", 2)
    assert environment.find_python(OTHER) is None
    for name in ("3.99.2", "3.99.10", "3.990.1"):
        interpreter(place / f"pyenv/versions/{name}/bin/python", f"CPython {name.replace('.', ' ')}")
    assert environment.find_python(OTHER) == str(place / "pyenv/versions/3.99.10/bin/python")
    monkeypatch.delenv("PYENV_ROOT")
    monkeypatch.setenv("HOME", str(place))
    (place / "pyenv").rename(place / ".pyenv")
    assert environment.find_python(OTHER) == str(place / ".pyenv/versions/3.99.10/bin/python")


def test_a_version_is_compared_number_by_number():
    assert environment.fits("3.10.13", "3.10") and environment.fits("3.10.13", "3.10.13")
    assert not environment.fits("3.1.0", "3.10") and not environment.fits("3.10.1", "3.1")
    assert not environment.fits("3.10.1", "3.10.13") and not environment.fits(None, "3.10")


def test_a_killed_make_leaves_the_lock_to_its_pip_and_no_longer(place):
    """The lock goes with the last process that holds it: a second make waits for the first one's pip."""
    holder = """if True:
        import subprocess, sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        import environment
        with environment.alone(Path(".venv/x")) as lock:
            child = subprocess.Popen(["sh", "-c", "read line"], pass_fds=(lock,))
            print("held", flush=True)
            time.sleep(600)
    """
    first = subprocess.Popen([sys.executable, "-c", holder, str(ROOT / "common")], cwd=place, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert first.stdout.readline() == "held\n"
    first.kill()
    first.wait()
    (place / ".python-version").write_text(OTHER)
    second = subprocess.Popen(command("--python-version", ".python-version", "--optional"), cwd=place,
                              stderr=subprocess.PIPE, text=True, env=bare(place))  # fmt: skip
    assert select.select([second.stderr], [], [], 60)[0], "nothing was said for a minute"
    assert second.stderr.readline() == "waiting: another make is making .venv/x\n"
    time.sleep(0.2)
    assert second.poll() is None
    first.stdin.close()  # the child ends
    assert second.communicate()[1] == f"skipped: .venv/x (no CPython {OTHER})\n"
    assert second.returncode == 0


def test_of_several_versions_the_running_one_comes_first_then_their_order(tmp_path, monkeypatch):
    path = tmp_path / ".python-version"
    path.write_text(f"# any of these\n{OTHER}\n{HERE}\n3.98\n")
    allowed = environment.read_versions(path)
    assert allowed == [OTHER, HERE, "3.98"]
    assert environment.choose_python(allowed) == (sys.executable, HERE)
    monkeypatch.setattr(environment, "find_python", lambda version: f"/python{version}" if version != HERE else None)
    assert environment.choose_python(allowed) == (f"/python{OTHER}", OTHER)
    monkeypatch.setattr(environment, "find_python", lambda version: None)
    assert environment.choose_python(allowed) == (None, f"{OTHER} or {HERE} or 3.98")
