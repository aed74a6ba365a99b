"""Runs our GitHub Actions workflows here: each job in a folder of its own, each `run:` step in bash, as a runner does.

Actions of others are played: what setup-python, cache, upload-artifact and download-artifact leave in the workspace is
made by their documented rules. Whatever is not known here is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT
from tests.workflow_expressions import condition, filled, in_words

KINDS = {"string": str, "boolean": bool, "number": int, "choice": str}


def read_workflow(path: str) -> dict[str, Any]:
    """A workflow or an action of the project, by its path as `uses:` writes it."""
    file = ROOT / path
    return yaml.safe_load((file / "action.yml" if file.is_dir() else file).read_text())


@dataclass
class Ran:
    """A step that was executed."""

    job: str
    name: str
    command: str
    output: str
    code: int


@dataclass
class Runner:
    """checkout(workspace, contexts, options) lays the project into a job's empty folder. not_run: commands that are
    only noted. environment: of the machines."""

    folder: Path
    checkout: Callable[[Path, dict[str, Any], dict[str, Any]], None]
    github: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()
    ran: list[Ran] = field(default_factory=list)
    summary: str = ""
    caches: dict[str, Path] = field(default_factory=dict)

    def workflow(
        self, path: str, inputs: dict[str, Any], call: str = "", only: tuple[str, ...] = ()
    ) -> dict[str, dict[str, Any]]:
        """Run a workflow's jobs (only: these) in the order of their needs. Returns {job: {"result", "outputs"}}.

        call: the name of the job that called it.
        """
        declared = read_workflow(path)
        trigger = declared.get("on") or declared[True]
        asked = (trigger.get("workflow_call" if call else "workflow_dispatch") or {}).get("inputs") or {}
        # Only somebody's own start, or a call, has inputs.
        inputs = check_inputs(asked, inputs) if call or self.github["event_name"] == "workflow_dispatch" else {}
        results: dict[str, dict[str, Any]] = {}
        waiting = {name: job for name, job in declared["jobs"].items() if not only or name in only}
        while waiting:
            name = next(n for n, job in waiting.items() if set(needs_of(job)) <= set(results))
            job = waiting.pop(name)
            needs = {need: results[need] for need in needs_of(job)}
            contexts = {"github": self.github, "inputs": inputs, "needs": needs, "secrets": self.secrets}
            results[name] = self.job(f"{call}{name}", job, declared, contexts)
        return results

    def job(self, name: str, job: dict[str, Any], declared: dict[str, Any], contexts: dict[str, Any]) -> dict[str, Any]:
        failed = any(need["result"] != "success" for need in contexts["needs"].values())
        if not condition(job.get("if"), contexts, self.folder, failed):
            return {"result": "skipped", "outputs": {}}
        entries: list[dict[str, Any]] = [{}]
        if "strategy" in job:
            entries = filled(job["strategy"]["matrix"], contexts, self.folder)["include"]
            assert 0 < len(entries) <= 256, "a matrix of no entries, or too many, is an error"
        results = []
        for number, entry in enumerate(entries):
            own = contexts | {"matrix": entry, "strategy": {"job-index": number}}
            if "uses" in job:
                results.append(self._called(f"{name}-{number}.", job, own))
            else:
                results.append(self._steps_of_job(f"{name}-{number}", job, declared, own))
        found = {result["result"] for result in results}
        verdict = next((one for one in ("failure", "success") if one in found), "skipped")
        return {"result": verdict, "outputs": results[-1]["outputs"]}

    def _called(self, name: str, job: dict[str, Any], contexts: dict[str, Any]) -> dict[str, Any]:
        inputs = {key: filled(value, contexts, self.folder) for key, value in job.get("with", {}).items()}
        outer, self.secrets = self.secrets, {
            key: filled(value, contexts, self.folder) or "" for key, value in job.get("secrets", {}).items()
        }  # fmt: skip
        try:
            results = self.workflow(job["uses"], inputs, name)
        finally:
            self.secrets = outer
        found = {result["result"] for result in results.values()}
        return {"result": next((one for one in ("failure", "success") if one in found), "skipped"), "outputs": {}}

    def _steps_of_job(
        self, name: str, job: dict[str, Any], declared: dict[str, Any], contexts: dict[str, Any]
    ) -> dict[str, Any]:
        workspace = self.folder / "jobs" / name
        workspace.mkdir(parents=True)
        variables = {**declared.get("env", {}), **job.get("env", {})}
        variables = {key: in_words(filled(value, contexts, workspace)) for key, value in variables.items()}
        job_run = JobRun(self, name, workspace, variables, declared["defaults"]["run"]["shell"])
        failed = job_run.steps(job["steps"], contexts)
        for key, path in job_run.to_save:
            if path.exists() and not failed:
                self.caches[key] = path
        contexts = contexts | {"steps": job_run.outputs}
        outputs = {key: filled(value, contexts, workspace) for key, value in job.get("outputs", {}).items()}
        return {"result": "failure" if failed else "success", "outputs": outputs}


class JobRun:
    """One job on one machine."""

    def __init__(self, runner: Runner, name: str, workspace: Path, variables: dict[str, str], shell: str):
        self.runner, self.name, self.workspace = runner, name, workspace
        self.variables, self.shell = variables, shell
        self.outputs: dict[str, Any] = {}
        self.to_save: list[tuple[str, Path]] = []

    def steps(self, steps: list[dict[str, Any]], contexts: dict[str, Any], shell: str = "") -> bool:
        """Run steps; returns whether one failed. shell: of a composite action, whose steps name their own."""
        failed, outputs = False, self.outputs if not shell else {}
        for number, step in enumerate(steps):
            own = contexts | {"steps": outputs}
            if not condition(step.get("if"), own, self.workspace, failed):
                continue
            if "run" in step:
                code, found = self._run(number, step, own, step["shell"] if shell else self.shell)
            else:
                given = {key: filled(value, own, self.workspace) for key, value in step.get("with", {}).items()}
                code, found = self._uses(step["uses"], given, own)
            outputs[step.get("id", f"-{number}")] = {"outputs": found}
            failed = failed or code != 0
        return failed

    def _run(self, number: int, step: dict[str, Any], contexts: dict[str, Any], shell: str) -> tuple[int, dict]:
        assert shell == "bash" and "${{" not in step["run"], f"only bash, and values by env: {step}"
        if step["run"].strip() in self.runner.not_run:
            self.runner.ran.append(Ran(self.name, step.get("name", ""), step["run"], "", 0))
            return 0, {}
        output, summary = (self.workspace / f".{number}-{file}" for file in ("output", "summary"))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        environment |= self.runner.environment | self.variables
        environment |= {key: in_words(filled(v, contexts, self.workspace)) for key, v in step.get("env", {}).items()}
        environment |= {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, cwd=self.workspace, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
        self.runner.ran.append(Ran(self.name, step.get("name", ""), step["run"], done.stdout, done.returncode))
        self.runner.summary += summary.read_text() if summary.exists() else ""
        lines = output.read_text().splitlines() if output.exists() else []
        return done.returncode, dict(line.split("=", 1) for line in lines)

    def _uses(self, action: str, given: dict[str, Any], contexts: dict[str, Any]) -> tuple[int, dict[str, str]]:
        if action.startswith("./"):
            declared = read_workflow(action)
            assert declared["runs"]["using"] == "composite"
            inputs = check_inputs(declared["inputs"], given)
            own = {"github": contexts["github"], "inputs": inputs}  # a composite action sees no secrets
            return int(self.steps(declared["runs"]["steps"], own, shell="own")), {}
        name, _, commit = action.partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{action} is not pinned"
        handlers = {
            "actions/checkout": self._checkout,
            "actions/setup-python": self._setup_python,
            "actions/cache": self._cache,
            "actions/upload-artifact": self._upload,
            "actions/download-artifact": self._download,
        }
        return handlers[name](given, contexts)

    def _checkout(self, given: dict[str, Any], contexts: dict[str, Any]) -> tuple[int, dict[str, str]]:
        assert given.pop("persist-credentials") is False and set(given) <= {"fetch-depth"}
        assert not list(self.workspace.iterdir()), "the checkout comes first"
        self.runner.checkout(self.workspace, contexts, given)
        return 0, {}

    def _setup_python(self, given: dict[str, Any], contexts: dict[str, Any]) -> tuple[int, dict[str, str]]:
        assert all(re.fullmatch(r"3\.1\d", word) for word in given["python-version"].split())
        assert given["cache"] == "pip" and given["cache-dependency-path"].split()
        return 0, {}

    def _cache(self, given: dict[str, Any], contexts: dict[str, Any]) -> tuple[int, dict[str, str]]:
        key, path = given["key"], self.workspace / given["path"]
        assert not key.endswith("-"), f"the cache's key {key} does not depend on anything"
        if key not in self.runner.caches:
            self.to_save.append((key, path))
            return 0, {"cache-hit": ""}
        path.parent.mkdir(parents=True, exist_ok=True)
        saved = self.runner.caches[key]
        (shutil.copytree if saved.is_dir() else shutil.copyfile)(saved, path)
        return 0, {"cache-hit": "true"}

    def _upload(self, given: dict[str, Any], contexts: dict[str, Any]) -> tuple[int, dict[str, str]]:
        target = self.runner.folder / "artifacts" / given["name"]
        assert re.fullmatch(r"[\w.-]+", given["name"]) and not target.exists(), f"artifact {given['name']}"
        lines = given["path"].split()
        wanted = [line for line in lines if not line.startswith("!")]
        excluded = [as_pattern(line[1:]) for line in lines if line.startswith("!")]
        # The artifact's root is the least common ancestor of what stands before the first wildcard of each path.
        starts = [Path(re.split(r"[*?\[]", line)[0].rpartition("/")[0] if "*" in line else line) for line in wanted]
        root = starts[0] if len(set(starts)) == 1 else Path(os.path.commonpath(starts))
        patterns = [as_pattern(line) for line in wanted]
        count = 0
        for path in sorted(self.workspace.rglob("*")):
            name = path.relative_to(self.workspace)
            if not path.is_file() or any(part.startswith(".") for part in name.parts):
                continue
            if any(p.match(str(name)) for p in patterns) and not any(p.match(str(name)) for p in excluded):
                (target / name.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name.relative_to(root))
                count += 1
        return int(count == 0 and given.get("if-no-files-found") == "error"), {}

    def _download(self, given: dict[str, Any], contexts: dict[str, Any]) -> tuple[int, dict[str, str]]:
        place, store = self.workspace / given["path"], self.runner.folder / "artifacts"
        if "name" in given:
            if not (store / given["name"]).is_dir():
                return 1, {}
            found = [(store / given["name"], place)]
        else:
            merged = given.get("merge-multiple", False)
            found = [(path, place if merged else place / path.name) for path in sorted(store.glob(given["pattern"]))]
        for number, (source, target) in enumerate(found):
            shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
            # The order in which they arrive has nothing to do with the order in which they were made.
            for later, path in enumerate(sorted((p for p in target.rglob("*") if p.is_file()), reverse=True)):
                os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 1000 + number + later / 1000))
        return 0, {}


def needs_of(job: dict[str, Any]) -> list[str]:
    """The jobs that a job waits for."""
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs


def check_inputs(declared: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The inputs with their defaults; an unknown, a missing and a wrong one are errors."""
    assert set(given) <= set(declared), f"unknown inputs: {set(given) - set(declared)}"
    missing = {name for name, one in declared.items() if one.get("required") and "default" not in one} - set(given)
    assert not missing, f"missing inputs: {missing}"
    result = {name: given.get(name, one.get("default")) for name, one in declared.items()}
    for name, value in result.items():
        kind = KINDS[declared[name].get("type", "string")]
        assert isinstance(value, kind), f"input {name} is {value!r}, no {kind.__name__}"
    return result


def as_pattern(text: str) -> re.Pattern[str]:
    """A path with wildcards as upload-artifact reads it; what it matches stands for all below, too."""
    parts = re.split(r"(\*\*|\*)", text)
    words = "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    return re.compile(f"{words}(/.*)?$")
