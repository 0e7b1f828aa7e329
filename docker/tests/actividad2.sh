# Actividad 2 in containers. Sourced by run.sh; $work is an empty folder.
# shellcheck shell=bash disable=SC2154

readonly TIME='[0-9T:.-]+Z' ID='[0-9A-HJKMNP-TV-Z]{26}' ADDRESS='[0-9.]+:[0-9]+' CRC='[0-9a-f]{8}'
readonly DATA_FILES=(datanode1/data.txt datanode2/data.txt datanode3/data.txt)

# For what is not given standard input: `docker compose run` would take that of this script.
store_client() { docker compose run --rm -T client "$@" 2>/dev/null </dev/null; }
store_client_reads() { docker compose run --rm -T client put - 2>/dev/null; }
ask() { printf '%s\n' "$1" | nc -N -w 5 127.0.0.1 5000; }
healthy() { equal "$(docker inspect -f '{{.State.Health.Status}}' "actividad2-$1")" healthy; }
available() { matches "$(ask '{"status":{}}')" "\"available\":$1,\"expected\":3"; }
available_now() { ask '{"status":{}}' | sed -nE 's/.*"available":([0-9]+),.*/\1/p'; }
state() { docker inspect -f '{{.State.Status}}' "$1"; }
lines() { wc -l <"$1"; }
has_lines() { [ "$(lines "$1")" -ge "$2" ] || { echo "$1: $(lines "$1") lines"; return 1; }; }

# every_line FILE EXTENDED-REGEX: there are lines, and each is like that.
every_line() {
  local others
  [ -s "$1" ] || { echo "$1 is empty"; return 1; }
  others=$(grep -vE -- "^($2)\$" "$1" | head -n 3)
  [ -z "$others" ] || { printf '%s has other lines:\n%s\n' "$1" "$others"; return 1; }
}

heartbeat_file() {
  every_line headnode/hearbeat_server.txt \
    "$TIME ronda=[0-9]+ (datanode[123] ([0-9.]+:5001|-) (operativo rtt=([0-9]+\.[0-9]{3}ms|- ENLACE)|no operativo rtt=-)( CAMBIO)?|operativos=[0-3] esperados=3 faltan=[0-3])"
}
registry_file() { every_line headnode/registro_server.txt "$TIME $ID $ADDRESS datanode[123]:[0-9]+ message_crc32c=$CRC \"[^\"]*\" crc32c=$CRC" && matches "$(cat headnode/registro_server.txt)" ' "Hola, almacén" '; }
receipts_file() { every_line client/registro_cliente.txt "$TIME $ID datanode[123]:[0-9]+ message_crc32c=$CRC \"[^\"]*\"" && matches "$(cat client/registro_cliente.txt)" ' "Hola, almacén"$'; }
data_files() {
  cat "${DATA_FILES[@]}" >all-data
  every_line all-data "[0-9]+ $TIME $ID $ADDRESS \"[^\"]*\" crc32c=$CRC" && matches "$(cat all-data)" ' "Hola, almacén" '
}

# seconds_until TIME: from the start of the first container.
seconds_until() {
  local started
  started=$(docker inspect -f '{{.State.StartedAt}}' actividad2-{headnode-1,datanode-1,datanode-2,datanode-3} | sort | head -n 1)
  awk -v a="$(date -d "$started" +%s.%N)" -v b="$(date -d "$1" +%s.%N)" 'BEGIN { printf "%.1f\n", b - a }'
}
soon() { awk -v took="$1" 'BEGIN { exit !(took > 0 && took <= 10) }' || { echo "after $1 s"; return 1; }; }
all_operative_soon() { soon "$(seconds_until "$(grep -m 1 'operativos=3 esperados=3 faltan=0' headnode/hearbeat_server.txt | cut -d' ' -f1)")"; }
first_messages_soon() { soon "$(seconds_until "$(sed -n '6s/ .*//p' client/registro_cliente.txt)")"; }

got_back() {
  local id
  id=$(store_client put 'desde la orden' | sed -nE "s/^guardado en datanode[0-9]+ \(registro [0-9]+\): ($ID)$/\1/p")
  equal "$(store_client get "$id")" 'desde la orden' && matches "$(store_client list --last 1)" "^$TIME $id datanode[123]:[0-9]+ $ADDRESS \"desde la orden\"$"
}

