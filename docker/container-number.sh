#!/bin/sh
# Runs a program with CLI_DEFAULT_ID set to the number at the end of its container's name, which Compose counts from 1:
# `docker compose up --scale client=3` gives all three the same settings, and each finds its own id so.
#
# The name is what Docker's resolver calls the container's address. Where it cannot tell, the variable stays unset.
# Usage: container-number.sh PROGRAM [ARGUMENT...]
set -eu
if [ -z "${CLI_ID:-}" ]; then
  # /etc/hosts knows the address too, by another name: ask the resolver only.
  name=$(getent -s dns hosts "$(hostname -i | cut -d ' ' -f 1)" | tr -s ' ' | cut -d ' ' -f 2 || true)
  name=${name%%.*}
  number=${name##*[!0-9]}
  if [ -n "$number" ]; then
    export CLI_DEFAULT_ID="$number"
  fi
fi
exec "$@"
