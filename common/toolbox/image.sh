# shellcheck shell=bash disable=SC2034,SC2154 # variables are shared with common/toolbox.sh
# The toolbox's image: named by what it is made from, built where it is missing. Sourced by common/toolbox.sh, which
# sets $project, $engine and $state. Sets $image.

sources=(common/Dockerfile requirements.txt constraints.txt)

content() { # twelve hexadecimal digits of a hash over the sources
  local hash
  if command -v sha256sum >/dev/null; then
    hash=(sha256sum)
  elif command -v shasum >/dev/null; then
    hash=(shasum -a 256)
  else
    fail "there is neither sha256sum nor shasum on this machine" "install coreutils"
  fi
  cat "${sources[@]}" | "${hash[@]}" | cut -c 1-12
}

no_answer() { # no_answer WORDS OF THE ENGINE
  case $1 in
    *"permission denied"*) fail "$engine does not answer: $1" \
      "this user may not use $engine: sudo usermod -aG $engine \$USER, then log in again" ;;
    *) fail "$engine does not answer: $1" \
      "is it running? \`$engine info\` tells; sudo systemctl start $engine, or start Docker Desktop" ;;
  esac
}

cure_of() { # cure_of LOG: what helps, by the engine's own words
  case $(tail -n 20 "$1" | tr '[:upper:]' '[:lower:]') in
    *"no space left on device"* | *"disk quota exceeded"*)
      echo "the disk is full: \`$engine system prune\` removes what no container uses" ;;
    *"pull access denied"* | *unauthorized* | *toomanyrequests* | *"manifest unknown"*)
      echo "the registry refused the base image: \`$engine login\`, or TOOLBOX_BASE=an image that this machine has" ;;
    *"no such host"* | *"i/o timeout"* | *"connection refused"* | *"network is unreachable"* \
      | *"failed to do request"* | *"context deadline exceeded"* | *"while awaiting headers"*)
      echo "the registry cannot be reached: a proxy of the engine's; or TOOLBOX_BASE=an image that this machine has" ;;
    *"no matching distribution"* | *"connection broken"* | *"connectionerror"*)
      echo "pip found no package, or no network: a package index can be given as TOOLBOX_INDEX=" ;;
    *) echo "see the log; docs/toolbox.md" ;;
  esac
}

make_image() { # sets $image; builds it where it is missing, or stands on another base than TOOLBOX_BASE
  local form='{{index .Config.Labels "npumake.base"}}' found log=$state/build.log file
  for file in "${sources[@]}"; do
    [[ -f $file ]] || fail "$file is missing" "restore it: git checkout brings back what the project ships"
  done
  image=npumake-toolbox:$(content)
  if found=$("$engine" image inspect --format "$form" "$image" 2>/dev/null); then
    [[ -z ${TOOLBOX_BASE:-} || $found == "$TOOLBOX_BASE" ]] && return
  else
    found=$("$engine" image inspect "$image" 2>&1 >/dev/null) || true
    case $(printf '%s' "$found" | tr '[:upper:]' '[:lower:]') in
      *"no such image"* | *"image not known"* | *"no such object"*) ;;
      *) no_answer "$(printf '%s\n' "$found" | tail -n 1)" ;;
    esac
  fi
  build_image "$log"
}

build_image() { # build_image LOG
  local log=$1 base=${TOOLBOX_BASE:-} words=(build --file common/Dockerfile --tag "$image")
  [[ -n $base ]] || base=$(sed -n 's/^ARG BASE=//p' common/Dockerfile)
  words+=(--build-arg "BASE=$base" --label "npumake.base=$base")
  [[ -n ${TOOLBOX_INDEX:-} ]] && words+=(--build-arg "INDEX=$TOOLBOX_INDEX")
  mkdir -p "$state" 2>/dev/null || fail "the folder $state cannot be made" "who owns .venv? is the disk full?"
  printf '%-11s %s\n' toolbox "building $image on $base (once; some minutes; log: ${log#"$project/"})" >&2
  trap 'fail "interrupted" "run the same make again"' INT TERM HUP
  if [[ -t 2 ]]; then
    "$engine" "${words[@]}" . 2>&1 </dev/null | tee "$log" >&2 && return
  else
    "$engine" "${words[@]}" . >"$log" 2>&1 </dev/null && return
    tail -n 12 "$log" | sed 's/^/ | /' >&2
  fi
  fail "$engine build of $image failed (log: ${log#"$project/"})" "$(cure_of "$log")"
}
