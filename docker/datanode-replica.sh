#!/bin/sh
# Runs a datanode with a name and a folder of its own, as the owner of the folder on the host.
#
# Replica N of the Compose service is datanodeN. Its folder is /data/datanodeN where that is mounted, and otherwise one that it
# makes in /data/datanodes. Without Compose, where neither is mounted, the datanode has the host's name, and its folder is /data.
# Usage: container-number.sh REPLICA DATANODE_NAME datanode-replica.sh [ARGUMENT...]
set -eu
if [ ! -d /data/datanodes ]; then
  exec run-as-owner.sh /data datanode --data-dir /data "$@"
fi
name=${DATANODE_NAME:-${REPLICA:+datanode$REPLICA}}
if [ -z "$name" ]; then
  echo "datanode-replica.sh: Docker does not tell the number of this container: set DATANODE_NAME" >&2
  exit 2
fi
export DATANODE_NAME="$name"
if [ -d "/data/$name" ]; then
  exec run-as-owner.sh "/data/$name" datanode --data-dir "/data/$name" "$@"
fi
exec run-as-owner.sh /data/datanodes datanode --data-dir "/data/datanodes/$name" "$@"
