"""Published weights: fetched once, resumed after a cut, believed only when their hash agrees.

    python -m common.weights MODEL      (make weights MODEL=...)

The file arrives as models/<model>/weights/<file>.partial and gets its name when its SHA-256 is the declared one.
"""

from __future__ import annotations

import argparse
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from common.basics.errors import UserError, run
from common.basics.files import sha256_file
from common.basics.progress import Progress
from common.declarations.spec import MODELS_FOLDER, ModelSpec, WeightsSpec, load_model

TIMEOUT_SECONDS = 60
BLOCK = 1 << 18
MEGABYTE = 1_000_000
USER_AGENT = "npumake"  # some servers refuse Python's own name


def fetch_weights(spec: ModelSpec) -> Path:
    """The model's published weights, downloaded unless they are there already; returns their path.

    Raises UserError when the model has none to download, the connection fails or is cut (what came is kept, and the
    next call goes on from there), or the hash is wrong (the file is kept aside as .wrong).
    """
    weights = spec.weights
    if weights is None:
        raise UserError(f"{spec.name} declares no weights", "give your own: WEIGHTS=file.pth, or try WEIGHTS=random")
    target = MODELS_FOLDER / spec.name / "weights" / weights.file
    if weights.export:
        return _fetch_and_export(spec, weights, target)
    if target.is_file():
        check_hash(target, target, weights)
        print(f"{target} is there already{', and its hash agrees' if weights.sha256 else ''}")
        return target
    if weights.url is None:
        raise UserError(f"the weights of {spec.name} cannot be downloaded", f"{_by_hand(weights, target)}")
    print(f"weights of {spec.name}: licence {weights.licence}; source {weights.source or weights.url}")
    partial = target.with_name(target.name + ".partial")
    download(weights.url, partial, _by_hand(weights, target))
    check_hash(partial, target, weights)
    os.replace(partial, target)
    print(f"{target}: complete{', and its hash agrees' if weights.sha256 else ''}")
    return target


def _fetch_and_export(spec: ModelSpec, weights: WeightsSpec, target: Path) -> Path:
    """For weights that are published as a checkpoint of a tool with a licence of its own: that tool makes the file.

    The declared hash is the checkpoint's: no two exports are alike to the byte.
    """
    from common.checkpoints.ultralytics_export import (  # it is heavy
        checkpoint_name,
        checkpoint_url,
        export_checkpoint,
        licence_notice,
    )

    print(licence_notice(spec), flush=True)
    if target.is_file():
        print(f"{target} is there already")
        return target
    checkpoint = target.with_name(checkpoint_name(weights))
    if not checkpoint.is_file():
        url = checkpoint_url(weights)
        partial = checkpoint.with_name(checkpoint.name + ".partial")
        by_hand = f"fetch {url} elsewhere and put it at {checkpoint}, or give an export of it: WEIGHTS=file.onnx"
        download(url, partial, by_hand)
        check_hash(partial, checkpoint, weights)
        os.replace(partial, checkpoint)
    export_checkpoint(spec, checkpoint, target)
    print(f"{target}: complete")
    return target


def download(url: str, partial: Path, by_hand: str) -> None:
    """Fetch `url` into `partial`, going on where an earlier attempt stopped. UserError when it stays incomplete.

    A server that ignores Range answers 200 with the whole file: then it starts anew. by_hand: the hint without network.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    have = partial.stat().st_size if partial.exists() else 0
    # Without identity a server may compress, and neither length nor Range would count the file's own bytes.
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as answer:
            resumed = answer.status == 206 and _range_start(answer) == have
            if answer.status == 206 and not resumed:
                raise UserError(f"{url}: the server sent another part than the one asked for", f"remove {partial}")
            have = have if resumed else 0
            total = have + int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
            _show_size(total, have)
            _copy(answer, partial, have, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what is here: complete, or not the same file; the hash decides
            return
        raise UserError(f"{url}: the server answers {error.code} {error.reason}", by_hand) from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url} cannot be downloaded: {reason}{_kept(partial)}", by_hand) from None
    size = partial.stat().st_size
    if total is not None and size < total:
        raise UserError(
            f"{url}: the connection was cut after {size} of {total} bytes", "run the same again: it resumes"
        )


def _copy(answer: http.client.HTTPResponse, partial: Path, have: int, total: int | None) -> None:
    with (
        open(partial, "ab" if have else "wb") as file,
        Progress(partial.stem, total and -(-total // MEGABYTE), have // MEGABYTE, "MB") as progress,
    ):
        while block := answer.read(BLOCK):
            file.write(block)
            have += len(block)
            if total:
                progress.advance(have // MEGABYTE - progress.done)
            else:
                progress.tell(f"{have / MEGABYTE:.1f} MB")


def _range_start(answer: http.client.HTTPResponse) -> int | None:
    """The first byte's number in "Content-Range: bytes 100-199/200"."""
    start = (answer.headers["Content-Range"] or "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else None


def _show_size(total: int | None, have: int) -> None:
    size = "size unknown" if total is None else f"{total / 1e6:.1f} MB"
    print(f"{size}{f', {have / 1e6:.1f} MB of it here already' if have else ''}", flush=True)


def check_hash(path: Path, target: Path, weights: WeightsSpec) -> None:
    """Raises UserError when the file's SHA-256 does not begin with the declared one; then it is kept as .wrong."""
    found = sha256_file(path)
    if weights.sha256 is None or found.startswith(weights.sha256):
        return
    aside = target.with_name(target.name + ".wrong")
    os.replace(path, aside)
    raise UserError(
        f"{target.name}: its SHA-256 is {found}, not {weights.sha256}...; kept aside as {aside}",
        f"run the same again; if it stays, the file at {weights.url} is not the one that was published",
    )


def _by_hand(weights: WeightsSpec, target: Path) -> str:
    source = weights.source or "its publisher"
    where = f"fetch {weights.url} elsewhere" if weights.url else f"get the file from {source}"
    return f"{where} and put it at {target} (licence {weights.licence}); or give WEIGHTS=file.pth"


def _kept(partial: Path) -> str:
    size = partial.stat().st_size if partial.exists() else 0
    return f" ({size} bytes are kept: the next attempt resumes)" if size else ""


def main() -> None:
    """python -m common.weights MODEL"""
    parser = argparse.ArgumentParser(description="download a model's published weights")
    parser.add_argument("model")
    fetch_weights(load_model(parser.parse_args().model))


if __name__ == "__main__":
    run(main)
