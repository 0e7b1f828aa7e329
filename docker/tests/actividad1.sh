# Actividad 1 in containers. Sourced by run.sh; $work is an empty folder.
# shellcheck shell=bash disable=SC2154

records() { wc -l <"$1"; }
say() { printf '%b' "$1" | nc -N -w 5 127.0.0.1 5000; }
# As most clients of this assignment do: no line end, and the connection stays open.
say_and_wait() {
  python3 -c '
import socket, sys
client = socket.create_connection(("127.0.0.1", 5000), timeout=10)
client.sendall(sys.argv[1].encode())
print(client.recv(1024).decode(), end="")' "$1"
}
health() { matches "$(docker compose ps server)" '\(healthy\)'; }
greeted() { matches "$(cat server/log.txt)" '^[0-9T:.-]+Z [0-9.]+:[0-9]+ "Hola, servidor"$'; }
second_up_appends() { greeted && equal "$(head -n "$1" server/log.txt | md5sum)" "$2" && [ "$(records server/log.txt)" -gt "$1" ]; }

# A burst of messages, the server killed in the middle of it: what was acknowledged is in the log after a restart.
killed_server_loses_nothing() {
  local before acknowledged
  : >acknowledged
  (seq -f 'ráfaga %g' 200000 | nc -N -w 5 127.0.0.1 5000 >acknowledged) &
  local sender=$!
  eventually test -s acknowledged || return 1
  docker kill actividad1-server-1 >/dev/null
  wait "$sender"
  docker compose start server >/dev/null 2>&1
  eventually health || return 1
  # The last line may have been cut on its way.
  acknowledged=$(head -c -1 acknowledged | grep -c '^OK mensaje recibido correctamente: ráfaga')
  before=$(grep -c '"ráfaga' server/log.txt)
  rm acknowledged
  [ "$acknowledged" -gt 0 ] && [ "$acknowledged" -lt 200000 ] && [ "$before" -ge $((acknowledged - 1)) ] ||
    { echo "acknowledged $acknowledged, logged $before"; return 1; }
}

full_disk_is_told() {
  local name=actividad1-full reply
  docker run --rm --detach --name "$name" --read-only --tmpfs /data:size=64k --publish 127.0.0.1:5001:5000 actividad1-server >/dev/null
  eventually sh -c 'echo Hola | nc -N -w 2 127.0.0.1 5001 | grep -q "^OK "' || { docker rm -f "$name" >/dev/null; return 1; }
  reply=$(for i in $(seq 100); do printf '%s %01000d\n' "$i" 0; done | nc -N -w 5 127.0.0.1 5001)
  local alive
  alive=$(docker inspect -f '{{.State.Running}}' "$name")
  docker rm -f "$name" >/dev/null
  equal "$alive" true && matches "$reply" '^ERROR disk-full: '
}

actividad1() {
  copy_as "$OWNER" "$work/a1"
  cd "$work/a1/actividad1" || return 1
  docker image rm --force actividad1-server actividad1-client >/dev/null 2>&1
  check "a1: docker compose build" docker compose --progress plain build
  check "a1: small runtime images" small actividad1-server
  check "a1: docker compose up" docker compose up --detach --no-color
  check "a1: the server is healthy" eventually health
  check "a1: the client ends with code 0" eventually ended_well actividad1-client-1
  check "a1: log.txt on the host holds the greeting" greeted
  check "a1: respuestas.txt on the host holds the reply" matches "$(cat client/respuestas.txt)" '^[0-9T:.-]+Z [0-9.]+:5000 "OK mensaje recibido correctamente: Hola, servidor"$'
  check "a1: the terminal shows the event" matches "$(docker compose logs --no-color server)" 'message logged.*text="Hola, servidor"'
  check "a1: another greeting" matches "$(docker compose run --rm -T client 'otro saludo' 2>/dev/null)" '^OK mensaje recibido correctamente: otro saludo$'
  check "a1: messages from standard input" equal "$(seq 3 | docker compose run --rm -T client - 2>/dev/null | wc -l)" 3
  check "a1: nc, newline-terminated" equal "$(say 'desde nc\n')" "OK mensaje recibido correctamente: desde nc"
  check "a1: nc, not terminated" equal "$(say 'sin fin')" "OK mensaje recibido correctamente: sin fin"
  check "a1: Python, not terminated, waits for the reply" equal "$(say_and_wait 'Hola servidor')" "OK mensaje recibido correctamente: Hola servidor"
  check "a1: a refusal" matches "$(say 'ma\xf1ana\n')" '^ERROR invalid-utf8: '
  check "a1: and its line in log.txt" matches "$(cat server/log.txt)" '^[0-9T:.-]+Z [0-9.]+:[0-9]+ ERROR invalid-utf8 "[^"]+" ma\\xf1ana$'
  check "a1: the server runs as the owner, without capabilities" no_privileges server
  check "a1: read-only root file system" read_only_root server
  check "a1: docker kill loses nothing acknowledged" killed_server_loses_nothing
  local records sum
  records=$(records server/log.txt)
  sum=$(md5sum <server/log.txt)
  check "a1: docker compose down within 2 s" at_most 2 docker compose down
  check "a1: a second up" docker compose up --detach --no-color
  check "a1: its client ends with code 0" eventually ended_well actividad1-client-1
  check "a1: it appends and loses nothing" second_up_appends "$records" "$sum"
  check "a1: a full disk is an error reply" full_disk_is_told
  check "a1: down again within 2 s" at_most 2 docker compose down
  check "a1: log.txt belongs to the owner of the clone, who can delete it" owned_and_deletable server/log.txt
  check "a1: respuestas.txt too" owned_and_deletable client/respuestas.txt
  # As 1.29 does by itself: with the classic builder.
  check "a1: docker-compose 1.29 builds it too" env COMPOSE_DOCKER_CLI_BUILD=0 DOCKER_BUILDKIT=0 docker-compose build
  check "a1: docker-compose 1.29 runs it" docker-compose up -d
  check "a1: and its client's greeting arrives" eventually greeted
  check "a1: docker-compose 1.29 down" docker-compose down
}
