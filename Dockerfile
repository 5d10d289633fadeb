# The image of Camsink, from a clean clone: docker build -t camsink .
#
#   docker build -t camsink .                  with a system ffmpeg, which is compiled (some minutes)
#   docker build -t camsink --target slim .    without: JPEGs are encoded inside the process
#   docker buildx build --platform linux/amd64,linux/arm64 .
#
# Nothing of its configuration is in it, and nothing is to be put into it: mount the configuration,
# give secrets as files or variables when it starts. See deploy/README.md.

# Debian with Deno in it, and plain Debian. Others of the same kind may be named.
ARG BUILD_IMAGE=docker.io/denoland/deno:2.9.6
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

# Makes the files of the release, for whichever platform, on the builder's own.
FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
ARG TARGETPLATFORM=linux/amd64
# The clone's commit, for --version.
ARG CAMSINK_COMMIT=
# What `camsink update --check` asks; see docs/releases.md.
ARG CAMSINK_RELEASES_URL=
# Where packages come from, if not from npm itself, and whose certificates are believed: behind a
# proxy with its own, mount them: --volume /etc/ssl/certs:/etc/ssl/certs:ro
ARG NPM_CONFIG_REGISTRY=
ARG DENO_TLS_CA_STORE=mozilla,system
WORKDIR /src
COPY . .
RUN [ -n "$NPM_CONFIG_REGISTRY" ] || unset NPM_CONFIG_REGISTRY; \
  deno task compile --kind image --target "$TARGETPLATFORM" --out /out

# An ffmpeg with what Camsink needs. It does not depend on the clone: a builder keeps it.
FROM ${RUNTIME_IMAGE} AS ffmpeg
COPY deploy/docker/make_ffmpeg.sh deploy/docker/make_root.sh /tmp/
RUN sh /tmp/make_ffmpeg.sh /usr/bin/ffmpeg
RUN sh /tmp/make_root.sh /root-fs /usr/bin/ffmpeg

# Only what runs is taken out of Debian: Deno's libraries, and the few tools that the launcher and a
# curious owner need.
FROM ${RUNTIME_IMAGE} AS slim-root
COPY --from=build /out/camsink/deno /opt/camsink/deno
COPY deploy/docker/make_root.sh /tmp/
RUN sh /tmp/make_root.sh /root-fs /opt/camsink/deno \
  /bin/sh /bin/ls /bin/cat /usr/bin/id /bin/readlink

# What both images have in common.
FROM scratch AS slim
COPY --from=slim-root /root-fs /
COPY --from=build /out/camsink /opt/camsink
LABEL org.opencontainers.image.title="Camsink" \
  org.opencontainers.image.description="Records every camera around the clock into storage that you own" \
  org.opencontainers.image.licenses="MIT AND GPL-2.0-or-later" \
  org.opencontainers.image.documentation="/opt/camsink/THIRD_PARTY_LICENSES"
ENV PATH=/opt/camsink:/usr/bin:/bin \
  HOME=/data \
  DENO_DIR=/tmp/deno \
  CAMSINK_CONFIG=/etc/camsink/camsink.jsonc
# The spool, and the clips of a local folder. Everything else may be read-only.
VOLUME /data
WORKDIR /data
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["camsink", "status"]
ENTRYPOINT ["/opt/camsink/camsink"]
CMD ["capture", "--json"]

# Debian's folders are links into /usr, and those are there already.
FROM slim AS full
COPY --from=ffmpeg /root-fs/usr /usr
COPY --from=ffmpeg /root-fs/var /var
