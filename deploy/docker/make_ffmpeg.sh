#!/bin/sh
# Makes an ffmpeg that can do what Camsink runs it for and nothing else, from the source package of the
# Debian that this runs in, with Debian's patches: 2 MB, where Debian's own is linked with 250 MB of
# libraries. What comes out of it is the same byte for byte. docs/decisions/releases.md says more.
#
# usage: make_ffmpeg.sh PROGRAM    writes it, its licence and how it was made (under /usr/share/doc),
#                                  and an entry for scanners, for make_root.sh to take
set -eu
program=$1
name=$(basename "$program")

# The lists of a Debian have one of two forms, and neither asks for source packages.
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  case $list in
  *.sources) sed -i 's/^Types: deb$/Types: deb deb-src/' "$list" ;;
  *) [ ! -s "$list" ] || sed -i 's/^deb \(.*\)$/&\ndeb-src \1/' "$list" ;;
  esac
done
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends dpkg-dev gcc libc6-dev libx264-dev make nasm pkg-config
work=$(mktemp -d)
cd "$work"
# apt holds the files to the hashes in its signed lists.
apt-get source -q --download-only -o APT::Sandbox::User=root ffmpeg
dpkg-source --no-check -x ./ffmpeg_*.dsc source
cd source
version=$(dpkg-parsechangelog -S Version)

# core/encode/x264.ts: JPEGs in Matroska to H.264 in FLV, through pipes. simulators/scene/: the demo's
# pictures and sound, from files. What these need in turn, configure adds by itself.
set -- --prefix=/usr --disable-autodetect --disable-everything --disable-doc --disable-debug \
  --disable-network --disable-ffplay --disable-ffprobe --disable-avdevice --disable-postproc \
  --enable-gpl --enable-libx264 --enable-protocol=pipe,file \
  --enable-demuxer=matroska,mjpeg,pcm_s16le,rawvideo --enable-muxer=flv,h264,adts,rawvideo \
  --enable-parser=mjpeg --enable-decoder=mjpeg,pcm_s16le,rawvideo --enable-encoder=libx264,aac \
  --enable-filter=scale,crop,format,null,aresample,aformat,anull --extra-version="${version##*-}"
./configure "$@" >/dev/null
make -s -j"$(nproc)" "$name"
install -m 755 "$name" "$program"

doc=/usr/share/doc/$name
mkdir -p "$doc" /usr/share/camsink-status.d
cp debian/copyright "$doc/copyright"
cat >"$doc/README.camsink" <<END
This ffmpeg was made for Camsink from Debian's source package ffmpeg $version, with
Debian's patches and no others, by

  ./configure $*
  make $name

With x264 in it, it comes under the GNU General Public License, version 2 or, as you like, any later
one; see the file copyright beside this one. Its source, complete, and that of libx264:

  apt-get source ffmpeg=$version
  https://snapshot.debian.org/package/ffmpeg/  and  https://snapshot.debian.org/package/x264/

The script that made it is deploy/docker/make_ffmpeg.sh in Camsink's repository.
END
cat >"/usr/share/camsink-status.d/$name" <<END
Package: $name
Status: install ok installed
Architecture: $(dpkg --print-architecture)
Version: $version
Description: only what Camsink needs, made from the Debian source package of this version
END
cd /
rm -rf "$work"
