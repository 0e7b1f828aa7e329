# What the container tests share: a copy of the repository to work in, and checks that say what they saw.
# shellcheck shell=bash

# Who owns the copies: nobody that the machine knows.
readonly OWNER=12345:23456
passed=0
failed=0

# check NAME COMMAND...: passes if COMMAND succeeds; its output is shown if it does not.
check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
    printf 'ok   %s\n' "$name"
  else
    failed=$((failed + 1))
    printf 'FAIL %s\n' "$name"
    printf '%s\n' "$output" | tail -n 30 | sed 's/^/     /'
  fi
}

# equal ACTUAL EXPECTED
equal() { [ "$1" = "$2" ] || { printf 'saw:      %s\nexpected: %s\n' "$1" "$2"; return 1; }; }

# matches TEXT EXTENDED-REGEX
matches() { grep -qE -- "$2" <<<"$1" || { printf 'saw: %s\nexpected to match: %s\n' "$1" "$2"; return 1; }; }

# at_most SECONDS COMMAND...: it must succeed in that time.
at_most() {
  local limit=$1 started=$EPOCHREALTIME took
  shift
  "$@" || return 1
  took=$(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
  awk -v took="$took" -v limit="$limit" 'BEGIN { exit !(took <= limit) }' || { printf 'took %s s; at most %s s\n' "$took" "$limit"; return 1; }
}

# eventually COMMAND...: tries for 30 s.
eventually() {
  local output
  for _ in $(seq 150); do
    output=$("$@" 2>&1) && return 0
    sleep 0.2
  done
  printf 'not within 30 s: %s\n%s\n' "$*" "$output"
  return 1
}

# copy_as USER DIR: this repository, as git has it, in DIR and owned by USER.
copy_as() {
  mkdir -p "$2"
  (cd "$repository" && git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -c 2>/dev/null) | tar -x -C "$2"
  chown -R "$1" "$2"
}

# owned_and_deletable FILE...: by the owner of the copy. Deletes them.
owned_and_deletable() {
  local file
  for file in "$@"; do
    equal "$file $(stat -c '%u:%g %a' "$file")" "$file $OWNER 644" &&
      setpriv --reuid "${OWNER%:*}" --regid "${OWNER#*:}" --clear-groups rm "$file" || return 1
  done
}

# no_privileges SERVICE: it runs as the owner, without any capability.
no_privileges() {
  local status
  status=$(docker compose exec -T "$1" cat /proc/1/status) || return 1
  equal "$(awk '/^(Uid|Gid):/ { print $2 }' <<<"$status" | paste -sd:)" "$OWNER" &&
    equal "$(awk '/^Cap/ { print $2 }' <<<"$status" | sort -u)" 0000000000000000 &&
    equal "$(awk '/^NoNewPrivs/ { print $2 }' <<<"$status")" 1
}

# read_only_root SERVICE
read_only_root() { matches "$(docker compose exec -T "$1" touch /usr/forbidden 2>&1)" 'Read-only file system'; }

# small IMAGE: at most 12 MB on top of the base image.
small() {
  local size base
  size=$(docker image inspect -f '{{.Size}}' "$1") && base=$(docker image inspect -f '{{.Size}}' debian:bookworm-slim) || return 1
  [ "$size" -lt $((base + 12000000)) ] || { echo "$1: $size bytes; its base: $base"; return 1; }
}

# ended_well CONTAINER
ended_well() { equal "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' "$1")" "exited 0"; }

summary() {
  printf '%s passed, %s failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
}
