#!/bin/sh
# Camsink @VERSION@ for @PLATFORM@, one file. It unpacks itself once into your cache folder, checks
# what it unpacked, and starts it; after that it only starts it. Below this script are two gzipped tar
# archives. Needs sh, ls, tail, head, gzip and tar. CAMSINK_CACHE=FOLDER says where to unpack.
set -u

id=@ID@
files=@FILES@ bytes=@BYTES@ # what is unpacked
part1=@PART1@ part2=@PART2@ # lengths of the archives
sum='@SUM@'   # SHA-256 of deno
sums='@SUMS@' # and of the rest

header=@HEADER@ # this script's own length
case $0 in
*/*) self=$0 ;;
*) self=$(command -v -- "$0") || self=$0 ;;
esac
tried=

# Since when the machine is up: what was checked since then did not go through a power cut.
boot=
{ read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null ||
  boot=$(sysctl -n kern.bootsessionuuid 2>/dev/null) || boot=unknown

# Are all files in folder $1 there, in their full length?
whole() {
  ls -lnR "$1" 2>/dev/null | {
    count=0 total=0
    while read -r mode _ _ _ size _; do
      case $mode in
      -*) count=$((count + 1)) total=$((total + size)) ;;
      esac
    done
    [ $count = $files ] && [ $total = $bytes ]
  }
}

# Do they hold what was released? Asked once after every start of the machine; while they are unpacked
# gzip compares its own checksum.
sound() {
  if command -v sha256sum >/dev/null 2>&1; then
    check="sha256sum -c -"
  elif command -v shasum >/dev/null 2>&1; then
    check="shasum -a 256 -c -"
  else
    return 0
  fi
  (
    cd "$1" || exit
    printf '%s\n' "$sum" | $check &
    printf '%s\n' "$sums" | $check && wait $!
  ) >/dev/null 2>&1
}

# Is folder $1 ours alone? Whoever may write into it could change what is run.
ours() {
  [ -d "$1" ] && [ -O "$1" ] || return 1
  case $(ls -ldn "$1/.") in
  d????w* | d???????w*) return 1 ;;
  esac
}

# One that gzip finds wrong leaves a file too many, which is seen below.
part() { # offset, length, folder
  tail -c +"$1" <"$self" | head -c "$2" | { gzip -dc || true >"$3/damaged"; } | (cd "$3" && tar xf -)
}

unpack() { # base folder
  umask 077
  mine=
  trap '[ -z "$mine" ] || rm -rf "$mine"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  said=$(mktemp -d "$1/.unpack.XXXXXX" 2>&1) || return 1
  mine=$said
  said=$({
    part $((header + 1)) $part1 "$mine" &
    part $((header + part1 + 1)) $part2 "$mine"
    wait
    # The largest file comes in two parts, so that both archives take equally long.
    cat "$mine/deno.2" >>"$mine/deno" && rm "$mine/deno.2"
  } 2>&1)
  if ! whole "$mine"; then
    said=${said:-"files are missing"}
    said="${said##*
} (is the disk full, or $self damaged?)"
    return 1
  fi
  if ! said=$("$mine/deno" --version 2>&1); then
    said="programs cannot be run there, or not on this machine (it needs @NEEDS@): ${said##*: }"
    return 1
  fi
  printf '%s\n' "$boot" >"$mine/.checked"
  # Another first start may have been faster: then this one ends up inside its folder.
  said=$(mv "$mine" "$1/$id" 2>&1) || return 1
  rm -rf "$1/${id:?}/${mine##*/}"
  mine=
}

# Removes what starts that were killed have left, and versions that were not started for a month and
# do not run. Two minutes are longer than any unpacking.
tidy() {
  find "$1" -maxdepth 1 -name '.unpack.*' -mmin +2 -exec rm -rf {} +
  running=$(ps -eo args) || return
  for old in "$1"/*/.used; do
    old=${old%/.used}
    [ "$old" != "$1/$id" ] || continue
    [ -n "$(find "$old/.used" -mtime +30)" ] || continue
    case $running in
    *"$old/deno"*) ;;
    *) rm -rf "$old" ;;
    esac
  done
} 2>/dev/null

# Makes sure that base folder $1 has this version, and sets $home to it.
ready() {
  home=$1/$id
  said="it is not a folder of yours alone"
  [ -e "$1" ] || said=$( (umask 077 && mkdir -p "$1") 2>&1)
  if [ -n "${CAMSINK_CACHE:-}" ] || ours "$1"; then
    if whole "$home"; then
      { read -r checked <"$home/.checked"; } 2>/dev/null || checked=
      [ "$checked" != "$boot" ] && [ -w "$home" ] || return 0
      if sound "$home"; then
        { printf '%s\n' "$boot" >"$home/.checked"; } 2>/dev/null
        return 0
      fi
    fi
    [ ! -e "$home" ] || rm -rf "$home" # damaged
    before=$(umask)
    if unpack "$1"; then
      done=yes
      tidy "$1"
    else
      done=
      [ -z "$mine" ] || rm -rf "$mine"
    fi
    trap - EXIT HUP INT TERM
    umask "$before"
    [ -z "$done" ] || return 0
  fi
  tried="$tried
  $1: $said"
  return 1
}

# The first of the usual places that can be used. Whoever names a folder vouches for it: it may be
# another's, and unpacked beforehand.
find_home() {
  if [ -n "${CAMSINK_CACHE:-}" ]; then
    ready "$CAMSINK_CACHE"
    return
  fi
  if [ -n "${XDG_CACHE_HOME:-}" ]; then
    ready "$XDG_CACHE_HOME/camsink" && return
  fi
  person=${HOME:-}
  [ -n "$person" ] || person=$(eval "echo ~$(id -un)" 2>/dev/null)
  if [ -d "$person" ]; then
    ready "$person/@CACHE@/camsink" && return
  fi
  uid=$(id -u)
  for base in /var/tmp "${TMPDIR:-/tmp}" /dev/shm; do
    [ -d "$base" ] && ready "$base/camsink-$uid" && return
  done
  return 1
}

if ! find_home; then
  echo "camsink: nowhere to unpack to. It needs @MEGABYTES@ MB, once, in a folder of yours alone that" >&2
  echo "programs may run from. Give it one: CAMSINK_CACHE=FOLDER $0 …  Tried:$tried" >&2
  exit 74
fi
{ true >"$home/.used"; } 2>/dev/null
@LAUNCH@
