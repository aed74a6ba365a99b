# shellcheck shell=bash disable=SC2034,SC2154 # variables are shared with common/toolbox.sh
# Which commands of the engine the toolbox may ask for: those that common/engines/container.py and common/image.py need, in the
# very form in which they use them. Whatever is not known here is refused: a stage reads strangers' files (checkpoints,
# graphs), and this is the way out of its container. Sourced by common/toolbox.sh, which sets $project and $engine.
#
# allowed WORD...: fills $command with the command to run, or puts into $reason why it is refused, and returns 1.

command=()
reason=""

refuse() {
  reason=$1
  return 1
}

folder_of() { # folder_of IMAGE: the vendor folder of npumake-<folder>:<content>
  local rest=${1#npumake-}
  [[ $1 =~ ^npumake-[a-z0-9_.-]+:[0-9a-f]{12}$ ]] || return 1
  [[ -f $project/vendors/${rest%:*}/Dockerfile ]] && printf '%s' "${rest%:*}"
}

repository() { # python of python:3.11@sha256:...; the colon of a registry's port is none of a tag
  local name=${1%%@*}
  [[ ${name##*/} == *:* ]] && name=${name%:*}
  printf '%s' "$name"
}

known_base() { # known_base IMAGE: a Dockerfile of vendors/ builds on it, or BASE= names it; any tag and digest of it
  local wanted file
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9./:@_-]*$ ]] || return 1
  wanted=$(repository "$1")
  [[ -n ${BASE:-} && $(repository "$BASE") == "$wanted" ]] && return
  for file in "$project"/vendors/*/Dockerfile; do
    [[ $(repository "$(sed -n 's/^ARG BASE=//p' "$file" | head -n 1)") == "$wanted" ]] && return
  done
  return 1
}

below() { # below FOLDER PATH: PATH is a folder strictly inside it, and no link leads out; prints its own path
  local real
  [[ $2 == /* && -d $2 ]] || return 1
  real=$(cd -P "$2" 2>/dev/null && pwd -P) || return 1
  [[ $real == "$(cd -P "$1" && pwd -P)"/?* ]] && printf '%s' "$real"
}

allowed_inspect() {
  local image=""
  while [[ $# -gt 0 ]]; do
    case $1 in
      --format) [[ $# -ge 2 ]] || break; shift 2 ;;
      -*) refuse "image inspect $1"; return ;;
      *) [[ -z $image ]] || { refuse "image inspect of several images"; return; }; image=$1; shift ;;
    esac
  done
  [[ $# -eq 0 ]] || { refuse "image inspect: $1 without its value"; return; }
  folder_of "$image" >/dev/null || known_base "$image" || refuse "image inspect of '$image', which is none of npumake's"
}

allowed_pull() {
  [[ $# -eq 2 && $1 == --quiet ]] || { refuse "pull $*"; return; }
  known_base "$2" || refuse "pull of '$2', which no Dockerfile of vendors/ builds on"
}

allowed_build() {
  local image="" folder="" based="" seen=" " name
  while [[ $# -gt 0 ]]; do
    name=$1
    [[ $seen != *" $name "* ]] || { refuse "build: $name twice"; return; }
    seen+="$name "
    case $name in
      --no-cache) shift; continue ;;
      --tag | --label | --build-arg | --platform)
        [[ $# -ge 2 ]] || { refuse "build: $name without its value"; return; } ;;
      -*) refuse "build $name"; return ;;
      *) [[ $# -eq 1 ]] || { refuse "build: '$name' before other words"; return; }; folder=$name; break ;;
    esac
    case $name=$2 in
      --label=npumake.base=* | --build-arg=BASE=* | --tag=* | --platform=*) ;;
      *) refuse "build $name $2"; return ;;
    esac
    case $name in
      --tag) image=$2 ;;
      --label) known_base "${2#npumake.base=}" || { refuse "build: label '$2'"; return; } ;;
      --build-arg)
        known_base "${2#BASE=}" ||
          { refuse "build: argument '$2': neither a base of a Dockerfile of vendors/ nor BASE="; return; }
        based=1 ;;
      --platform) [[ $2 =~ ^linux/(amd64|arm64)$ ]] || { refuse "build: platform '$2'"; return; } ;;
    esac
    shift 2
  done
  name=$(folder_of "$image") || { refuse "build of '$image', which is no image of a vendor folder"; return; }
  [[ -n $based ]] || { refuse "build without BASE="; return; }
  [[ $folder == "vendors/$name" || $folder == "$project/vendors/$name" ]] ||
    { refuse "build: '$folder' is not the folder of $image"; return; }
}

allowed_run() {
  local seen=" " name value job="" real shared=""
  while [[ $# -gt 0 && $1 == -* ]]; do
    name=$1
    case $name in
      --rm | --init) shift; value= ;;
      --network | --user | --userns | --cap-drop | --security-opt | --memory | --cpus | --platform | --env | --volume)
        [[ $# -ge 2 ]] || { refuse "run: $name without its value"; return; }
        value=$2
        shift 2 ;;
      *) refuse "run $name"; return ;;
    esac
    [[ $name == --volume || $name == --env || $seen != *" $name "* ]] || { refuse "run: $name twice"; return; }
    seen+="$name "
    case $name=$value in
      --rm= | --init= | --network=none | --cap-drop=ALL | --security-opt=no-new-privileges) ;;
      --env=PROGRESS=1 | --env=NO_COLOR=1) ;;
      --user=*) [[ $value == "$(id -u):$(id -g)" ]] || { refuse "run as another user: '$value'"; return; } ;;
      --userns=keep-id) [[ $engine == podman ]] || { refuse "run: --userns is podman's"; return; } ;;
      --memory=*) [[ $value =~ ^[1-9][0-9]{6,15}$ ]] || { refuse "run: memory '$value'"; return; } ;;
      --cpus=*) [[ $value =~ ^[1-9][0-9]{0,3}$ ]] || { refuse "run: processors '$value'"; return; } ;;
      --platform=*) [[ $value =~ ^linux/(amd64|arm64)$ ]] || { refuse "run: platform '$value'"; return; } ;;
      --volume=*:/job)
        [[ -z $job ]] || { refuse "run: two job folders"; return; }
        job=${value%:/job}
        real=$(below "$project/out" "$job") || { refuse "run: '$job' is no folder of out/"; return; }
        # A colon in the path would make the engine read another mount.
        [[ $real == "$job" && $job != *:* ]] || { refuse "run: '$job' is a link, or holds a colon"; return; } ;;
      --volume=*:/common:ro)
        [[ -z $shared ]] || { refuse "run: common/ twice"; return; }
        shared=${value%:/common:ro}
        [[ $shared == "$project/common" && $shared != *:* ]] || { refuse "run: '$shared' is not common/"; return; } ;;
      *) refuse "run $name $value"; return ;;
    esac
  done
  for name in --rm --init --network --user --cap-drop --security-opt --memory --cpus; do
    [[ $seen == *" $name "* ]] || { refuse "run without $name"; return; }
  done
  [[ -n $job ]] || { refuse "run without a job folder"; return; }
  folder_of "${1-}" >/dev/null || { refuse "run of '${1-}', which is no image of a vendor folder"; return; }
  [[ ${2-} =~ ^[a-z][a-z0-9_]*\.py$ ]] || { refuse "run: '${2-}' is no script of a vendor folder"; return; }
  [[ ${3-} == /job ]] || { refuse "run: the script's first argument is '${3-}', not /job"; return; }
  shift 3
  for value in "$@"; do
    [[ $value == /job/* && $value/ != */../* ]] || { refuse "run: '$value' is not in the job folder"; return; }
  done
}

allowed() {
  local words=("$@") name
  reason="" command=()
  case ${1-} in
    info | version) [[ $# -eq 1 || ($# -eq 3 && $2 == --format) ]] || refuse "$*" ;;
    image) if [[ ${2-} == inspect ]]; then shift 2 && allowed_inspect "$@"; else refuse "image ${2-}"; fi ;;
    pull | build | run) name=$1 && shift && "allowed_$name" "$@" ;;
    *) refuse "${1-nothing}" ;;
  esac || return 1
  command=("$engine" "${words[@]}")
}
