"""The install step: the wheel's own C library out of the way where it conflicts, and tools that are shown to start."""

import importlib.util
import subprocess

import pytest

from .conftest import VENDOR, failed

FILES = ("libc.so.6", "libm.so.6", "libpthread.so.0")


@pytest.fixture
def after_install():
    specification = importlib.util.spec_from_file_location("after_install", VENDOR / "after_install.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def libraries(tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(b"\x7fELF... GNU C Library, stable release version 2.35.\n")
    return tmp_path


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_an_older_bundled_library_is_moved_once_and_for_all(after_install, libraries):
    assert "moved" in after_install.mend_libc(libraries, (2, 36))
    assert names(libraries) == {after_install.MOVED_TO}
    assert names(libraries / after_install.MOVED_TO) == set(FILES)
    assert after_install.mend_libc(libraries, (2, 36)) == "no C library in the way"


def test_an_interrupted_move_is_taken_up_again(after_install, libraries):
    aside = libraries / after_install.MOVED_TO
    aside.mkdir()
    (libraries / "libpthread.so.0").rename(aside / "libpthread.so.0")
    after_install.mend_libc(libraries, (2, 41))
    assert names(aside) == set(FILES)


@pytest.mark.parametrize("host", [(2, 35), (2, 31)])
def test_a_host_that_is_no_newer_keeps_it(after_install, libraries, host):
    assert "fits" in after_install.mend_libc(libraries, host)
    assert names(libraries) == set(FILES)


def test_what_is_no_c_library_or_no_glibc_is_said(after_install, libraries, capsys):
    with pytest.raises(SystemExit):
        after_install.mend_libc(libraries, None)
    assert "is not glibc" in capsys.readouterr().err
    (libraries / "libc.so.6").write_bytes(b"nothing")
    with pytest.raises(SystemExit):
        after_install.mend_libc(libraries, (2, 36))
    assert "the wheel is broken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        (
            {"python/tools/model_transform.py": "import numpy, no_such_module"},
            "model_transform of tpu_mlir does not start",
        ),
        ({"bin/tpuc-opt": "#!/bin/sh\necho \"libc.so.6: version 'GLIBC_2.99' not found\" >&2; exit 1"}, "GLIBC_2.99"),
        ({"bin/model_tool": None}, "model_tool of tpu_mlir does not start"),
    ],
)
def test_a_broken_wheel_is_an_error_with_a_way_out(shadow, replaced, words):
    command = [str(shadow(replaced)), str(VENDOR / "after_install.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert words in failed(done)


def test_the_real_environment_passes_again(toolchain):
    command = [str(toolchain), str(VENDOR / "after_install.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all tools start" in done.stdout
