#!/bin/sh
# Takes what runs out of a Debian into a folder that becomes the whole image: no package manager, no
# tools. usage: make_root.sh FOLDER PROGRAM...
#
# Each program comes with the libraries that it is linked with, each package that a file is taken from
# with its licence and its entry for scanners (in the form that distroless images have).
set -eu
root=$1
shift
rm -rf "$root"
mkdir -p "$root/etc/camsink" "$root/data" "$root/tmp" "$root/var/lib/dpkg/status.d"
# Debian's folders are links into /usr: /bin, /lib and so on.
for folder in bin lib lib32 lib64 sbin; do
  [ ! -L "/$folder" ] || cp -a "/$folder" "$root/$folder"
done

take() { # a file, with the links on its way
  from=$(readlink -f "$1")
  mkdir -p "$root$(dirname "$from")"
  cp -a "$from" "$root$from"
  name=$(readlink -f "$(dirname "$1")")/$(basename "$1")
  if [ "$name" != "$from" ] && [ ! -e "$root$name" ]; then
    mkdir -p "$root$(dirname "$name")"
    ln -s "$from" "$root$name"
  fi
  owner=$(dpkg -S "$from" 2>/dev/null || dpkg -S "${from#/usr}" 2>/dev/null) || return 0
  package=${owner%%:*}
  [ ! -e "$root/var/lib/dpkg/status.d/$package" ] || return 0
  dpkg -s "$package" >"$root/var/lib/dpkg/status.d/$package"
  mkdir -p "$root/usr/share/doc/$package"
  # Some packages share the text of another.
  cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/" || true
}

for program in "$@"; do
  case $program in
  /opt/*) ;; # comes in a layer of its own
  *) take "$program" ;;
  esac
  # One that no package brought, but make_ffmpeg.sh made.
  made=$(basename "$program")
  if [ -e "/usr/share/camsink-status.d/$made" ]; then
    cp "/usr/share/camsink-status.d/$made" "$root/var/lib/dpkg/status.d/$made"
    mkdir -p "$root/usr/share/doc/$made"
    cp "/usr/share/doc/$made/"* "$root/usr/share/doc/$made/"
  fi
  libraries=$(ldd "$program" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }')
  for library in $libraries; do take "$library"; done
done

echo 'camsink:x:65532:65532:Camsink:/data:/bin/sh' >"$root/etc/passwd"
echo 'camsink:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
cp /etc/debian_version "$root/etc/debian_version"
cp /usr/lib/os-release "$root/etc/os-release"
chmod 1777 "$root/tmp"
chown -R 65532:65532 "$root/data"
