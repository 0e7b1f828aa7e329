#!/bin/sh
# Makes the repository that the course wants handed in: all of TP0 at its root, and a branch for each exercise.
set -eu

usage() {
  cat <<END
Usage: $0 DIR

Makes in DIR, which is new or empty, a git repository of what is committed here: server/, client/, Makefile and scripts at
its root, the crates that they need, and the branches ej1 to ej8. In each of them this works, and so do the course's tests:

  docker build -f ./server/Dockerfile -t server:latest .
  docker build -f ./client/Dockerfile -t client:latest .
  bash generar-compose.sh docker-compose-dev.yaml 5
  docker compose -f docker-compose-dev.yaml up

The commits have git's user.name and user.email, or else the author of the last commit here.
END
}

fail() {
  printf '%s: %s\n' "$0" "$1" >&2
  exit "${2:-1}"
}

case "$#:${1:-}" in
  1:-h | 1:--help) usage; exit 0 ;;
  1:?*) ;;
  *) fail 'expected one argument, DIR; try --help' 2 ;;
esac
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel) || fail 'is not in a git checkout: clone the repository first'
[ -z "$(git -C "$root" status --porcelain)" ] || printf '%s: note: what is not committed is not handed in\n' "$0" >&2
mkdir -p "$1"
[ -z "$(ls -A "$1")" ] || fail "$1 is not empty: choose a new folder" 2
text=$(mktemp)
trap 'rm -f "$text"' EXIT
cd "$1"

# set_value FILE NAME VALUE: in a shell script or a Makefile.
set_value() {
  grep -qE "^$2( := |=)" "$1" || fail "$1 sets no $2"
  sed -i -E "s#^($2( := |=)).*#\1$3#" "$1"
}

# The manifests and sources from the top of this repository, and the folder of TP0 in place of it.
copy() {
  git -C "$root" archive HEAD -- Cargo.toml Cargo.lock clippy.toml rustfmt.toml .gitignore .dockerignore crates ':(glob)docker/*.sh' | tar -x
  git -C "$root" archive HEAD:tp0 | tar -x
  rm entrega.sh
  # The assignment's name for it.
  mv data .data
}

# Prints the crates that tp0 is made of, each between spaces: tp0, and what a manifest names, step by step.
crates_of_tp0() {
  found=' tp0 '
  before=''
  while [ "$found" != "$before" ]; do
    before=$found
    for crate in $before; do
      names=$(sed -n 's/^\([a-z0-9_-]*\)\(\.workspace = true\| = { workspace = true.*\)$/\1/p' "crates/$crate/Cargo.toml")
      for name in $names; do
        case $found in *" $name "*) continue ;; esac
        [ ! -d "crates/$name" ] || found="$found$name "
      done
    done
  done
  printf '%s' "$found"
}

