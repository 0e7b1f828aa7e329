#!/bin/sh
# Runs a program with VARIABLE set to the number at the end of its container's name, which Compose counts from 1:
# `docker compose up --scale client=3` gives all three the same settings, and each finds its own number so.
#
# The name is what Docker's resolver calls the container's address. Where it cannot tell, where the container has no number
# (`docker compose run`), and where the variable UNLESS is set, VARIABLE is not.
# Usage: container-number.sh VARIABLE UNLESS PROGRAM [ARGUMENT...]
set -eu
variable=$1
unless=$2
shift 2
if [ -z "$(printenv "$unless" || true)" ]; then
  # /etc/hosts knows the address too, by another name: ask the resolver only.
  name=$(getent -s dns hosts "$(hostname -i | cut -d ' ' -f 1)" | tr -s ' ' | cut -d ' ' -f 2 || true)
  name=${name%%.*}
  number=${name##*[!0-9]}
  case "$name" in *[-_]run[-_]*) number= ;; esac
  if [ -n "$number" ]; then
    export "$variable=$number"
  fi
fi
exec "$@"
