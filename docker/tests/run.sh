#!/usr/bin/env bash
# The container tests: the real `docker compose build` and `up` of each activity, and its files on the host.
#
# Usage: run.sh [SUITE...], where a suite is actividad1, actividad2, tasca1, tp0 or entrega; all of them without an argument.
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
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(actividad1 actividad2 tasca1 tp0 entrega)
for suite in "${suites[@]}"; do
  case "$suite" in
    actividad1 | actividad2 | tasca1 | tp0 | entrega) ;;
    *) echo "run.sh: no tests are called $suite: actividad1, actividad2, tasca1, tp0 and entrega are" >&2; exit 2 ;;
  esac
done
work=$(mktemp -d)
# Containers may enter it as an ordinary user.
chmod 755 "$work"
clean_up() {
  for compose in "$work"/*/*/docker-compose.yml; do
    [ -e "$compose" ] && docker compose --file "$compose" down --remove-orphans --volumes >/dev/null 2>&1
  done
  [ -e "$work/tp0" ] && tp0_clean_up
  [ -e "$work/entrega" ] && entrega_clean_up
  rm -rf "$work"
}
trap clean_up EXIT

for suite in "${suites[@]}"; do "$suite"; done
summary
