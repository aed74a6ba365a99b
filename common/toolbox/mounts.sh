# shellcheck shell=bash disable=SC2034,SC2154 # variables are shared with common/toolbox.sh
# What the toolbox sees of this machine: the project at its own path, so that every path means the same inside and
# outside, and the files that the user names. Sourced by common/toolbox.sh, which sets $project. Fills $mounts.

mounts=()
# Nothing may be mounted over these: the image's own programs, or its temporary files, would be hidden.
own_folders=" / /bin /dev /etc /lib /lib64 /opt /proc /root /run /sbin /sys /tmp /usr /usr/local /var "

quoted() { # a field of --mount, which is read as CSV
  case $1 in
    *[,\"]*) printf '"%s"' "$(printf '%s' "$1" | sed 's/"/""/g')" ;;
    *) printf '%s' "$1" ;;
  esac
}

mount_at() { # mount_at SOURCE TARGET ro|rw; the same twice is mounted once
  local words known
  words="type=bind,$(quoted "source=$1"),$(quoted "target=$2")"
  [[ $3 == ro ]] && words+=,readonly
  for known in ${mounts[@]+"${mounts[@]}"}; do
    [[ $known == "$words" ]] && return
  done
  mounts+=(--mount "$words")
}

inside_project() { [[ $1 == "$project" || $1 == "$project"/* ]]; }

mount_writable() { # mount_writable FOLDER of the project; it may be a link to a larger disk
  local folder=$project/$1 real
  mkdir -p "$folder" 2>/dev/null || fail "the folder $1/ cannot be made" "check owner and mode of $project"
  real=$(cd -P "$folder" && pwd -P)
  [[ -w $real ]] || fail "not allowed to write $1/ (owner $(owner_of "$real"), you are $(id -u))" \
    "check its owner and mode; \`sudo chown -R \$USER $1\` where root made it"
  mount_at "$real" "$real" rw
}

owner_of() { # the number of a file's owner; ls, because GNU's and BSD's stat differ
  # shellcheck disable=SC2012
  ls -lnd "$1" | awk '{print $3}'
}

mount_project() { # mount_project STAGE: what it may write is writable
  if [[ $1 == readme ]]; then # replaces README.md, which takes a writable folder; it reads what npumake itself wrote
    mount_at "$project" "$project" rw
    mkdir -p "$state" && mount_at "$project/.venv" "$project/.venv" ro # the relay's folders are not the stage's
    return
  fi
  mount_at "$project" "$project" ro
  case $1 in
    weights | new_model) mount_writable models ;; # models/*/weights, and the folder may not be there yet
    new_chip) mount_writable vendors ;;
    calib.renderer.__main__) mount_writable calib ;;
    *) mount_writable out ;;
  esac
}

mount_named() { # mount_named WORD: where it is a path outside the project that is there, readable at that path
  local path=${1%/} real
  [[ -n $1 && -z $path ]] && path=/
  [[ -n $path && $path == */* && -e $path ]] || return 0
  if [[ $path == /* && $path != */../* && $path != */.. && $path != */./* ]]; then
    mount_readable "$path"
  elif [[ -d $path ]]; then
    mount_readable "$(cd -P "$path/.." && pwd -P)/$(basename "$(cd "$path" && pwd)")"
  else
    mount_readable "$(cd -P "$(dirname "$path")" && pwd -P)/$(basename "$path")"
  fi
  real=$(readlink -f "$path")
  mount_readable "$real"
  # An ONNX file may name files beside it that hold its weights.
  if [[ $real == *.onnx && -f $real ]] && ! inside_project "$real" && LC_ALL=C grep -qa location "$real"; then
    mount_readable "$(dirname "$real")"
  fi
  # A set may be a folder of links: what they lead to is needed as well. Two levels: set/val2017/*.jpg.
  if [[ -d $real ]] && ! inside_project "$real"; then
    while IFS= read -r path; do
      real=$(readlink -f "$path") && [[ -e $real ]] || continue
      [[ -d $real ]] || real=$(dirname "$real")
      mount_readable "$real"
    done < <(find "$real" -maxdepth 2 -type l)
  fi
}

mount_readable() { # mount_readable PATH, absolute
  inside_project "$1" && return
  [[ $own_folders == *" $1 "* ]] &&
    fail "$1 cannot be mounted into the toolbox: it has one of its own" "name a folder or a file below it"
  mount_at "$1" "$1" ro
}
