#!/bin/sh
# Writes a compose file for a server and N clients.
set -eu

# The Dockerfiles' build context as seen from here, and this folder as seen from there; the folder of the agencies' files; the mode
# when none is given.
CONTEXT=..
FOLDER=tp0/
DATA=data
DEFAULT_MODE='echo'

usage() {
  cat <<END
Usage: $0 FILE N [echo|apuesta|loteria]

Writes to FILE a compose file with a server and the clients client1 to clientN. Without a mode: $DEFAULT_MODE.

  FILE   the file to write; an existing one is replaced
  N      number of clients, 0 to 240
  MODE   echo: echo-server and echo-client
         apuesta: lottery-server and lottery-agency; each client has one bet of its own in its environment
         loteria: lottery-server and lottery-agency; agency I reads $DATA/agency-I.csv

The images are made by: make docker-image. Start: docker compose -f FILE up
END
}

fail() {
  printf '%s: %s; try --help\n' "$0" "$1" >&2
  exit 2
}

# The subnet has 253 addresses for containers.
MOST_CLIENTS=240

for argument in "$@"; do
  case $argument in -h | --help) usage; exit 0 ;; esac
done
case $# in 2 | 3) ;; *) fail "expected FILE and N, and maybe a mode; got $# arguments" ;; esac
file=$1
clients=$2
mode=${3:-$DEFAULT_MODE}
[ -n "$file" ] || fail "FILE is empty"
case $clients in
  '' | *[!0-9]*) fail "N is '$clients'; allowed: a number from 0 to $MOST_CLIENTS" ;;
  0?*) fail "N is '$clients'; allowed: a number from 0 to $MOST_CLIENTS, without zeros in front" ;;
esac
{ [ "${#clients}" -le 3 ] && [ "$clients" -le "$MOST_CLIENTS" ]; } ||
  fail "N is '$clients'; allowed: a number from 0 to $MOST_CLIENTS"
case $mode in
  echo) server='"echo-server"' client='"echo-client"' ;;
  # Single bets have a folder of their own: they are in no draw.
  apuesta) server='"lottery-server", "--data-dir", "/data/apuestas"' client='"lottery-agency"' ;;
  loteria) server='"lottery-server", "--data-dir", "/data"' client='"lottery-agency", "--data-dir", "/data"' ;;
  *) fail "the mode is '$mode'; allowed: echo, apuesta, loteria" ;;
esac

# Compose takes paths from the file's folder: this one, as a rule.
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$(dirname "$file")" 2>/dev/null && pwd) || fail "the folder of '$file' does not exist"
base=.
[ "$folder" = "$here" ] || base=$here

note() { printf '%s: note: %s\n' "$0" "$1" >&2; }

write_head() {
  cat <<END
# Written by generar-compose.sh: $clients client(s), mode $mode. The images are made by: make docker-image
x-service: &service
  # Only what run-as-owner.sh needs to become the owner of the files; the program itself runs with no capability.
  cap_drop: [ALL]
  cap_add: [SETUID, SETGID, SETPCAP]
  security_opt: ["no-new-privileges:true"]
  read_only: true
  networks: [testing_net]

services:
  server:
    <<: *service
    container_name: server
    image: server:latest
    build:
      context: "$base/$CONTEXT"
      dockerfile: ${FOLDER}server/Dockerfile
    command: [$server]
    volumes:
      - "$base/server/config.ini:/config.ini:ro"
END
  [ "$mode" = echo ] || printf '      - "%s/server:/data"\n' "$base"
}

# nth INDEX WORD...: counted from 0, and from the first one again behind the last.
nth() { shift $(($1 % ($# - 1) + 1)) && printf '%s' "$1"; }

# A bet for each client, the same whenever the file is written. The first one is the example of the assignment.
write_bet() {
  i=$(($1 - 1))
  cat <<END
      NOMBRE: "$(nth $i "Santiago Lionel" Ana Juan Julieta "María José" Martín Camila Bruno Inés Tomás)"
      APELLIDO: "$(nth $i Lorca Núñez Paz Domínguez Sosa "de la Fuente" Acuña Ibarra Quiroga)"
      DOCUMENTO: "$((30904465 + i * 104729))"
      NACIMIENTO: "$(printf '%d-%02d-%02d' $(((49 + i * 7) % 50 + 1950)) $(((2 + i * 5) % 12 + 1)) $(((16 + i * 11) % 28 + 1)))"
      NUMERO: "$(((7574 + i * 1237) % 10000))"
END
}

write_client() {
  cat <<END

  client$1:
    <<: *service
    container_name: client$1
    image: client:latest
    build:
      context: "$base/$CONTEXT"
      dockerfile: ${FOLDER}client/Dockerfile
    command: [$client]
    depends_on:
      server:
        condition: service_healthy
    environment:
      CLI_ID: "$1"
END
  [ "$mode" != apuesta ] || write_bet "$1"
  cat <<END
    volumes:
      - "$base/client/config.yaml:/config.yaml:ro"
END
  [ "$mode" != loteria ] || printf '      - "%s/agency-%s.csv:/data/agency-%s.csv:ro"\n' "$base/$DATA" "$1" "$1"
}

write_network() {
  cat <<END

networks:
  testing_net:
    name: tp0_testing_net
    ipam:
      driver: default
      config:
        - subnet: 172.25.125.0/24
END
}

{
  write_head
  number=1
  while [ "$number" -le "$clients" ]; do
    write_client "$number"
    number=$((number + 1))
  done
  write_network
} >"$file"

[ "$mode" = loteria ] || exit 0
number=1
while [ "$number" -le "$clients" ]; do
  [ -f "$here/$DATA/agency-$number.csv" ] || note "$DATA/agency-$number.csv is missing: write it before you start client$number"
  number=$((number + 1))
done
waits_for=$(sed -n 's/^[[:space:]]*NUMBER_OF_CLIENTS[[:space:]]*[=:][[:space:]]*\([0-9]*\).*/\1/p' "$here/server/config.ini")
[ "${waits_for:-5}" = "$clients" ] ||
  note "the draw waits for ${waits_for:-5} agencies (NUMBER_OF_CLIENTS in server/config.ini), and there are $clients"
