# TP0 in containers. Sourced by run.sh; $work is an empty folder.
# shellcheck shell=bash disable=SC2154

tp0_clean_up() {
  docker rm -f server >/dev/null 2>&1
  make -s -C "$work/tp0/tp0" docker-compose-down >/dev/null 2>&1
}

# actions CONTAINER: its action lines without their times; the form of each line is checked.
actions() {
  local lines
  lines=$(docker logs "$1" 2>/dev/null)
  if grep -vE '^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} (DEBUG   |INFO    |WARNING |ERROR   |CRITICAL) action: [a-z_]+ \| result: (success|fail|in_progress)( \| .*)?$' <<<"$lines"; then
    echo "is no action line"
  fi
  cut -c 21- <<<"$lines"
}
set_value() { sed -i "s|^\( *$2 *[=:]\).*|\1 $3|" "$1" && grep -q "^ *$2 *[=:] $3\$" "$1"; }
quick_client() { set_value client/config.yaml amount 2 && set_value client/config.yaml period '"100ms"'; }
client_says() { matches "$(docker logs client1 2>&1)" "$1"; }
exit_code() { docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' "$1"; }
ended_well() { equal "$(exit_code "$1")" "exited 0"; }
tp0_healthy() { equal "$(docker inspect -f '{{.State.Health.Status}}' server)" healthy; }
containers() { docker ps --all --filter label=com.docker.compose.project=tp0 --format '{{.Names}}' | sort | paste -sd ' '; }
images() { docker image inspect -f '{{.Id}}' server:latest client:latest; }
in_network() { docker run --rm -i --network tp0_testing_net --entrypoint "$1" client:latest "${@:2}"; }
refused() {
  local code=$1 told
  shift
  told=$("$@" 2>&1)
  equal "$?" "$code" && matches "$told" 'allowed|expected|does not exist|no arguments'
}
validates() {
  local said code
  said=$("$1" ./validar-echo-server.sh 2>/dev/null)
  code=$?
  equal "$said ($code)" "action: test_echo_server | result: $2"
}
kept_files_are_generated() {
  sh ./generar-compose.sh generated.yaml 1 && cmp generated.yaml docker-compose-dev.yaml &&
    sh ./generar-compose.sh generated.yaml 5 apuesta && cmp generated.yaml docker-compose-apuesta.yaml &&
    bash ./generar-compose.sh generated.yaml 5 loteria && cmp generated.yaml docker-compose-loteria.yaml
  local same=$?
  rm -f generated.yaml
  return "$same"
}
each_client_has_its_bet() {
  sh ./generar-compose.sh generated.yaml 240 apuesta && equal "$(grep -E '^ *DOCUMENTO:' generated.yaml | sort -u | wc -l)" 240 &&
    equal "$(grep -cE '^ *(NOMBRE|APELLIDO|NUMERO): ".+"$|^ *NACIMIENTO: "[0-9]{4}-[0-9]{2}-[0-9]{2}"$' generated.yaml)" 960
}
no_variables_that_hide_files() {
  local set
  set=$(grep -hoE '^ *(CLI|SERVER|LOGGING|CONNECTION|NUMBER)_[A-Z_]+:' docker-compose-dev.yaml docker-compose-apuesta.yaml docker-compose-loteria.yaml docker-compose-scale.yaml | tr -d ' ' | sort -u)
  equal "$set" "CLI_ID:"
}

echo_client_log() {
  equal "$(actions client1)" "INFO     action: config | result: success | client_id: 1 | server_address: server:${1:-12345} | loop_amount: 2 | loop_period: 100ms | log_level: INFO
INFO     action: receive_message | result: success | client_id: 1 | msg: [CLIENT 1] Message N°1
INFO     action: receive_message | result: success | client_id: 1 | msg: [CLIENT 1] Message N°2
INFO     action: loop_finished | result: success | client_id: 1"
}
# The thread that accepts connections and those that answer write their lines in any order.
echo_server_log() {
  local log
  log=$(actions server | sed 's/ip: 172\.25\.125\.[0-9]*/ip: IP/')
  equal "$(grep -vF receive_message <<<"$log")" "INFO     action: config | result: success | port: 12345 | listen_backlog: 4096 | logging_level: INFO
INFO     action: accept_connections | result: in_progress
INFO     action: accept_connections | result: success | ip: IP
INFO     action: accept_connections | result: in_progress
INFO     action: accept_connections | result: success | ip: IP
INFO     action: accept_connections | result: in_progress" &&
    equal "$(grep -F receive_message <<<"$log")" "INFO     action: receive_message | result: success | ip: IP | msg: [CLIENT 1] Message N°1
INFO     action: receive_message | result: success | ip: IP | msg: [CLIENT 1] Message N°2"
}
tp0_no_privileges() {
  local status
  status=$(docker exec server cat /proc/1/status) || return 1
  equal "$(awk '/^(Uid|Gid):/ { print $2 }' <<<"$status" | paste -sd:)" "$OWNER" &&
    equal "$(awk '/^Cap/ { print $2 }' <<<"$status" | sort -u)" 0000000000000000
}

# down_well COMMAND...: it ends every container with exit code 0, not 137.
down_well() {
  local since died
  since=$(date +%s.%N)
  "$@" || return 1
  died=$(docker events --since "$since" --until "$(date +%s.%N)" --filter event=die --filter label=com.docker.compose.project=tp0 \
    --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}')
  matches "$died" '^server 0$' && ! grep -v ' 0$' <<<"$died"
}
up_with() { sh ./generar-compose.sh generated.yaml "$1" "${2:-echo}" && docker compose -p tp0 -f generated.yaml up -d --no-color --remove-orphans; }
# An idle connection and one in the middle of a line must not hold up the end.
idle_connections() {
  docker run --rm -d --name tp0-idle --network tp0_testing_net --entrypoint sh client:latest -c \
    '(sleep 60 | nc server 12345) & (printf medio; sleep 60) | nc server 12345' >/dev/null &&
    eventually two_accepted
}
two_accepted() { [ "$(actions server | grep -c 'accept_connections | result: success')" -ge 2 ]; }
signalled_server() {
  docker kill -s TERM server >/dev/null && eventually ended_well server &&
    equal "$(actions server | grep -c 'action: close_connection | result: success')" 2 &&
    matches "$(actions server)" '^INFO     action: close_listener \| result: success$'
}
signalled_client() {
  docker kill -s TERM client1 >/dev/null && eventually ended_well client1 &&
    equal "$(actions client1 | tail -n 1)" "INFO     action: shutdown | result: success | client_id: 1"
}

# wrong_server COMMAND: in place of the server, and under its name.
wrong_server() {
  docker rm -f server >/dev/null 2>&1
  docker run -d --name server --network tp0_testing_net --entrypoint sh client:latest -c "$1" >/dev/null
}

tp0_echo() {
  quick_client
  check "tp0: make docker-image" make docker-image
  check "tp0: the kept compose files are what generar-compose.sh writes" kept_files_are_generated
  check "tp0: 240 clients, each with a bet of its own" each_client_has_its_bet
  check "tp0: no variable hides a configuration file" no_variables_that_hide_files
  for shell in sh bash; do
    check "tp0: generar-compose.sh --help under $shell" matches "$($shell ./generar-compose.sh --help)" '^Usage:'
    check "tp0: validar-echo-server.sh --help under $shell" matches "$($shell ./validar-echo-server.sh --help)" '^Usage:'
    for arguments in "" "x" "x -1" "x 1.5" "x 1 otro" "x 241" "x 1 echo y" "none/x 1"; do
      # shellcheck disable=SC2086
      check "tp0: generar-compose.sh refuses '$arguments' under $shell" refused 2 "$shell" ./generar-compose.sh $arguments
    done
    check "tp0: validar-echo-server.sh refuses an argument under $shell" refused 2 "$shell" ./validar-echo-server.sh x
  done
  check "tp0: without a network the check fails" validates sh "fail (1)"
  check "tp0: make docker-compose-up" make docker-compose-up
  check "tp0: the client ends with code 0" eventually ended_well client1
  check "tp0: the client's log" echo_client_log
  check "tp0: the server's log" echo_server_log
  check "tp0: the server runs as the owner, without capabilities" tp0_no_privileges
  check "tp0: a healthy server, under sh" validates sh "success (0)"
  check "tp0: a healthy server, under bash" validates bash "success (0)"
  check "tp0: make docker-compose-logs" matches "$(make docker-compose-logs LOGS_FLAGS=)" 'client1 .*action: loop_finished \| result: success \| client_id: 1$'
  local built
  built=$(images)
  set_value server/config.ini SERVER_PORT 23456
  set_value server/config.ini LOGGING_LEVEL WARNING
  set_value client/config.yaml address '"server:23456"'
  check "tp0: another configuration, and docker compose restart" docker compose -p tp0 -f docker-compose-dev.yaml restart -t 2
  check "tp0: the server writes warnings only, on another port" eventually validates sh "success (0)"
  check "tp0: the client has its new address" eventually client_says 'server_address: server:23456'
  check "tp0: no new image was built" equal "$(images)" "$built"
  git -C "$repository" show HEAD:tp0/server/config.ini >server/config.ini
  set_value client/config.yaml address '"server:12345"'
  check "tp0: make docker-compose-down ends them with code 0" down_well make docker-compose-down
}

tp0_signals() {
  check "tp0: 0 clients" up_with 0
  check "tp0: the server alone" eventually tp0_healthy
  check "tp0: its container" equal "$(containers)" "server"
  check "tp0: and it echoes" validates sh "success (0)"
  check "tp0: idle connections" idle_connections
  check "tp0: SIGTERM to the server: a line for each closing, exit code 0" signalled_server
  docker rm -f tp0-idle >/dev/null 2>&1
  check "tp0: a dead server" validates sh "fail (1)"
  wrong_server 'while :; do echo otra cosa | nc -l -N -p 12345; done'
  check "tp0: a server that answers something else" validates sh "fail (1)"
  wrong_server 'nc -l -k -p 12345 >/dev/null'
  check "tp0: a server that does not answer" at_most 10 validates bash "fail (1)"
  wrong_server 'while :; do yes | nc -l -p 12345; done'
  check "tp0: a server that does not stop answering" at_most 10 validates bash "fail (1)"
  docker rm -f server >/dev/null
  set_value client/config.yaml period '"1h"'
  check "tp0: 1 client" up_with 1
  check "tp0: its containers" equal "$(containers)" "client1 server"
  check "tp0: it waits" eventually client_says 'receive_message \| result: success'
  check "tp0: SIGTERM to the client" signalled_client
  check "tp0: 5 clients" up_with 5
  check "tp0: their containers" equal "$(containers)" "client1 client2 client3 client4 client5 server"
  check "tp0: idle connections again" idle_connections
  check "tp0: docker compose down -t 1 kills nobody" down_well docker compose -p tp0 -f generated.yaml stop -t 1
  docker rm -f tp0-idle >/dev/null 2>&1
  check "tp0: down" docker compose -p tp0 -f generated.yaml down -t 1
  quick_client
}

heard_ids() { docker logs server 2>/dev/null | grep -oE 'msg: \[CLIENT [^]]*\] Message N°2' | grep -oE '[^ ]+\]' | tr -d ']' | sort | paste -sd ' '; }
heard() { equal "$(heard_ids)" "$1"; }
# Does what README's exercise 1 says. The file is then, but for its first line, what the script writes for two.
second_client_by_hand() {
  local section
  section=$(awk '/^```yaml$/ { inside = 1; next } inside && /^```$/ { exit } inside' README.md)
  section=$section awk '/^networks:/ { print ENVIRON["section"] "\n" } { print }' docker-compose-dev.yaml >by-hand.yaml
  sh ./generar-compose.sh generated.yaml 2 && cmp <(tail -n +2 by-hand.yaml) <(tail -n +2 generated.yaml) &&
    cp docker-compose-dev.yaml kept.yaml && mv by-hand.yaml docker-compose-dev.yaml
}

tp0_many() {
  check "tp0: a second client, added by hand as README says" second_client_by_hand
  check "tp0: make docker-compose-up" make docker-compose-up
  check "tp0: both are heard" eventually heard "1 2"
  check "tp0: down" down_well make docker-compose-down
  mv kept.yaml docker-compose-dev.yaml
  check "tp0: make docker-compose-up-scale-client" make docker-compose-up-scale-client
  check "tp0: without NCLIENTS it starts two clients" eventually heard "1 2"
  check "tp0: down" down_well make docker-compose-down
  check "tp0: make docker-compose-up-scale-client NCLIENTS=3" make docker-compose-up-scale-client NCLIENTS=3
  check "tp0: each client finds an id of its own" eventually heard "1 2 3"
  check "tp0: down" down_well make docker-compose-down
  check "tp0: make docker-compose-scaled NCLIENTS=5" make docker-compose-scaled NCLIENTS=5
  check "tp0: five clients are heard" eventually heard "1 2 3 4 5"
  check "tp0: down -t 1" at_most 4 docker compose -p tp0 -f docker-compose-scaled.yaml down -t 1
  # It builds the same in entrega.sh, with its own builder.
  check "tp0: docker-compose 1.29 runs it" docker-compose -f docker-compose-dev.yaml up -d
  check "tp0: and its client ends with code 0" eventually ended_well client1
  check "tp0: with the same log" echo_client_log
  check "tp0: docker-compose 1.29 down" docker-compose -f docker-compose-dev.yaml down -t 1
  check "tp0: docker-compose 1.29 scales it" docker-compose -f docker-compose-scale.yaml up -d --scale client=2
  check "tp0: each with its own id" eventually heard "1 2"
  check "tp0: docker-compose 1.29 down again" docker-compose -f docker-compose-scale.yaml down -t 1
}

agencies_ended_well() { for agency in 1 2 3 4 5; do ended_well "client$agency" || return 1; done; }
bet_lines() { actions "$1" | grep -oE "action: $2 \| result: success \| .*"; }
# single_bets_told FILE: each agency says that it has sent the bet in its part of the compose file, and the server that it has
# stored them all.
single_bets_told() {
  local bets agency
  bets=$(awk -F '"' '/ DOCUMENTO:/ { dni = $2 } / NUMERO:/ { print "dni: " dni " | numero: " $2 }' "$1")
  equal "$(head -n 1 <<<"$bets")" "dni: 30904465 | numero: 7574" && equal "$(sort -u <<<"$bets" | wc -l)" 5 || return 1
  for agency in 1 2 3 4 5; do
    equal "$(bet_lines "client$agency" apuesta_enviada)" "action: apuesta_enviada | result: success | $(sed -n "${agency}p" <<<"$bets")" || return 1
  done
  equal "$(bet_lines server apuesta_almacenada | sort)" "$(sed 's/^/action: apuesta_almacenada | result: success | /' <<<"$bets" | sort)"
}
single_bets_stored() {
  equal "$(cut -d , -f 1 server/apuestas/bets.csv | sort | paste -sd ' ')" "1 2 3 4 5" &&
    matches "$(cat server/apuestas/bets.csv)" '^1,Santiago Lionel,Lorca,30904465,1999-03-17,7574' &&
    equal "$(stat -c '%u:%g' server/apuestas/bets.csv)" "$OWNER"
}
readme_single_bet() {
  matches "$(awk '/^docker run .* -e CLI_ID=6/ { inside = 1 } /^```$/ { inside = 0 } inside' README.md | sh)" \
    'action: apuesta_enviada \| result: success \| dni: 21689196 \| numero: 2201$'
}

tp0_single_bets() {
  check "tp0: make docker-compose-up MODE=apuesta" make docker-compose-up MODE=apuesta
  check "tp0: each agency with a bet ends with code 0" eventually agencies_ended_well
  check "tp0: agencies and server tell of each bet" single_bets_told docker-compose-apuesta.yaml
  check "tp0: the bets are on the host, and the owner's" single_bets_stored
  check "tp0: README's bet by hand" readme_single_bet
  check "tp0: down" down_well make docker-compose-down
  check "tp0: make docker-compose-up MODE=apuesta, a second time" make docker-compose-up MODE=apuesta
  check "tp0: each agency ends again" eventually agencies_ended_well
  check "tp0: agencies and server tell of each bet again" single_bets_told docker-compose-apuesta.yaml
  check "tp0: the bets are new, and the earlier six are kept" equal "$(wc -l <server/apuestas/bets.csv) $(cat server/apuestas/sorteos/*/bets.csv | wc -l)" "5 6"
  check "tp0: down" down_well make docker-compose-down
  check "tp0: scaled clients have no bet each, and it says so" \
    matches "$(make docker-compose-up-scale-client MODE=apuesta 2>&1)" 'use make docker-compose-scaled MODE=apuesta'
}

winners_told() {
  local winners
  winners=$(for agency in 1 2 3 4 5; do actions "client$agency" | grep 'action: consulta_ganadores | result: success' | grep -oE 'cant_ganadores: [0-9]+'; done | paste -sd ' ')
  equal "$winners" "cant_ganadores: 3 cant_ganadores: 2 cant_ganadores: 2 cant_ganadores: 1 cant_ganadores: 0"
}
drawn_once() { equal "$(actions server | grep -c 'action: sorteo | result: success')" 1; }
# every_bet_stored [FOLDER]: each agency's file in it, with the agency in front of each line, is what bets.csv holds.
every_bet_stored() {
  local expected
  expected=$(for agency in 1 2 3 4 5; do sed "s/^/$agency,/" "${1:-data}/agency-$agency.csv"; done | sort | md5sum)
  equal "$(tr -d '\r' <server/bets.csv | sort | md5sum)" "$expected"
}
bets_owned() { equal "$(stat -c '%u:%g' server/bets.csv)" "$OWNER"; }

earlier_lotteries() { find server/sorteos -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; }
earlier_lotteries_are() { equal "$(earlier_lotteries)" "$1"; }
# The newest one before has the same bets as this one, and belongs to the owner of the clone.
lottery_before_kept() {
  local before
  before=$(find server/sorteos -mindepth 1 -maxdepth 1 | sort | tail -n 1)
  earlier_lotteries_are "$1" && equal "$(sort "$before/bets.csv" | md5sum)" "$(sort server/bets.csv | md5sum)" &&
    equal "$(find "$before" -type f -printf '%f %U:%G\n' | sort | paste -sd ' ')" "bets.csv $OWNER lottery.journal $OWNER winners.csv $OWNER"
}
# Its server is away, and it waits to ask for its winners.
late_agency() {
  docker stop server >/dev/null && docker run -d --name tp0-late --network tp0_testing_net -e CLI_ID=1 -v "$PWD/data:/data:ro" \
    client:latest lottery-agency --data-dir /data --wait 5m >/dev/null && equal "$(docker ps --filter network=tp0_testing_net --format '{{.Names}}')" tp0-late
}
late_agency_told() { ended_well tp0-late && matches "$(actions tp0-late)" 'cant_ganadores: 3$'; }

tp0_lottery() {
  check "tp0: make docker-compose-up MODE=loteria" make docker-compose-up MODE=loteria
  check "tp0: five agencies end with code 0" eventually agencies_ended_well
  check "tp0: each is told its winners" winners_told
  check "tp0: one draw" drawn_once
  check "tp0: bets.csv on the host holds every bet" every_bet_stored
  check "tp0: bets.csv belongs to the owner of the clone" bets_owned
  check "tp0: make docker-compose-logs" matches "$(make docker-compose-logs LOGS_FLAGS=)" 'client5 .*action: consulta_ganadores \| result: success \| cant_ganadores: 0$'
  check "tp0: a lottery that runs is left alone" make docker-compose-up MODE=loteria
  check "tp0: its files stay" earlier_lotteries_are 0
  check "tp0: the agencies end again" eventually agencies_ended_well
  check "tp0: an agency that waits for its server" late_agency
  check "tp0: its lottery is left alone, too" make docker-compose-up MODE=loteria
  check "tp0: it is told its winners" eventually late_agency_told
  check "tp0: its files stay" earlier_lotteries_are 0
  docker rm -f tp0-late >/dev/null 2>&1
  check "tp0: a lottery that runs is not reset" matches "$(make docker-compose-reset 2>&1)" 'make docker-compose-down comes first'
  check "tp0: its files stay" earlier_lotteries_are 0
  check "tp0: down -t 1 kills nobody" down_well docker compose -p tp0 -f docker-compose-loteria.yaml down -t 1
}

tp0_lottery_again() {
  check "tp0: make docker-compose-up MODE=loteria, a second time" make docker-compose-up MODE=loteria
  check "tp0: the agencies end again" eventually agencies_ended_well
  check "tp0: each is told its winners again" winners_told
  check "tp0: the draw is shown again" drawn_once
  check "tp0: nothing is stored twice" every_bet_stored
  check "tp0: the lottery before is in server/sorteos" lottery_before_kept 1
  check "tp0: down" down_well make docker-compose-down
  set_value server/config.ini NUMBER_OF_CLIENTS 6
  check "tp0: a third time, scaled, for six agencies" make docker-compose-up-scale-client MODE=loteria
  check "tp0: each agency finds its own id and file" eventually every_bet_stored
  check "tp0: the second one moved, too" earlier_lotteries_are 2
  check "tp0: down before the draw" down_well make docker-compose-down
  set_value server/config.ini NUMBER_OF_CLIENTS 5
  check "tp0: a lottery that was not drawn goes on" make docker-compose-up MODE=loteria
  check "tp0: with its draw" eventually agencies_ended_well
  check "tp0: in the same files" earlier_lotteries_are 2
  check "tp0: and nothing is stored twice" every_bet_stored
  check "tp0: down" down_well make docker-compose-down
  check "tp0: make docker-compose-reset" matches "$(make docker-compose-reset)" 'action: sorteo_archivado \| result: success \| carpeta: sorteos/'
  check "tp0: the third one moved" earlier_lotteries_are 3
  check "tp0: nothing is left of it" equal "$(find server -maxdepth 1 '(' -name '*.csv' -o -name '*.journal' ')')" ""
}

tp0() {
  copy_as "$OWNER" "$work/tp0"
  cd "$work/tp0/tp0" || return 1
  tp0_echo
  tp0_signals
  tp0_many
  tp0_single_bets
  tp0_lottery
  tp0_lottery_again
}
