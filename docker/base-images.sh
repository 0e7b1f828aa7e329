#!/usr/bin/env bash
# Makes sure that the two base images of the Dockerfiles are there.
#
# An image that is present is kept; otherwise it is pulled. Only where it cannot be pulled (a classroom without internet, a CI
# without a registry) is a stand-in with the same tag made from Debian packages and the host's own Rust toolchain.
# Usage: docker/base-images.sh            (as a user who may use Docker; making a stand-in needs root)
set -euo pipefail

readonly RUN_IMAGE=debian:bookworm-slim
readonly BUILD_IMAGE=rust:1.95-slim-bookworm
readonly PULL_SECONDS=60

say() { printf 'base-images: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

present() { docker image inspect "$1" >/dev/null 2>&1; }

present_or_pulled() {
  present "$1" && { say "$1 is present"; return 0; }
  say "pulling $1"
  timeout "$PULL_SECONDS" docker pull --quiet "$1" >/dev/null 2>&1
}

need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing, and $2 cannot be pulled: install $1 (Debian package $1)"; }

# A minimal Debian from the packages that this machine installs from.
make_run_image() {
  need debootstrap "$RUN_IMAGE"
  local root
  root=$(mktemp -d) && trap 'rm -rf "$root"' RETURN
  say "$RUN_IMAGE cannot be pulled: making a stand-in with debootstrap (about a minute)"
  debootstrap --variant=minbase bookworm "$root/fs" >"$root/log" 2>&1 || { tail -n 20 "$root/log" >&2; die "debootstrap failed"; }
  rm -rf "$root"/fs/var/cache/apt/archives/*.deb "$root"/fs/var/lib/apt/lists/*
  tar -C "$root/fs" -c . | docker import --change 'CMD ["bash"]' - "$RUN_IMAGE" >/dev/null
}

# The same, with a C linker and the host's Rust toolchain and certificates.
make_build_image() {
  need rustc "$BUILD_IMAGE"
  local toolchain version context certificates
  toolchain=$(rustc --print sysroot)
  version=$(rustc --version | cut -d' ' -f2)
  case "$version" in 1.95.*) ;; *) die "$BUILD_IMAGE cannot be pulled, and a stand-in needs Rust 1.95 here, not $version";; esac
  certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
  say "$BUILD_IMAGE cannot be pulled: making a stand-in with the toolchain in use here"
  context=$(mktemp -d) && trap 'rm -rf "$context"' RETURN
  mkdir "$context/rust"
  cp -a "$toolchain/bin" "$toolchain/lib" "$context/rust/"
  [ ! -d "$toolchain/libexec" ] || cp -a "$toolchain/libexec" "$context/rust/"
  cp -L "$certificates" "$context/ca-certificates.crt"
  cat >"$context/Dockerfile" <<EOF
FROM $RUN_IMAGE
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev ca-certificates && rm -rf /var/lib/apt/lists/*
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY rust /usr/local/rust
ENV PATH=/usr/local/rust/bin:/usr/local/cargo/bin:\$PATH CARGO_HOME=/usr/local/cargo RUST_VERSION=$version
EOF
  docker build --quiet --tag "$BUILD_IMAGE" "$context" >/dev/null
}

docker info >/dev/null 2>&1 || die "no Docker engine answers: start it, or run docker/setup-debian.sh"
present_or_pulled "$RUN_IMAGE" || make_run_image
present_or_pulled "$BUILD_IMAGE" || make_build_image
say "$RUN_IMAGE and $BUILD_IMAGE are ready"