# Names and addresses of datanodes lead nowhere from where the client is; those of the headnode do.
client_is_apart() {
  local address script
  address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' actividad2-datanode-1)
  # shellcheck disable=SC2016
  script='reach() { timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }
    getent hosts headnode >/dev/null && reach headnode 5000 || { echo "the headnode is out of reach"; exit 1; }
    ! getent hosts datanode && ! getent hosts actividad2-datanode-1 || exit 1
    ! reach "$0" 5001 || { echo "$0:5001 can be reached"; exit 1; }'
  docker compose run --rm -T --entrypoint bash client -c "$script" "$address" </dev/null
}

# What `docker compose up` shows of the client.
summary_shown() {
  local summary
  summary=$(docker logs actividad2-client-1 2>/dev/null | sed '1,/^$/d')
  equal "$(sed -E 's/datanode[123]  [0-9]+$/DATANODE  RECORD/' <<<"$summary")" 'mensaje          datanode   registro
Hola, almacén    DATANODE  RECORD
segundo mensaje  DATANODE  RECORD
tercer mensaje   DATANODE  RECORD
cuarto mensaje   DATANODE  RECORD
quinto mensaje   DATANODE  RECORD
sexto mensaje    DATANODE  RECORD
Guardados: 6 de 6
Para comprobarlo: docker compose run --rm verify'
}

# The command that the client has printed, typed.
check_command_works() {
  local command
  command=$(docker logs actividad2-client-1 2>/dev/null | sed -n 's/^Para comprobarlo: //p')
  matches "$(bash -c "$command" 2>/dev/null </dev/null)" '^6 comprobantes, 6 lugares: todo está$'
}

verified() { matches "$(docker compose run --rm -T verify 2>&1 </dev/null)" '^[1-9][0-9]* comprobantes, [1-9][0-9]* lugares: todo está$'; }

# A message every few milliseconds, until a file named `enough` is there. `sent` tells how many there were.
messages() {
  local count=0
  while [ ! -e enough ]; do
    count=$((count + 1))
    printf 'mensaje %s\n' "$count"
    sleep 0.005
  done
  echo "$count" >sent
}

lost() { tail -n "+$(($2 + 1))" headnode/hearbeat_server.txt | grep -qE "^$TIME ronda=[0-9]+ $1 [0-9.:]+ no operativo rtt=- CAMBIO\$"; }
back() { tail -n "+$(($2 + 1))" headnode/hearbeat_server.txt | grep -qE "^$TIME ronda=[0-9]+ $1 [0-9.:]+ operativo rtt=[0-9.]+ms CAMBIO\$"; }

# lost_and_back DATANODE LOSE RECOVER: commands that take the datanode's container.
lost_and_back() {
  local node=$1 mark saved before
  before=$(available_now)
  mark=$(lines headnode/hearbeat_server.txt)
  "$2" "actividad2-datanode-${node#datanode}" && eventually lost "$node" "$mark" || return 1
  saved=$(lines saved)
  eventually has_lines saved $((saved + 10)) || return 1
  mark=$(lines headnode/hearbeat_server.txt)
  "$3" "actividad2-datanode-${node#datanode}" && eventually back "$node" "$mark" && eventually available "$before"
}

headnode_killed() {
  local saved
  docker kill actividad2-headnode-1 >/dev/null && equal "$(state actividad2-headnode-1)" exited || return 1
  saved=$(lines saved)
  # What it had confirmed is on its way to the file; then nothing is.
  eventually stands_still saved && docker start actividad2-headnode-1 >/dev/null && eventually available 3 && eventually has_lines saved $((saved + 10))
}
stands_still() {
  local before
  before=$(lines "$1")
  sleep 0.5
  equal "$(lines "$1")" "$before"
}

# survives FAULT...: it happens and passes while a client sends messages: all of them are saved, and where the receipts say.
survives() {
  local client outcome=0
  rm -f enough sent
  : >saved
  messages | docker compose run --rm -T client put - >saved 2>client.log &
  client=$!
  eventually has_lines saved 10 && "$@" || outcome=1
  touch enough
  wait "$client" || { tail -n 5 client.log; outcome=1; }
  equal "$(grep -cE "^guardado en datanode[0-9]+ \(registro [0-9]+\): $ID\$" saved) saved" "$(cat sent) saved" && verified && [ "$outcome" -eq 0 ]
}

