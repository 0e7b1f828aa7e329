#!/bin/sh
# Runs a program as the owner of a folder, without any capability: what it writes there belongs to the person who owns the
# folder on the host, whoever that is. Where that is root (also in rootless Docker), it runs as a root that may do nothing else.
# Usage: run-as-owner.sh FOLDER PROGRAM [ARGUMENT...]
set -eu
folder=$1
shift
exec setpriv --reuid "$(stat -c %u "$folder")" --regid "$(stat -c %g "$folder")" --clear-groups \
  --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
