#!/usr/bin/env bash
# The toolbox: npumake's stages in a container, for people who have docker or podman, make, bash and git, and no Python.
#
#   common/toolbox.sh build          builds the image npumake-toolbox:<content>, unless it is there
#   common/toolbox.sh run WORDS...   runs a command in it: python -m common STAGE ...
#
# make calls it where TOOLBOX=docker or TOOLBOX=podman is set. TOOLBOX_BASE is another image to build on, TOOLBOX_INDEX
# a further package index (common/Dockerfile says why). docs/toolbox.md has the whole of it. Written for bash 3.2, which
# macOS has.
set -euo pipefail

script=$(cd "$(dirname "$0")" && pwd -P)
project=$(dirname "$script")
cd "$project"
engine=${TOOLBOX:-docker}
state=$project/.venv/toolbox # not mounted: what the host keeps to itself lies here

fail() { # fail MESSAGE HINT [EXIT CODE]
  printf 'ERROR: %s\nHINT: %s\n' "$1" "$2" >&2
  exit "${3:-1}"
}

# shellcheck source=common/toolbox/image.sh
source "$script/toolbox/image.sh"
# shellcheck source=common/toolbox/mounts.sh
source "$script/toolbox/mounts.sh"
# shellcheck source=common/toolbox/allowed.sh
source "$script/toolbox/allowed.sh"
# shellcheck source=common/toolbox/relay.sh
source "$script/toolbox/relay.sh"

forward() { # forward SIGNAL: to the command in the container, which may only just be starting
  interrupted=1
  (
    trap '' INT TERM HUP
    for ((try = 0; try < 100; try++)); do
      "$engine" kill --signal "$1" "$container" >/dev/null 2>&1 && break
      kill -0 "$client" 2>/dev/null || break
      sleep 0.1
    done
  ) &
}

# What the stages look at. Everything else of the caller's environment stays outside.
passed_on() {
  local name
  printf '%s\0' --env "TOOLBOX=$engine" --env "ENGINE=$engine" --env PYTHONUNBUFFERED=1
  for name in BASE V NO_COLOR TERM COLUMNS OMP_NUM_THREADS ${!NPUMAKE_@}; do
    [[ -n ${!name:-} ]] && printf '%s\0' --env "$name=${!name}"
  done
  [[ $1 == none ]] && return
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [[ -n ${!name:-} ]] && printf '%s\0' --env "$name=${!name}"
  done
  return 0
}

run() {
  local stage="" network=none code=0 word
  [[ $# -gt 0 ]] || fail "run what? common/toolbox.sh run python -m common STAGE" "make calls it: make TOOLBOX=docker" 2
  [[ ${1-} == python && ${2-} == -m && ${3-} == common ]] && stage=${4-}
  [[ $stage == weights ]] && network=default # the one stage that downloads
  mount_project "$stage"
  for name in ${TOOLBOX_NAMES:-ONNX SPEC WEIGHTS CALIB EVAL}; do
    mount_named "${!name:-}"
  done
  for word in "$@"; do
    mount_named "$word"
    [[ $word == *=* ]] && mount_named "${word#*=}"
  done

  prepare_relay
  make_image
  start_relay
  container=npumake-toolbox-$$-$RANDOM
  local options=(--rm --init --pull never --name "$container" --user "$(id -u):$(id -g)" --cap-drop ALL)
  options+=(--security-opt no-new-privileges --workdir "$project")
  [[ $engine == podman ]] && options+=(--userns keep-id)
  [[ $network == none ]] && options+=(--network none)
  [[ -t 1 && -t 2 ]] && options+=(--tty) # progress bars; without one, stdout and stderr stay apart
  while IFS= read -r -d '' word; do options+=("$word"); done < <(passed_on "$network")
  interrupted="" client=""
  trap 'forward INT' INT
  trap 'forward TERM' TERM HUP
  # A process group of its own (-m): a terminal's Ctrl-C comes by forward() alone, and once.
  set -m
  "$engine" run "${options[@]}" "${mounts[@]}" "${relay_mounts[@]}" "$image" "$@" </dev/null &
  client=$!
  set +m
  wait "$client" || code=$?
  while kill -0 "$client" 2>/dev/null; do wait "$client" || code=$?; done # a signal ends `wait` early
  [[ -n $interrupted ]] && { wait "$client" || code=$?; }
  stop_relay
  case $code in
    125) fail "$engine could not start the toolbox; its own words stand above" "see docs/toolbox.md" ;;
    137) [[ -n $interrupted ]] || fail "the toolbox was killed by signal 9" \
      "often a lack of memory; Docker Desktop: Settings, Resources" ;;
  esac
  exit "$code"
}

case $engine in
  docker | podman) ;;
  *) fail "TOOLBOX=$engine: there is no such container engine" "TOOLBOX=docker or TOOLBOX=podman" 2 ;;
esac
[[ ${ENGINE:-$engine} == "$engine" ]] ||
  fail "TOOLBOX=$engine with ENGINE=$ENGINE: the toolbox runs the vendors' containers by its own engine" \
    "leave ENGINE= out" 2
command -v "$engine" >/dev/null ||
  fail "TOOLBOX=$engine: there is no $engine on this machine" \
    "install it; or leave TOOLBOX= out, with Python 3.10 to 3.13 on this machine"
case ${DOCKER_HOST:-} in
  ssh://* | tcp://* | http://* | https://*) fail \
    "TOOLBOX=$engine: DOCKER_HOST is another machine's engine, and no folder of this one can be mounted there" \
    "leave DOCKER_HOST out; or leave TOOLBOX= out: then the vendors' containers alone run there" ;;
esac

case ${1-} in
  build) make_image ;;
  run) shift && run "$@" ;;
  *) fail "common/toolbox.sh ${1-}: it builds or runs the toolbox" "make help; docs/toolbox.md" 2 ;;
esac