# Removes other assignments' crates, what only they need, and lines that speak of them.
leave_out_the_rest() {
  needed=$(crates_of_tp0)
  for folder in crates/protocol/fuzz crates/page/browser crates/*; do
    case $needed in *" ${folder#crates/} "*) continue ;; esac
    rm -r "$folder"
    sed -i "\|${folder}[\"/ ]|d; \|${folder}\$|d" Cargo.toml .dockerignore
  done
  # What tells of fuzz targets, of Tasca 1, and how DataFusion and an interpreter are compiled: none of them is there.
  sed -i '/^# Fuzz targets need/d; /^# What only plans a query/,/^regex-syntax.opt-level/d; /^# The container tests of Tasca 1/,/^$/d; /^# Modules that loop are stopped/,/^wasmi_ir.opt-level/d' Cargo.toml
  names=$(sed -n '/^\[workspace.dependencies\]/,/^\[workspace.lints/s/^\([a-z0-9_-]*\) = .*/\1/p' Cargo.toml)
  for name in $names; do
    grep -q "^$name\(\.workspace\| = { workspace\)" crates/*/Cargo.toml || sed -i "/^$name = /d" Cargo.toml
  done
  sed -i -n '\|^/target$|p; s|^/tp0/|/|p' .gitignore
  update_lock
}

# Only cargo can tell what Cargo.lock may still hold. The versions stay.
update_lock() {
  if command -v cargo >/dev/null; then
    cargo update --quiet --workspace
  else
    docker run --rm --volume "$PWD:/sources:ro" rust:1.95-slim-bookworm \
      sh -c 'cp -r /sources /build && cd /build && cargo update --quiet --workspace && cat Cargo.lock' >"$text" && cp "$text" Cargo.lock
  fi || fail 'cannot write Cargo.lock: cargo, or docker with rust:1.95-slim-bookworm, is needed, and the package registry'
}

# The paths of TP0 as they are from the root.
move_to_the_root() {
  set_value generar-compose.sh CONTEXT .
  set_value generar-compose.sh FOLDER ''
  set_value generar-compose.sh DATA .data
  set_value Makefile CONTEXT .
  sed -i 's|context: \.\.|context: .|; s|dockerfile: tp0/|dockerfile: |; s|"./data:|"./.data:|' docker-compose-scale.yaml
  # Two sections tell of what is not there.
  # shellcheck disable=SC2016 # The backquotes are Markdown's.
  awk '/^## / { skip = /^## (Handing it in|Measured)/ } !skip' README.md |
    sed -E 's#\.\./(docker|crates)/#\1/#g; s#"\./\.\."#"./."#; s#dockerfile: tp0/#dockerfile: #; s#`data/#`.data/#g; s#\(data\)#(.data)#g' >"$text"
}

# compose_files MODE: that of the mode is docker-compose-dev.yaml.
compose_files() {
  rm -f docker-compose-dev.yaml docker-compose-echo.yaml docker-compose-apuesta.yaml docker-compose-loteria.yaml
  for mode in echo apuesta loteria; do
    file=docker-compose-$mode.yaml
    [ "$mode" != "$1" ] || file=docker-compose-dev.yaml
    clients=5
    [ "$mode" != echo ] || clients=1
    sh ./generar-compose.sh "$file" "$clients" "$mode"
  done
}

readme() {
  cat <<END
> **Branch \`ej$1\`, exercise $1: $3.** \`make docker-compose-up\` runs it, \`make docker-compose-logs\` shows it,
> \`make docker-compose-down\` ends it.
END
  [ "$2" = echo ] || cat <<END
> In this branch, \`make\` and \`generar-compose.sh\` are in the mode \`$2\` where nothing else is said. So
> \`docker-compose-dev.yaml\` is what is called \`docker-compose-$2.yaml\` below, and the echo server of exercises 1 to 4
> has \`MODE=echo\` and \`docker-compose-echo.yaml\`.
END
  printf '\n'
  cat "$text"
}

commit() {
  if git config user.name >/dev/null && git config user.email >/dev/null; then
    git commit --quiet --message "$1"
  else
    git -c "user.name=$(git -C "$root" log -1 --format=%an)" -c "user.email=$(git -C "$root" log -1 --format=%ae)" commit --quiet --message "$1"
  fi
}

# branch NUMBER MODE TITLE
branch() {
  [ "$1" = 1 ] || git checkout --quiet -b "ej$1"
  set_value generar-compose.sh DEFAULT_MODE "'$2'"
  set_value Makefile DEFAULT_MODE "$2"
  compose_files "$2"
  readme "$1" "$2" "$3" >README.md
  git add --all
  commit "Exercise $1: $3"
}

git init --quiet --initial-branch=ej1
copy
leave_out_the_rest
move_to_the_root
branch 1 echo 'a compose file for N clients'
branch 2 echo 'configuration outside the images'
branch 3 echo 'checking the server'
branch 4 echo 'an orderly end'
branch 5 apuesta 'a bet for each agency'
branch 6 loteria 'bets in batches'
branch 7 loteria 'the draw and the winners'
branch 8 loteria 'agencies in parallel'
printf '%s: the branches ej1 to ej8 are in %s; hand them in with: git push REMOTE --all\n' "$0" "$1"
