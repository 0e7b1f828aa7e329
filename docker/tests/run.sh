#!/usr/bin/env bash
# The container tests: the real `docker compose build` and `up` of each activity, and its files on the host.
#
# Usage: run.sh [SUITE...], where a suite is actividad1, actividad2, tasca1, tp0 or entrega. Without an argument, all of them
# run, those that share no port and no container's name side by side: most of their time they wait for containers.
#
# T1_PROFILE=release compiles the programs of Tasca 1 as their Dockerfiles do by themselves, which takes twice as long.
#
# Works in temporary copies of the repository, owned by an ordinary user's number. Needs root (for that), Docker with
# Compose v2 and docker-compose 1.29, make, nc, python3, and the ports 5000 and 9000. Ends with `N passed, N failed`.
set -uo pipefail

tests=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$tests/../.." && pwd)
# shellcheck source=docker/tests/lib.sh
. "$tests/lib.sh"
# shellcheck source=docker/tests/actividad1.sh
. "$tests/actividad1.sh"
# shellcheck source=docker/tests/actividad2.sh
. "$tests/actividad2.sh"
# shellcheck source=docker/tests/tasca1.sh
. "$tests/tasca1.sh"
# shellcheck source=docker/tests/tp0.sh
. "$tests/tp0.sh"
# shellcheck source=docker/tests/entrega.sh
. "$tests/entrega.sh"

[ "$(id -u)" -eq 0 ] || { echo "run.sh: needs root, to give the copies to another user" >&2; exit 2; }
for suite in "$@"; do
  case "$suite" in
    actividad1 | actividad2 | tasca1 | tp0 | entrega) ;;
    *) echo "run.sh: no tests are called $suite: actividad1, actividad2, tasca1, tp0 and entrega are" >&2; exit 2 ;;
  esac
done
# The name of a network that only all suites together have: see reserve_subnet.
RESERVED=container-tests-$$
work=$(mktemp -d)
# Containers may enter it as an ordinary user.
chmod 755 "$work"
# Each suite works in a copy of the whole repository. Only the activity that it has started is its own to stop: the others of that
# copy have the same project names as those of suites that run side by side.
clean_up() {
  local started
  for started in a1/actividad1 a2/actividad2 t1/tasca1; do
    [ -e "$work/$started" ] && docker compose --file "$work/$started/docker-compose.yml" down --remove-orphans --volumes >/dev/null 2>&1
  done
  [ -e "$work/tp0" ] && tp0_clean_up
  [ -e "$work/entrega" ] && entrega_clean_up
  docker network rm "$RESERVED" >/dev/null 2>&1
  rm -rf "$work"
}
trap clean_up EXIT

# Suites that run side by side would disturb each other most while they compile. They build the same once more, out of Docker's
# cache, and tell of what fails.
compile_first() {
  local activity
  copy_as "$OWNER" "$work/all"
  for activity in actividad1 actividad2; do docker compose --file "$work/all/$activity/docker-compose.yml" build; done
  docker compose --file "$work/all/tasca1/docker-compose.yml" build --build-arg "PROFILE=$T1_PROFILE"
  make --directory "$work/all/tp0" docker-image
} >/dev/null 2>&1

# TP0's network is 172.25.125.0/24, by the assignment. Docker gives each network that asks for none the next free /16, so between two
# starts of TP0 another suite's could get 172.25.0.0/16. It gets none that overlaps with this one.
reserve_subnet() { docker network create --subnet 172.25.0.0/24 "$RESERVED" >/dev/null; }

# lane SUITE...: runs the suites one after the other. Their summary goes to a file.
lane() { bash "$tests/run.sh" "$@" 2>&1 | tee "$work/lane-$1" | grep -vE '^[0-9]+ passed, [0-9]+ failed$'; }

all_suites() {
  local first
  compile_first
  reserve_subnet
  lane actividad1 actividad2 &
  lane tasca1 &
  lane tp0 entrega &
  wait
  for first in actividad1 tasca1 tp0; do
    if [[ $(tail -n 1 "$work/lane-$first") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
      passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
    else
      echo "FAIL the suites from $first on did not come to their end"
      failed=$((failed + 1))
    fi
  done
}

if [ $# -eq 0 ]; then all_suites; else for suite in "$@"; do "$suite"; done; fi
summary
