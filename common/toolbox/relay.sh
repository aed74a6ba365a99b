# shellcheck shell=bash disable=SC2034,SC2154 # variables are shared with common/toolbox.sh
# Runs, on this machine, the few commands of the engine that a stage in the toolbox asks for (allowed.sh): there is no
# engine in there, and the engine's socket would make its holder root here. Sourced by common/toolbox.sh.
#
# Plain files and looking again, twenty times a second: pipes and sockets do not reach into Docker Desktop's machine.
# Three folders: the toolbox writes requests/, and can only read replies/ and running/.
#   requests/N.words     the arguments, each ended by a NUL byte; engine_client.py writes it
#   requests/N.cancel    the stage was interrupted: end the command
#   replies/N.out .err   what the command prints, while it runs
#   replies/N.code       its exit code; written last

relay_mounts=()
poll=0.05
longest=65536 # bytes of a request

prepare_relay() { # makes the folders; fills $relay_mounts
  relay=$(mkdir -p "$state" 2>/dev/null && mktemp -d "$state/relay.XXXXXX" 2>/dev/null) ||
    fail "not allowed to write ${state#"$project/"}/" "check owner and mode of .venv"
  mkdir "$relay/requests" "$relay/replies" "$relay/running"
  trap 'rm -rf "$relay"' EXIT
  relay_mounts=(
    --mount "type=bind,$(quoted "source=$relay/requests"),target=/run/npumake/requests"
    --mount "type=bind,$(quoted "source=$relay/replies"),target=/run/npumake/replies,readonly"
    --mount "type=bind,$(quoted "source=$script/toolbox/engine_client.py"),target=/usr/local/bin/$engine,readonly"
  )
}

start_relay() { # starts the loop in the background
  serve &
  server=$!
}

stop_relay() { # ends what still runs for a toolbox that has ended, and waits for it
  touch "$relay/running/stop"
  wait "$server" 2>/dev/null || true
}

serve() {
  local file number
  trap '' INT TERM HUP # the toolbox gets these, and cancels what it asked for
  trap - EXIT
  until [[ -e $relay/running/stop || ! -d $relay/running ]]; do
    kill -0 $$ 2>/dev/null || { rm -rf "$relay"; exit; } # common/toolbox.sh was killed
    for file in "$relay"/requests/*.words; do
      number=${file##*/}
      number=${number%.words}
      [[ -e $file || -L $file ]] || continue
      if [[ ! $number =~ ^[0-9]{1,20}$ ]]; then
        rm -rf "$file"
        continue
      fi
      mv "$file" "$relay/running/$number.words" # from here on nobody else can change it
      answer "$number" &
    done
    for file in "$relay"/requests/*.cancel; do
      number=${file##*/}
      end_command "${number%.cancel}"
    done
    sleep "$poll"
  done
  while [[ -n $(jobs -pr) ]]; do
    for file in "$relay"/running/*.pid; do
      number=${file##*/}
      end_command "${number%.pid}"
    done
    sleep "$poll"
  done
}

end_command() { # end_command NUMBER: an engine's client passes the signal on to its container
  [[ $1 =~ ^[0-9]{1,20}$ && -e $relay/running/$1.pid && ! -e $relay/replies/$1.code ]] || return 0
  [[ -e $relay/running/$1.ended ]] && return
  touch "$relay/running/$1.ended"
  kill -TERM "$(cat "$relay/running/$1.pid")" 2>/dev/null || true
}

answer() { # answer NUMBER: check the request, run it, report
  local number=$1 words=() word code=0 file=$relay/running/$1.words out=$relay/replies/$1
  if [[ -L $file || ! -f $file ]] || [[ $(wc -c <"$file") -gt $longest ]]; then
    reason="a request that is no plain, short file"
  else
    while IFS= read -r -d '' word; do words+=("$word"); done <"$file"
    allowed ${words[@]+"${words[@]}"} || true
  fi
  if [[ -n $reason ]]; then
    : >"$out.out"
    printf 'ERROR: the toolbox may not ask for this: %s %s\nHINT: %s\n' "$engine" "$reason" \
      "common/toolbox/allowed.sh lists what it may; run it outside, without TOOLBOX=" >"$out.err"
    code=126
  else
    (
      trap - TERM
      exec "${command[@]}" >"$out.out" 2>"$out.err" </dev/null
    ) &
    echo $! >"$relay/running/$number.new" && mv "$relay/running/$number.new" "$relay/running/$number.pid"
    wait $! || code=$?
  fi
  echo "$code" >"$out.new" && mv "$out.new" "$out.code"
}
