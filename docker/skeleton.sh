#!/bin/sh
# Copies a workspace without its code: the manifests, build scripts, and empty sources for their targets.
#
# Building that first gives an image layer with all dependencies, which a change of the code does not build again.
# Usage: skeleton.sh FROM TO
set -eu
from=$1
to=$2
cd "$from"
mkdir -p "$to"
cp Cargo.toml Cargo.lock "$to/"
for manifest in crates/*/Cargo.toml; do
  crate=${manifest%/Cargo.toml}
  mkdir -p "$to/$crate/src"
  cp "$manifest" "$to/$crate/"
  # Without it, cargo overlooks build dependencies, and would build libraries with other features than later.
  [ ! -e "$crate/build.rs" ] || cp "$crate/build.rs" "$to/$crate/"
  # What a build script reads.
  [ ! -d "$crate/proto" ] || cp -r "$crate/proto" "$to/$crate/"
  # A crate whose sources are left out of the build context gets a library, so that the workspace is whole.
  if [ -e "$crate/src/lib.rs" ] || [ ! -e "$crate/src/main.rs" ]; then
    : >"$to/$crate/src/lib.rs"
  fi
  # Manifests may name examples, and cargo wants them all.
  for program in "$crate"/src/main.rs "$crate"/src/bin/*.rs "$crate"/examples/*.rs; do
    [ -e "$program" ] || continue
    mkdir -p "$to/${program%/*}"
    echo 'fn main() {}' >"$to/$program"
  done
done