# The health check of the headnode says why it fails, and the client can ask all the same.
unhealthy_without_datanodes() {
  local outcome=0
  docker compose stop datanode && eventually unhealthy headnode-1 || outcome=1
  matches "$(docker inspect -f '{{range .State.Health.Log}}{{.Output}}{{end}}' actividad2-headnode-1)" \
    'messages cannot be stored now: available datanodes: 0, needed for each message: 1$' || outcome=1
  matches "$(store_client status)" '^[0-3] de 3 operativos, 0 disponibles, ' || outcome=1
  docker compose start datanode && eventually healthy headnode-1 && eventually available 3 && [ "$outcome" -eq 0 ]
}
unhealthy() { equal "$(docker inspect -f '{{.State.Health.Status}}' "actividad2-$1")" unhealthy; }

# http ADDRESS PORT PATH [HOST]: the answer to a GET.
http() { printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$3" "${4:-localhost}" | nc -w 5 "$1" "$2"; }
page_shows() { matches "$(http 127.0.0.1 5080 /api/frame)" '"kind":"store".*"available":3' && matches "$(http 127.0.0.1 5080 /)" '<html lang="es"'; }
page_is_guarded() { matches "$(http 127.0.0.1 5080 / evil.example)" '^HTTP/1.1 421 ' && matches "$(http 127.0.0.1 5080 /metrics headnode:5080)" '^HTTP/1.1 200 '; }
# Published on the loopback address of this computer, and on no other one.
page_is_local() { equal "$(docker port actividad2-headnode-1 5080/tcp)" 127.0.0.1:5080; }
datanode_metrics() {
  local address
  address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' actividad2-datanode-1)
  matches "$(http "$address" 5081 /metrics)" '^datanode_sync_duration_seconds_count [1-9]'
}

run_quietly() { "$@" >/dev/null; }
# It stays stopped when somebody runs the client: what is shown here must be possible by hand.
stop() { run_quietly docker stop "$1" && run_quietly store_client status && equal "$(state "$1")" exited; }
kill_hard() { run_quietly docker kill "$1"; }
start() { run_quietly docker start "$1"; }
pause() { run_quietly docker pause "$1"; }
unpause() { run_quietly docker unpause "$1"; }
cut_off() { docker network disconnect actividad2_storage "$1"; }
connect_again() { docker network connect actividad2_storage "$1"; }

# Cut off so shortly that it has its old address again: it must be in the group again, or a new headnode never hears of it.
found_after_a_short_cut() {
  cut_off actividad2-datanode-2 && connect_again actividad2-datanode-2 && run_quietly docker restart actividad2-headnode-1 && eventually available 3
}

# A datanode that is away while the headnode starts is in every round all the same.
named_while_away() {
  local mark
  stop actividad2-datanode-2 && run_quietly docker stop actividad2-headnode-1 || return 1
  mark=$(lines headnode/hearbeat_server.txt)
  start actividad2-headnode-1 && eventually rounds_since "$mark" 3 || return 1
  tail -n "+$((mark + 1))" headnode/hearbeat_server.txt | awk '{ print } / operativos=/ && ++rounds == 3 { exit }' >three-rounds
  equal "$(grep -cE "^$TIME ronda=[0-9]+ datanode2 - no operativo rtt=-( CAMBIO)?\$" three-rounds)" 3 &&
    equal "$(grep -c ' operativos=2 esperados=3 faltan=1$' three-rounds)" 3 || { cat three-rounds; return 1; }
  start actividad2-datanode-2 && eventually available 3
}
rounds_since() { [ "$(tail -n "+$(($1 + 1))" headnode/hearbeat_server.txt | grep -c ' operativos=')" -ge "$2" ]; }

datanodes() { ask '{"status":{}}' | grep -oE '"name":"[^"]*"' | cut -d '"' -f 4 | paste -sd ' '; }
running() { docker ps --filter name=actividad2-datanode- --format '{{.Names}}' | sort | paste -sd ' '; }

# Each has a name and a folder of its own, and gets messages.
five_datanodes() {
  docker compose up --detach --no-color --scale datanode=5 && eventually available 5 || return 1
  equal "$(datanodes)" 'datanode1 datanode2 datanode3 datanode4 datanode5' || return 1
  seq 200 | store_client_reads >/dev/null && equal "$(cd datanodes && echo *)" 'datanode4 datanode5' &&
    has_lines datanodes/datanode4/data.txt 1 && has_lines datanodes/datanode5/data.txt 1 && verified
}

# Fewer, and again as many: each has the messages that it had.
fewer_and_more_again() {
  local id
  id=$(sed -nE '1s/^[0-9]+ [^ ]+ ([^ ]+) .*/\1/p' datanodes/datanode5/data.txt)
  docker compose up --detach --no-color --scale datanode=3 && eventually available 3 || return 1
  equal "$(running)" 'actividad2-datanode-1 actividad2-datanode-2 actividad2-datanode-3' || return 1
  matches "$(ask "{\"get\":{\"id\":\"$id\"}}")" '"code":"unavailable"' || return 1
  docker compose up --detach --no-color --scale datanode=5 && eventually available 5 || return 1
  equal "$(datanodes)" 'datanode1 datanode2 datanode3 datanode4 datanode5' && run_quietly store_client get "$id" && verified
}

# Without Compose, the host's name is the datanode's.
one_by_hand_joins() {
  local outcome=0
  setpriv --reuid "${OWNER%:*}" --regid "${OWNER#*:}" --clear-groups mkdir -p datanode9
  docker run --detach --name datanode9 --hostname datanode9 --network actividad2_storage --volume "$PWD/datanode9:/data" actividad2-datanode >/dev/null
  eventually available 6 && seq 100 | store_client_reads >/dev/null && has_lines datanode9/data.txt 1 && verified || outcome=1
  docker rm -f datanode9 >/dev/null
  [ "$outcome" -eq 0 ] && owned_and_deletable datanode9/data.txt
}

# A container that Compose gave no number must not take the name of one that has.
no_name_without_a_number() { matches "$(docker compose run --rm -T datanode 2>&1 </dev/null)" 'set DATANODE_NAME$'; }

# No multicast: the headnode speaks to another group than the datanodes, and asks them by name.
without_multicast() {
  cat >peers.yml <<'PEERS'
services:
  headnode:
    environment:
      HEADNODE_GROUP: 239.255.50.99:5003
      HEADNODE_PEERS: datanode:5003
      HEADNODE_FORGET: datanode9
      HEADNODE_REPLICAS: 2
PEERS
  docker compose --file docker-compose.yml --file peers.yml up --detach headnode datanode && eventually available 3
}
# Those that were scaled away are waited for; datanode9 is not.
one_is_forgotten() { equal "$(datanodes)" 'datanode1 datanode2 datanode3 datanode4 datanode5'; }
two_replicas() { matches "$(docker compose --file docker-compose.yml --file peers.yml run --rm -T client put dos 2>/dev/null </dev/null)" '^guardado en datanode[0-9]+ \(registro [0-9]+\), datanode[0-9]+ \(registro [0-9]+\): '; }

# Two headnodes. What one of them has said last of its role.
headnode_role() { docker logs "actividad2-$1-1" 2>&1 | grep -oE '(listening|stands by:)' | tail -n 1; }
headnode_stands_by() { equal "$1: $(headnode_role "$1")" "$1: stands by:"; }
leading_headnode() {
  local service
  for service in headnode standby; do [ "$(headnode_role "$service")" != listening ] || echo "$service"; done
}
one_headnode_leads() { matches "$(leading_headnode | paste -sd ' ')" '^(headnode|standby)$'; }
# leader_lost LOSE RECOVER: the other one goes on, and the first one stands by when it is back.
leader_lost() {
  local leader saved
  leader=$(leading_headnode)
  "$1" "actividad2-$leader-1" || return 1
  saved=$(lines saved)
  eventually has_lines saved $((saved + 10)) && "$2" "actividad2-$leader-1" && eventually headnode_stands_by "$leader" && one_headnode_leads
}
actividad2_pair() {
  export COMPOSE_FILE=docker-compose.yml:docker-compose.standby.yml
  local container
  check "a2, two headnodes: docker compose up" docker compose up --detach --no-color
  for container in headnode-1 standby-1; do check "a2, two headnodes: $container is healthy" eventually healthy "$container"; done
  check "a2, two headnodes: one leads" eventually one_headnode_leads
  check "a2, two headnodes: the client's messages arrive" eventually ended_well actividad2-client-1
  check "a2, two headnodes: nothing is lost when the leader is killed and started" survives leader_lost kill_hard start
  check "a2, two headnodes: and the other way round" survives leader_lost kill_hard start
  check "a2, two headnodes: nothing is lost when the leader is paused and goes on" survives leader_lost pause unpause
  check "a2, two headnodes: nothing is lost when the leader is cut off and connected again" survives leader_lost cut_off connect_again
  check "a2, two headnodes: docker compose down" docker compose down
  unset COMPOSE_FILE
}

# The commands of README.md.
keyed() { docker compose --file docker-compose.yml --file docker-compose.key.yml "$@"; }
keyed_client() { keyed run --rm -T --no-deps client "$@" 2>&1 </dev/null; }
make_keys() {
  (umask 077
  docker compose run --rm --no-deps -T client key new >cluster.key 2>/dev/null </dev/null &&
    chown "$OWNER" cluster.key &&
    docker compose run --rm --no-deps -T --volume "$PWD/cluster.key:/cluster.key:ro" client key client --from /cluster.key >client.key 2>/dev/null </dev/null &&
    chown "$OWNER" client.key) &&
    matches "$(cat cluster.key)" '^[0-9a-f]{64}$' && matches "$(cat client.key)" '^client [0-9a-f]{64}$'
}
three_with_a_key() { matches "$(keyed_client status)" ' operativos, 3 disponibles, '; }
refused_without_a_key() {
  matches "$(ask '{"status":{}}')" '^\{"error":\{"code":"key-required",' &&
    matches "$(docker compose run --rm -T --no-deps client status 2>&1 </dev/null)" 'use store-client --key-file .*\(key-required\)'
}

# The command of README.md, as the owner of the clone.
all_forgotten() {
  setpriv --reuid "${OWNER%:*}" --regid "${OWNER#*:}" --clear-groups bash -c "$(grep '^rm -rf ' README.md)" || return 1
  equal "$(find headnode standby client datanode* -type f ! -name Dockerfile ! -name .gitkeep)" ''
}

actividad2() {
  copy_as "$OWNER" "$work/a2"
  cd "$work/a2/actividad2" || return 1
  docker image rm --force actividad2-headnode actividad2-datanode actividad2-client >/dev/null 2>&1
  check "a2: docker compose build" docker compose --progress plain build
  local image service container
  for image in headnode datanode client; do check "a2: a small image of the $image" small "actividad2-$image"; done
  check "a2: docker compose up" docker compose up --detach --no-color
  for container in headnode-1 datanode-1 datanode-2 datanode-3; do check "a2: $container is healthy" eventually healthy "$container"; done
  check "a2: the client ends with code 0" eventually ended_well actividad2-client-1
  check "a2: three of three datanodes are operative" eventually available 3
  check "a2: and were within 10 s of the start" all_operative_soon
  check "a2: the client's messages were saved within 10 s of the start" first_messages_soon
  check "a2: hearbeat_server.txt on the host" heartbeat_file
  check "a2: registro_server.txt on the host" registry_file
  check "a2: registro_cliente.txt on the host" receipts_file
  check "a2: data.txt of the three datanodes on the host" data_files
  check "a2: the client ends with a table of its messages" summary_shown
  check "a2: the command under the table checks them" check_command_works
  check "a2: put, get, list" got_back
  check "a2: messages from standard input" equal "$(seq 3 | store_client_reads | grep -c '^guardado en datanode')" 3
  check "a2: status" matches "$(store_client status)" '^3 de 3 operativos, 3 disponibles, [0-9]+ mensajes, réplicas 1, ronda [0-9]+, época 1$'
  check "a2: top" matches "$(store_client top --once)" '^3 de 3 operativos; se guardan mensajes$'
  check "a2: status --ready" matches "$(store_client status --ready)" '^3 de 3 operativos; se guardan mensajes$'
  check "a2: the page shows three datanodes" page_shows
  check "a2: the page answers its own names only" page_is_guarded
  check "a2: the page is for this computer only" page_is_local
  check "a2: metrics of a datanode" datanode_metrics
  check "a2: without datanodes the headnode is not healthy, and is so again" unhealthy_without_datanodes
  check "a2: nc from the host" matches "$(ask '{"put":{"message":"desde nc"}}')" "^\{\"saved\":\{\"id\":\"$ID\",\"places\":\[\{\"datanode\":\"datanode[123]\",\"seq\":[0-9]+\}\]"
  check "a2: a line of plain text" matches "$(ask 'Hola')" "^guardado en datanode[0-9]+ \(registro [0-9]+\): $ID\$"
  check "a2: the client can neither name nor reach a datanode" client_is_apart
  for service in headnode datanode; do
    check "a2: $service runs as the owner, without capabilities" no_privileges "$service"
    check "a2: $service has a read-only root file system" read_only_root "$service"
  done
  check "a2: nothing is lost when a datanode is stopped and started" survives lost_and_back datanode1 stop start
  check "a2: nothing is lost when a datanode is killed and started" survives lost_and_back datanode2 kill_hard start
  check "a2: nothing is lost when a datanode is paused and goes on" survives lost_and_back datanode3 pause unpause
  check "a2: nothing is lost when a datanode is cut off and connected again" survives lost_and_back datanode1 cut_off connect_again
  check "a2: nothing is lost when the headnode is killed and started" survives headnode_killed
  check "a2: a datanode that was cut off for a moment is found by a new headnode" found_after_a_short_cut
  check "a2: a datanode that is away while the headnode starts is in every round" named_while_away
  check "a2: docker compose up --scale datanode=5" five_datanodes
  check "a2: nothing is lost when a scaled datanode is killed and started" survives lost_and_back datanode4 kill_hard start
  check "a2: fewer datanodes, and as many again" fewer_and_more_again
  check "a2: a datanode without a number is told to take a name" no_name_without_a_number
  check "a2: a datanode without Compose joins" one_by_hand_joins
  local records
  records=$(lines headnode/registro_server.txt)
  check "a2: docker compose down within 5 s" at_most 5 docker compose down
  check "a2: without multicast, with --peers" without_multicast
  check "a2: a datanode that is gone for ever is forgotten" one_is_forgotten
  check "a2: two replicas" two_replicas
  check "a2: the registry went on where it had ended" has_lines headnode/registro_server.txt $((records + 1))
  check "a2: down again within 5 s" at_most 5 docker compose down
  check "a2: a key for the store, and one for its clients" make_keys
  check "a2: docker compose up with a key" keyed up --detach headnode datanode
  check "a2: all datanodes are operative with a key" eventually three_with_a_key
  check "a2: put with a key" matches "$(keyed_client put clave)" '^guardado en datanode[0-9]+ '
  check "a2: without a key nothing is answered" refused_without_a_key
  check "a2: down with a key" keyed down
  check "a2: every file belongs to the owner of the clone, who can delete it" \
    owned_and_deletable headnode/hearbeat_server.txt headnode/registro_server.txt client/registro_cliente.txt "${DATA_FILES[@]}" datanodes/datanode{4,5}/data.txt
  # The classic builder, which some versions of 1.29 take, was seen at work with the same stages in Actividad 1.
  check "a2: docker-compose 1.29 builds it too" docker-compose build
  check "a2: docker-compose 1.29 runs it" docker-compose up -d
  check "a2: and its client's messages arrive" eventually has_lines client/registro_cliente.txt 6
  check "a2: its three datanodes are operative" eventually available 3
  check "a2: docker-compose 1.29 runs five" docker-compose up -d --scale datanode=5
  check "a2: and all of them are operative" eventually available 5
  check "a2: docker-compose 1.29 runs the client" matches "$(docker-compose run --rm -T client put hola 2>/dev/null </dev/null)" '^guardado en datanode[0-9]+ '
  check "a2: docker-compose 1.29 down" docker-compose down
  check "a2: all messages are forgotten" all_forgotten
  # In clean folders: a new leader needs the majority of all datanodes that the others have ever met.
  actividad2_pair
}
