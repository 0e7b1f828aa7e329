#!/usr/bin/env bash
# Installs what the container tests need on a Debian 12 machine where it is missing: the Docker engine, Compose v2 with buildx,
# and the tools that make base images without a registry. Does nothing where everything is there. Needs root.
#
# Debian 12 has no Compose v2; Debian 13's plugins need only a libc that Debian 12 has, so just those two packages are unpacked
# from there, without adding Debian 13 to the machine's sources.
# Usage: setup-debian.sh [PACKAGE...]     (further Debian packages that the caller needs)
set -euo pipefail

readonly PLUGINS=/usr/local/lib/docker/cli-plugins
readonly ENGINE_SECONDS=60

say() { printf 'setup-debian: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

install_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

start_engine() {
  docker info >/dev/null 2>&1 && return 0
  command -v dockerd >/dev/null 2>&1 || install_packages docker.io
  say "starting dockerd"
  setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
  for _ in $(seq "$ENGINE_SECONDS"); do
    docker info >/dev/null 2>&1 && return 0
    sleep 1
  done
  tail -n 20 /var/log/dockerd.log >&2
  die "dockerd did not answer within ${ENGINE_SECONDS} s"
}

# The machine's own Debian source, for the next release, in a copy that only this script reads.
next_release_source() {
  local folder=$1 file
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -s "$file" ] || continue
    sed 's/bookworm/trixie/g' "$file" >"$folder/next.${file##*.}"
    printf '%s\n' "$folder/next.${file##*.}"
    return 0
  done
  die "no Debian source found in /etc/apt"
}

install_compose() {
  docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && return 0
  say "installing Compose v2 and buildx from Debian 13's packages"
  local folder source
  folder=$(mktemp -d) && trap 'rm -rf "$folder"' RETURN
  mkdir -p "$folder/lists/partial" "$PLUGINS"
  source=$(next_release_source "$folder")
  local options=(-o "Dir::Etc::sourcelist=$source" -o "Dir::Etc::sourceparts=-" -o "Dir::State::Lists=$folder/lists"
    -o "APT::Sandbox::User=root")
  apt-get "${options[@]}" update -qq
  (cd "$folder" && apt-get "${options[@]}" download -qq docker-compose docker-buildx && for deb in *.deb; do dpkg -x "$deb" unpacked; done)
  cp "$folder"/unpacked/usr/libexec/docker/cli-plugins/* "$PLUGINS/"
  docker compose version >&2
}

[ "$(id -u)" -eq 0 ] || die "needs root"
install_packages debootstrap netcat-openbsd ca-certificates "$@"
start_engine
install_compose
command -v docker-compose >/dev/null 2>&1 || install_packages docker-compose
say "ready"
