#!/bin/sh
# Checks that the echo server gives back what it is sent.
set -eu

NETWORK=tp0_testing_net
IMAGE=client:latest
SECONDS_TO_ANSWER=5

usage() {
  cat <<END
Usage: $0

Sends a line to the server from a netcat container inside its network, and compares what comes back. Prints

  action: test_echo_server | result: success      exit code 0: it came back unchanged
  action: test_echo_server | result: fail         exit code 1: it did not; why is told on stderr

Neither netcat on the host nor a published port is needed. The port is SERVER_PORT in server/config.ini.
The server is started by: make docker-compose-up
END
}

case "$#:${1:-}" in
  0:) ;;
  1:-h | 1:--help) usage; exit 0 ;;
  *) printf '%s: takes no arguments; try --help\n' "$0" >&2; exit 2 ;;
esac

fail() {
  printf '%s: %s\n' "$0" "$1" >&2
  printf 'action: test_echo_server | result: fail\n'
  exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
port=$(sed -n 's/^[[:space:]]*SERVER_PORT[[:space:]]*[=:][[:space:]]*\([0-9]*\).*/\1/p' "$here/server/config.ini" 2>/dev/null) || true
port=${port:-12345}
message="validar-echo-server $$ $(date +%s)"

command -v docker >/dev/null 2>&1 || fail "docker is not installed"
docker image inspect "$IMAGE" >/dev/null 2>&1 || fail "there is no image $IMAGE: run make docker-image"
docker network inspect "$NETWORK" >/dev/null 2>&1 || fail "there is no network $NETWORK: run make docker-compose-up"
# The time limit is around nc as a whole: a server that goes on sending must not hold it up.
answer=$(printf '%s\n' "$message" |
  docker run --rm --interactive --network "$NETWORK" --cap-drop ALL --read-only --entrypoint timeout "$IMAGE" \
    "$SECONDS_TO_ANSWER" nc -N -w "$SECONDS_TO_ANSWER" server "$port" 2>&1) || true
[ "$answer" = "$message" ] || fail "sent '$message', got back '$(printf '%s' "$answer" | head -c 300)'"
printf 'action: test_echo_server | result: success\n'
