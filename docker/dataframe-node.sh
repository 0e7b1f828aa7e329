#!/bin/bash
# Runs a part of Tasca 1's cluster with the addresses that MIDDLEWARE asks for.
#
# `master` and `worker` run the program as the owner of /data. `client` runs `dataframe` as the owner of /results, with the
# cluster as its default, or in its own process where MIDDLEWARE is `local`. `health` checks the part that ROLE names: whatever
# it listens at, or else its broker, accepts connections; a bucket is there.
#
# Two masters are a pair: each is told the address of the other one as PEER, and workers and clients that of the second one as
# STANDBY. The one that stands by does not listen: it is well if the other one does.
# Usage: dataframe-node.sh master|worker|client [ARGUMENT...]; dataframe-node.sh health ROLE
set -euo pipefail

readonly MASTER=master:9000 REDIS=redis://redis:6379 RABBITMQ=amqp://dataframe:dataframe@rabbitmq:5672
readonly BUCKET=/bucket
readonly MASTER_PORT=9000 WORKER_PORT=9001

role=$1
shift
masters=$MASTER${STANDBY:+,$STANDBY}
middleware=${MIDDLEWARE:-grpc}
broker=
case "$middleware" in
  local | grpc | xmlrpc) ;;
  redis | hybrid | hybrid-grpc | hybrid-xmlrpc) broker=$REDIS ;;
  rabbitmq) broker=$RABBITMQ ;;
  objectstore) broker=file://$BUCKET ;;
  *)
    echo "dataframe-node.sh: MIDDLEWARE is grpc, xmlrpc, redis, rabbitmq, objectstore, hybrid (hybrid-grpc), hybrid-xmlrpc or local, not '$middleware'" >&2
    exit 2
    ;;
esac

# host_and_port URL: its host and port, as two words.
host_and_port() { sed -E 's|^[a-z]+://([^@]*@)?||; s|:| |' <<<"$1"; }

# shellcheck disable=SC2016
connects() { timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; }

healthy() {
  local host port
  case "$1:$middleware" in
    master:grpc | master:xmlrpc)
      connects 127.0.0.1 "$MASTER_PORT" || { [ -n "${PEER:-}" ] && connects "${PEER%:*}" "${PEER##*:}"; }
      ;;
    worker:grpc | worker:xmlrpc | worker:hybrid*) connects 127.0.0.1 "$WORKER_PORT" ;;
    *:objectstore) [ -d "$BUCKET" ] ;;
    *)
      read -r host port <<<"$(host_and_port "$broker")"
      connects "$host" "$port"
      ;;
  esac
}

case "$role" in
  master)
    pair=()
    if [ -n "${PEER:-}" ]; then
      pair=(--standby)
      # At a broker, the two masters meet there.
      [ -n "$broker" ] || pair+=(--peer "$PEER")
    fi
    exec run-as-owner.sh /data dataframe-master --middleware "$middleware" --listen "0.0.0.0:$MASTER_PORT" \
      ${broker:+--broker "$broker"} "${pair[@]}" --data-dir "/state/${MASTER_NAME:-master}" "$@"
    ;;
  worker)
    name=${WORKER_NAME:-worker${REPLICA:-}}
    exec run-as-owner.sh /data dataframe-worker --middleware "$middleware" --name "$name" --listen "0.0.0.0:$WORKER_PORT" \
      --master "$masters" ${broker:+--broker "$broker"} --data-dir "/state/$name" "$@"
    ;;
  client)
    if [ "$middleware" != local ]; then
      export DATAFRAME_MIDDLEWARE=$middleware DATAFRAME_MASTER=${broker:-$masters}
    fi
    exec run-as-owner.sh /results dataframe "$@"
    ;;
  health) healthy "$1" ;;
  *)
    echo "dataframe-node.sh: no such part: $role" >&2
    exit 2
    ;;
esac
